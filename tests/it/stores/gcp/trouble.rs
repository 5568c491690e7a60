//! Answers and credentials that are not as they should be.

use super::Gcp;
use crate::support::dump::Dump;
use crate::support::gcp::SUBJECT_TOKEN;
use crate::support::pki::Pki;
use crate::support::server::{Reply, Server};

fn assert_said(said: &crate::support::idkeep::Outcome, texts: &[&str]) {
    for text in texts {
        assert!(said.stderr.contains(text), "{text:?} is not in\n{said}");
    }
}

#[test]
fn each_status_ends_with_the_exit_code_of_who_has_to_act() {
    for (status, name, code, text) in [
        (401, "UNAUTHENTICATED", 77, "the credentials are not accepted\nhint: have the credentials run out"),
        (
            403,
            "PERMISSION_DENIED",
            77,
            "permission denied (`secretmanager.versions.list`; or it does not exist)\nhint: `idkeep policy gcp`",
        ),
        (400, "INVALID_ARGUMENT", 78, "the API does not accept the request\nhint: check this store's entry"),
        (429, "RESOURCE_EXHAUSTED", 75, "rate limited"),
        (500, "INTERNAL", 75, "status 500, the server has trouble of its own"),
        (503, "UNAVAILABLE", 75, "status 503, the server has trouble of its own"),
    ] {
        let mut gcp = Gcp::new(Dump::fresh(1));
        gcp.scenario.identity("deadline: 1s");
        gcp.google.trouble(|trouble| trouble.always = Some((status, name)));
        let (_, said) = gcp.sync(code);
        assert_said(&said, &["listing the versions of `canton-", "` in Google Secret Manager: ", text]);
        assert!(!said.output().contains("as the test wants it"), "the server's words are repeated: {said}");
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_a_matter_of_configuration() {
    let (mut gcp, other) = (Gcp::new(Dump::fresh(2)), Pki::new());
    gcp.store("tls: {}");
    gcp.scenario.idkeep.env("SSL_CERT_FILE", other.ca_file());
    let (_, said) = gcp.sync(78);
    assert_said(&said, &["certificate not trusted: signed by an unknown authority", "hint: name the authority"]);
    // The system's roots do, where they hold it; and `ca_file` alone counts where it is named.
    gcp.scenario.idkeep.env("SSL_CERT_FILE", gcp.google.ca_file.clone().unwrap());
    assert_eq!(gcp.sync(0).0, "written");
    gcp.store(&format!("tls: {{ca_file: {:?}}}", other.ca_file()));
    gcp.sync(78);
}

#[test]
fn a_redirect_is_not_followed_with_the_dump_or_the_token_in_hand() {
    let gcp = Gcp::new(Dump::fresh(3));
    let elsewhere = Server::plain(|_| async { Reply::empty(200) });
    gcp.google.trouble(|trouble| trouble.redirect = Some(elsewhere.origin()));
    let (_, said) = gcp.sync(78);
    assert_said(&said, &["a redirect, which is never followed"]);
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_metadata_server_that_gives_no_token_is_told_from_one_that_is_busy() {
    for (status, code, text) in [
        (
            404,
            77,
            "no credentials that could be used: this machine has no service account\nhint: give the process its cloud's",
        ),
        (403, 77, "no credentials that could be used: no token is given out for them"),
        (503, 75, "status 503"),
        (429, 75, "status 429"),
    ] {
        let mut gcp = Gcp::new(Dump::fresh(4));
        gcp.scenario.identity("deadline: 1s");
        gcp.google.trouble(|trouble| trouble.no_token = Some(status));
        let (_, said) = gcp.sync(code);
        assert_said(&said, &[text]);
        assert!(!said.output().contains("a page that nobody should repeat"), "{said}");
        assert!(gcp.google.api.seen().is_empty());
    }
}

#[test]
fn a_metadata_server_that_is_busy_is_asked_again_within_the_pass() {
    let gcp = Gcp::new(Dump::fresh(5));
    gcp.google.trouble(|trouble| trouble.no_token = Some(503));
    let run = gcp.scenario.idkeep.spawn(&["-o", "json", "sync"]);
    run.wait_for_stderr("trying again");
    gcp.google.trouble(|trouble| trouble.no_token = None);
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(gcp.stored().len(), 1);
}

#[test]
fn a_machine_that_is_none_of_googles_has_no_credentials() {
    let mut gcp = Gcp::new(Dump::fresh(6));
    // A name that resolves nowhere, on any machine.
    gcp.scenario.idkeep.env("GCE_METADATA_HOST", "127.0.0.1:1");
    gcp.scenario.identity("deadline: 1s");
    let (_, said) = gcp.sync(75);
    assert_said(&said, &["asking for a token: http://127.0.0.1:1: connection refused"]);
}

#[test]
fn a_key_file_that_cannot_be_used_is_named_by_its_variable() {
    let cases = [
        (None, "the file that GOOGLE_APPLICATION_CREDENTIALS names cannot be read"),
        (Some("not JSON"), "the credentials' file is not what Google's tools write"),
        (Some(r#"{"type": "service_account"}"#), "the credentials' file is not what Google's tools write"),
        (Some(r#"{"type": "something_new"}"#), "the credentials' file is of a type that is not supported"),
    ];
    for (content, text) in cases {
        let mut gcp = Gcp::new(Dump::fresh(7));
        let file = gcp.scenario.idkeep.path("key.json");
        if let Some(content) = content {
            gcp.scenario.idkeep.secret_file("key.json", content.as_bytes());
        }
        gcp.scenario.idkeep.env("GOOGLE_APPLICATION_CREDENTIALS", file);
        let (_, said) = gcp.sync(77);
        assert_said(&said, &["no credentials that could be used: ", text]);
    }
}

#[test]
fn workload_identity_federation_exchanges_the_token_of_a_file() {
    let mut gcp = Gcp::new(Dump::fresh(8));
    let token = gcp.scenario.idkeep.secret_file("subject-token", SUBJECT_TOKEN.as_bytes());
    let key = serde_json::json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/pool/providers/cluster",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{}/v1/token", gcp.google.metadata_host()),
        "credential_source": {"file": token},
    });
    let file = gcp.scenario.idkeep.secret_file("key.json", key.to_string().as_bytes());
    gcp.scenario.idkeep.env("GOOGLE_APPLICATION_CREDENTIALS", file);
    assert_eq!(gcp.sync(0).0, "written");
    assert!(gcp.google.metadata.seen().iter().all(|seen| seen.path == "/v1/token"));
}

#[test]
fn a_proxy_never_sees_the_machines_token_in_clear() {
    let mut gcp = Gcp::new(Dump::fresh(9));
    let proxy = Server::plain(|_| async { Reply::empty(502) });
    gcp.scenario.idkeep.env("HTTP_PROXY", proxy.origin());
    let (_, said) = gcp.sync(77);
    assert_said(&said, &["HTTP_PROXY would see the machine's tokens in clear: put the metadata server into NO_PROXY"]);
    assert!(proxy.seen().is_empty());
    gcp.scenario.idkeep.env("NO_PROXY", "127.0.0.1");
    assert_eq!(gcp.sync(0).0, "written");
    assert!(proxy.seen().is_empty());
}

#[test]
fn a_machine_without_root_certificates_says_so() {
    let mut gcp = Gcp::new(Dump::fresh(10));
    let nothing = gcp.scenario.idkeep.file("no-roots.pem", b"");
    gcp.scenario.idkeep.env("SSL_CERT_FILE", nothing);
    let (_, said) = gcp.sync(77);
    assert_said(&said, &["this machine has no root certificates to trust anybody by"]);
}

#[test]
fn a_store_that_no_node_uses_asks_for_nothing() {
    let mut gcp = Gcp::new(Dump::fresh(11));
    gcp.scenario.config.stores = "[vault]".into();
    gcp.configure();
    gcp.sync(0);
    assert!(gcp.google.metadata.seen().is_empty() && gcp.google.api.connections() == 0);
}
