use std::future::Future as _;
use std::time::Duration;

use idkeep::backup::postgres::{Cause, Dump, Session, end};
use idkeep::config::{Database, Role};
use rustix::process::{Pid, Signal, kill_process};

use super::{RUN, assert_refused, node_of, on_one_thread, reading, session, target};
use crate::support::postgres::{Cluster, Network};
use crate::support::wait_for;

const LONG: Duration = Duration::from_secs(60);

/// A participant's database that does not fit into any pipe.
fn large() -> (Cluster, Database) {
    let (cluster, _) = node_of(Network { rows: 6000, ..Network::new() });
    let database = cluster.database("participant", "participant", "participant");
    (cluster, database)
}

/// A dump that has begun, and goes on only when somebody reads.
async fn begun(cluster: &Cluster, database: &Database) -> (Session, Dump) {
    let target = target(database).await;
    let mut session = session(&target).await;
    let snapshot = session.snapshot().await.unwrap();
    let dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
    wait_for("the dump to write", LONG, || (copying(cluster) == 1).then_some(()));
    (session, dump)
}

fn copying(cluster: &Cluster) -> usize {
    let sql = format!(
        "select count(*) from pg_stat_activity where application_name = '{RUN}' and query like 'COPY participant.par_contracts%'"
    );
    cluster.sql("postgres", &sql).parse().unwrap()
}

#[test]
fn a_backend_that_is_ended_fails_the_dump() {
    let (cluster, database) = large();
    on_one_thread(async {
        let (_session, mut dump) = begun(&cluster, &database).await;
        cluster.sql(
            "postgres",
            "select pg_terminate_backend(pid) from pg_stat_activity where query like 'COPY participant.par_contracts%'",
        );
        let reading = reading(&mut dump);
        assert_refused(&dump.finish().await.unwrap_err(), Cause::Lost, 75);
        reading.join().unwrap();
    });
}

#[test]
fn a_server_that_stops_fails_the_dump_and_the_session() {
    let (mut cluster, database) = large();
    on_one_thread(async {
        let (mut session, mut dump) = begun(&cluster, &database).await;
        cluster.stop();
        let reading = reading(&mut dump);
        assert_refused(&dump.finish().await.unwrap_err(), Cause::Lost, 75);
        assert_refused(&session.facts(Role::Participant).await.unwrap_err(), Cause::Lost, 75);
        reading.join().unwrap();
    });
}

#[test]
fn a_client_that_is_killed_fails_the_dump() {
    let (cluster, database) = large();
    on_one_thread(async {
        let (_session, mut dump) = begun(&cluster, &database).await;
        let pid = Pid::from_raw(i32::try_from(dump.pid().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let reading = reading(&mut dump);
        assert_refused(&dump.finish().await.unwrap_err(), Cause::Killed, 75);
        reading.join().unwrap();
    });
}

#[test]
fn a_reader_that_gives_up_fails_the_dump() {
    let (cluster, database) = large();
    on_one_thread(async {
        let (_session, mut dump) = begun(&cluster, &database).await;
        drop(dump.stdout());
        assert_refused(&dump.finish().await.unwrap_err(), Cause::Unread, 75);
        wait_for("the dump's session to end", LONG, || (cluster.sessions(RUN) == 1).then_some(()));
    });
}

#[test]
fn a_snapshot_whose_session_is_gone_fails_the_dump() {
    let (_cluster, database) = large();
    on_one_thread(async {
        let target = target(&database).await;
        let mut session = session(&target).await;
        let snapshot = session.snapshot().await.unwrap();
        session.close().await;
        let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        drop(dump.stdout());
        assert_refused(&dump.finish().await.unwrap_err(), Cause::SnapshotGone, 75);
    });
}

#[test]
fn a_snapshot_may_be_let_go_once_the_dump_has_begun() {
    let (cluster, database) = large();
    on_one_thread(async {
        let (mut session, mut dump) = begun(&cluster, &database).await;
        session.commit().await.unwrap();
        session.close().await;
        let reading = reading(&mut dump);
        dump.finish().await.unwrap();
        assert!(reading.join().unwrap().len() > 6_000_000);
    });
}

#[test]
fn whoever_waits_on_a_lock_of_the_dump_is_named() {
    let (cluster, database) = large();
    on_one_thread(async {
        let (mut session, mut dump) = begun(&cluster, &database).await;
        session.commit().await.unwrap();
        assert_eq!(session.waiters(RUN, Duration::ZERO).await.unwrap(), []);
        let mut migration = cluster.client("participant");
        migration.run("set application_name = 'flyway'");
        migration.send("alter table participant.par_contracts add column extra int");
        let mut waiters = Vec::new();
        while waiters.is_empty() {
            waiters = session.waiters(RUN, Duration::ZERO).await.unwrap();
        }
        assert_eq!(waiters.len(), 1);
        assert_eq!((waiters[0].user.as_str(), waiters[0].application.as_str()), ("postgres", "flyway"));
        // Not everybody who waits is impatient, and nobody waits for another run.
        assert_eq!(session.waiters(RUN, Duration::from_secs(3600)).await.unwrap(), []);
        assert_eq!(session.waiters("idkeep/node-1/database/ffffffff", Duration::ZERO).await.unwrap(), []);
        dump.kill();
        assert_eq!(migration.rows(), Vec::<String>::new(), "it goes on when the dump gives way");
        drop(dump.stdout());
        assert_refused(&dump.finish().await.unwrap_err(), Cause::Killed, 75);
    });
}

#[test]
fn whoever_waits_is_seen_from_inside_the_transaction_too() {
    let (cluster, database) = large();
    on_one_thread(async {
        let (mut session, _dump) = begun(&cluster, &database).await;
        assert_eq!(session.waiters(RUN, Duration::ZERO).await.unwrap(), []);
        let mut migration = cluster.client("participant");
        migration.send("alter table participant.par_contracts add column extra int");
        while session.waiters(RUN, Duration::ZERO).await.unwrap().is_empty() {}
    });
}

#[test]
fn every_session_of_a_run_can_be_ended_and_no_other() {
    let (cluster, database) = large();
    on_one_thread(async {
        let (mut holder, mut dump) = begun(&cluster, &database).await;
        let target = target(&database).await;
        let mut other = Session::open(&target, "idkeep/node-1/database/ffffffff").await.unwrap();
        assert_eq!(end(&target, RUN).await.unwrap(), 2);
        assert_eq!(cluster.sessions(RUN), 0);
        let reading = reading(&mut dump);
        assert_refused(&dump.finish().await.unwrap_err(), Cause::Lost, 75);
        assert_refused(&holder.facts(Role::Participant).await.unwrap_err(), Cause::Lost, 75);
        assert!(other.server().await.is_ok());
        reading.join().unwrap();
    });
}

#[test]
fn what_is_dropped_leaves_no_session_behind() {
    let (cluster, database) = large();
    on_one_thread(async {
        let both = begun(&cluster, &database).await;
        assert_eq!(cluster.sessions(RUN), 2);
        drop(both);
        wait_for("the sessions to end", LONG, || (cluster.sessions(RUN) == 0).then_some(()));
    });
}

#[test]
fn a_long_name_of_a_run_is_known_to_the_server_by_its_end() {
    let (cluster, database) = large();
    let name = format!("idkeep/{}/{}/0123abcd", "n".repeat(63), "d".repeat(63));
    on_one_thread(async {
        let target = target(&database).await;
        let _session = Session::open(&target, &name).await.unwrap();
        assert_eq!(cluster.sessions(&name[name.len() - 63..]), 1);
        assert_eq!(end(&target, &name).await.unwrap(), 1);
    });
}

#[test]
fn a_standby_that_has_to_go_on_replaying_fails_the_dump() {
    let (cluster, _) = large();
    let standby = cluster.standby();
    standby.sql("postgres", "alter system set max_standby_streaming_delay = 0");
    standby.sql("postgres", "select pg_reload_conf()");
    let database = standby.database("participant", "participant", "participant");
    on_one_thread(async {
        let (_session, mut dump) = begun(&standby, &database).await;
        cluster.sql("participant", "alter table participant.par_contracts add column extra int");
        // The dump may be waiting for us to read, and would hear of the conflict only then.
        let waiting = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'";
        wait_for("the conflict", LONG, || {
            let is_known = standby.log().contains("conflict with recovery");
            (is_known || standby.sql("postgres", waiting).trim() == "1").then_some(())
        });
        let reading = reading(&mut dump);
        assert_refused(&dump.finish().await.unwrap_err(), Cause::StandbyConflict, 75);
        reading.join().unwrap();
    });
}

#[test]
fn a_question_that_nobody_waited_for_does_not_answer_the_next_one() {
    let (cluster, _) = node_of(Network::new());
    let database = cluster.database("validator", "validator", "validator");
    on_one_thread(async {
        let mut session = session(&target(&database).await).await;
        session.snapshot().await.unwrap();
        for _ in 0..20 {
            // Asked, then given up before anything can have come.
            let mut asking = Box::pin(session.facts(Role::Validator));
            std::future::poll_fn(|context| {
                assert!(asking.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(asking);
            assert_eq!(session.server().await.unwrap().major(), cluster.major);
        }
    });
}
