//! The stand-in of the validator app.

use serde_json::json;

use crate::support::client::Client;
use crate::support::dump::Dump;
use crate::support::issuer::Issuer;
use crate::support::pki::{Clients, Pki};
use crate::support::server::Tls;
use crate::support::validator::{Answer, Validator};
use crate::support::{jwt, keys};

fn claims() -> serde_json::Value {
    json!({"sub": "user", "aud": ["https://other.example", crate::support::validator::AUDIENCE], "exp": jwt::now() + 60})
}

fn with(mut claims: serde_json::Value, name: &str, value: serde_json::Value) -> serde_json::Value {
    claims[name] = value;
    claims
}

#[test]
fn only_a_good_token_of_a_user_with_rights_gets_the_dump() {
    let issuer = Issuer::start();
    let validator = Validator::trusting(&issuer.jwks_uri(), None).user("user").dump(b"{\"id\":1}").start();
    let url = validator.identities_url();
    let client = Client::new(None);
    let status = |token: &str| client.get_with_token(&url, token).unwrap().status;
    let answer = client.get_with_token(&url, &jwt::mint(&claims())).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "{\"id\":1}"));
    assert_eq!(client.get(&url).unwrap().status, 401);
    assert_eq!(status("nonsense"), 401);
    assert_eq!(status(&jwt::mint(&with(claims(), "aud", json!("https://other.example")))), 401);
    assert_eq!(status(&jwt::mint(&with(claims(), "exp", json!(jwt::now() - 5)))), 401);
    assert_eq!(status(&jwt::mint_with(&claims(), keys::SYNTHETIC_CLIENT)), 401, "another key");
    assert_eq!(status(&jwt::mint_hs256(&claims(), b"unsafe")), 401);
    assert_eq!(status(&jwt::mint(&with(claims(), "sub", json!("stranger")))), 403);
    let token = jwt::mint(&claims());
    let wrong = |method: &str, url: &str| {
        client.send(method, url, &[("authorization", &format!("Bearer {token}"))], None).unwrap().status
    };
    assert_eq!(wrong("POST", &url), 405);
    assert_eq!(wrong("GET", &format!("{url}/")), 404);
    assert_eq!(wrong("GET", &url.replace("/api/validator", "")), 404);
    assert_eq!(validator.identity_requests().len(), 9);
}

#[test]
fn without_auth_the_service_user_signs_with_the_well_known_secret() {
    let validator = Validator::without_auth().dump(b"{}").start();
    let client = Client::new(None);
    let status = |token: &str| client.get_with_token(&validator.identities_url(), token).unwrap().status;
    let claims = json!({"iat": jwt::now(), "aud": crate::support::validator::AUDIENCE, "sub": "ledger-api-user"});
    assert_eq!(status(&jwt::mint_hs256(&claims, b"unsafe")), 200);
    assert_eq!(status(&jwt::mint_hs256(&claims, b"other")), 401);
    assert_eq!(status(&jwt::mint_hs256(&with(claims, "sub", json!("administrator")), b"unsafe")), 403);
}

#[test]
fn it_answers_as_it_is_told() {
    let dump = Dump::fresh(1).json();
    let validator = Validator::accepting("t").user("user").dump(&dump).start();
    let client = Client::new(None);
    let ask = || client.get_with_token(&validator.identities_url(), "t");
    let readyz = || client.get(&format!("{}/readyz", validator.endpoint())).unwrap().status;
    validator.script([Answer::NotReady, Answer::WrongBase, Answer::NotServed]);
    let seen: Vec<_> = (0..3).map(|_| (ask().unwrap().status, readyz())).collect();
    assert_eq!(seen, [(404, 503), (404, 404), (404, 200)]);
    validator.script([
        Answer::retry_after(503, "3"),
        Answer::Redirect("https://elsewhere.example/x".into()),
        Answer::Html,
    ]);
    assert_eq!(ask().unwrap().header("retry-after"), Some("3"));
    assert_eq!(ask().unwrap().status, 302);
    assert!(ask().unwrap().header("content-type").unwrap().starts_with("text/html"));
    validator.script([Answer::Gzip, Answer::Chunked, Answer::Oversize, Answer::CutAfter(100)]);
    let compressed = ask().unwrap();
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert_eq!(gunzip(&compressed.body), dump);
    let chunked = ask().unwrap();
    assert_eq!((chunked.header("content-length"), &chunked.body), (None, &dump));
    let oversize = ask().unwrap();
    assert_eq!((oversize.header("content-length"), oversize.body.len()), (None, (2 << 20) + 7));
    assert!(ask().is_err(), "cut");
    assert_eq!(ask().unwrap().body, dump);
    validator.ready_after(2);
    assert_eq!((ask().unwrap().status, readyz(), readyz(), readyz(), ask().unwrap().status), (404, 503, 503, 200, 200));
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = std::process::Command::new("gunzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_stalled_answer_comes_when_it_is_released() {
    let validator = Validator::accepting("t").user("user").dump(b"{}").start();
    validator.script([Answer::Stall]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| Client::new(None).get_with_token(&validator.identities_url(), "t").unwrap().status);
        validator.server().wait_for_requests(1);
        assert!(!asking.is_finished());
        validator.release();
        assert_eq!(asking.join().unwrap(), 200);
    });
}

#[test]
fn it_can_insist_on_a_host_and_on_a_client_certificate() {
    let pki = Pki::new();
    let tls = Tls::with_clients(&pki, Clients::MustShow);
    let validator = Validator::accepting("t").user("user").dump(b"{}").host("wallet.localhost").tls(tls).start();
    let client = Client::with_certificate(&pki.ca_file(), &pki.client("idkeep"));
    let url = validator.identities_url();
    let headers = [("authorization", "Bearer t"), ("host", "wallet.localhost")];
    assert_eq!(client.send("GET", &url, &headers, None).unwrap().status, 200);
    assert_eq!(client.get_with_token(&url, "t").unwrap().status, 404);
    assert!(validator.requests()[0].client_certificate.is_some());
    assert!(Client::new(Some(&pki.ca_file())).get(&url).is_err(), "no certificate shown");
    assert!(Client::with_certificate(&pki.ca_file(), &Pki::new().client("idkeep")).get(&url).is_err());
    assert!(Client::new(None).get(&url).is_err(), "the system's roots do not have it");
}

#[test]
fn an_expired_certificate_or_another_name_is_not_believed() {
    let pki = Pki::new();
    for (identity, believed) in
        [(pki.server(), true), (pki.expired_server(), false), (pki.server_for(&["other.example"]), false)]
    {
        let tls = Tls { config: pki.server_config_with(&identity, Clients::Anonymous), ca_file: pki.ca_file() };
        let validator = Validator::accepting("t").tls(tls).start();
        let answer = Client::new(Some(&pki.ca_file())).get(&format!("{}/livez", validator.endpoint()));
        assert_eq!(answer.is_ok(), believed);
    }
}
