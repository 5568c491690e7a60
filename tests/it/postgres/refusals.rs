use idkeep::backup::postgres::{Cause, Dump, Snapshot};
use idkeep::config::Database;
use idkeep::error::chain;
use serde_json::json;

use super::{RUN, assert_refused, node, on_one_thread, refusal, session, target};
use crate::support::idkeep::write_private;
use crate::support::pki::Pki;
use crate::support::postgres::pooler::Pooler;
use crate::support::postgres::{Cluster, Network, configured};

#[test]
fn a_wrong_password_is_refused_as_such_and_not_shown() {
    let (cluster, _) = node();
    let mut database = cluster.database("validator", "validator", "validator");
    let wrong = cluster.folder().join("wrong");
    write_private(&wrong, b"not-the-password");
    database.pg_dump.password = serde_json::from_value(json!({ "file": wrong })).unwrap();
    let error = on_one_thread(refusal(&database));
    assert_refused(&error, Cause::Authentication, 77);
    assert!(chain(&error).contains(&format!("127.0.0.1:{}/validator", cluster.port)), "{error}");
    assert!(!chain(&error).contains("not-the-password"));
}

#[test]
fn a_server_that_wants_a_password_where_none_is_configured_is_told() {
    let (cluster, _) = node();
    let mut database = cluster.database("validator", "validator", "validator");
    database.pg_dump.password = None;
    assert_refused(&on_one_thread(refusal(&database)), Cause::PasswordWanted, 77);
}

#[test]
fn a_password_of_two_lines_is_refused_before_anybody_sees_it() {
    let (cluster, _) = node();
    let mut database = cluster.database("validator", "validator", "validator");
    let odd = cluster.folder().join("odd");
    write_private(&odd, b"first\nsecond\n");
    database.pg_dump.password = serde_json::from_value(json!({ "file": odd })).unwrap();
    let error = on_one_thread(refusal(&database));
    assert!(chain(&error).contains("line break") && !chain(&error).contains("second"), "{error}");
}

#[test]
fn a_role_that_is_missing_or_not_let_in_is_told_from_a_wrong_password() {
    let (cluster, _) = node();
    let nobody = cluster.database_at("other", "other", &cluster.socket_url("nobody", "validator"));
    assert_refused(&on_one_thread(refusal(&nobody)), Cause::NoRole, 77);
    cluster.sql("postgres", "create role sleeper nologin");
    let sleeper = cluster.database_at("other", "other", &cluster.socket_url("sleeper", "validator"));
    assert_refused(&on_one_thread(refusal(&sleeper)), Cause::NoRole, 77);
    cluster.sql("postgres", "revoke connect on database validator from public");
    let shut_out = cluster.database("validator", "validator", "validator");
    assert_refused(&on_one_thread(refusal(&shut_out)), Cause::Denied, 77);
    let hba = cluster.folder().join("data/pg_hba.conf");
    std::fs::write(&hba, "local all all trust\n").unwrap();
    cluster.sql("postgres", "select pg_reload_conf()");
    let not_admitted = cluster.database("other", "other", "postgres");
    crate::support::wait_for("the server to read its rules", std::time::Duration::from_secs(60), || {
        on_one_thread(async {
            let error = refusal_or_none(&not_admitted).await?;
            assert_refused(&error, Cause::NotAdmitted, 77);
            Some(())
        })
    });
}

/// The rules are read some time after the signal.
async fn refusal_or_none(database: &Database) -> Option<idkeep::backup::postgres::Error> {
    let target = target(database).await;
    idkeep::backup::postgres::Session::open(&target, RUN).await.err()
}

#[test]
fn a_database_that_is_not_there_is_a_mistake_of_the_configuration() {
    let (cluster, _) = node();
    let database = cluster.database("validator", "validator", "elsewhere");
    assert_refused(&on_one_thread(refusal(&database)), Cause::NoDatabase, 78);
}

#[test]
fn a_server_that_is_down_starting_or_full_may_be_tried_again() {
    let mut cluster = Cluster::with_settings("max_connections = 5\nsuperuser_reserved_connections = 1\n");
    cluster.validator("validator", &Network::new());
    let database = cluster.database("validator", "validator", "validator");
    let mut held: Vec<_> = (0..4).map(|_| cluster.client("postgres")).collect();
    held.iter_mut().for_each(|client| drop(client.run("select 1")));
    assert_refused(&on_one_thread(refusal(&database)), Cause::Full, 75);
    drop(held);
    cluster.stop();
    assert_refused(&on_one_thread(refusal(&database)), Cause::NotListening, 75);
    let socket = cluster.database_at("other", "other", &cluster.socket_url("postgres", "validator"));
    assert_refused(&on_one_thread(refusal(&socket)), Cause::NotListening, 75);
}

#[test]
fn a_parameter_that_libpq_does_not_know_is_a_mistake_of_the_configuration() {
    let (cluster, _) = node();
    let url = cluster.url("validator") + "?no_such_thing=1";
    assert_refused(&on_one_thread(refusal(&cluster.database_at("a", "other", &url))), Cause::Parameter, 78);
}

#[test]
fn only_the_right_certificate_is_believed_by_either_client() {
    let pki = Pki::new();
    let good = Cluster::tls(&pki.server());
    let elsewhere = Cluster::tls(&pki.server_for(&["db.acme.example"]));
    let expired = Cluster::tls(&pki.expired_server());
    let plain = Cluster::packaged();
    let stranger = Pki::new();
    let url = |cluster: &Cluster, ca: &Pki| {
        format!("{}?sslmode=verify-full&sslrootcert={}", cluster.url("postgres"), ca.ca_file().display())
    };
    for (cluster, url, cause) in [
        (&good, url(&good, &stranger), Cause::Certificate),
        (&expired, url(&expired, &pki), Cause::Certificate),
        (&elsewhere, url(&elsewhere, &pki), Cause::HostName),
        (&plain, url(&plain, &pki), Cause::NoTls),
        (&good, good.url("postgres") + "?sslmode=verify-full", Cause::NoRootCertificate),
        (&good, good.url("postgres") + "?sslmode=disable", Cause::NotAdmitted),
    ] {
        let code = if cause == Cause::NotAdmitted { 77 } else { 78 };
        let database = cluster.database_at("other", "other", &url);
        on_one_thread(async {
            assert_refused(&refusal(&database).await, cause, code);
            // The snapshot is never asked for: `pg_dump` by itself sends nothing to a server that it does not believe.
            let snapshot = Snapshot { id: "00000003-0000001B-1".into(), wal_lsn: "0/0".into() };
            let mut dump = Dump::start(&target(&database).await, RUN, &snapshot).await.unwrap();
            drop(dump.stdout());
            assert_refused(&dump.finish().await.unwrap_err(), cause, code);
        });
    }
    let database = good.database_at("other", "other", &url(&good, &pki));
    let is_encrypted = on_one_thread(async {
        let _session = session(&target(&database).await).await;
        good.sql(
            "postgres",
            &format!("select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = '{RUN}'"),
        )
    });
    assert_eq!(is_encrypted, "t");
}

#[test]
fn a_pooler_is_refused_whether_it_refuses_or_drops_what_it_does_not_know() {
    let (cluster, _) = node();
    for ignored in ["extra_float_digits", "options,extra_float_digits"] {
        let pooler = Pooler::start(&cluster, ignored);
        let url = format!("postgres://postgres@127.0.0.1:{}/validator", pooler.port);
        let database = configured(json!({"name": "a", "role": "other", "pg_dump": {"url": url}}));
        let error = on_one_thread(refusal(&database));
        assert_refused(&error, Cause::Pooler, 78);
    }
}

#[test]
fn a_table_that_may_not_be_read_fails_the_dump() {
    let (cluster, _) = node();
    cluster.sql("postgres", "revoke pg_read_all_data from idkeep_backup");
    let database = cluster.database("validator", "validator", "validator");
    on_one_thread(async {
        let target = target(&database).await;
        let mut session = session(&target).await;
        let snapshot = session.snapshot().await.unwrap();
        let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        let reading = super::reading(&mut dump);
        assert_refused(&dump.finish().await.unwrap_err(), Cause::Denied, 77);
        drop(reading.join());
    });
}

#[test]
fn rows_that_are_hidden_from_the_role_fail_the_dump() {
    let (cluster, _) = node();
    cluster.sql("validator", "alter table validator.store_descriptors enable row level security");
    let database = cluster.database("validator", "validator", "validator");
    on_one_thread(async {
        let target = target(&database).await;
        let mut session = session(&target).await;
        let snapshot = session.snapshot().await.unwrap();
        let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        let reading = super::reading(&mut dump);
        assert_refused(&dump.finish().await.unwrap_err(), Cause::RowSecurity, 77);
        drop(reading.join());
    });
}
