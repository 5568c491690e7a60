//! Tokens: every way to get one, every way not to, and where the client's secret may go.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::dump::Dump;
use crate::support::issuer::{Answer, Basic, Discovery, Flavour, Issuer};
use crate::support::node::{Node, file, path, quoted};
use crate::support::oidc::{self, OidcProvider};
use crate::support::pki::{Clients, Identity, Pki};
use crate::support::server::{Gate, Reply, Server, Tls};
use crate::support::validator::{AUDIENCE, Validator};
use crate::support::{jwt, keys};

fn provider() -> &'static OidcProvider {
    static PROVIDER: OnceLock<OidcProvider> = OnceLock::new();
    PROVIDER.get_or_init(OidcProvider::http)
}

fn provider_with_tls() -> &'static OidcProvider {
    static PROVIDER: OnceLock<OidcProvider> = OnceLock::new();
    PROVIDER.get_or_init(OidcProvider::https)
}

/// A node that trusts the certified provider and this user of it; nothing shows who the client is yet.
fn certified(provider: &OidcProvider, user: &str) -> Node {
    let dump = Dump::fresh(7);
    let ca_file = provider.ca_file.as_deref();
    let validator = Validator::trusting(&provider.jwks_uri(), ca_file).user(user).dump(&dump.json()).start();
    let mut node = Node::of(Issuer::start(), validator, dump);
    node.oauth2("issuer", quoted(&provider.issuer)).oauth2("client_id", quoted(user));
    node.no_oauth2("client_secret").no_oauth2("audience").oauth2("resource", quoted(oidc::AUDIENCE));
    if let Some(ca_file) = ca_file {
        node.oauth2("tls", format!("{{ca_file: {}}}", path(ca_file)));
    }
    node
}

fn client_secret(node: &mut Node, secret: &str) {
    let secret = node.idkeep.secret_file("client-secret", secret.as_bytes());
    node.oauth2("client_secret", file(&secret));
}

fn private_key(node: &mut Node, pem: &str) {
    let key = node.idkeep.secret_file("client-key", pem.as_bytes());
    node.oauth2("private_key", file(&key));
}

/// `tls` with this client certificate.
fn shown(ca_file: &std::path::Path, identity: &Identity) -> String {
    let (certificate, key) = (path(&identity.certificate_file), path(&identity.key_file));
    format!("{{ca_file: {}, client_cert_file: {certificate}, client_key_file: {key}}}", path(ca_file))
}

/// What the issuer was told in the last token request.
fn last_form(issuer: &Issuer) -> std::collections::BTreeMap<String, String> {
    issuer.token_requests().last().unwrap().form()
}

#[test]
fn a_certified_issuer_takes_the_client_secret_in_the_header_form_encoded() {
    let provider = provider();
    let mut node = certified(provider, &provider.basic.id);
    client_secret(&mut node, &provider.basic.secret);
    for way in [None, Some("basic")] {
        way.map(|way| node.oauth2("client_auth", way));
        node.run(0, &[]);
    }
    node.oauth2("basic_encoding", "raw").fails(78, &["for a token: invalid_request", "`basic_encoding`"]);
}

#[test]
fn a_certified_issuer_takes_the_client_secret_in_the_form() {
    let provider = provider();
    let mut node = certified(provider, &provider.post.id);
    client_secret(&mut node, &provider.post.secret);
    node.oauth2("client_auth", "post").succeeds();
    client_secret(&mut node, "wrong");
    node.fails(77, &["refuses the client: invalid_client", "`client_id`"]);
}

#[test]
fn a_certified_issuer_takes_a_signed_assertion() {
    let provider = provider();
    for key in [&provider.rs256, &provider.es256] {
        let mut node = certified(provider, &key.id);
        private_key(&mut node, &key.private_key);
        node.oauth2("key_id", quoted(&key.key_id));
        for (way, audience) in [(false, "token_endpoint"), (true, "token_endpoint"), (true, "issuer")] {
            if way {
                node.oauth2("client_auth", "private_key_jwt");
            }
            node.oauth2("assertion_audience", audience).run(0, &[]);
        }
        // The issuer's own name counts, not how the configuration writes it.
        node.oauth2("issuer", quoted(&format!("{}/", provider.issuer))).run(0, &[]);
        private_key(&mut node, &rcgen::KeyPair::generate().unwrap().serialize_pem());
        node.fails(77, &["refuses the client: invalid_client", "secret or key"]);
    }
}

#[test]
fn a_certified_issuer_takes_a_client_certificate() {
    let provider = provider_with_tls();
    let tls = provider.tls.as_ref().unwrap();
    let ca_file = provider.ca_file.as_deref().unwrap();
    let mut node = certified(provider, &tls.id);
    node.oauth2("tls", shown(ca_file, &tls.identity)).succeeds();
    node.oauth2("client_auth", "tls").run(0, &[]);
    node.oauth2("tls", shown(ca_file, &provider.pki().client("stranger")));
    node.fails(77, &["refuses the client: invalid_client"]);
}

#[test]
fn a_certified_issuer_over_tls_is_believed_by_its_own_authority_alone() {
    let provider = provider_with_tls();
    let mut node = certified(provider, &provider.basic.id);
    client_secret(&mut node, &provider.basic.secret);
    node.succeeds();
    node.oauth2("tls", "{}").fails(78, &["discovery document", "signed by an unknown authority", "`tls.ca_file`"]);
}

#[test]
fn resource_scope_and_further_fields_reach_the_issuer() {
    let provider = provider();
    let mut node = certified(provider, &provider.basic.id);
    client_secret(&mut node, &provider.basic.secret);
    node.oauth2("scope", oidc::SCOPE).succeeds();
    node.no_oauth2("scope").oauth2("resource", quoted("https://unknown.example.com"));
    node.fails(78, &["invalid_target", "`resource`"]);
    node.no_oauth2("resource").oauth2("extra_params", format!("{{resource: {}}}", quoted(oidc::AUDIENCE)));
    node.run(0, &[]);
    node.oauth2("extra_params", format!("{{resource: {}}}", quoted(oidc::OTHER_AUDIENCE)));
    node.fails(77, &["status 401", &format!("aud {}", oidc::OTHER_AUDIENCE), "asks for no audience"]);

    let issuer = Issuer::settings().wants("scope", "a b").wants("tenant", "x y&z=1").start();
    let mut node = Node::with(issuer, |settings| settings);
    node.oauth2("scope", quoted("a b")).oauth2("extra_params", "{tenant: 'x y&z=1'}").succeeds();
    let form = last_form(&node.issuer);
    assert_eq!(form.keys().map(String::as_str).collect::<Vec<_>>(), ["audience", "grant_type", "scope", "tenant"]);
}

#[test]
fn a_token_request_is_one_form_and_holds_the_secret_once() {
    let mut node = Node::new();
    node.succeeds();
    let [request] = &node.issuer.token_requests()[..] else { panic!("more than one token request") };
    assert_eq!(request.header("accept"), Some("application/json"));
    assert!(request.query.is_none() && request.header("authorization").unwrap().starts_with("Basic "));
    assert!(!request.form().contains_key("client_secret") && !request.form().contains_key("client_id"));
    assert_eq!(node.issuer.requests().len() - 1, 2, "the document and the node's look at the keys");
}

#[test]
fn an_issuer_that_wants_it_raw_gets_it_raw() {
    let issuer = Issuer::settings().client("a-b%c d", "p+q&r=s%20:t~").basic(Basic::Raw);
    let mut node = Node::with(issuer.start(), |settings| settings);
    node.fails(77, &["invalid_client", "`basic_encoding`"]);
    node.oauth2("basic_encoding", "raw").succeeds();
}

#[test]
fn auth0_wants_an_audience_that_is_granted() {
    let mut node = Node::new();
    node.no_oauth2("audience").fails(78, &["access_denied", "`audience`"]);
    node.oauth2("audience", quoted("https://ledger.example.com")).fails(78, &["access_denied", "`audience`"]);
    assert_eq!(node.issuer.token_requests().len(), 2);
    node.oauth2("audience", quoted(AUDIENCE)).succeeds();
}

#[test]
fn keycloak_ignores_the_audience_and_the_message_shows_what_it_gave() {
    let issuer = Issuer::settings().flavour(Flavour::Keycloak).granted(&["account"]).lifetime(300).start();
    let mut node = Node::with(issuer, |settings| settings);
    let asks = format!("asks for audience {AUDIENCE}");
    node.fails(77, &["status 401", "aud account", "sub service-account-idkeep-client", "alg RS256", &asks]);
    assert_eq!(node.issuer.token_requests().len(), 2);
    assert_eq!(last_form(&node.issuer)["audience"], AUDIENCE);
    let checked = node.idkeep.expect(77, &["check", "--live"]);
    let odd =
        format!("the token is for account, not for the `audience` that is configured, {AUDIENCE}; an issuer that");
    assert!(checked.stdout.contains(&odd), "{checked}");
    let issuer = Issuer::settings().flavour(Flavour::Keycloak).lifetime(300).start();
    Node::with(issuer, |settings| settings).succeeds();
}

#[test]
fn every_try_has_an_assertion_of_its_own_that_is_short_lived() {
    let mut node = Node::new();
    node.no_oauth2("client_secret").oauth2("key_id", "rs-1").oauth2("client_auth", "private_key_jwt");
    private_key(&mut node, &keys::pem(keys::SYNTHETIC_CLIENT));
    node.issuer.script([Answer::Status(503), Answer::Status(503), Answer::Error(401, "invalid_client")]);
    node.fails(77, &["invalid_client"]);
    let forms: Vec<_> =
        node.issuer.token_requests().iter().map(|seen| (seen.header("authorization").is_some(), seen.form())).collect();
    assert_eq!(forms.len(), 3);
    let mut used = BTreeSet::new();
    for (has_header, form) in &forms {
        assert!(!has_header);
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let claims = jwt::claims(&form["client_assertion"]);
        for name in ["iss", "sub"] {
            assert_eq!(claims[name], node.issuer.client_id);
        }
        assert_eq!(claims["aud"], node.issuer.token_url());
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert!((1..=60).contains(&lifetime) && claims["iat"].as_u64().unwrap() <= jwt::now());
        assert!(used.insert(claims["jti"].as_str().unwrap().to_owned()), "used twice");
        let header = jsonwebtoken::decode_header(&form["client_assertion"]).unwrap();
        assert_eq!((header.kid.as_deref(), header.alg), (Some("rs-1"), jsonwebtoken::Algorithm::RS256));
    }
    node.issuer.always(Answer::Error(401, "invalid_client"));
    node.oauth2("assertion_audience", "issuer").fails(77, &[]);
    assert_eq!(jwt::claims(&last_form(&node.issuer)["client_assertion"])["aud"], node.issuer.url());
}

#[test]
fn a_private_key_that_is_none_is_a_mistake_of_the_configuration() {
    let mut node = Node::new();
    node.no_oauth2("client_secret");
    private_key(&mut node, "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n");
    let ran = node.fails(78, &["client assertion", "`private_key` takes a PEM key"]);
    assert!(!ran.0.output().contains("canary"));
    assert!(node.issuer.token_requests().is_empty());
}

#[test]
fn without_auth_we_sign_for_the_service_user() {
    let dump = Dump::fresh(7);
    let mut node = Node::of(Issuer::start(), Validator::without_auth().dump(&dump.json()).start(), dump);
    let secret = node.idkeep.secret_file("unsafe", b"unsafe\n");
    node.auth(format!("{{unsafe_hs256: {{secret: {}}}}}", file(&secret))).succeeds();
    let claims = jwt::claims(node.validator.requests()[0].header("authorization").unwrap());
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!(AUDIENCE), &json!("ledger-api-user")));
    assert!(claims["iat"].as_u64().unwrap() <= jwt::now());
    node.auth(format!("{{unsafe_hs256: {{secret: {}, user: administrator}}}}", file(&secret)));
    node.fails(77, &["status 403", "administrator", "ParticipantAdmin"]);
    node.auth(format!("{{unsafe_hs256: {{secret: {}, audience: 'https://x.example'}}}}", file(&secret)));
    node.fails(
        77,
        &["status 401", "aud https://x.example", "alg HS256", "the configuration says audience https://x.example"],
    );
    assert!(node.issuer.requests().is_empty());
}

#[test]
fn a_ready_token_is_read_again_when_it_is_refused() {
    let dump = Dump::fresh(7);
    let settings = Validator::accepting("new-canary").user("user").dump(&dump.json());
    let mut node = Node::of(Issuer::start(), settings.start(), dump);
    let token = node.idkeep.secret_file("token", b"old-canary\n");
    node.auth(format!("{{token: {}}}", file(&token))).set("deadline", "60s");
    let ran = node.fails(77, &["status 401", "it is not a JWT"]);
    assert!(!ran.0.output().contains("canary"));
    assert_eq!(node.validator.identity_requests().len(), 2);
    node.idkeep.secret_file("token", b"new-canary\n");
    node.succeeds();
    // Rotated while a pass is under way: the node is busy first, and by then the file has the new token.
    node.idkeep.secret_file("token", b"old-canary\n");
    let gate = Gate::closed();
    let held = gate.clone();
    let server = Server::plain(move |seen| {
        let gate = held.clone();
        async move {
            let is_new = seen.header("authorization") == Some("Bearer new-canary");
            Reply::empty(if is_new { 503 } else { 401 }).header("retry-after", "3600").behind(gate)
        }
    });
    node.set("endpoint", quoted(&format!("{}/api/validator", server.origin())));
    let yaml = node.yaml_of("node");
    node.configure(&[yaml]);
    let running = node.idkeep.spawn(&["sync"]);
    server.wait_for_requests(1);
    node.idkeep.secret_file("token", b"new-canary\n");
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn the_way_to_show_oneself_comes_from_discovery() {
    let mut node = Node::new();
    node.issuer.discovery(Discovery::methods(&["client_secret_post"]));
    node.succeeds();
    assert_eq!(last_form(&node.issuer)["client_secret"], node.issuer.client_secret);
    node.issuer.discovery(Discovery::With(json!({"token_endpoint_auth_methods_supported": null})));
    node.run(0, &[]);
    assert!(!last_form(&node.issuer).contains_key("client_secret"), "basic is the default");
    node.issuer.discovery(Discovery::methods(&["client_secret_post"]));
    node.oauth2("client_auth", "basic").run(0, &[]);
    assert!(!last_form(&node.issuer).contains_key("client_secret"), "what is configured counts");
}

#[test]
fn a_slash_at_the_end_of_the_issuer_makes_no_difference() {
    for flavour in [Flavour::Auth0, Flavour::Keycloak] {
        let mut node = Node::with(Issuer::settings().flavour(flavour).start(), |settings| settings);
        let bare = node.issuer.url().trim_end_matches('/').to_owned();
        node.oauth2("issuer", quoted(&bare)).run(0, &[]);
        node.oauth2("issuer", quoted(&format!("{bare}/"))).run(0, &[]);
        assert!(node.issuer.requests().iter().all(|seen| !seen.path.contains("//")));
    }
}

#[test]
fn a_token_url_does_without_discovery() {
    let mut node = Node::new();
    node.issuer.discovery(Discovery::Status(500));
    let url = node.issuer.token_url();
    node.oauth2("token_url", quoted(&url)).succeeds();
    node.no_oauth2("issuer").run(0, &[]);
    assert!(node.issuer.requests().iter().all(|seen| !seen.path.contains("openid-configuration")));
}

/// The client's secret must have gone nowhere: no token request anywhere, and nothing at all to the other place.
fn assert_secret_stayed(node: &Node, other: &Server) {
    assert!(node.issuer.token_requests().is_empty(), "a token was asked for");
    assert_eq!(other.connections(), 0, "the other place was spoken to: {:?}", other.seen());
    assert!(node.validator.requests().is_empty());
}

#[test]
fn a_document_that_leads_elsewhere_is_not_believed() {
    let other = Server::plain(|_| async { Reply::json(200, &json!({"access_token": "t", "token_type": "Bearer"})) });
    let port = other.address.port();
    let elsewhere = |host: &str| format!("http://{host}:{port}/token-canary");
    for (discovery, said) in [
        (Discovery::issuer(&other.origin()), format!("it names another issuer, at {}", other.origin())),
        (Discovery::issuer("canary"), "it names another issuer, whose name is no address".into()),
        (
            Discovery::token_endpoint(&elsewhere("127.0.0.1")),
            format!("its token endpoint is elsewhere, at {}", other.origin()),
        ),
        (
            Discovery::token_endpoint(&elsewhere("localhost")),
            "its token endpoint is elsewhere, at http://localhost".into(),
        ),
        (Discovery::token_endpoint("https://127.0.0.1/token-canary"), "elsewhere, at https://127.0.0.1".into()),
        (Discovery::token_endpoint("/token-canary"), "its token endpoint is not an address".into()),
        (Discovery::token_endpoint("ftp://127.0.0.1/token-canary"), "its token endpoint".into()),
        (Discovery::Redirect(other.origin() + "/canary"), "redirected to another address of the same host".into()),
        (Discovery::Redirect(format!("http://localhost:{port}/canary")), "redirected to localhost".into()),
        (Discovery::Html, "the answer is no discovery document".into()),
        (Discovery::With(json!({"token_endpoint": null})), "the answer is no discovery document".into()),
        (Discovery::With(json!({"issuer": null})), "the answer is no discovery document".into()),
        (Discovery::Status(404), "status 404".into()),
        (Discovery::Status(403), "status 403".into()),
        (Discovery::Padded(65 << 10), "larger than 65536 bytes".into()),
    ] {
        let mut node = Node::new();
        node.issuer.discovery(discovery);
        let ran = node.fails(78, &["discovery document", &said, "`token_url`"]);
        assert!(!ran.0.output().contains("canary"), "{}", ran.0);
        assert_eq!(node.issuer.requests().len(), 1, "tried again though it cannot help");
        assert_secret_stayed(&node, &other);
    }
}

#[test]
fn a_document_of_the_same_host_under_another_name_is_not_believed() {
    let mut node = Node::new();
    let realm = node.issuer.url() + "realms/other";
    node.issuer.discovery(Discovery::issuer(&realm));
    node.fails(78, &["it names another issuer, of the same host (compare path and capitals)", "check `issuer`"]);
    assert!(node.issuer.token_requests().is_empty());
}

#[test]
fn a_certificates_own_endpoint_is_under_the_same_rule() {
    let pki = Pki::new();
    let issuer = Issuer::settings().tls(Tls::with_clients(&pki, Clients::MayShow)).start();
    let mut node = Node::with(issuer, |settings| settings);
    let other = Server::start(Some(pki.server_config(Clients::MayShow)), |_| async { Reply::empty(200) });
    node.oauth2("tls", shown(&pki.ca_file(), &pki.client("idkeep"))).oauth2("client_auth", "tls");
    node.issuer.discovery(Discovery::mtls_token_endpoint(&format!("{}/token", other.origin())));
    node.fails(78, &["its token endpoint is elsewhere", &other.origin(), "`token_url`"]);
    assert_secret_stayed(&node, &other);
    // The alias is for certificates alone, and is used where it stands at the right place.
    node.issuer
        .discovery(Discovery::mtls_token_endpoint(&node.issuer.token_url().replace("/oauth/token", "/oauth/alias")));
    node.fails(78, &["is no token"]);
    assert_eq!(node.issuer.requests().last().unwrap().path, "/oauth/alias");
    node.oauth2("client_auth", "basic").succeeds();
}

#[test]
fn an_issuer_with_tls_does_not_lead_to_plain_http() {
    let pki = Pki::new();
    let issuer = Issuer::settings().tls(Tls::of(&pki)).start();
    let mut node = Node::with(issuer, |settings| settings);
    node.issuer.discovery(Discovery::token_endpoint(&node.issuer.token_url().replace("https:", "http:")));
    node.oauth2("allow_http", "false").fails(78, &["its token endpoint is not encrypted", "`token_url`"]);
    assert!(node.issuer.token_requests().is_empty());
    node.issuer.discovery(Discovery::Right);
    node.succeeds();
}

#[test]
fn a_refused_client_is_told_after_one_request() {
    for (status, code) in
        [(401, "invalid_client"), (400, "invalid_client"), (400, "unauthorized_client"), (403, "unauthorized_client")]
    {
        let mut node = Node::new();
        node.issuer.always(Answer::Error(status, code));
        let origin = node.issuer.server().origin();
        node.fails(
            77,
            &[&format!("asking {origin} for a token: the issuer refuses the client: {code}"), "`client_id`"],
        );
        assert_eq!(node.issuer.token_requests().len(), 1);
        assert!(node.validator.requests().is_empty());
    }
    let mut node = Node::new();
    node.issuer.always(Answer::Status(401));
    let ran = node.fails(77, &["refuses the client: status 401"]);
    assert!(!ran.0.output().contains("upstream trouble"));
    assert_eq!(node.issuer.token_requests().len(), 1);
}

#[test]
fn a_refused_request_is_a_mistake_of_the_configuration() {
    for (status, code) in [
        (400, "invalid_scope"),
        (400, "invalid_request"),
        (400, "unsupported_grant_type"),
        (400, "invalid_target"),
        (403, "access_denied"),
    ] {
        let mut node = Node::new();
        node.issuer.always(Answer::Error(status, code));
        let ran = node.fails(78, &[&format!("for a token: {code}"), "`audience`, `resource`, `scope`"]);
        assert!(!ran.0.output().contains("as the test wanted"), "the description is the other side's");
        assert_eq!(node.issuer.token_requests().len(), 1);
    }
    for code in ["Canary <b>", "canary\u{1b}[31m", "c4n4ry-but-in-capitals-CANARY"] {
        let mut node = Node::new();
        node.issuer.always(Answer::Error(400, code));
        let ran = node.fails(78, &["an error code that is none of OAuth's"]);
        assert!(!ran.0.output().to_lowercase().contains("c4n4ry") && !ran.0.output().to_lowercase().contains("canary"));
    }
}

#[test]
fn what_is_no_token_is_a_mistake_of_the_configuration() {
    let decoy = Server::plain(|_| async { Reply::empty(200) });
    let to = format!("{}/canary", decoy.origin().replace("127.0.0.1", "localhost"));
    for (answer, said) in [
        (Answer::Html, "is no token"),
        (Answer::NotAToken, "is no token"),
        (Answer::Status(403), "(status 403) is no token"),
        (Answer::Status(404), "(status 404) is no token"),
        (Answer::Redirect(to), "redirected to localhost, which is not followed"),
        (Answer::Endless, "is no token: it is larger than 256 KiB"),
        (Answer::Literal("canary\r\nX-Evil: 1".into()), "characters that no token has"),
        (Answer::Literal("canary token".into()), "characters that no token has"),
        (Answer::Literal("canäry".into()), "characters that no token has"),
        (Answer::Literal(String::new()), "is no token"),
    ] {
        let mut node = Node::new();
        node.issuer.always(answer);
        let ran = node.fails(78, &[said, "for a token", "`issuer` or `token_url`"]);
        let output = ran.0.output();
        assert!(!output.contains("canary") && !output.contains("Evil") && !output.contains("hello"), "{output}");
        assert_eq!(node.issuer.token_requests().len(), 1, "{said}");
        assert!(node.validator.requests().is_empty());
    }
    assert_eq!(decoy.connections(), 0);
}

#[test]
fn an_issuer_in_trouble_is_asked_again_until_the_deadline() {
    for (answer, said) in [
        (Answer::Status(500), "for a token: status 500"),
        (Answer::Status(503), "for a token: status 503"),
        (Answer::TooMany(None), "for a token: status 429"),
        (Answer::Cut, "ended before the answer did"),
    ] {
        let mut node = Node::new();
        node.issuer.always(answer);
        node.set("deadline", "2s").fails(75, &[said]);
        assert!(node.issuer.token_requests().len() >= 2, "{said}");
        assert!(node.validator.requests().is_empty());
    }
    let mut node = Node::new();
    node.issuer.discovery(Discovery::Status(503));
    node.set("deadline", "2s").fails(75, &["for the discovery document: status 503"]);
    assert!(node.issuer.requests().len() >= 2 && node.issuer.token_requests().is_empty());
}

#[test]
fn an_issuer_that_recovers_gives_the_token() {
    let mut node = Node::new();
    node.issuer.script([Answer::Status(502), Answer::Cut, Answer::TooMany(Some("1")), Answer::TooMany(None)]);
    let ran = node.succeeds();
    assert_eq!((node.issuer.token_requests().len(), node.validator.identity_requests().len()), (5, 1));
    let waits: Vec<_> = ran.0.stderr.lines().filter_map(|line| line.split_once("delay_ms=")).collect();
    assert_eq!(waits.len(), 4);
    let third = waits[2].1.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    assert!(third >= 1000, "the issuer asked for a second: {third}");
}

#[test]
fn an_issuer_that_asks_for_more_time_than_there_is_ends_the_pass_at_once() {
    let mut node = Node::new();
    node.issuer.always(Answer::TooMany(Some("3600")));
    node.fails(75, &["for a token: status 429, and it asks to be left alone for 3600s"]);
    assert_eq!(node.issuer.token_requests().len(), 1);
}

#[test]
fn an_issuer_that_never_comes_to_an_end_ends_with_the_deadline() {
    for answer in [Answer::Drip, Answer::Held(Gate::closed(), Box::new(Answer::Normal))] {
        let mut node = Node::new();
        node.issuer.always(answer);
        node.set("deadline", "1s").fails(75, &["asking for a token", "no whole answer within"]);
        assert_eq!(node.issuer.token_requests().len(), 1);
    }
}

#[test]
fn nodes_of_one_issuer_share_one_token() {
    let mut node = Node::new();
    let gate = Gate::closed();
    node.issuer.script([Answer::Held(gate.clone(), Box::new(Answer::Normal))]);
    let nodes: Vec<_> = ["a", "b", "c", "d"].map(|name| node.yaml_of(name)).into();
    node.configure(&nodes);
    let running = node.idkeep.spawn(&["-o", "json", "sync"]);
    // The document, and the one token request that all wait for.
    node.issuer.server().wait_for_requests(2);
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    let report = outcome.json();
    let outcomes: Vec<&Value> =
        report["nodes"].as_array().unwrap().iter().map(|node| &node["stores"][0]["outcome"]).collect();
    assert_eq!(outcomes, ["written"; 4]);
    assert_eq!((node.issuer.token_requests().len(), node.validator.identity_requests().len()), (1, 4));
}

#[test]
fn nodes_whose_token_is_refused_share_the_new_one_too() {
    let mut node = Node::new();
    let wrong = json!({"aud": "https://other.example", "sub": node.issuer.subject(), "exp": jwt::now() + 60});
    node.issuer.script([Answer::Claims(wrong)]);
    let nodes: Vec<_> = ["a", "b", "c", "d"].map(|name| node.yaml_of(name)).into();
    node.configure(&nodes);
    node.run_as_configured(0, &[]);
    assert_eq!(node.issuer.token_requests().len(), 2);
    assert!(node.validator.identity_requests().len() >= 5);
}

#[test]
fn a_refused_client_is_told_for_every_node_after_one_request() {
    let mut node = Node::new();
    node.issuer.always(Answer::Error(401, "invalid_client"));
    let nodes: Vec<_> = ["a", "b", "c", "d"].map(|name| node.yaml_of(name)).into();
    node.configure(&nodes);
    let ran = node.run_as_configured(77, &[]);
    assert_eq!(ran.0.stderr.matches("refuses the client: invalid_client").count(), 4, "{}", ran.0);
    assert_eq!(node.issuer.token_requests().len(), 1);
}

#[test]
fn a_node_does_not_wait_for_another_nodes_token_beyond_its_own_deadline() {
    let mut node = Node::new();
    node.issuer.always(Answer::Held(Gate::closed(), Box::new(Answer::Normal)));
    // In this order they start, so the hasty one has to wait.
    let patient = node.set("deadline", "6s").yaml_of("a-patient");
    let hasty = node.set("deadline", "1s").yaml_of("b-hasty");
    node.configure(&[patient, hasty]);
    let report = node.run_as_configured(75, &[]).0.json();
    let [patient, hasty] = &report["nodes"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!(hasty["error"], "waiting for the token that another node asks for: none within the deadline");
    assert!(patient["error"].as_str().unwrap().starts_with("asking for a token"), "{report}");
    assert!(hasty["elapsed_ms"].as_u64() < patient["elapsed_ms"].as_u64(), "{report}");
    assert_eq!(node.issuer.token_requests().len(), 1);
}

#[test]
fn another_configuration_of_the_same_issuer_is_another_token() {
    let mut node =
        Node::with(Issuer::settings().granted(&[AUDIENCE, "https://other.example"]).start(), |settings| settings);
    let first = node.yaml_of("a");
    node.oauth2("audience", quoted("https://other.example"));
    let second = node.yaml_of("b");
    node.configure(&[first, second]);
    node.run_as_configured(77, &[]);
    let audiences: Vec<_> = node.issuer.token_requests().iter().map(|seen| seen.form()["audience"].clone()).collect();
    assert_eq!(audiences.iter().filter(|audience| *audience == AUDIENCE).count(), 1);
    assert_eq!(audiences.len(), 3, "the refused one is replaced once");
}

#[test]
fn a_lifetime_is_not_needed() {
    let issuer = Issuer::settings().lifetime(None).start();
    Node::with(issuer, |settings| settings).succeeds();
}
