//! `check --live` of backups: tries everything, changes nothing.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::backup::{Node, database};
use crate::support::idkeep::Outcome;
use crate::support::proxy::refused;
use crate::support::s3::S3;

fn check(node: &Node, code: i32) -> Outcome {
    node.idkeep().expect(code, &["-o", "json", "check", "--live"])
}

/// What was found of one thing: each result with its message.
fn found(outcome: &Outcome, what: &str) -> Vec<(String, String)> {
    let report = outcome.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of_it = report["live"].as_array().unwrap().iter().filter(|tried| text(&tried["what"]).ends_with(what));
    of_it.map(|tried| (text(&tried["result"]), text(&tried["message"]))).collect()
}

fn results(outcome: &Outcome, what: &str) -> Vec<String> {
    found(outcome, what).into_iter().map(|(result, _)| result).collect()
}

#[test]
fn a_repository_and_databases_that_are_in_order_are_looked_at_and_not_changed() {
    let node = Node::new(460);
    node.scenario.idkeep.sync(0);
    let empty = check(&node, 0);
    assert_eq!(found(&empty, ": repository sets"), [("ok".into(), "0 whole sets, 0 that are not, 0 rejected".into())]);
    assert!(node.files().is_empty(), "{:?}", node.files());

    let set = node.publish();
    std::fs::remove_file(node.folder().join(&set).join("validator.dump.zst.age")).unwrap();
    node.publish();
    let files = node.files();
    let outcome = check(&node, 0);
    assert_eq!(found(&outcome, ": repository sets")[0].1, "1 whole sets, 1 that are not, 0 rejected");
    for name in ["validator", "participant"] {
        let found = found(&outcome, &format!(": database {name}"));
        assert_eq!(found.len(), 1);
        let (result, message) = &found[0];
        assert!(
            result == "ok" && message.contains(&format!("`{name}` on PostgreSQL {}", node.cluster.major)),
            "{outcome}"
        );
        assert!(message.contains("pg_dump"), "{outcome}");
    }
    assert_eq!(node.files(), files);
    assert_eq!(node.cluster.sessions("idkeep/"), 0);
    let tables = "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables where schemaname = 'idkeep'";
    assert_eq!(node.cluster.sql("participant", tables), "");
}

#[test]
fn a_superuser_is_warned_of() {
    let mut node = Node::new(461);
    node.cluster.sql("postgres", "alter role idkeep_backup superuser");
    node.configure();
    let outcome = check(&node, 0);
    assert_eq!(results(&outcome, ": database participant"), ["warn", "ok"], "{outcome}");
}

#[test]
fn each_thing_that_fails_is_named_and_the_rest_is_tried_all_the_same() {
    let mut node = Node::new(462);
    let good = node.databases.clone();
    let url = format!("postgres://idkeep_backup@{}/validator", refused());
    node.databases[0] = database(&node.cluster, "validator", "validator", &url);
    node.configure();
    let outcome = check(&node, 75);
    assert_eq!(results(&outcome, ": database validator"), ["fail"], "{outcome}");
    assert_eq!(results(&outcome, ": database participant"), ["ok"], "{outcome}");

    node.databases = good.clone();
    node.idkeep().secret_file("wrong", b"not the password");
    let wrong = format!("{:?}", node.idkeep().path("wrong"));
    node.databases[1] = good[1].replace(&format!("{:?}", node.cluster.secret_file()), &wrong);
    node.configure();
    let outcome = check(&node, 77);
    assert_eq!(results(&outcome, ": database validator"), ["ok"], "{outcome}");
    assert_eq!(results(&outcome, ": database participant"), ["fail"], "{outcome}");
    assert!(!outcome.output().contains("not the password"), "{outcome}");

    node.databases = good;
    let bucket = S3::shared().bucket();
    node.repository = vec![format!("endpoint: {}", bucket.s3.endpoint()), "allow_http: true".into()];
    node.idkeep_mut().env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "synthetic");
    node.url = format!("s3://{}/prefix", bucket.name);
    node.configure();
    assert_eq!(results(&check(&node, 0), ": repository sets"), ["ok"]);
    assert_eq!(bucket.keys(), [""; 0]);
    node.url = "s3://no-such-bucket/prefix".into();
    node.configure();
    let outcome = check(&node, 78);
    assert_eq!(results(&outcome, ": repository sets"), ["fail"], "{outcome}");
    assert!(found(&outcome, ": repository sets")[0].1.contains("the bucket or container is not there"), "{outcome}");
    assert_eq!(results(&outcome, ": database participant"), ["ok"], "{outcome}");
}

#[test]
fn a_role_that_may_not_read_all_or_may_write_is_named_before_the_first_backup() {
    let node = Node::new(463);
    node.cluster.sql("postgres", "grant pg_write_all_data to idkeep_backup");
    let outcome = check(&node, 0);
    assert_eq!(results(&outcome, ": database validator"), ["warn", "ok"], "{outcome}");
    assert!(found(&outcome, ": database validator")[0].1.contains("may change "), "{outcome}");

    node.cluster.sql("postgres", "revoke pg_write_all_data from idkeep_backup");
    node.cluster.sql("postgres", "revoke pg_read_all_data from idkeep_backup");
    node.cluster.sql(
        "validator",
        "grant usage on schema validator to idkeep_backup; grant select on all tables in schema validator to idkeep_backup",
    );
    let outcome = check(&node, 77);
    assert_eq!(results(&outcome, ": database participant"), ["fail", "ok"], "{outcome}");
    assert!(found(&outcome, ": database participant")[0].1.contains("may not read "), "{outcome}");
}

#[test]
fn who_holds_the_lock_is_named() {
    let mut node = Node::new(464);
    let bucket = S3::shared().bucket();
    node.repository = vec![format!("endpoint: {}", bucket.s3.endpoint()), "allow_http: true".into()];
    node.idkeep_mut().env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "synthetic");
    node.url = format!("s3://{}/prefix", bucket.name);
    node.configure();
    assert_eq!(results(&check(&node, 0), ": repository sets"), ["ok"]);
    let record = serde_json::json!({
        "holder": "0123456789abcdef0123456789abcdef", "host": "elsewhere", "pid": 7,
        "taken_at": "2026-11-22T22:00:00Z", "beat": 3, "released": false
    });
    let key = format!("prefix/{}/lock/00000001.json", node.scenario.node);
    bucket.put(&key, record.to_string().as_bytes());
    let outcome = check(&node, 0);
    let said = found(&outcome, ": repository sets");
    assert_eq!(said.len(), 2, "{outcome}");
    assert!(said[0].1.contains("held by process 7 on elsewhere, since 2026-11-22T22:00:00Z"), "{outcome}");
    assert_eq!(bucket.keys(), [key]);
}

#[test]
fn a_folder_that_others_may_write_to_is_warned_of() {
    let node = Node::new(442);
    node.publish();
    let root = node.folder().parent().unwrap().to_owned();
    let warned = |arguments: &[&str]| {
        let outcome = node.idkeep().expect(0, &[&["-o", "json", "check"], arguments].concat());
        outcome.json()["warnings"].to_string().contains("others may write to")
    };
    assert!(!warned(&[]));
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(warned(&[]));
    assert!(!warned(&["--offline"]), "this machine may be another one");
}
