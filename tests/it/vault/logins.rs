//! Every way to log in, wrong credentials, and tokens that do not pile up (hazard 7).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::own_bao;
use crate::support::client::Client;
use crate::support::dump::Dump;
use crate::support::jwt;
use crate::support::openbao::{OpenBao, writer_policy};
use crate::support::pki::Pki;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::scenario::Scenario;
use crate::support::server::Gate;
use crate::support::validator::Answer;
use crate::support::wait_for;

/// Logs in this way (flow style, under `auth`) from now on.
fn log_in_by(scenario: &mut Scenario, auth: String) {
    scenario.config.vault_auth = auth;
    scenario.configure();
}

fn approle(role_id: &str, secret_id: &Path, more: &str) -> String {
    format!("{{approle: {{role_id: {role_id:?}, secret_id: {{file: {secret_id:?}}}{more}}}}}")
}

/// The sync is refused with 77, says this, and stores nothing.
fn refused(scenario: &Scenario, message: &str) {
    let synced = scenario.sync(77);
    assert!(synced.stderr().contains(message), "{}", synced.outcome);
    assert!(synced.stderr().contains("\nhint: "), "{}", synced.outcome);
    assert!(!synced.stderr().contains("trying again"), "{}", synced.outcome);
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn an_approle_logs_in_and_a_wrong_one_is_refused() {
    let mut scenario = Scenario::new(1);
    let secret_id = scenario.idkeep.path("secret-id");
    let right = scenario.config.vault_auth.clone();
    log_in_by(&mut scenario, approle("no-such-role", &secret_id, ""));
    refused(&scenario, "by approle (`auth/approle`): status 400, refused");
    log_in_by(&mut scenario, right);
    let good = std::fs::read(&secret_id).unwrap();
    scenario.idkeep.secret_file("secret-id", b"wrong");
    refused(&scenario, "by approle (`auth/approle`): status 400, refused");
    // Read again at each use: a rotated file takes effect.
    scenario.idkeep.secret_file("secret-id", &good);
    assert_eq!(scenario.sync(0).store(), "written");
}

#[test]
fn a_login_that_is_not_mounted_is_named() {
    let mut scenario = Scenario::new(1);
    let (role_id, secret_id) = ("any", scenario.idkeep.path("secret-id"));
    log_in_by(&mut scenario, approle(role_id, &secret_id, ", mount: elsewhere"));
    let outcome = scenario.sync(77).outcome;
    assert!(outcome.stderr.contains("(`auth/elsewhere`)"), "{outcome}");
    assert!(outcome.stderr.contains("`auth.*.mount`"), "{outcome}");
}

#[test]
fn a_wrapped_secret_id_opens_once_and_the_second_time_is_an_alarm() {
    let mut scenario = Scenario::new(1);
    let (role_id, _) = scenario.bao.approle(&scenario.node, &[&scenario.node], json!({}));
    let wrapped = scenario.bao.wrapped_secret_id(&scenario.node);
    let file = scenario.idkeep.secret_file("wrapped", wrapped.as_bytes());
    log_in_by(&mut scenario, approle(&role_id, &file, ", wrapped: true"));
    assert_eq!(scenario.sync(0).store(), "written");
    let synced = scenario.sync(77);
    assert!(synced.stderr().contains("someone else may have unwrapped it"), "{}", synced.outcome);
    assert!(synced.stderr().contains("did not use it, treat it as stolen"), "{}", synced.outcome);
}

#[test]
fn what_was_wrapped_by_somebody_else_is_not_unwrapped() {
    let mut scenario = Scenario::new(1);
    let (role_id, secret_id) = scenario.bao.approle(&scenario.node, &[&scenario.node], json!({}));
    let headers = [("x-vault-token", scenario.bao.root_token.as_str()), ("x-vault-wrap-ttl", "300s")];
    let url = format!("{}/v1/sys/wrapping/wrap", scenario.bao.address);
    // Even a secret id that would log in.
    let body = json!({ "secret_id": secret_id }).to_string().into_bytes();
    let answer = Client::new(None).send("POST", &url, &headers, Some(body)).unwrap().json();
    let wrapping = answer["wrap_info"]["token"].as_str().unwrap();
    let file = scenario.idkeep.secret_file("wrapped", wrapping.as_bytes());
    log_in_by(&mut scenario, approle(&role_id, &file, ", wrapped: true"));
    refused(&scenario, "it was wrapped by `sys/wrapping/wrap`, not as a secret id of `approle`");
    // It was only looked at.
    let about = scenario.bao.must("POST", "sys/wrapping/lookup", json!({ "token": wrapping }));
    assert_eq!(about["data"]["creation_path"], "sys/wrapping/wrap");
}

#[test]
fn a_jwt_logs_in_and_a_wrong_one_is_refused() {
    let bao = own_bao();
    let mut scenario = Scenario::on(bao.clone(), Dump::fresh(1));
    bao.jwt_auth("writer", &[&scenario.node], "vault");
    let file = scenario.idkeep.secret_file("jwt", OpenBao::mint("another", "idkeep", 60).as_bytes());
    log_in_by(&mut scenario, format!("{{jwt: {{role: writer, token: {{file: {file:?}}}}}}}"));
    refused(&scenario, "by jwt (`auth/jwt`): status 400, refused");
    scenario.idkeep.secret_file("jwt", OpenBao::mint("vault", "idkeep", 60).as_bytes());
    log_in_by(&mut scenario, format!("{{jwt: {{role: other, token: {{file: {file:?}}}}}}}"));
    refused(&scenario, "by jwt (`auth/jwt`): status 400, refused");
    log_in_by(&mut scenario, format!("{{jwt: {{role: writer, token: {{file: {file:?}}}}}}}"));
    assert_eq!(scenario.sync(0).store(), "written");
}

#[test]
fn a_service_account_logs_in_and_another_is_refused() {
    let mut bao = OpenBao::dev();
    let account = bao.kubernetes_auth("writer", &["writer"], "canton", "idkeep");
    let mut scenario = Scenario::on(Arc::new(bao), Dump::fresh(1));
    scenario.bao.policy("writer", &writer_policy(&scenario.path()));
    // Guarded by Kubernetes, so anybody's to read: not under the mode rule.
    let file = scenario.idkeep.file("token", account.as_bytes());
    let auth = format!("{{kubernetes: {{role: writer, token_file: {file:?}}}}}");
    log_in_by(&mut scenario, auth.clone());
    // In the shape of a service account's, but not one that the API server knows.
    let now = jwt::now();
    let unknown = jwt::mint(&json!({
        "iss": "https://kubernetes.default.svc", "aud": ["openbao"], "sub": "system:serviceaccount:canton:idkeep",
        "iat": now, "exp": now + 60,
        "kubernetes.io": {"namespace": "canton", "serviceaccount": {"name": "idkeep", "uid": "1-1-1"}},
    }));
    scenario.idkeep.file("token", unknown.as_bytes());
    refused(&scenario, "by kubernetes (`auth/kubernetes`): status ");
    scenario.idkeep.file("token", account.as_bytes());
    assert_eq!(scenario.sync(0).store(), "written");
}

#[test]
fn a_client_certificate_logs_in_and_another_authority_s_is_refused() {
    let bao = Arc::new(OpenBao::tls());
    let mut scenario = Scenario::on(bao.clone(), Dump::fresh(1));
    let identity = bao.cert_auth("writer", &[&scenario.node]);
    let ca_file = bao.ca_file.as_ref().unwrap();
    let other = Pki::new();
    for (identity, is_right) in [(&other.client("writer"), false), (&identity, true)] {
        scenario.vault(&format!(
            "tls: {{ca_file: {ca_file:?}, client_cert_file: {:?}, client_key_file: {:?}}}",
            identity.certificate_file, identity.key_file
        ));
        log_in_by(&mut scenario, "{cert: {role: writer}}".into());
        if is_right {
            assert_eq!(scenario.sync(0).store(), "written");
        } else {
            refused(&scenario, "by cert (`auth/cert`): status ");
        }
    }
    // Without a role the server picks the one that matches.
    log_in_by(&mut scenario, "{cert: {}}".into());
    assert_eq!(scenario.sync(0).store(), "unchanged");
}

#[test]
fn a_ready_token_is_used_and_never_revoked() {
    let mut scenario = Scenario::new(1);
    let token = scenario.bao.token(&[&scenario.node], "300s");
    let file = scenario.idkeep.secret_file("token", b"s.nosuchtoken");
    log_in_by(&mut scenario, format!("{{token: {{file: {file:?}}}}}"));
    refused(&scenario, "status 403");
    scenario.idkeep.secret_file("token", token.as_bytes());
    assert_eq!(scenario.sync(0).store(), "written");
    assert_eq!(scenario.sync(0).store(), "unchanged");
    let (status, about) = scenario.bao.api_as(&token, None, "GET", "auth/token/lookup-self", None);
    assert_eq!(status, 200, "{about}");
}

#[test]
fn twenty_passes_leave_no_token_behind() {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    let before = scenario.bao.tokens();
    for _ in 0..20 {
        scenario.sync(0);
    }
    scenario.sync_with(0, &["--dry-run"]);
    scenario.idkeep.expect(0, &["check", "--live"]);
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn passes_that_fail_leave_no_token_behind() {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    let before = scenario.bao.tokens();
    let logins = || scenario.bao.audited().iter().filter(|(_, path)| path == "auth/approle/login").count();
    // The store lacks a right.
    scenario.bao.policy(&scenario.node, "path \"auth/token/revoke-self\" { capabilities = [\"update\"] }");
    scenario.sync(77);
    assert_eq!(scenario.bao.tokens(), before);
    assert!(logins() > 0);
    // The node refuses, before or after the store has answered.
    scenario.bao.policy(&scenario.node, &writer_policy(&scenario.path()));
    for _ in 0..10 {
        scenario.validator.script([Answer::Html]);
        scenario.sync(65);
    }
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn a_login_that_is_under_way_when_the_node_fails_leaves_no_token_behind() {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    let before = scenario.bao.tokens();
    let server = scenario.bao.address.trim_start_matches("http://").parse().unwrap();
    // Slow enough that the node has long failed.
    let proxy = FaultProxy::before(server, Fault::Delay(Duration::from_millis(500)));
    let mut idkeep = crate::support::idkeep::Idkeep::new();
    idkeep.config(&scenario.yaml().replace(&scenario.bao.address, &format!("http://{}", proxy.address)));
    scenario.validator.always(Answer::Html);
    idkeep.sync(65);
    assert_eq!(scenario.bao.audited().iter().filter(|(_, path)| path == "auth/approle/login").count(), 1);
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn a_token_that_runs_out_during_a_slow_pass_is_replaced() {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    let before = scenario.bao.tokens();
    scenario.bao.must(
        "POST",
        &format!("auth/approle/role/{}", scenario.node),
        json!({"token_policies": [scenario.node], "token_ttl": "1s"}),
    );
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let running = scenario.idkeep.spawn(&["-o", "json", "sync"]);
    let is = |count: usize| (scenario.bao.tokens() == count).then_some(());
    wait_for("the login", Duration::from_secs(30), || is(before + 1));
    wait_for("the token's end", Duration::from_secs(30), || is(before));
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    scenario.assert_stored(&scenario.dump);
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn a_token_that_is_about_to_run_out_is_renewed() {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    scenario.bao.must(
        "POST",
        &format!("auth/approle/role/{}", scenario.node),
        json!({"token_policies": [scenario.node], "token_ttl": "12s"}),
    );
    let known = accessors(&scenario.bao);
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let running = scenario.idkeep.spawn(&["-o", "json", "sync"]);
    let new = new_accessor(&scenario.bao, &known);
    wait_for("two thirds of the token's life", Duration::from_secs(30), || {
        let about = scenario.bao.must("POST", "auth/token/lookup-accessor", json!({ "accessor": new }));
        (about["data"]["ttl"].as_u64().unwrap() <= 2).then_some(())
    });
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    let audited = scenario.bao.audited();
    assert!(audited.contains(&("update".into(), "auth/token/renew-self".into())), "{audited:?}");
    assert_eq!(audited.iter().filter(|(_, path)| path == "auth/approle/login").count(), 1);
    assert_eq!(accessors(&scenario.bao), known);
}

fn accessors(bao: &OpenBao) -> Vec<String> {
    let keys = bao.must("LIST", "auth/token/accessors", None)["data"]["keys"].clone();
    keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// Waits for a token that was not known before.
fn new_accessor(bao: &OpenBao, known: &[String]) -> String {
    wait_for("the login", Duration::from_secs(30), || accessors(bao).into_iter().find(|key| !known.contains(key)))
}

#[test]
fn a_token_that_was_revoked_in_mid_pass_is_replaced() {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    let before = scenario.bao.tokens();
    let known = accessors(&scenario.bao);
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let running = scenario.idkeep.spawn(&["-o", "json", "sync"]);
    let new = new_accessor(&scenario.bao, &known);
    // Not before it has looked at what is stored: that is the call before the dump.
    let looked = ("read".to_owned(), format!("secret/metadata/{}", scenario.path()));
    wait_for("the first look", Duration::from_secs(30), || scenario.bao.audited().contains(&looked).then_some(()));
    scenario.bao.must("POST", "auth/token/revoke-accessor", json!({ "accessor": new }));
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(outcome.stderr.contains("the token of the store has run out, logging in again"), "{outcome}");
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn a_missing_right_costs_no_token_though_the_token_may_not_look_itself_up() {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    let path = scenario.path();
    let policy = format!(
        "path \"secret/metadata/{path}\" {{ capabilities = [\"read\"] }}\n\
         path \"auth/token/revoke-self\" {{ capabilities = [\"update\"] }}\n"
    );
    scenario.bao.policy(&scenario.node, &policy);
    let role = json!({"token_policies": [scenario.node], "token_no_default_policy": true});
    scenario.bao.must("POST", &format!("auth/approle/role/{}", scenario.node), role);
    let before = scenario.bao.tokens();
    let synced = scenario.sync(77);
    assert!(synced.stderr().contains(&format!("/v1/secret/data/{path}: status 403")), "{}", synced.outcome);
    assert_eq!(scenario.bao.tokens(), before);
}
