//! OpenBao: logins, secrets and their versions, failures.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Client;
use crate::support::openbao::{OpenBao, writer_policy};
use crate::support::pki::Pki;
use crate::support::wait_for;

/// Logs in and does what idkeep will do with the least rights: writes, reads the metadata, never the data.
fn writes_with(bao: &OpenBao, token: &str, path: &str) {
    let (status, answer) = bao.api_as(
        token,
        None,
        "POST",
        &format!("secret/data/{path}"),
        json!({"data": {"content": "x"}, "options": {"cas": 0}}),
    );
    assert_eq!(status, 200, "{answer}");
    let facts = json!({"custom_metadata": {"idkeep_digest": "sha256:0"}});
    assert_eq!(bao.api_as(token, None, "POST", &format!("secret/metadata/{path}"), facts).0, 204);
    assert_eq!(bao.api_as(token, None, "GET", &format!("secret/metadata/{path}"), None).0, 200);
    assert_eq!(bao.api_as(token, None, "GET", &format!("secret/data/{path}"), None).0, 403);
    let evicting = json!({"max_versions": 1});
    assert_eq!(bao.api_as(token, None, "POST", &format!("secret/metadata/{path}"), evicting).0, 403);
    assert_eq!(bao.kv_get(path).unwrap().data["content"], "x");
    assert_eq!(bao.kv_metadata(path).unwrap()["custom_metadata"]["idkeep_digest"], "sha256:0");
    assert_eq!(bao.api_as(token, None, "POST", "auth/token/revoke-self", None).0, 204);
    assert_eq!(bao.api_as(token, None, "GET", &format!("secret/metadata/{path}"), None).0, 403);
}

fn login(bao: &OpenBao, method: &str, body: serde_json::Value) -> String {
    let (status, answer) = bao.api_as("", None, "POST", &format!("auth/{method}/login"), body);
    assert_eq!(status, 200, "{method}: {answer}");
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[test]
fn every_login_without_a_certificate_gives_the_least_rights() {
    let mut bao = OpenBao::dev();
    for path in ["a/approle", "a/wrapped", "a/jwt", "a/kubernetes", "a/token"] {
        bao.policy(&path.replace('/', "-"), &writer_policy(path));
    }
    let (role_id, secret_id) = bao.approle("writer", &["a-approle"], json!({"token_ttl": "60s"}));
    let token = login(&bao, "approle", json!({"role_id": role_id, "secret_id": secret_id}));
    writes_with(&bao, &token, "a/approle");

    let (role_id, _) = bao.approle("wrapped", &["a-wrapped"], json!({}));
    let wrapped = bao.wrapped_secret_id("wrapped");
    let about = bao.must("POST", "sys/wrapping/lookup", json!({ "token": wrapped }));
    assert_eq!(about["data"]["creation_path"], "auth/approle/role/wrapped/secret-id");
    let (status, secret) = bao.api_as(&wrapped, None, "POST", "sys/wrapping/unwrap", None);
    assert_eq!(status, 200, "{secret}");
    assert_eq!(bao.api_as(&wrapped, None, "POST", "sys/wrapping/unwrap", None).0, 400, "unwrapped twice");
    let token = login(&bao, "approle", json!({"role_id": role_id, "secret_id": secret["data"]["secret_id"]}));
    writes_with(&bao, &token, "a/wrapped");

    bao.jwt_auth("writer", &["a-jwt"], "openbao");
    let token = login(&bao, "jwt", json!({"role": "writer", "jwt": OpenBao::mint("openbao", "idkeep", 60)}));
    writes_with(&bao, &token, "a/jwt");

    let account = bao.kubernetes_auth("writer", &["a-kubernetes"], "canton", "idkeep");
    let token = login(&bao, "kubernetes", json!({"role": "writer", "jwt": account}));
    writes_with(&bao, &token, "a/kubernetes");

    let token = bao.token(&["a-token"], "60s");
    writes_with(&bao, &token, "a/token");

    let audited = bao.audited();
    assert!(audited.contains(&("update".into(), "auth/token/revoke-self".into())), "{audited:?}");
    assert!(!bao.audit_log().contains(&secret_id), "the audit log has hashes only");
}

#[test]
fn a_client_certificate_logs_in_over_tls() {
    let bao = OpenBao::tls();
    bao.policy("writer", &writer_policy("a/cert"));
    let identity = bao.cert_auth("idkeep", &["writer"]);
    let url = format!("{}/v1/auth/cert/login", bao.address);
    let ca_file = bao.ca_file.as_deref().unwrap();
    let client = Client::with_certificate(ca_file, &identity);
    let answer = client.send("POST", &url, &[], Some(b"{}".to_vec())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    writes_with(&bao, answer.json()["auth"]["client_token"].as_str().unwrap(), "a/cert");
    let other = Client::with_certificate(ca_file, &Pki::new().client("idkeep"));
    assert_ne!(
        other.send("POST", &url, &[], Some(b"{}".to_vec())).unwrap().status,
        200,
        "a certificate of another authority"
    );
    assert!(Client::new(Some(&Pki::new().ca_file())).get(&url).is_err(), "another authority is believed");
}

#[test]
fn a_sealed_server_answers_503_until_it_is_unsealed() {
    let bao = OpenBao::tls();
    bao.kv_put("a/b", json!({"content": "x"}));
    bao.seal();
    assert_eq!(bao.api("GET", "secret/data/a/b", None).0, 503);
    bao.unseal();
    wait_for("the secret", Duration::from_secs(30), || bao.kv_get("a/b"));
}

#[test]
fn raft_survives_a_restart_and_refuses_a_value_over_a_mebibyte() {
    let mut bao = OpenBao::raft();
    bao.kv_put("a/b", json!({"content": "x"}));
    bao.restart();
    assert_eq!(bao.kv_get("a/b").unwrap().version, 1);
    let large = json!({"data": {"content": "x".repeat(1 << 20)}});
    let (status, answer) = bao.api("POST", "secret/data/a/large", large);
    assert_eq!(status, 500, "{answer}");
    assert!(answer.to_string().contains("too large"), "{answer}");
}

#[test]
fn versions_deletions_and_check_and_set_are_the_real_ones() {
    let bao = OpenBao::dev();
    assert!(bao.kv_get("a/b").is_none());
    assert_eq!(bao.kv_put("a/b", json!({"content": "1"})), 1);
    assert_eq!(bao.kv_put("a/b", json!({"content": "2"})), 2);
    let (status, answer) = bao.api("POST", "secret/data/a/b", json!({"data": {}, "options": {"cas": 1}}));
    assert_eq!(status, 400);
    assert!(answer.to_string().contains("check-and-set parameter did not match"), "{answer}");
    assert_eq!(bao.kv_version("a/b", 1).unwrap()["content"], "1");
    bao.kv_delete("a/b");
    assert!(bao.kv_get("a/b").is_none());
    bao.kv_destroy("a/b", 1);
    let versions = &bao.kv_metadata("a/b").unwrap()["versions"];
    assert_eq!(versions["1"]["destroyed"], true);
    assert_ne!(versions["2"]["deletion_time"], "");
}

#[test]
fn namespaces_hold_secrets_apart_and_a_rate_limit_answers_429() {
    let bao = OpenBao::dev();
    bao.namespace("acme");
    let data = json!({"data": {"content": "x"}});
    assert_eq!(bao.api_as(&bao.root_token, Some("acme"), "POST", "secret/data/a", data).0, 200);
    assert!(bao.kv_get("a").is_none());
    bao.rate_limit("secret", 1.0);
    let statuses: Vec<u16> = (0..5).map(|_| bao.api("GET", "secret/config", None).0).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    bao.remove_rate_limit();
    assert_eq!(bao.api("GET", "secret/config", None).0, 200);
}

#[test]
fn a_restarted_dev_server_stands_at_the_same_address_and_knows_nothing() {
    let mut bao = OpenBao::dev();
    let address = bao.address.clone();
    bao.kv_put("a/b", json!({"content": "x"}));
    bao.stop();
    assert!(Client::new(None).get(&address).is_err());
    bao.restart();
    assert_eq!(bao.address, address);
    assert!(bao.kv_get("a/b").is_none());
}
