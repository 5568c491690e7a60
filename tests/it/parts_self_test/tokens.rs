//! The two token issuers.

use serde_json::json;

use crate::support::client::{Client, basic};
use crate::support::issuer::{Answer as TokenAnswer, Basic, Discovery, Flavour, Issuer};
use crate::support::oidc::{self, OidcProvider};
use crate::support::pki::Pki;
use crate::support::server::{Gate, Tls};
use crate::support::validator::Validator;
use crate::support::{issuer, jwt};

const GRANT: (&str, &str) = ("grant_type", "client_credentials");
const RESOURCE: (&str, &str) = ("resource", oidc::AUDIENCE);
const ASSERTION: (&str, &str) = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");

fn token(answer: &crate::support::client::Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn the_certified_providers_tokens_pass_the_validators_check() {
    for provider in [OidcProvider::http(), OidcProvider::https()] {
        let ca_file = provider.ca_file.as_deref();
        let client = Client::new(ca_file);
        let url = provider.token_url();
        let document = client.get(&format!("{}/.well-known/openid-configuration", provider.issuer)).unwrap().json();
        assert_eq!(document["issuer"], provider.issuer.as_str());
        assert_eq!(document["token_endpoint"], url.as_str());

        let header = basic(&provider.basic.id, &provider.basic.secret);
        let by_basic = client.form(&url, &[("authorization", &header)], &[GRANT, RESOURCE]).unwrap();
        let post = [GRANT, RESOURCE, ("client_id", &provider.post.id), ("client_secret", &provider.post.secret)];
        let by_post = client.form(&url, &[], &post).unwrap();
        let rs256 = provider.rs256.assertion(&provider.issuer);
        let by_rs256 = client.form(&url, &[], &[GRANT, RESOURCE, ASSERTION, ("client_assertion", &rs256)]).unwrap();
        let es256 = provider.es256.assertion(&url);
        let by_es256 = client.form(&url, &[], &[GRANT, RESOURCE, ASSERTION, ("client_assertion", &es256)]).unwrap();
        let again = client.form(&url, &[], &[GRANT, RESOURCE, ASSERTION, ("client_assertion", &es256)]).unwrap();
        assert_eq!((again.status, &again.json()["error"]), (401, &json!("invalid_client")), "a replayed assertion");

        let users = [&provider.basic.id, &provider.post.id, &provider.rs256.id, &provider.es256.id];
        let settings = Validator::trusting(&provider.jwks_uri(), ca_file).dump(b"{}");
        let validator = users.iter().fold(settings, |settings, user| settings.user(user)).start();
        for (answer, user) in [by_basic, by_post, by_rs256, by_es256].iter().zip(users) {
            let token = token(answer);
            assert_eq!(jwt::claims(&token)["sub"], user.as_str());
            assert_eq!(Client::new(None).get_with_token(&validator.identities_url(), &token).unwrap().status, 200);
        }
    }
}

#[test]
fn the_certified_provider_refuses_a_raw_basic_header_and_an_unknown_resource() {
    use base64::Engine as _;
    let provider = OidcProvider::http();
    let client = Client::new(None);
    let pair = format!("{}:{}", provider.basic.id, provider.basic.secret);
    let raw = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let answer = client.form(&provider.token_url(), &[("authorization", &raw)], &[GRANT, RESOURCE]).unwrap();
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    let header = basic(&provider.basic.id, &provider.basic.secret);
    let unknown = [GRANT, ("resource", "https://unknown.example.com")];
    let answer = client.form(&provider.token_url(), &[("authorization", &header)], &unknown).unwrap();
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_target")));
    let complaints: Vec<_> =
        provider.log().lines().filter(|line| !line.contains("WARNING")).map(str::to_owned).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_client_certificate_gets_a_token_of_the_certified_provider() {
    let provider = OidcProvider::https();
    let tls = provider.tls.as_ref().unwrap();
    let ca_file = provider.ca_file.as_deref().unwrap();
    let form = [GRANT, RESOURCE, ("client_id", tls.id.as_str())];
    let client = Client::with_certificate(ca_file, &tls.identity);
    token(&client.form(&provider.token_url(), &[], &form).unwrap());
    let answer = Client::new(Some(ca_file)).form(&provider.token_url(), &[], &form).unwrap();
    assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_client")));
    let stranger = Client::with_certificate(ca_file, &provider.pki().client("stranger"));
    assert_eq!(stranger.form(&provider.token_url(), &[], &form).unwrap().status, 401);
}

#[test]
fn the_lifetime_of_the_certified_providers_tokens_can_be_set() {
    let provider = OidcProvider::start(false, 7);
    let header = basic(&provider.basic.id, &provider.basic.secret);
    let form = [GRANT, RESOURCE, ("scope", oidc::SCOPE)];
    let answer = Client::new(None).form(&provider.token_url(), &[("authorization", &header)], &form).unwrap();
    let claims = jwt::claims(&token(&answer));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 7);
    assert_eq!(answer.json()["expires_in"], 7);
    assert_eq!(claims["scope"], oidc::SCOPE);
}

#[test]
fn our_issuer_has_auth0s_habits() {
    let issuer = Issuer::start();
    assert!(issuer.url().ends_with('/'));
    let client = Client::new(None);
    let header = basic(&issuer.client_id, &issuer.client_secret);
    let ask =
        |fields: &[(&str, &str)]| client.form(&issuer.token_url(), &[("authorization", &header)], fields).unwrap();
    assert_eq!(ask(&[GRANT]).status, 403, "no audience");
    assert_eq!(ask(&[GRANT, ("audience", "https://other.example")]).status, 403);
    assert_eq!(ask(&[("audience", issuer::AUDIENCE)]).json()["error"], "unsupported_grant_type");
    let granted = ask(&[GRANT, ("audience", issuer::AUDIENCE)]);
    let validator = Validator::trusting(&issuer.jwks_uri(), None).user(&issuer.subject()).dump(b"{}").start();
    assert_eq!(client.get_with_token(&validator.identities_url(), &token(&granted)).unwrap().status, 200);
    let wrong = basic(&issuer.client_id, "wrong");
    let answer = client.form(&issuer.token_url(), &[("authorization", &wrong)], &[GRANT]).unwrap();
    assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_client")));
    assert_eq!(issuer.token_requests().len(), 5);
    assert_eq!(issuer.token_requests()[3].form()["audience"], issuer::AUDIENCE);
}

#[test]
fn our_issuer_can_be_keycloak_and_want_raw_basic() {
    let issuer =
        Issuer::settings().flavour(Flavour::Keycloak).client("a b", "c%d").basic(Basic::Raw).lifetime(300).start();
    let client = Client::new(None);
    let encoded = basic("a b", "c%d");
    assert_eq!(client.form(&issuer.token_url(), &[("authorization", &encoded)], &[GRANT]).unwrap().status, 401);
    let raw = "Basic YSBiOmMlZA==";
    let answer = client.form(&issuer.token_url(), &[("authorization", raw)], &[GRANT]).unwrap();
    assert_eq!(jwt::claims(&token(&answer))["aud"], issuer::AUDIENCE);
    assert_eq!(answer.json()["expires_in"], 300);
}

#[test]
fn our_issuer_fails_as_it_is_told() {
    let issuer = Issuer::start();
    let client = Client::new(None);
    let fields = [
        GRANT,
        ("audience", issuer::AUDIENCE),
        ("client_id", &issuer.client_id),
        ("client_secret", &issuer.client_secret),
    ];
    let ask = || client.form(&issuer.token_url(), &[], &fields);
    issuer.script([
        TokenAnswer::Error(400, "invalid_scope"),
        TokenAnswer::TooMany(Some("7")),
        TokenAnswer::Status(503),
        TokenAnswer::Html,
        TokenAnswer::NotAToken,
        TokenAnswer::Redirect("https://elsewhere.example/".into()),
        TokenAnswer::Cut,
        TokenAnswer::Literal("canary-token".into()),
    ]);
    assert_eq!(ask().unwrap().json()["error"], "invalid_scope");
    assert_eq!(ask().unwrap().header("retry-after"), Some("7"));
    assert_eq!(ask().unwrap().status, 503);
    assert!(ask().unwrap().text().contains("html"));
    assert!(ask().unwrap().json()["access_token"].is_null());
    assert_eq!(ask().unwrap().header("location"), Some("https://elsewhere.example/"));
    assert!(ask().is_err(), "cut");
    assert_eq!(ask().unwrap().json()["access_token"], "canary-token");
    assert_eq!(ask().unwrap().status, 200, "the usual answer again");

    let document = || client.get(&format!("{}.well-known/openid-configuration", issuer.url())).unwrap();
    assert_eq!(document().json()["issuer"], issuer.url());
    issuer.discovery(Discovery::issuer("https://other.example/"));
    assert_eq!(document().json()["issuer"], "https://other.example/");
    issuer.discovery(Discovery::mtls_token_endpoint("https://other.example/token"));
    assert_eq!(document().json()["mtls_endpoint_aliases"]["token_endpoint"], "https://other.example/token");
    issuer.discovery(Discovery::Padded(65 << 10));
    assert!(document().body.len() > 64 << 10);
    issuer.discovery(Discovery::With(json!({"token_endpoint": null})));
    assert!(document().json()["token_endpoint"].is_null());
}

#[test]
fn requests_under_way_together_are_counted() {
    let issuer = Issuer::start();
    let gate = Gate::closed();
    issuer.always(TokenAnswer::Held(gate.clone(), Box::new(TokenAnswer::Status(500))));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| Client::new(None).form(&issuer.token_url(), &[], &[]).unwrap());
        }
        issuer.server().wait_for_requests(3);
        gate.open();
    });
    assert_eq!(issuer.server().most_in_flight(), 3);
    assert_eq!(issuer.server().connections(), 3);
}

#[test]
fn our_issuer_and_the_validator_meet_over_tls() {
    let pki = Pki::new();
    let issuer = Issuer::settings().tls(Tls::of(&pki)).start();
    let client = Client::new(issuer.ca_file.as_deref());
    let header = basic(&issuer.client_id, &issuer.client_secret);
    let fields = [GRANT, ("audience", issuer::AUDIENCE)];
    let answer = client.form(&issuer.token_url(), &[("authorization", &header)], &fields).unwrap();
    let validator = Validator::trusting(&issuer.jwks_uri(), issuer.ca_file.as_deref());
    let validator = validator.user(&issuer.subject()).dump(b"{}").tls(Tls::of(&pki)).start();
    assert!(validator.endpoint().starts_with("https://"));
    assert_eq!(client.get_with_token(&validator.identities_url(), &token(&answer)).unwrap().status, 200);
    assert!(Client::new(None).get(&issuer.jwks_uri()).is_err());
}
