//! Servers that are sealed, busy, full, or not what the configuration says.

use std::sync::Arc;

use serde_json::json;

use super::own_bao;
use crate::support::dump::Dump;
use crate::support::idkeep::Idkeep;
use crate::support::openbao::{OpenBao, writer_policy};
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::scenario::Scenario;

#[test]
fn a_sealed_server_is_tried_again_until_it_is_unsealed() {
    let mut scenario = Scenario::on(Arc::new(OpenBao::tls()), Dump::fresh(1));
    scenario.bao.seal();
    scenario.identity("deadline: 1s");
    let synced = scenario.sync(75);
    assert!(synced.stderr().contains("status 503 (sealed, or in maintenance)"), "{}", synced.outcome);
    assert!(synced.stderr().contains("hint: unseal the server"), "{}", synced.outcome);
    scenario.identity("deadline: 60s");
    let running = scenario.idkeep.spawn(&["-o", "json", "sync"]);
    running.wait_for_stderr("trying again");
    scenario.bao.unseal();
    let outcome = running.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn a_rate_limit_is_waited_out() {
    let mut scenario = Scenario::on(own_bao(), Dump::fresh(1));
    scenario.identity("deadline: 60s");
    scenario.bao.rate_limit("secret", 1.0);
    let synced = scenario.sync(0);
    assert!(synced.stderr().contains("status 429 (rate limited)"), "{}", synced.outcome);
    scenario.bao.remove_rate_limit();
    scenario.assert_stored(&scenario.dump);
    assert_eq!(scenario.versions(), 1);
    assert_eq!(scenario.facts()["idkeep_stored_version"], "1");
}

#[test]
fn the_largest_value_that_idkeep_offers_fits_and_a_larger_one_is_refused_at_once() {
    let scenario = Scenario::on(Arc::new(OpenBao::raft()), Dump::fresh(1));
    let too_large = Dump::fresh(1).padded_to((1 << 20) - 300);
    scenario.validator.dump(&too_large.json());
    let synced = scenario.sync(65);
    assert!(synced.stderr().contains("too large for this store, which takes 1048000"), "{}", synced.outcome);
    assert!(!synced.stderr().contains("trying again"), "{}", synced.outcome);
    assert_eq!(scenario.versions(), 0);
    let large = Dump::fresh(1).padded_to(1_047_800);
    scenario.validator.dump(&large.json());
    assert_eq!(scenario.sync(0).store(), "written");
    scenario.assert_stored(&large);
}

#[test]
fn a_kv_engine_of_version_1_is_refused_and_gets_nothing() {
    let mut scenario = Scenario::on(own_bao(), Dump::fresh(1));
    scenario.bao.must("POST", "sys/mounts/old", json!({"type": "kv", "options": {"version": "1"}}));
    let all = "path \"old/*\" { capabilities = [\"create\", \"update\", \"read\", \"list\"] }";
    scenario.bao.policy(&scenario.node, all);
    scenario.vault("mount: old");
    for arguments in [&["sync"][..], &["sync", "--dry-run"], &["check", "--live"], &["list"]] {
        let outcome = scenario.idkeep.expect(78, arguments);
        assert!(outcome.output().contains("`old` is not a KV engine of version 2"), "{outcome}");
        assert!(outcome.output().contains("`vault kv enable-versioning`"), "{outcome}");
    }
    assert_eq!(scenario.bao.api("LIST", "old", None).0, 404, "something is stored");
}

#[test]
fn a_mount_that_is_not_there_is_refused_by_name() {
    let mut scenario = Scenario::new(1);
    scenario.vault("mount: elsewhere");
    let synced = scenario.sync(77);
    let path = format!("/v1/elsewhere/metadata/{}: status 403, permission denied", scenario.path());
    assert!(synced.stderr().contains(&path), "{}", synced.outcome);
    assert!(synced.stderr().contains("a wrong `namespace` or `mount` looks the same"), "{}", synced.outcome);
    // The same where the policy would allow it.
    let all = "path \"elsewhere/*\" { capabilities = [\"create\", \"update\", \"read\", \"list\"] }";
    scenario.bao.policy(&scenario.node, all);
    let synced = scenario.sync(77);
    assert!(synced.stderr().contains("looking at the mount "), "{}", synced.outcome);
    assert!(synced.stderr().contains("a wrong `namespace` or `mount` looks the same"), "{}", synced.outcome);
}

#[test]
fn a_namespace_holds_its_own_secrets_and_logins() {
    let bao = own_bao();
    bao.namespace("acme");
    let mut scenario = Scenario::on(bao.clone(), Dump::fresh(1));
    let node = scenario.node.clone();
    let ask = |method: &str, path: &str, body| {
        let (status, answer) = bao.api_as(&bao.root_token, Some("acme"), method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    };
    ask("POST", "sys/auth/approle", json!({"type": "approle"}));
    ask("PUT", "sys/policies/acl/writer", json!({ "policy": writer_policy(&scenario.path()) }));
    ask("POST", &format!("auth/approle/role/{node}"), json!({"token_policies": ["writer"]}));
    let role_id = ask("GET", &format!("auth/approle/role/{node}/role-id"), json!(null))["data"]["role_id"].clone();
    let secret_id = ask("POST", &format!("auth/approle/role/{node}/secret-id"), json!({}))["data"]["secret_id"].clone();
    let file = scenario.idkeep.secret_file("secret-id", secret_id.as_str().unwrap().as_bytes());
    scenario.config.vault_auth = format!("{{approle: {{role_id: {role_id}, secret_id: {{file: {file:?}}}}}}}");
    scenario.vault("namespace: acme");
    assert_eq!(scenario.sync(0).store(), "written");
    assert_eq!(scenario.sync(0).store(), "unchanged");
    let stored = ask("GET", &format!("secret/data/{}", scenario.path()), json!(null));
    assert_eq!(stored["data"]["data"]["content"].as_str().unwrap().as_bytes(), scenario.dump.json());
    assert!(bao.kv_metadata(&scenario.path()).is_none(), "it is in the root namespace too");
    scenario.vault("namespace: other");
    let synced = scenario.sync(78);
    assert!(synced.stderr().contains("by approle: no such login is mounted at `approle`"), "{}", synced.outcome);
    assert!(synced.stderr().contains("hint: check `auth.*.mount` and `namespace`"), "{}", synced.outcome);
}

#[test]
fn a_missing_right_on_the_data_is_named_and_nothing_is_written() {
    let scenario = Scenario::new(1);
    let path = scenario.path();
    let policy = format!("path \"secret/metadata/{path}\" {{ capabilities = [\"create\", \"read\", \"update\"] }}");
    scenario.bao.policy(&scenario.node, &policy);
    let synced = scenario.sync(77);
    let expected = format!("writing {}/v1/secret/data/{path}: status 403, permission denied", scenario.bao.address);
    assert!(synced.stderr().contains(&expected), "{}", synced.outcome);
    assert!(!synced.stderr().contains("trying again"), "{}", synced.outcome);
    assert!(scenario.bao.kv_metadata(&path).is_none());
}

#[test]
fn a_server_that_is_down_ends_in_75_and_the_next_pass_writes() {
    let mut scenario = Scenario::on(own_bao(), Dump::fresh(1));
    scenario.identity("deadline: 1s");
    let mut idkeep = Idkeep::new();
    let nobody = format!("http://{}", crate::support::proxy::refused());
    idkeep.config(&scenario.yaml().replace(&scenario.bao.address, &nobody));
    let outcome = idkeep.sync(75);
    assert!(outcome.stderr.contains(&format!("{nobody}: connection refused")), "{outcome}");
    scenario.identity("deadline: 20s");
    assert_eq!(scenario.sync(0).store(), "written");
}

#[test]
fn an_answer_that_is_cut_off_is_asked_for_again() {
    let mut scenario = Scenario::on(own_bao(), Dump::fresh(1));
    scenario.identity("deadline: 60s");
    let server = scenario.bao.address.trim_start_matches("http://").parse().unwrap();
    let proxy = FaultProxy::before(server, Fault::ResetAfter(20));
    let mut idkeep = Idkeep::new();
    idkeep.config(&scenario.yaml().replace(&scenario.bao.address, &format!("http://{}", proxy.address)));
    let running = idkeep.spawn(&["-o", "json", "sync"]);
    running.wait_for_stderr("trying again");
    proxy.set(Fault::None);
    let outcome = running.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    scenario.assert_stored(&scenario.dump);
    assert_eq!(scenario.versions(), 1);
}
