//! Secrets that the configuration refers to in Vault: read at use, with the store's one login, and told apart from
//! what is none.

use std::sync::Arc;

use serde_json::{Value, json};

use super::own_bao;
use super::rights::{assert_says, only, rendered};
use crate::support::dump::Dump;
use crate::support::oidc::{AUDIENCE as OIDC_AUDIENCE, OidcProvider};
use crate::support::openbao::OpenBao;
use crate::support::scenario::Scenario;
use crate::support::validator::Validator;

/// Where the client secret lies: in the engine of the identities, at another place.
const PATH: &str = "canton/oauth";

/// A scenario whose client secret lies in its OpenBao, with the rendered policy and nothing else.
fn kept(bao: Arc<OpenBao>) -> Scenario {
    let mut scenario = Scenario::on(bao, Dump::fresh(1));
    put(&scenario, json!(scenario.issuer.client_secret));
    refer(&mut scenario, &format!("secret/data/{PATH}"), "client-secret");
    std::fs::remove_file(scenario.idkeep.path("client-secret")).unwrap();
    only(&scenario);
    scenario
}

/// Stores the client secret, beside a field that nobody asked for.
fn put(scenario: &Scenario, secret: Value) {
    scenario.bao.kv_put(PATH, json!({"client-secret": secret, "other": "untouched"}));
}

/// Refers to this field from now on, and allows what the policy for that prints.
fn refer(scenario: &mut Scenario, path: &str, field: &str) {
    let auth = &scenario.config.auth;
    let start = auth.find("client_secret: {").unwrap() + "client_secret: ".len();
    let end = start + auth[start..].find("}, audience").unwrap() + 1;
    let reference = format!("{{vault: {{store: vault, path: {path:?}, field: {field:?}}}}}");
    let auth = format!("{}{reference}{}", &auth[..start], &auth[end..]);
    scenario.config.auth = auth;
    scenario.configure();
    allow(scenario);
}

fn allow(scenario: &Scenario) {
    scenario.bao.policy(&scenario.node, &rendered(scenario, "writer"));
}

fn logins(scenario: &Scenario) -> usize {
    count(scenario, "update", "auth/approle/login")
}

fn count(scenario: &Scenario, operation: &str, path: &str) -> usize {
    let audited = scenario.bao.audited();
    audited.iter().filter(|(done, on)| done == operation && on == path).count()
}

/// The sync ends with that code and says this; the fault is no secret's.
fn says(scenario: &Scenario, code: i32, message: &str, hint: &str) {
    let synced = scenario.sync(code);
    assert!(synced.stderr().contains(message), "{message}: {}", synced.outcome);
    assert!(synced.stderr().contains(hint), "{hint}: {}", synced.outcome);
    assert!(!synced.stderr().contains("trying again"), "{}", synced.outcome);
    assert!(!synced.outcome.output().contains("untouched"), "{}", synced.outcome);
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn one_login_serves_the_secret_and_the_identities_and_is_given_back() {
    let scenario = kept(own_bao());
    let tokens = scenario.bao.tokens();
    assert_eq!(scenario.sync(0).store(), "written");
    assert_eq!((logins(&scenario), scenario.bao.tokens()), (1, tokens));
    assert_eq!(count(&scenario, "read", &format!("secret/data/{PATH}")), 1);
    scenario.assert_stored(&scenario.dump);
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"max_versions": 50}));
    for arguments in [&["check", "--live"][..], &["sync", "--dry-run"], &["list"]] {
        scenario.idkeep.expect(0, arguments);
    }
    assert_eq!((logins(&scenario), scenario.bao.tokens()), (4, tokens), "one for each command");
}

#[test]
fn a_secret_is_read_again_at_each_use() {
    let scenario = kept(own_bao());
    put(&scenario, json!("not any more"));
    let synced = scenario.sync(77);
    assert!(synced.stderr().contains("the issuer refuses the client"), "{}", synced.outcome);
    assert!(!synced.outcome.output().contains("not any more"), "{}", synced.outcome);
    // As a file's, a trailing newline is no part of it.
    put(&scenario, json!(format!("{}\n", scenario.issuer.client_secret)));
    assert_eq!(scenario.sync(0).store(), "written");
}

#[test]
fn a_secret_may_lie_in_version_1_and_in_a_store_that_keeps_no_identities() {
    let mut scenario = kept(own_bao());
    scenario.bao.must("POST", "sys/mounts/old", json!({"type": "kv", "options": {"version": "1"}}));
    scenario.bao.must("POST", "old/canton/oauth", json!({"client-secret": scenario.issuer.client_secret}));
    refer(&mut scenario, "old/canton/oauth", "client-secret");
    assert_eq!(scenario.sync(0).store(), "written");
    let other = format!(
        "  secrets:\n    vault: {{address: {:?}, allow_http: true, path: '{{node}}', auth: {}}}\n",
        scenario.bao.address, scenario.config.vault_auth
    );
    scenario.config.more_stores = other;
    scenario.config.auth = scenario.config.auth.replace("store: vault", "store: secrets");
    scenario.configure();
    allow(&scenario);
    let before = (logins(&scenario), scenario.bao.tokens());
    assert_eq!(scenario.sync(0).store(), "unchanged");
    assert_eq!((logins(&scenario), scenario.bao.tokens()), (before.0 + 2, before.1), "one for each store");
    let warnings = scenario.idkeep.expect(0, &["check"]).stdout;
    assert!(!warnings.contains("no node uses this store"), "{warnings}");
}

#[test]
fn what_is_no_secret_is_named_by_its_path_and_field() {
    let mut scenario = kept(own_bao());
    let at = |path: &str| format!("asking for a token: reading the secret at {}/v1/{path}: ", scenario.bao.address);
    let (there, elsewhere) = (at(&format!("secret/data/{PATH}")), at("secret/data/canton/oath"));
    for (value, why) in [
        (json!(""), "is empty"),
        (json!("\n"), "is empty"),
        (json!(1234), "is not a text"),
        (json!({"a": "b"}), "is not a text"),
        (json!("x".repeat(64 * 1024 + 1)), "is larger than 64 KiB"),
    ] {
        put(&scenario, value);
        let hint = "hint: write it as a text: `vault kv patch MOUNT/PATH FIELD=@FILE`";
        says(&scenario, 78, &format!("{there}the field `client-secret` {why}"), hint);
    }
    scenario.bao.kv_delete(PATH);
    let hint = "hint: is the path right, and is the secret not deleted? in a KV engine of version 2 it reads `MOUNT/data/PATH`";
    says(&scenario, 78, &format!("{there}status 404, nothing is there"), hint);
    put(&scenario, json!(scenario.issuer.client_secret));
    refer(&mut scenario, &format!("secret/data/{PATH}"), "client-secrets");
    says(&scenario, 78, &format!("{there}it has no field `client-secrets`"), "correct `field`");
    refer(&mut scenario, "secret/data/canton/oath", "client-secret");
    says(&scenario, 78, &format!("{elsewhere}status 404, nothing is there"), hint);
    // With the policy of before.
    refer(&mut scenario, &format!("secret/data/{PATH}"), "client-secret");
    let policy = rendered(&scenario, "writer");
    refer(&mut scenario, "secret/data/canton/oath", "client-secret");
    scenario.bao.policy(&scenario.node, &policy);
    let hint = "hint: the policy needs `path \"secret/data/canton/oath\" { capabilities = [\"read\"] }`, as `idkeep policy vault` prints it";
    says(&scenario, 77, &format!("{elsewhere}status 403, permission denied"), hint);
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_that_is_down_is_75() {
    let mut scenario = kept(own_bao());
    scenario.identity("deadline: 60s");
    // A ration that the first look uses up for an hour.
    let path = format!("secret/data/{PATH}");
    let ration = json!({"rate": 1, "interval": "1h", "path": path});
    scenario.bao.must("POST", "sys/quotas/rate-limit/test", ration);
    scenario.bao.kv_get(PATH);
    let run = scenario.idkeep.spawn(&["-o", "json", "sync"]);
    run.wait_for_stderr("trying again");
    scenario.bao.remove_rate_limit();
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    let says = format!("reading the secret at {}/v1/{path}: status 429 (rate limited)", scenario.bao.address);
    assert!(outcome.stderr.contains(&says), "{outcome}");
    scenario.identity("deadline: 1s");
    let nobody = format!("http://{}", crate::support::proxy::refused());
    scenario.idkeep.config(&scenario.yaml().replace(&scenario.bao.address, &nobody));
    let outcome = scenario.idkeep.sync(75);
    assert!(outcome.stderr.contains(&format!("{nobody}: connection refused")), "{outcome}");
}

#[test]
fn the_live_check_says_what_the_agent_may_do_with_a_secret() {
    let scenario = kept(own_bao());
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"max_versions": 50}));
    let said = |code| {
        let report = scenario.idkeep.expect(code, &["-o", "json", "check", "--live"]).json();
        let about = |tried: &&Value| tried["what"] == "secrets in vault";
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let live = report["live"].as_array().unwrap();
        let said = live.iter().filter(about).map(|tried| (text(&tried["result"]), text(&tried["message"])));
        said.collect::<Vec<_>>()
    };
    let path = format!("secret/data/{PATH}");
    assert_eq!(said(0), [("ok".to_owned(), format!("{path}: read"))]);
    let policy = rendered(&scenario, "writer");
    let with = |rights: &str| {
        let wide = policy.replace("  capabilities = [\"read\"]", &format!("  capabilities = [{rights}]"));
        scenario.bao.policy(&scenario.node, &wide);
    };
    with("\"read\", \"update\", \"delete\"");
    assert_says(&said(77), "fail", &format!("{path}: the agent may update, delete, and needs not"));
    with("\"update\"");
    let report = scenario.idkeep.expect(77, &["check", "--live"]).stdout;
    assert!(report.contains("token: asking for a token: reading the secret at"), "{report}");
    assert_says(&said(77), "fail", &format!("{path}: read is missing"));
    scenario.bao.policy(&scenario.node, &super::rights::without(&policy, "sys/capabilities-self", None));
    assert_says(&said(0), "unknown", &format!("the rights on {path}"));
    // The restorer is none of those who need it.
    assert!(!rendered(&scenario, "restorer").contains(PATH));
}

#[test]
fn every_kind_of_token_takes_its_secret_from_vault() {
    let mut scenario = kept(own_bao());
    let reference = |field: &str| format!("{{vault: {{store: vault, path: secret/data/{PATH}, field: {field}}}}}");
    // A ready one, as another client of the issuer got it.
    scenario.sync(0);
    let shown = scenario.validator.identity_requests();
    let ready = shown[0].header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    scenario.bao.kv_put(PATH, json!({"ready": ready, "shared": "unsafe"}));
    scenario.config.auth = format!("{{token: {}}}", reference("ready"));
    scenario.configure();
    assert_eq!(scenario.sync(0).store(), "unchanged");
    // And one that is signed here: the node does not know that secret, and says so.
    scenario.config.auth = format!("{{unsafe_hs256: {{secret: {}}}}}", reference("shared"));
    scenario.configure();
    let synced = scenario.sync(77);
    assert!(synced.stderr().contains("the token is not accepted"), "{}", synced.outcome);
    scenario.config.auth = format!("{{unsafe_hs256: {{secret: {}}}}}", reference("nothing"));
    scenario.configure();
    let synced = scenario.sync(78);
    assert!(synced.stderr().contains("it has no field `nothing`"), "{}", synced.outcome);
}

#[test]
fn the_key_that_signs_assertions_comes_from_vault() {
    let mut scenario = kept(own_bao());
    let provider = OidcProvider::https();
    let validator = Validator::trusting(&provider.jwks_uri(), provider.ca_file.as_deref())
        .audience(OIDC_AUDIENCE)
        .user(&provider.rs256.id)
        .dump(&scenario.dump.json())
        .start();
    scenario.bao.kv_put(PATH, json!({"pem": provider.rs256.private_key}));
    scenario.config.auth = format!(
        "{{oauth2: {{issuer: {:?}, client_id: {:?}, client_auth: private_key_jwt, key_id: {:?}, resource: {OIDC_AUDIENCE:?}, \
         tls: {{ca_file: {:?}}}, private_key: {{vault: {{store: vault, path: secret/data/{PATH}, field: pem}}}}}}}}",
        provider.issuer,
        provider.rs256.id,
        provider.rs256.key_id,
        provider.ca_file.as_ref().unwrap(),
    );
    scenario.validator = validator;
    scenario.configure();
    assert_eq!(scenario.sync(0).store(), "written");
    scenario.bao.kv_put(PATH, json!({"pem": "-----BEGIN PRIVATE KEY-----\nno key\n-----END PRIVATE KEY-----\n"}));
    let synced = scenario.sync(78);
    assert!(synced.stderr().contains("signing the client assertion"), "{}", synced.outcome);
    assert!(!synced.outcome.output().contains("no key"), "{}", synced.outcome);
}
