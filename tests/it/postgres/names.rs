use std::path::PathBuf;

use idkeep::backup::postgres::Error;
use idkeep::config::Database;
use idkeep::error::{Failure as _, Fault, chain};
use serde_json::json;

use super::{on_one_thread, refusal, target};
use crate::support::postgres::{Cluster, NEWEST, Network, OLDEST, binary, configured};

/// A participant's database whose name is written nowhere.
fn unnamed(cluster: &Cluster, role: &str) -> Database {
    cluster.database_at("participant", role, &cluster.url(""))
}

#[test]
fn the_one_database_that_can_be_the_participants_is_taken() {
    let cluster = Cluster::packaged();
    cluster.node(&Network::new());
    assert_eq!(on_one_thread(target(&unnamed(&cluster, "participant"))).database(), "participant");
}

#[test]
fn several_that_can_be_the_participants_are_refused_with_the_list() {
    let cluster = Cluster::packaged();
    for name in ["participant-1", "participant-0", "validator"] {
        cluster.create(name, "select 1");
    }
    let error = on_one_thread(refusal(&unnamed(&cluster, "participant")));
    assert_eq!(error.fault(), Fault::Config);
    assert!(matches!(&error, Error::SeveralParticipants { found, .. } if found == &["participant-0", "participant-1"]));
    assert!(chain(&error).contains("participant-0, participant-1"), "{error}");
}

#[test]
fn none_that_can_be_the_participants_is_refused_and_so_is_another_role_without_a_name() {
    let cluster = Cluster::packaged();
    let error = on_one_thread(refusal(&unnamed(&cluster, "participant")));
    assert!(matches!(error, Error::NoParticipant { .. }) && error.fault() == Fault::Config, "{error}");
    let error = on_one_thread(refusal(&unnamed(&cluster, "validator")));
    assert!(matches!(error, Error::Unnamed { .. }) && error.fault() == Fault::Config, "{error}");
}

/// A command in place of `docker exec CONTAINER`: it knows one variable, and gives whoever asks for another one, or
/// for all, what must not be seen.
fn container(folder: &std::path::Path, value: &str) -> Vec<String> {
    let script =
        format!("[ \"$*\" = 'printenv DB' ] || {{ echo all-the-secrets; exit 0; }}\nprintf '%s\\n' '{value}'\n");
    let path = folder.join("container.sh");
    std::fs::write(&path, script).unwrap();
    vec!["sh".into(), path.to_str().unwrap().into()]
}

#[test]
fn the_participants_container_is_asked_for_the_one_variable() {
    let cluster = Cluster::packaged();
    for name in ["participant-1", "participant-0"] {
        cluster.create(name, "select 1");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut database = unnamed(&cluster, "participant");
    database.pg_dump.database =
        serde_json::from_value(json!({"env": "DB", "exec": container(folder.path(), "participant-0")})).unwrap();
    let target = on_one_thread(target(&database));
    assert_eq!(target.database(), "participant-0");
    assert!(target.at().ends_with("/participant-0"), "{}", target.at());
}

#[test]
fn an_answer_that_is_no_name_is_refused() {
    let cluster = Cluster::packaged();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for (exec, why) in [
        (container(folders[0].path(), ""), "the variable is empty"),
        (container(folders[1].path(), "a\nb"), "more than one line"),
        (vec!["false".into()], "ended without an answer"),
    ] {
        let mut database = unnamed(&cluster, "participant");
        database.pg_dump.database = serde_json::from_value(json!({"env": "DB", "exec": exec})).unwrap();
        let error = on_one_thread(refusal(&database));
        assert_eq!(error.fault(), Fault::Config);
        assert!(chain(&error).contains(why), "{error}");
    }
}

#[test]
fn an_older_client_is_refused_before_anything_is_dumped() {
    let cluster = Cluster::start(NEWEST);
    cluster.validator("validator", &Network::new());
    let mut database = cluster.database("validator", "validator", "validator");
    database.pg_dump.binary = Some(binary(16, "pg_dump"));
    on_one_thread(async {
        let target = target(&database).await;
        let mut session = super::session(&target).await;
        let server = session.server().await.unwrap();
        let error = target.check_client(&server).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
        let message = chain(&error);
        assert!(message.contains("16.") && message.contains("18."), "{message}");
        // Without that check `pg_dump` refuses by itself.
        let snapshot = session.snapshot().await.unwrap();
        let mut dump = idkeep::backup::postgres::Dump::start(&target, super::RUN, &snapshot).await.unwrap();
        drop(dump.stdout());
        super::assert_refused(&dump.finish().await.unwrap_err(), idkeep::backup::postgres::Cause::Version, 78);
    });
}

#[test]
fn a_newer_client_dumps_an_older_server() {
    let cluster = Cluster::start(OLDEST);
    cluster.validator("validator", &Network::new());
    let mut database = cluster.database("validator", "validator", "validator");
    database.pg_dump.binary = Some(binary(NEWEST, "pg_dump"));
    let version = on_one_thread(async {
        let target = target(&database).await;
        let server = super::session(&target).await.server().await.unwrap();
        target.check_client(&server).await.unwrap()
    });
    assert!(version.starts_with("18."), "{version}");
}

#[test]
fn a_program_that_is_not_there_or_not_postgresqls_is_refused() {
    let cluster = Cluster::packaged();
    let mut database = cluster.database("other", "other", "postgres");
    let folder = tempfile::tempdir().unwrap();
    database.pg_dump.binary = Some(folder.path().join("pg_dump"));
    let version = || {
        on_one_thread(async {
            let target = target(&database).await;
            // `psql` is not beside it, so this machine's own is taken.
            let server = super::session(&target).await.server().await.unwrap();
            target.check_client(&server).await.unwrap_err()
        })
    };
    let error = version();
    assert!(matches!(error, Error::Start { .. }) && error.fault() == Fault::Config, "{error}");
    std::fs::copy(PathBuf::from("/bin/true"), folder.path().join("pg_dump")).unwrap();
    let error = version();
    assert!(matches!(error, Error::NoVersion { .. }) && error.fault() == Fault::Config, "{error}");
}

#[test]
fn a_database_with_an_odd_name_is_the_one_that_is_dumped() {
    let cluster = Cluster::packaged();
    let name = r"it's a \ name = 'x' host=nowhere ü";
    cluster.create(name, "create table t(n int)");
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let pg_dump = json!({"url": cluster.socket_url("postgres", &encoded)});
    let database = configured(json!({"name": "odd", "role": "other", "pg_dump": pg_dump}));
    on_one_thread(async {
        let target = target(&database).await;
        assert_eq!(target.database(), name);
        let mut session = super::session(&target).await;
        let snapshot = session.snapshot().await.unwrap();
        let mut dump = idkeep::backup::postgres::Dump::start(&target, super::RUN, &snapshot).await.unwrap();
        let reading = super::reading(&mut dump);
        dump.finish().await.unwrap();
        assert!(!reading.join().unwrap().is_empty());
    });
}
