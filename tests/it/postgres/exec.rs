use std::time::Duration;

use idkeep::backup::postgres::{Cause, Dump, end};
use idkeep::config::Database;
use idkeep::error::{Failure as _, Fault, chain};
use serde_json::{Value, json};

use super::{RUN, assert_refused, node_of, on_one_thread, participant_facts, reading, refusal, session, target};
use crate::support::postgres::container::Container;
use crate::support::postgres::{Cluster, Network, configured};
use crate::support::wait_for;

fn participant(pg_dump: Value) -> Database {
    configured(json!({"name": "participant", "role": "participant", "pg_dump": pg_dump}))
}

fn cluster() -> (Cluster, Network) {
    let (cluster, network) = node_of(Network { rows: 6000, ..Network::new() });
    cluster.sql("postgres", "create role cnadmin superuser login");
    (cluster, network)
}

#[test]
fn a_dump_inside_a_container_is_whole_and_asks_the_containers_for_what_it_needs() {
    let (cluster, network) = cluster();
    cluster.create("participant-0", "select 1");
    let server = Container::of(&cluster, "cnadmin");
    let node = Container::start(&["PATH=/usr/bin:/bin", "CANTON_PARTICIPANT_POSTGRES_DB=participant"], &[]);
    let name = json!({"env": "CANTON_PARTICIPANT_POSTGRES_DB", "exec": node.exec_without_input()});
    let database = participant(json!({"exec": server.exec(), "database": name}));
    let dump = on_one_thread(async {
        let target = target(&database).await;
        assert_eq!(target.database(), "participant");
        let mut session = session(&target).await;
        let server = session.server().await.unwrap();
        assert!(server.is_superuser, "the image's own user");
        target.check_client(&server).await.unwrap();
        let snapshot = session.snapshot().await.unwrap();
        let facts = participant_facts(&mut session).await;
        assert_eq!(facts.full_id(), Some(format!("PAR::{}", network.participant)));
        let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        let reading = reading(&mut dump);
        dump.finish().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        session.commit().await.unwrap();
        session.close().await;
        reading.join().unwrap()
    });
    cluster.restore(&dump, "again");
    assert_eq!(cluster.sql("again", "select count(*) from participant.par_contracts"), "6000");
}

#[test]
fn a_run_that_is_given_up_ends_what_it_began_inside_the_container() {
    let (cluster, _) = cluster();
    let server = Container::of(&cluster, "cnadmin");
    let database = participant(json!({"url": "postgres:///participant", "exec": server.exec()}));
    on_one_thread(async {
        let target = target(&database).await;
        let mut session = session(&target).await;
        let snapshot = session.snapshot().await.unwrap();
        let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        wait_for("the dump to connect", Duration::from_secs(60), || (cluster.sessions(RUN) == 2).then_some(()));
        // Nobody reads: killing the client outside does not reach the program inside.
        dump.kill();
        assert!(server.programs().iter().any(|name| name == "pg_dump"), "{:?}", server.programs());
        assert!(end(&target, RUN).await.unwrap() >= 1);
        assert_eq!(cluster.sessions(RUN), 0);
        wait_for("pg_dump to end in the container", Duration::from_secs(60), || {
            (!server.programs().iter().any(|name| name == "pg_dump")).then_some(())
        });
        drop(dump.stdout());
        assert_eq!(dump.finish().await.unwrap_err().fault(), Fault::Transient);
    });
}

#[test]
fn a_command_that_passes_no_input_on_is_told_to() {
    let (cluster, _) = cluster();
    let server = Container::of(&cluster, "cnadmin");
    let database = participant(json!({"url": "postgres:///participant", "exec": server.exec_without_input()}));
    let error = on_one_thread(refusal(&database));
    assert_refused(&error, Cause::NoInput, 78);
    assert!(error.hint().unwrap().contains("-i"));
}

#[test]
fn a_container_that_is_not_there_or_has_no_client_is_a_mistake_of_the_configuration() {
    let (cluster, _) = cluster();
    let server = Container::start(&["PATH=/usr/bin:/bin", "POSTGRES_USER=cnadmin"], &[]);
    let mut database = participant(json!({"url": "postgres:///participant", "exec": server.exec()}));
    database.pg_dump.binary = Some("/usr/lib/no-such/pg_dump".into());
    assert_refused(&on_one_thread(refusal(&database)), Cause::NoContainer, 78);
    let server = Container::of(&cluster, "cnadmin");
    server.stop();
    let database = participant(json!({"url": "postgres:///participant", "exec": server.exec()}));
    assert_refused(&on_one_thread(refusal(&database)), Cause::NoContainer, 78);
    let database = participant(json!({"url": "postgres:///participant", "exec": ["/no/such/docker", "exec", "it"]}));
    let error = on_one_thread(refusal(&database));
    assert_eq!(error.fault(), Fault::Config, "{error}");
}
