//! The support tried by itself: what a test later relies on is seen to hold here.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::{Client, basic};
use crate::support::dump::{Dump, Format, Purpose, SoftwareKey, Spec, digest_of, fingerprint};
use crate::support::idkeep::Idkeep;
use crate::support::issuer::{Answer as TokenAnswer, Basic, Discovery, Flavour, Issuer};
use crate::support::oidc::{self, OidcProvider};
use crate::support::openbao::{OpenBao, writer_policy};
use crate::support::pki::{Clients, Pki};
use crate::support::proxy::{Fault, FaultProxy, HttpProxy, refused};
use crate::support::server::{Gate, Tls};
use crate::support::validator::{Answer, BASE, Validator};
use crate::support::{issuer, jwt, keys, memory, wait_for};

mod openbao {
    use super::*;

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
        assert_eq!(
            bao.api_as(
                token,
                None,
                "POST",
                &format!("secret/metadata/{path}"),
                facts
            )
            .0,
            204
        );
        assert_eq!(
            bao.api_as(token, None, "GET", &format!("secret/metadata/{path}"), None)
                .0,
            200
        );
        assert_eq!(
            bao.api_as(token, None, "GET", &format!("secret/data/{path}"), None)
                .0,
            403
        );
        let evicting = json!({"max_versions": 1});
        assert_eq!(
            bao.api_as(
                token,
                None,
                "POST",
                &format!("secret/metadata/{path}"),
                evicting
            )
            .0,
            403
        );
        assert_eq!(bao.kv_get(path).unwrap().data["content"], "x");
        assert_eq!(
            bao.kv_metadata(path).unwrap()["custom_metadata"]["idkeep_digest"],
            "sha256:0"
        );
        assert_eq!(
            bao.api_as(token, None, "POST", "auth/token/revoke-self", None)
                .0,
            204
        );
        assert_eq!(
            bao.api_as(token, None, "GET", &format!("secret/metadata/{path}"), None)
                .0,
            403
        );
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
        let (role_id, secret_id) =
            bao.approle("writer", &["a-approle"], json!({"token_ttl": "60s"}));
        let token = login(
            &bao,
            "approle",
            json!({"role_id": role_id, "secret_id": secret_id}),
        );
        writes_with(&bao, &token, "a/approle");

        let (role_id, _) = bao.approle("wrapped", &["a-wrapped"], json!({}));
        let wrapped = bao.wrapped_secret_id("wrapped");
        let (status, secret) = bao.api_as(&wrapped, None, "POST", "sys/wrapping/unwrap", None);
        assert_eq!(status, 200, "{secret}");
        assert_eq!(
            bao.api_as(&wrapped, None, "POST", "sys/wrapping/unwrap", None)
                .0,
            400,
            "unwrapped twice"
        );
        let token = login(
            &bao,
            "approle",
            json!({"role_id": role_id, "secret_id": secret["data"]["secret_id"]}),
        );
        writes_with(&bao, &token, "a/wrapped");

        bao.jwt_auth("writer", &["a-jwt"], "openbao");
        let token = login(
            &bao,
            "jwt",
            json!({"role": "writer", "jwt": OpenBao::mint("openbao", "idkeep", 60)}),
        );
        writes_with(&bao, &token, "a/jwt");

        let account = bao.kubernetes_auth("writer", &["a-kubernetes"], "canton", "idkeep");
        let token = login(
            &bao,
            "kubernetes",
            json!({"role": "writer", "jwt": account}),
        );
        writes_with(&bao, &token, "a/kubernetes");

        let token = bao.token(&["a-token"], "60s");
        writes_with(&bao, &token, "a/token");

        let audited = bao.audited();
        assert!(
            audited.contains(&("update".into(), "auth/token/revoke-self".into())),
            "{audited:?}"
        );
        assert!(
            !bao.audit_log().contains(&secret_id),
            "the audit log has hashes only"
        );
    }

    #[test]
    fn a_client_certificate_logs_in_over_tls() {
        let bao = OpenBao::tls();
        bao.policy("writer", &writer_policy("a/cert"));
        let identity = bao.cert_auth("idkeep", &["writer"]);
        let url = format!("{}/v1/auth/cert/login", bao.address);
        let ca_file = bao.ca_file.as_deref().unwrap();
        let client = Client::with_certificate(ca_file, &identity);
        let answer = client
            .send("POST", &url, &[], Some(b"{}".to_vec()))
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        writes_with(
            &bao,
            answer.json()["auth"]["client_token"].as_str().unwrap(),
            "a/cert",
        );
        let other = Client::with_certificate(ca_file, &Pki::new().client("idkeep"));
        assert_ne!(
            other
                .send("POST", &url, &[], Some(b"{}".to_vec()))
                .unwrap()
                .status,
            200,
            "a certificate of another authority"
        );
        assert!(
            Client::new(Some(&Pki::new().ca_file())).get(&url).is_err(),
            "another authority is believed"
        );
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
        let (status, answer) = bao.api(
            "POST",
            "secret/data/a/b",
            json!({"data": {}, "options": {"cas": 1}}),
        );
        assert_eq!(status, 400);
        assert!(
            answer
                .to_string()
                .contains("check-and-set parameter did not match"),
            "{answer}"
        );
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
        assert_eq!(
            bao.api_as(&bao.root_token, Some("acme"), "POST", "secret/data/a", data)
                .0,
            200
        );
        assert!(bao.kv_get("a").is_none());
        bao.rate_limit("secret", 1.0);
        let statuses: Vec<u16> = (0..5)
            .map(|_| bao.api("GET", "secret/config", None).0)
            .collect();
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
}

mod tokens {
    use super::*;

    const GRANT: (&str, &str) = ("grant_type", "client_credentials");
    const RESOURCE: (&str, &str) = ("resource", oidc::AUDIENCE);
    const ASSERTION: (&str, &str) = (
        "client_assertion_type",
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    );

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
            let document = client
                .get(&format!(
                    "{}/.well-known/openid-configuration",
                    provider.issuer
                ))
                .unwrap()
                .json();
            assert_eq!(document["issuer"], provider.issuer.as_str());
            assert_eq!(document["token_endpoint"], url.as_str());

            let header = basic(&provider.basic.id, &provider.basic.secret);
            let by_basic = client
                .form(&url, &[("authorization", &header)], &[GRANT, RESOURCE])
                .unwrap();
            let post = [
                GRANT,
                RESOURCE,
                ("client_id", &provider.post.id),
                ("client_secret", &provider.post.secret),
            ];
            let by_post = client.form(&url, &[], &post).unwrap();
            let rs256 = provider.rs256.assertion(&provider.issuer);
            let by_rs256 = client
                .form(
                    &url,
                    &[],
                    &[GRANT, RESOURCE, ASSERTION, ("client_assertion", &rs256)],
                )
                .unwrap();
            let es256 = provider.es256.assertion(&url);
            let by_es256 = client
                .form(
                    &url,
                    &[],
                    &[GRANT, RESOURCE, ASSERTION, ("client_assertion", &es256)],
                )
                .unwrap();
            let again = client
                .form(
                    &url,
                    &[],
                    &[GRANT, RESOURCE, ASSERTION, ("client_assertion", &es256)],
                )
                .unwrap();
            assert_eq!(
                (again.status, &again.json()["error"]),
                (401, &json!("invalid_client")),
                "a replayed assertion"
            );

            let users = [
                &provider.basic.id,
                &provider.post.id,
                &provider.rs256.id,
                &provider.es256.id,
            ];
            let settings = Validator::trusting(&provider.jwks_uri(), ca_file).dump(b"{}");
            let validator = users
                .iter()
                .fold(settings, |settings, user| settings.user(user))
                .start();
            for (answer, user) in [by_basic, by_post, by_rs256, by_es256].iter().zip(users) {
                let token = token(answer);
                assert_eq!(jwt::claims(&token)["sub"], user.as_str());
                assert_eq!(
                    Client::new(None)
                        .get_with_token(&validator.identities_url(), &token)
                        .unwrap()
                        .status,
                    200
                );
            }
        }
    }

    #[test]
    fn the_certified_provider_refuses_a_raw_basic_header_and_an_unknown_resource() {
        use base64::Engine as _;
        let provider = OidcProvider::http();
        let client = Client::new(None);
        let pair = format!("{}:{}", provider.basic.id, provider.basic.secret);
        let raw = format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        );
        let answer = client
            .form(
                &provider.token_url(),
                &[("authorization", &raw)],
                &[GRANT, RESOURCE],
            )
            .unwrap();
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        let header = basic(&provider.basic.id, &provider.basic.secret);
        let unknown = [GRANT, ("resource", "https://unknown.example.com")];
        let answer = client
            .form(
                &provider.token_url(),
                &[("authorization", &header)],
                &unknown,
            )
            .unwrap();
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (400, &json!("invalid_target"))
        );
        let complaints: Vec<_> = provider
            .log()
            .lines()
            .filter(|line| !line.contains("WARNING"))
            .map(str::to_owned)
            .collect();
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
        let answer = Client::new(Some(ca_file))
            .form(&provider.token_url(), &[], &form)
            .unwrap();
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (401, &json!("invalid_client"))
        );
        let stranger = Client::with_certificate(ca_file, &provider.pki().client("stranger"));
        assert_eq!(
            stranger
                .form(&provider.token_url(), &[], &form)
                .unwrap()
                .status,
            401
        );
    }

    #[test]
    fn the_lifetime_of_the_certified_providers_tokens_can_be_set() {
        let provider = OidcProvider::start(false, 7);
        let header = basic(&provider.basic.id, &provider.basic.secret);
        let form = [GRANT, RESOURCE, ("scope", oidc::SCOPE)];
        let answer = Client::new(None)
            .form(&provider.token_url(), &[("authorization", &header)], &form)
            .unwrap();
        let claims = jwt::claims(&token(&answer));
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            7
        );
        assert_eq!(answer.json()["expires_in"], 7);
        assert_eq!(claims["scope"], oidc::SCOPE);
    }

    #[test]
    fn our_issuer_has_auth0s_habits() {
        let issuer = Issuer::start();
        assert!(issuer.url().ends_with('/'));
        let client = Client::new(None);
        let header = basic(&issuer.client_id, &issuer.client_secret);
        let ask = |fields: &[(&str, &str)]| {
            client
                .form(&issuer.token_url(), &[("authorization", &header)], fields)
                .unwrap()
        };
        assert_eq!(ask(&[GRANT]).status, 403, "no audience");
        assert_eq!(
            ask(&[GRANT, ("audience", "https://other.example")]).status,
            403
        );
        assert_eq!(
            ask(&[("audience", issuer::AUDIENCE)]).json()["error"],
            "unsupported_grant_type"
        );
        let granted = ask(&[GRANT, ("audience", issuer::AUDIENCE)]);
        let validator = Validator::trusting(&issuer.jwks_uri(), None)
            .user(&issuer.subject())
            .dump(b"{}")
            .start();
        assert_eq!(
            client
                .get_with_token(&validator.identities_url(), &token(&granted))
                .unwrap()
                .status,
            200
        );
        let wrong = basic(&issuer.client_id, "wrong");
        let answer = client
            .form(&issuer.token_url(), &[("authorization", &wrong)], &[GRANT])
            .unwrap();
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (401, &json!("invalid_client"))
        );
        assert_eq!(issuer.token_requests().len(), 5);
        assert_eq!(
            issuer.token_requests()[3].form()["audience"],
            issuer::AUDIENCE
        );
    }

    #[test]
    fn our_issuer_can_be_keycloak_and_want_raw_basic() {
        let issuer = Issuer::settings()
            .flavour(Flavour::Keycloak)
            .client("a b", "c%d")
            .basic(Basic::Raw)
            .lifetime(300)
            .start();
        let client = Client::new(None);
        let encoded = basic("a b", "c%d");
        assert_eq!(
            client
                .form(
                    &issuer.token_url(),
                    &[("authorization", &encoded)],
                    &[GRANT]
                )
                .unwrap()
                .status,
            401
        );
        let raw = "Basic YSBiOmMlZA==";
        let answer = client
            .form(&issuer.token_url(), &[("authorization", raw)], &[GRANT])
            .unwrap();
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
        assert_eq!(
            ask().unwrap().header("location"),
            Some("https://elsewhere.example/")
        );
        assert!(ask().is_err(), "cut");
        assert_eq!(ask().unwrap().json()["access_token"], "canary-token");
        assert_eq!(ask().unwrap().status, 200, "the usual answer again");

        let document = || {
            client
                .get(&format!("{}.well-known/openid-configuration", issuer.url()))
                .unwrap()
        };
        assert_eq!(document().json()["issuer"], issuer.url());
        issuer.discovery(Discovery::issuer("https://other.example/"));
        assert_eq!(document().json()["issuer"], "https://other.example/");
        issuer.discovery(Discovery::mtls_token_endpoint(
            "https://other.example/token",
        ));
        assert_eq!(
            document().json()["mtls_endpoint_aliases"]["token_endpoint"],
            "https://other.example/token"
        );
        issuer.discovery(Discovery::Padded(65 << 10));
        assert!(document().body.len() > 64 << 10);
        issuer.discovery(Discovery::With(json!({"token_endpoint": null})));
        assert!(document().json()["token_endpoint"].is_null());
    }

    #[test]
    fn requests_under_way_together_are_counted() {
        let issuer = Issuer::start();
        let gate = Gate::closed();
        issuer.always(TokenAnswer::Held(
            gate.clone(),
            Box::new(TokenAnswer::Status(500)),
        ));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    Client::new(None)
                        .form(&issuer.token_url(), &[], &[])
                        .unwrap()
                });
            }
            issuer.server().wait_for_requests(3);
            gate.open();
        });
        assert_eq!(issuer.server().most_in_flight(), 3);
        assert_eq!(issuer.server().connections(), 3);
    }
}

mod validator {
    use super::*;

    fn claims() -> serde_json::Value {
        json!({"sub": "user", "aud": ["https://other.example", crate::support::validator::AUDIENCE], "exp": jwt::now() + 60})
    }

    fn with(
        mut claims: serde_json::Value,
        name: &str,
        value: serde_json::Value,
    ) -> serde_json::Value {
        claims[name] = value;
        claims
    }

    #[test]
    fn only_a_good_token_of_a_user_with_rights_gets_the_dump() {
        let issuer = Issuer::start();
        let validator = Validator::trusting(&issuer.jwks_uri(), None)
            .user("user")
            .dump(b"{\"id\":1}")
            .start();
        let url = validator.identities_url();
        let client = Client::new(None);
        let status = |token: &str| client.get_with_token(&url, token).unwrap().status;
        let answer = client.get_with_token(&url, &jwt::mint(&claims())).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "{\"id\":1}"));
        assert_eq!(client.get(&url).unwrap().status, 401);
        assert_eq!(status("nonsense"), 401);
        assert_eq!(
            status(&jwt::mint(&with(
                claims(),
                "aud",
                json!("https://other.example")
            ))),
            401
        );
        assert_eq!(
            status(&jwt::mint(&with(claims(), "exp", json!(jwt::now() - 5)))),
            401
        );
        assert_eq!(
            status(&jwt::mint_with(&claims(), keys::SYNTHETIC_CLIENT)),
            401,
            "another key"
        );
        assert_eq!(status(&jwt::mint_hs256(&claims(), b"unsafe")), 401);
        assert_eq!(
            status(&jwt::mint(&with(claims(), "sub", json!("stranger")))),
            403
        );
        let token = jwt::mint(&claims());
        let wrong = |method: &str, url: &str| {
            client
                .send(
                    method,
                    url,
                    &[("authorization", &format!("Bearer {token}"))],
                    None,
                )
                .unwrap()
                .status
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
        let status = |token: &str| {
            client
                .get_with_token(&validator.identities_url(), token)
                .unwrap()
                .status
        };
        let claims = json!({"iat": jwt::now(), "aud": crate::support::validator::AUDIENCE, "sub": "ledger-api-user"});
        assert_eq!(status(&jwt::mint_hs256(&claims, b"unsafe")), 200);
        assert_eq!(status(&jwt::mint_hs256(&claims, b"other")), 401);
        assert_eq!(
            status(&jwt::mint_hs256(
                &with(claims, "sub", json!("administrator")),
                b"unsafe"
            )),
            403
        );
    }

    #[test]
    fn it_answers_as_it_is_told() {
        let dump = Dump::fresh(1).json();
        let validator = Validator::accepting("t").user("user").dump(&dump).start();
        let client = Client::new(None);
        let ask = || client.get_with_token(&validator.identities_url(), "t");
        let readyz = || {
            client
                .get(&format!("{}/readyz", validator.endpoint()))
                .unwrap()
                .status
        };
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
        assert!(
            ask()
                .unwrap()
                .header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        validator.script([
            Answer::Gzip,
            Answer::Chunked,
            Answer::Oversize,
            Answer::CutAfter(100),
        ]);
        let compressed = ask().unwrap();
        assert_eq!(compressed.header("content-encoding"), Some("gzip"));
        assert_eq!(gunzip(&compressed.body), dump);
        let chunked = ask().unwrap();
        assert_eq!(
            (chunked.header("content-length"), &chunked.body),
            (None, &dump)
        );
        let oversize = ask().unwrap();
        assert_eq!(
            (oversize.header("content-length"), oversize.body.len()),
            (None, (2 << 20) + 7)
        );
        assert!(ask().is_err(), "cut");
        assert_eq!(ask().unwrap().body, dump);
        validator.ready_after(2);
        assert_eq!(
            (
                ask().unwrap().status,
                readyz(),
                readyz(),
                readyz(),
                ask().unwrap().status
            ),
            (404, 503, 503, 200, 200)
        );
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
            let asking = scope.spawn(|| {
                Client::new(None)
                    .get_with_token(&validator.identities_url(), "t")
                    .unwrap()
                    .status
            });
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
        let validator = Validator::accepting("t")
            .user("user")
            .dump(b"{}")
            .host("wallet.localhost")
            .tls(tls)
            .start();
        let client = Client::with_certificate(&pki.ca_file(), &pki.client("idkeep"));
        let url = validator.identities_url();
        let headers = [("authorization", "Bearer t"), ("host", "wallet.localhost")];
        assert_eq!(
            client.send("GET", &url, &headers, None).unwrap().status,
            200
        );
        assert_eq!(client.get_with_token(&url, "t").unwrap().status, 404);
        assert!(validator.requests()[0].client_certificate.is_some());
        assert!(
            Client::new(Some(&pki.ca_file())).get(&url).is_err(),
            "no certificate shown"
        );
        assert!(
            Client::with_certificate(&pki.ca_file(), &Pki::new().client("idkeep"))
                .get(&url)
                .is_err()
        );
        assert!(
            Client::new(None).get(&url).is_err(),
            "the system's roots do not have it"
        );
    }

    #[test]
    fn an_expired_certificate_or_another_name_is_not_believed() {
        let pki = Pki::new();
        for (identity, believed) in [
            (pki.server(), true),
            (pki.expired_server(), false),
            (pki.server_for(&["other.example"]), false),
        ] {
            let tls = Tls {
                config: pki.server_config_with(&identity, Clients::Anonymous),
                ca_file: pki.ca_file(),
            };
            let validator = Validator::accepting("t").tls(tls).start();
            let answer =
                Client::new(Some(&pki.ca_file())).get(&format!("{}/livez", validator.endpoint()));
            assert_eq!(answer.is_ok(), believed);
        }
    }
}

mod dumps {
    use super::*;

    const SPECS: [(Purpose, Spec, &[Format]); 7] = [
        (
            Purpose::Namespace,
            Spec::Ed25519,
            &[Format::Raw, Format::Der, Format::Pkcs8],
        ),
        (
            Purpose::Signing,
            Spec::P256,
            &[Format::Raw, Format::Der, Format::Pkcs8],
        ),
        (
            Purpose::Signing,
            Spec::P384,
            &[Format::Raw, Format::Der, Format::Pkcs8],
        ),
        (
            Purpose::Signing,
            Spec::Secp256k1,
            &[Format::Raw, Format::Der, Format::Pkcs8],
        ),
        (
            Purpose::Encryption,
            Spec::P256,
            &[Format::Raw, Format::Der, Format::Pkcs8],
        ),
        (
            Purpose::Encryption,
            Spec::Rsa2048,
            &[Format::Der, Format::Pkcs8],
        ),
        (Purpose::Signing, Spec::Unknown, &[Format::Unknown]),
    ];

    /// OpenSSL's opinion of the public half.
    fn public_by_openssl(pkcs8: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, pkcs8).unwrap();
        let mut command = std::process::Command::new("openssl");
        command
            .args([
                "pkey", "-inform", "DER", "-pubout", "-outform", "DER", "-in",
            ])
            .arg(file);
        command.output().unwrap().stdout
    }

    #[test]
    fn every_keys_fingerprint_follows_from_its_private_half() {
        for (purpose, spec, formats) in SPECS {
            for format in formats {
                for seed in 0..5 {
                    let key = SoftwareKey::new(seed, purpose, spec, *format);
                    assert_eq!(key.id, key.fingerprint());
                    let pkcs8 = SoftwareKey::new(seed, purpose, spec, Format::Pkcs8);
                    let mut public = public_by_openssl(&pkcs8.private);
                    if matches!(spec, Spec::Ed25519 | Spec::Unknown) {
                        public = public[public.len() - 32..].to_vec();
                    }
                    assert_eq!(key.id, fingerprint(&public), "{spec:?} {format:?} {seed}");
                    assert!(key.secrets.iter().all(|secret| {
                        pkcs8
                            .private
                            .windows(secret.len())
                            .any(|part| part == secret)
                    }));
                }
            }
        }
    }

    #[test]
    fn a_fresh_dump_has_the_size_of_a_real_one_and_is_the_same_each_time() {
        let dump = Dump::fresh(7);
        assert!(
            (2100..2300).contains(&dump.json().len()),
            "{}",
            dump.json().len()
        );
        assert_eq!(dump.json(), Dump::fresh(7).json());
        assert_ne!(dump.digest(), Dump::fresh(8).digest());
        assert_eq!(dump.namespace(), dump.software(0).id);
        assert_eq!(dump.secrets().len(), 6);
    }

    #[test]
    fn the_digest_knows_neither_order_nor_version() {
        let dump = Dump::prefixed(1, "acme-").rotated(1, 2);
        assert_eq!(
            dump.digest(),
            dump.clone().shuffled().version("0.8.0").digest()
        );
        assert_ne!(dump.json(), dump.clone().shuffled().json());
        assert_ne!(dump.digest(), dump.clone().flip_a_bit(0).digest());
        assert_ne!(dump.digest(), dump.clone().name(0, "other").digest());
        assert_eq!(
            dump.clone()
                .name(0, crate::support::dump::Field::Null)
                .digest(),
            dump.name(0, crate::support::dump::Field::Absent).digest()
        );
    }

    #[test]
    fn the_digest_of_a_hand_written_dump_is_the_one_worked_out_by_hand() {
        // printf 'idkeep/identity/v1\nPAR::a::1220\nkey  kms signing k1\nkey n software <sha256 of "key">\nsnapshot <sha256 of "snap">\n' | sha256sum
        let json = br#"{"id":"PAR::a::1220","keys":[{"keyPair":"a2V5","name":"n"},{"type":"signing","keyId":"k1"}],"authorizedStoreSnapshot":"c25hcA=="}"#;
        assert_eq!(
            digest_of(json),
            "sha256:39bc9ff542e96300dd3d2139f537a23d5ffa05f27b81351c3433240bad04d8a6"
        );
    }

    #[test]
    fn every_kind_of_dump_is_json_with_the_right_members() {
        let dumps = [
            Dump::kms(1),
            Dump::mixed(1),
            Dump::offline_root(1),
            Dump::fresh(1).with_key_of(&Dump::fresh(2)),
            Dump::fresh(1).padded_to(900 << 10),
        ];
        for dump in dumps {
            let json: serde_json::Value = serde_json::from_slice(&dump.json()).unwrap();
            assert_eq!(json["id"], dump.id.as_str());
            assert_eq!(json["keys"].as_array().unwrap().len(), 3);
            assert_eq!(json["version"], "0.7.5");
        }
        assert!(Dump::fresh(1).padded_to(900 << 10).json().len() >= 900 << 10);
    }
}

mod watching {
    use super::*;

    #[test]
    fn a_secret_in_another_processs_memory_is_found_in_every_form() {
        use base64::Engine as _;
        let secret: Vec<u8> = (0..32).map(|byte| byte * 7 + 3).collect();
        let inside = base64::engine::general_purpose::STANDARD
            .encode([b"xy".as_slice(), &secret, b"z"].concat());
        let hex: String = secret.iter().map(|byte| format!("{byte:02X}")).collect();
        // The shell holds its script in memory, and waits.
        for form in [inside, hex] {
            let shell = Idkeep::of("/bin/sh");
            let running = shell.spawn(&[
                "-c",
                &format!("here={form}; echo up; exec 0<&-; kill -s STOP $$"),
            ]);
            running.wait_for_stdout("up");
            let hits = memory::scan_for(running.pid(), &[("the secret".into(), secret.clone())]);
            assert!(!hits.is_empty());
            assert!(
                memory::scan_for(running.pid(), &[("another".into(), vec![0xA5; 32])]).is_empty()
            );
            running.signal("KILL");
            assert_eq!(running.wait().signal, Some(9));
        }
    }

    #[test]
    fn a_run_gives_code_and_both_outputs_and_an_empty_environment() {
        let mut shell = Idkeep::of("/bin/sh");
        let secret = shell.secret_file("secret", b"s");
        shell.env("SHOWN", "yes");
        let outcome = shell.run(&["-c", "echo \"{\\\"home\\\":\\\"$HOME\\\",\\\"shown\\\":\\\"$SHOWN\\\"}\"; echo oops >&2; stat -c %a secret >&2; exit 7"]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (7, "oops\n600\n"));
        assert_eq!(outcome.json(), json!({"home": "", "shown": "yes"}));
        assert!(secret.exists());
        assert_eq!(
            Idkeep::of("/bin/sh")
                .expect(0, &["-c", "kill -l >/dev/null"])
                .signal,
            None
        );
    }

    #[test]
    fn a_program_that_wants_to_print_is_held_until_it_is_released() {
        let shell = Idkeep::of("/bin/sh");
        let blocked = shell.spawn_with_blocked_stdout(&[
            "-c",
            "here=canary-in-memory; echo before >&2; echo '{\"a\":1}'; exit 3",
        ]);
        assert_eq!(blocked.stderr(), "before\n");
        let hits = memory::scan(blocked.pid(), &[("canary", b"canary-in-memory".to_vec())]);
        assert!(!hits.is_empty());
        let outcome = blocked.release();
        assert_eq!((outcome.code, outcome.json()), (3, json!({"a": 1})));
    }

    #[test]
    fn the_fault_proxy_delays_cuts_resets_and_swallows() {
        let validator = Validator::accepting("t")
            .user("user")
            .dump(&Dump::fresh(1).json())
            .start();
        let proxy = FaultProxy::before(validator.server().address, Fault::None);
        let url = validator.identities_url().replace(
            &validator.server().address.to_string(),
            &proxy.address.to_string(),
        );
        let ask = || Client::new(None).get_with_token(&url, "t");
        assert_eq!(ask().unwrap().status, 200);
        proxy.set(Fault::Delay(Duration::from_millis(300)));
        let started = Instant::now();
        assert_eq!(ask().unwrap().status, 200);
        assert!(started.elapsed() >= Duration::from_millis(300));
        for fault in [
            Fault::CutAfter(500),
            Fault::ResetAfter(500),
            Fault::ResetAfter(0),
        ] {
            proxy.set(fault);
            assert!(ask().is_err(), "{fault:?}");
        }
        let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
        let reset = std::io::Read::read(&mut stream, &mut [0]).unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
        proxy.set(Fault::BlackHole);
        let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert!(std::io::Read::read(&mut stream, &mut [0]).is_err());
        assert!(std::net::TcpStream::connect(refused()).is_err());
    }

    #[test]
    fn the_http_proxy_tells_tunnels_from_what_was_sent_in_clear() {
        let pki = Pki::new();
        let validator = Validator::accepting("t").tls(Tls::of(&pki)).start();
        let proxy = HttpProxy::start();
        let curl = |url: &str| {
            let mut command = std::process::Command::new("curl");
            command
                .args(["-s", "-x", &proxy.url(), "--noproxy", "", "--cacert"])
                .arg(pki.ca_file());
            let output = command
                .args(["-o", "/dev/null", "-w", "%{http_code}", url])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(curl(&format!("{}/livez", validator.endpoint())), "200");
        assert_eq!(curl("http://plain.example/x"), "502");
        let seen = proxy.seen();
        assert_eq!(seen.tunnels, [validator.server().address.to_string()]);
        assert!(seen.in_clear[0].starts_with("GET http://plain.example/x HTTP/1.1\r\n"));
    }

    #[test]
    fn the_base_path_of_the_stand_in_is_the_documented_one() {
        assert_eq!(BASE, "/api/validator");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("dev").exists());
    }
}
