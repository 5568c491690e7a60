//! The node's answers: each status, each way of not answering, and what the operator is told.

use serde_json::json;

use crate::support::issuer::{Answer as TokenAnswer, Issuer};
use crate::support::node::{Node, Ran, file, path, quoted};
use crate::support::pki::{Clients, Pki};
use crate::support::proxy::{Fault, FaultProxy, refused};
use crate::support::server::{Reply, Server, Tls};
use crate::support::validator::{AUDIENCE, Answer, BASE, IDENTITIES, Validator};
use crate::support::{dump::Dump, jwt};

const RIGHTS: [&str; 3] = ["ParticipantAdmin", "actAs the validator party", "primary party = the validator party"];

/// The waits before further tries, as the log tells them.
fn waits(ran: &Ran) -> Vec<u64> {
    let marks = ran.0.stderr.match_indices("delay_ms=").map(|(at, mark)| &ran.0.stderr[at + mark.len()..]);
    marks.map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap()).collect()
}

#[test]
fn one_get_of_the_exact_path_brings_the_identities() {
    let mut node = Node::new();
    node.succeeds();
    let [request] = &node.validator.requests()[..] else { panic!("{:?}", node.validator.requests()) };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", IDENTITIES));
    assert!(request.body.is_empty());
    assert_eq!(request.header("accept-encoding"), None);
    assert_eq!(request.header("host"), Some(node.validator.server().address.to_string().as_str()));
    let bearer = request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    assert_eq!(jwt::claims(bearer)["aud"], AUDIENCE);
    assert_eq!(node.issuer.token_requests().len(), 1);
}

#[test]
fn a_slash_at_the_end_of_the_endpoint_makes_no_difference() {
    let mut node = Node::new();
    let endpoint = node.validator.endpoint() + "/";
    node.set("endpoint", quoted(&endpoint)).succeeds();
    assert_eq!(node.validator.requests()[0].target, IDENTITIES);
}

#[test]
fn the_host_header_can_be_another() {
    let mut node = Node::with(Issuer::start(), |settings| settings.host("wallet.localhost"));
    node.fails(78, &["wrong base path or host", "`host:`"]);
    node.set("host", "wallet.localhost").succeeds();
}

#[test]
fn a_dump_of_untold_length_is_taken_whole() {
    let mut node = Node::new();
    node.validator.script([Answer::Chunked]);
    node.succeeds();
}

#[test]
fn what_passes_within_the_deadline_is_tried_again_until_the_dump_comes() {
    for trouble in [408, 425, 429, 500, 502, 503, 504].map(Answer::status).into_iter().chain([
        Answer::CutAfter(100),
        Answer::status(400),
        Answer::NotReady,
        Answer::NotServed,
    ]) {
        let mut node = Node::new();
        node.validator.script([trouble]);
        node.succeeds();
        assert_eq!(node.validator.identity_requests().len(), 2);
        assert_eq!(node.issuer.token_requests().len(), 1, "a token is kept over the retries");
    }
}

#[test]
fn a_wait_that_the_node_asks_for_is_kept() {
    let mut node = Node::new();
    node.validator.script([Answer::retry_after(429, "1"), Answer::retry_after(503, "1")]);
    let ran = node.succeeds();
    assert!(waits(&ran).len() == 2 && waits(&ran).iter().all(|wait| *wait >= 1000), "{:?}", waits(&ran));
}

#[test]
fn a_wait_that_outlasts_the_deadline_ends_the_pass_at_once() {
    for after in ["3600", "99999999999999999999999", "Fri, 31 Dec 2100 23:59:59 GMT"] {
        let mut node = Node::new();
        node.validator.always(Answer::retry_after(429, after));
        node.fails(75, &["status 429", "asks to be left alone for"]);
        assert_eq!(node.validator.identity_requests().len(), 1, "{after}");
    }
}

#[test]
fn a_busy_node_is_asked_until_the_deadline() {
    for status in [429, 500, 502, 503, 504] {
        let mut node = Node::new();
        node.validator.always(Answer::status(status));
        let asking = format!("asking {}", node_origin(&node));
        node.set("deadline", "2s").fails(75, &[&asking, &format!("status {status}")]);
        assert!(node.validator.identity_requests().len() >= 2);
    }
}

#[test]
fn a_participant_that_refuses_is_asked_slowly() {
    let mut node = Node::new();
    node.validator.always(Answer::status(400));
    let ran = node.set("deadline", "3s").fails(75, &["status 400, the participant refuses", "participant's log"]);
    assert!(node.validator.identity_requests().len() >= 2);
    assert!(waits(&ran).iter().all(|wait| *wait >= 500), "{:?}", waits(&ran));
}

#[test]
fn a_token_for_another_audience_is_replaced_once_and_then_shown() {
    let mut node = Node::with(Issuer::start(), |settings| settings.audience("https://wanted.example"));
    let said = node.fails(77, &["status 401", &format!("aud {AUDIENCE}"), "alg RS256", "auth.targetAudience"]);
    let said = said.last_words();
    assert!(said.contains(&format!("sub {}", node.issuer.subject())), "{said}");
    assert!(said.contains("exp 20"), "{said}");
    assert!(said.contains(&format!("the configuration asks for audience {AUDIENCE}")), "{said}");
    assert_eq!((node.validator.identity_requests().len(), node.issuer.token_requests().len()), (2, 2));
}

#[test]
fn a_second_token_that_is_accepted_is_enough() {
    let mut node = Node::new();
    let expired = json!({"aud": AUDIENCE, "sub": node.issuer.subject(), "exp": jwt::now() - 60});
    node.issuer.script([TokenAnswer::Claims(expired)]);
    node.succeeds();
    assert_eq!((node.validator.identity_requests().len(), node.issuer.token_requests().len()), (2, 2));
}

#[test]
fn a_token_that_has_run_out_is_shown_as_such() {
    let mut node = Node::new();
    node.issuer.always(TokenAnswer::Claims(json!({"aud": [AUDIENCE, "b"], "sub": "u", "exp": jwt::now() - 60})));
    node.fails(77, &["(past)", &format!("aud {AUDIENCE}, b, sub u")]);
}

#[test]
fn an_opaque_token_that_is_refused_is_not_shown() {
    let mut node = Node::new();
    node.issuer.always(TokenAnswer::Literal("opaque-canary".into()));
    let ran = node.fails(77, &["status 401", "it is not a JWT"]);
    assert!(!ran.0.output().contains("opaque-canary"));
    assert_eq!(node.issuer.token_requests().len(), 2);
}

#[test]
fn a_new_token_is_fetched_once_even_when_the_node_is_busy_in_between() {
    let mut node = Node::with(Issuer::start(), |settings| settings.audience("https://wanted.example"));
    let right = json!({"aud": "https://wanted.example", "sub": node.issuer.subject(), "exp": jwt::now() + 60});
    // The right one comes first: busy, then the wrong ones.
    node.issuer.script([TokenAnswer::Normal, TokenAnswer::Claims(right)]);
    node.validator.script([Answer::status(503)]);
    node.succeeds();
    assert_eq!((node.validator.identity_requests().len(), node.issuer.token_requests().len()), (3, 2));
}

#[test]
fn a_user_without_rights_is_told_which_three_it_needs() {
    let issuer = Issuer::start();
    let validator = Validator::trusting(&issuer.jwks_uri(), None).user("somebody-else").dump(b"{}").start();
    let mut node = Node::of(issuer, validator, Dump::fresh(1));
    let subject = node.issuer.subject();
    node.fails(77, &[&["status 403", subject.as_str()], &RIGHTS[..]].concat());
    assert_eq!((node.validator.identity_requests().len(), node.issuer.token_requests().len()), (1, 1));
}

#[test]
fn not_found_is_told_apart_by_readyz() {
    for (answer, code, said, hint, tried_again) in [
        (Answer::NotReady, 75, "readyz says 503: the validator app is not initialised yet", "--wait", true),
        (Answer::WrongBase, 78, "readyz is not there either: wrong base path or host", "`/api/validator`", false),
        (Answer::NotServed, 75, "readyz says 200: this app does not serve the endpoint (yet)", "version", true),
    ] {
        let mut node = Node::new();
        node.validator.always(answer);
        node.set("deadline", "3s").fails(code, &["status 404", said, hint]);
        assert_eq!(node.validator.identity_requests().len() > 1, tried_again, "{said}");
        assert!(node.validator.requests().iter().all(|seen| {
            // Only the identities need a token.
            (seen.path == IDENTITIES) == seen.header("authorization").is_some()
        }));
    }
}

#[test]
fn a_readyz_that_says_neither_is_named() {
    let server = Server::plain(|seen| async move {
        if seen.path == format!("{BASE}/readyz") {
            Reply::redirect("https://login.example/")
        } else {
            Reply::empty(404)
        }
    });
    let mut node = Node::new();
    node.set("endpoint", quoted(&(server.origin() + BASE))).set("deadline", "1s");
    node.fails(75, &["status 404", "readyz gives no clue (status 302)"]);
}

#[test]
fn a_redirect_is_not_followed_and_only_its_host_is_told() {
    let decoy = Server::plain(|_| async { Reply::empty(200) });
    let place = decoy.address.to_string();
    for (to, said) in [
        (format!("http://{place}/path-canary?token=canary"), "redirected to another address of the same host"),
        (format!("//{place}/path-canary"), "redirected to another address of the same host"),
        ("//other.example/path-canary".into(), "redirected to other.example"),
        ("/path-canary".into(), "redirected to another address of the same host"),
        ("https://user:canary@login.example/path-canary".into(), "redirected to login.example"),
        ("http://[path-canary".into(), "redirected to nowhere that can be read"),
    ] {
        let mut node = Node::new();
        node.validator.always(Answer::Redirect(to));
        let ran = node.fails(78, &["status 302", said, "not followed", "put the final address in `endpoint`"]);
        assert!(!ran.0.output().contains("canary"), "{}", ran.0);
        assert_eq!(node.validator.identity_requests().len(), 1);
    }
    assert_eq!(decoy.connections(), 0);
}

#[test]
fn a_status_that_no_validator_gives_points_at_the_endpoint() {
    for status in [204, 402, 405, 410, 418] {
        let mut node = Node::new();
        node.validator.always(Answer::status(status));
        node.fails(78, &[&format!("status {status}"), "check `endpoint`"]);
        assert_eq!(node.validator.identity_requests().len(), 1);
    }
}

#[test]
fn what_is_no_dump_is_not_stored() {
    let answers = [
        (Answer::Html, "is not JSON"),
        (Answer::Gzip, "is not JSON"),
        (Answer::Oversize, "larger than 1048576 bytes"),
        (Answer::Dump(Vec::new()), "is not an identities dump"),
    ];
    for (answer, said) in answers {
        let mut node = Node::new();
        node.validator.always(answer);
        let origin = node_origin(&node);
        node.fails(65, &[said, &origin]);
        assert_eq!(node.validator.identity_requests().len(), 1, "{said}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again_until_the_deadline() {
    let mut node = Node::new();
    node.validator.always(Answer::CutAfter(100));
    node.set("deadline", "2s").fails(75, &["asking for the identities", "ended before the answer did"]);
    assert!(node.validator.identity_requests().len() >= 2);
}

#[test]
fn a_connection_that_is_reset_is_made_again_until_the_deadline() {
    let mut node = Node::new();
    let proxy = FaultProxy::before(node.validator.server().address, Fault::ResetAfter(500));
    node.set("endpoint", quoted(&format!("http://{}{BASE}", proxy.address))).set("deadline", "2s");
    node.fails(75, &["asking for the identities", "connection"]);
    assert!(node.validator.identity_requests().len() >= 2);
    proxy.set(Fault::None);
    node.set("deadline", "60s").succeeds();
}

#[test]
fn an_answer_that_never_ends_is_cut_off_at_the_timeout() {
    for answer in [Answer::Drip, Answer::Stall] {
        let mut node = Node::new();
        node.validator.always(answer);
        node.set("timeout", "500ms").set("deadline", "2s").fails(75, &["no whole answer within"]);
        assert!(node.validator.identity_requests().len() >= 2);
    }
}

#[test]
fn one_slow_answer_leaves_time_for_another_try() {
    let mut node = Node::new();
    node.validator.script([Answer::Stall]);
    node.set("timeout", "1s").succeeds();
    assert_eq!(node.validator.identity_requests().len(), 2);
}

#[test]
fn a_server_that_swallows_everything_ends_with_the_deadline() {
    let mut node = Node::new();
    let proxy = FaultProxy::before(node.validator.server().address, Fault::BlackHole);
    node.set("endpoint", quoted(&format!("http://{}{BASE}", proxy.address)));
    node.set("deadline", "1s").fails(75, &["no whole answer within"]);
}

#[test]
fn nobody_listening_and_no_such_name_are_transient() {
    let mut node = Node::new();
    node.set("endpoint", quoted(&format!("http://{}{BASE}", refused()))).set("deadline", "1s");
    node.fails(75, &["connection refused"]);
    node.set("endpoint", quoted(&format!("http://nowhere.invalid{BASE}")));
    node.fails(75, &["http://nowhere.invalid", "the host's name does not resolve"]);
}

#[test]
fn a_certificate_must_be_believed_current_and_for_that_host() {
    let pki = Pki::new();
    let tls = |identity| Tls { config: pki.server_config_with(&identity, Clients::Anonymous), ca_file: pki.ca_file() };
    let with = |tls: Tls| Node::with(Issuer::start(), |settings| settings.tls(tls));
    with(tls(pki.server())).succeeds();
    let refused = |node: &mut Node, said| {
        node.fails(78, &["certificate not trusted", said]);
        assert!(node.validator.requests().is_empty());
        assert!(node.validator.server().connections() <= 1, "tried again though it cannot help");
    };
    refused(with(tls(pki.server())).set("tls", "{}"), "signed by an unknown authority");
    refused(&mut with(tls(pki.expired_server())), "expired");
    refused(&mut with(tls(pki.server_for(&["other.example"]))), "made for another host");
}

#[test]
fn a_ca_file_replaces_the_systems_roots() {
    let (system, own) = (Pki::new(), Pki::new());
    let mut node = Node::with(Issuer::start(), |settings| settings.tls(Tls::of(&system)));
    node.idkeep.env("SSL_CERT_FILE", system.ca_file());
    node.set("tls", format!("{{ca_file: {}}}", path(&own.ca_file())));
    node.fails(78, &["certificate not trusted", "signed by an unknown authority"]);
    node.set("tls", "{}").succeeds();
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_the_configured_one() {
    let pki = Pki::new();
    let tls = Tls::with_clients(&pki, Clients::MustShow);
    let mut node = Node::with(Issuer::start(), |settings| settings.tls(tls));
    node.set("deadline", "20s").fails(77, &["wants a client certificate", "`tls.client_cert_file`"]);
    let with = |identity: &crate::support::pki::Identity| {
        let (certificate, key) = (path(&identity.certificate_file), path(&identity.key_file));
        format!("{{ca_file: {}, client_cert_file: {certificate}, client_key_file: {key}}}", path(&pki.ca_file()))
    };
    node.set("tls", with(&Pki::new().client("stranger")));
    node.set("tls", with(&pki.client("idkeep"))).succeeds();
    assert!(node.validator.requests()[0].client_certificate.is_some());
}

#[test]
fn a_client_certificate_of_another_authority_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let mut node = Node::with(Issuer::start(), |settings| settings.tls(Tls::with_clients(&pki, Clients::MustShow)));
    let stranger = other.client("stranger");
    let (certificate, key) = (path(&stranger.certificate_file), path(&stranger.key_file));
    node.set(
        "tls",
        format!("{{ca_file: {}, client_cert_file: {certificate}, client_key_file: {key}}}", path(&pki.ca_file())),
    );
    node.set("deadline", "20s").fails(77, &["does not accept our client certificate"]);
}

#[test]
fn the_scheme_must_be_the_servers() {
    let mut node = Node::new();
    let wrong = node.validator.endpoint().replace("http:", "https:");
    node.set("endpoint", quoted(&wrong)).fails(78, &["the answer is not TLS", "scheme and port"]);
    let pki = Pki::new();
    let mut node = Node::with(Issuer::start(), |settings| settings.tls(Tls::of(&pki)));
    let wrong = node.validator.endpoint().replace("https:", "http:");
    node.set("endpoint", quoted(&wrong)).fails(78, &["not HTTP", "scheme and port"]);
}

#[test]
fn waiting_goes_on_until_the_node_is_ready_and_then_the_identities_come() {
    let mut node = Node::new();
    node.validator.ready_after(2);
    let ran = node.run(0, &["--wait", "60s"]);
    assert_eq!(ran.node()["stores"][0]["outcome"], "written");
    assert_eq!((node.validator.readyz_requests(), node.validator.identity_requests().len()), (3, 1));
    assert_eq!(node.issuer.token_requests().len(), 1, "waiting needs no token");
}

#[test]
fn a_node_that_is_not_ready_in_time_is_left_with_a_hint() {
    let mut node = Node::new();
    node.validator.ready(false);
    let said =
        ["not ready within 2s", "readyz", "status 503", "an init container must not wait for the app in whose own pod"];
    node.fails_with(75, &["--wait", "2s"], &said);
    assert!(node.validator.readyz_requests() >= 2);
    assert!(node.validator.identity_requests().is_empty() && node.issuer.requests().is_empty());
}

#[test]
fn waiting_for_nobody_ends_in_time() {
    let mut node = Node::new();
    node.set("endpoint", quoted(&format!("http://{}{BASE}", refused())));
    node.fails_with(75, &["--wait", "1s"], &["not ready within 1s", "connection refused"]);
}

#[test]
fn waiting_under_a_wrong_base_ends_at_once() {
    let mut node = Node::new();
    let wrong = format!("{}/somewhere/api/validator", node.validator.server().origin());
    node.set("endpoint", quoted(&wrong));
    let ran = node.fails_with(78, &["--wait", "1h"], &["readyz", "404", "wrong base path or host", "`/api/validator`"]);
    assert!(!ran.last_words().contains("for the identities"), "{}", ran.last_words());
    assert_eq!(node.validator.requests().len(), 1);
}

#[test]
fn waiting_behind_a_login_page_ends_at_once() {
    let mut node = Node::new();
    let server = Server::plain(|_| async { Reply::redirect("https://login.example/path-canary") });
    node.set("endpoint", quoted(&(server.origin() + BASE)));
    let ran = node.fails_with(78, &["--wait", "1h"], &["readyz", "status 302", "redirected to login.example"]);
    assert!(!ran.0.output().contains("canary") && server.seen().len() == 1, "{}", ran.0);
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_it_would() {
    let mut node = Node::new();
    let ran = node.run(0, &["--dry-run"]);
    assert_eq!((&ran.node()["stores"][0]["outcome"], node.versions()), (&json!("would_write"), 0));
    assert!(!node.idkeep.path("kept").exists());
    node.succeeds();
    let ran = node.run(0, &["--dry-run"]);
    assert_eq!((&ran.node()["stores"][0]["outcome"], node.versions()), (&json!("unchanged"), 1));
    node.validator.dump(&Dump::fresh(7).rotated(1, 1).json());
    let ran = node.run(0, &["--dry-run"]);
    assert_eq!((&ran.node()["stores"][0]["outcome"], node.versions()), (&json!("would_write"), 1));
}

#[test]
fn a_failure_leaves_what_is_stored_as_it_is() {
    let mut node = Node::new();
    node.succeeds();
    for (answer, code) in [
        (Answer::Html, 65),
        (Answer::WrongBase, 78),
        (Answer::Redirect("https://login.example".into()), 78),
        (Answer::retry_after(503, "3600"), 75),
    ] {
        node.validator.always(answer);
        node.fails(code, &[]);
    }
    assert_eq!(node.versions(), 1);
}

#[test]
fn a_ready_token_that_no_header_can_carry_is_a_mistake_of_the_configuration() {
    let mut node = Node::new();
    for text in ["canary\r\nX-Evil: 1", "canary\u{1}", "canary with spaces", "canäry"] {
        let token = node.idkeep.secret_file("token", text.as_bytes());
        node.auth(format!("{{token: {}}}", file(&token)));
        let ran = node.fails(78, &["characters"]);
        assert!(!ran.0.output().contains("canary") && !ran.0.output().contains("X-Evil"), "{}", ran.0);
    }
    assert!(node.validator.requests().is_empty());
}

fn node_origin(node: &Node) -> String {
    node.validator.server().origin()
}
