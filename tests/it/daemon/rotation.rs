//! Secrets and certificates that are rotated on disk: used without a restart and without a signal.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::{EVERY_SECOND, LONG, alone, fails, goes_on, scheduled};
use crate::support::client::basic;
use crate::support::daemon::{Daemon, WELL, passes};
use crate::support::dump::Dump;
use crate::support::issuer::Issuer;
use crate::support::jwt;
use crate::support::openbao::{OpenBao, writer_policy};
use crate::support::pki::{Identity, Pki};
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::scenario::{AUDIENCE, Scenario};
use crate::support::server::Tls;
use crate::support::validator::Validator;
use crate::support::wait_for;

/// As `kubelet` and every careful tool do it: a new file in the old one's place.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    crate::support::idkeep::write_private(&new, bytes);
    std::fs::rename(new, path).unwrap();
}

#[test]
fn a_client_secret_that_is_rotated_is_used_and_the_old_one_no_more() {
    let issuer = Issuer::settings().lifetime(2).start();
    let mut scenario = Scenario::issued_by(issuer, 830);
    scenario.top(EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    // Revoked before the new one is there: the passes fail, and heal by themselves.
    scenario.issuer.rotate_secret("another-client-secret-9876543210");
    fails(&daemon, &scenario.node);
    replace(&scenario.idkeep.path("client-secret"), b"another-client-secret-9876543210\n");
    goes_on(&daemon, &scenario.node);
    let shown = scenario.issuer.token_requests().last().unwrap().header("authorization").map(str::to_owned);
    assert_eq!(shown, Some(basic(&scenario.issuer.client_id, "another-client-secret-9876543210")));
}

#[test]
fn a_ready_token_that_is_rotated_is_used() {
    let mut scenario = scheduled(831, EVERY_SECOND);
    let token = |lifetime: u64| {
        let now = jwt::now();
        let (issuer, subject) = (scenario.issuer.url(), scenario.issuer.subject());
        jwt::mint(&json!({"iss": issuer, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + lifetime}))
    };
    let path = scenario.idkeep.secret_file("token", token(4).as_bytes());
    let (first, second) = (std::fs::read_to_string(&path).unwrap(), token(3600));
    scenario.config.auth = format!("{{token: {{file: {path:?}}}}}");
    scenario.configure();
    let daemon = Daemon::start(&scenario.idkeep);
    wait_for("a pass", LONG, || (!scenario.validator.identity_requests().is_empty()).then_some(()));
    fails(&daemon, &scenario.node);
    replace(&path, second.as_bytes());
    goes_on(&daemon, &scenario.node);
    let shown = scenario.validator.identity_requests();
    assert_eq!(shown[0].header("authorization"), Some(format!("Bearer {first}").as_str()));
    assert_eq!(shown.last().unwrap().header("authorization"), Some(format!("Bearer {second}").as_str()));
}

#[test]
fn a_secret_id_that_is_rotated_is_used() {
    let scenario = alone(832, EVERY_SECOND);
    let role = format!("auth/approle/role/{}", scenario.node);
    // Each pass logs in.
    scenario.bao.must(
        "POST",
        &role,
        json!({"token_policies": [scenario.node], "token_ttl": "1s", "token_max_ttl": "1s"}),
    );
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let path = scenario.idkeep.path("secret-id");
    let old = std::fs::read_to_string(&path).unwrap();
    scenario.bao.must("POST", &format!("{role}/secret-id/destroy"), json!({ "secret_id": old }));
    fails(&daemon, &scenario.node);
    let new = scenario.bao.must("POST", &format!("{role}/secret-id"), None)["data"]["secret_id"].clone();
    replace(&path, new.as_str().unwrap().as_bytes());
    goes_on(&daemon, &scenario.node);
}

/// It opens once; what was in it is kept for the next login, and for the configuration that follows.
#[test]
fn a_wrapped_secret_id_serves_many_logins_outlives_a_reload_and_can_be_rotated() {
    let mut scenario = alone(838, EVERY_SECOND);
    let role = format!("auth/approle/role/{}", scenario.node);
    let limits = json!({"token_policies": [scenario.node], "token_ttl": "1s", "token_max_ttl": "1s"});
    let (role_id, _) = scenario.bao.approle(&scenario.node, &[&scenario.node], limits);
    let path = scenario.idkeep.secret_file("wrapped", scenario.bao.wrapped_secret_id(&scenario.node).as_bytes());
    scenario.config.vault_auth =
        format!("{{approle: {{role_id: {role_id:?}, secret_id: {{file: {path:?}}}, wrapped: true}}}}");
    scenario.configure();
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 4);
    scenario.top("schedule: {identities: {every: 1s, jitter: 100ms}}");
    daemon.reload("done");
    goes_on(&daemon, &scenario.node);
    goes_on(&daemon, &scenario.node);
    assert_eq!(passes(&daemon.metrics(), &scenario.node, &["failed"]), 0, "{}", daemon.log());
    let accessors = scenario.bao.must("LIST", &format!("{role}/secret-id"), None)["data"]["keys"].clone();
    for accessor in accessors.as_array().unwrap() {
        let body = json!({"secret_id_accessor": accessor});
        scenario.bao.must("POST", &format!("{role}/secret-id-accessor/destroy"), body);
    }
    fails(&daemon, &scenario.node);
    replace(&path, scenario.bao.wrapped_secret_id(&scenario.node).as_bytes());
    goes_on(&daemon, &scenario.node);
}

#[test]
fn a_service_account_s_token_that_is_rotated_is_used() {
    let mut bao = OpenBao::dev();
    let account = bao.kubernetes_auth("writer", &["writer"], "canton", "idkeep");
    let mut scenario = Scenario::on(Arc::new(bao), Dump::fresh(837));
    scenario.bao.policy("writer", &writer_policy(&scenario.path()));
    let file = scenario.idkeep.file("token", b"one.that.ended");
    scenario.config.vault_auth = format!("{{kubernetes: {{role: writer, token_file: {file:?}}}}}");
    scenario.top(EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    fails(&daemon, &scenario.node);
    replace(&file, account.as_bytes());
    goes_on(&daemon, &scenario.node);
}

/// The validator app's server comes back with a certificate of another authority.
#[test]
fn an_authority_that_is_rotated_is_believed_and_the_old_one_no_more() {
    let mut scenario = scheduled(833, EVERY_SECOND);
    let serve = |pki: &Pki| {
        let settings = Validator::trusting(&scenario.issuer.jwks_uri(), None).audience(AUDIENCE);
        settings.user(&scenario.issuer.subject()).tls(Tls::of(pki)).dump(&scenario.dump.json()).start()
    };
    let (old, new) = (Pki::new(), Pki::new());
    let (before, after) = (serve(&old), serve(&new));
    let proxy = FaultProxy::before(before.server().address, Fault::None);
    let ca_file = scenario.idkeep.file("ca.pem", old.ca_pem().as_bytes());
    let endpoint = before.endpoint().replace(&before.server().address.to_string(), &proxy.address.to_string());
    scenario.identity(&format!("tls: {{ca_file: {ca_file:?}}}"));
    let yaml = scenario.yaml().replace(&scenario.validator.endpoint(), &endpoint);
    scenario.idkeep.config(&yaml);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    proxy.lead_to(after.server().address);
    fails(&daemon, &scenario.node);
    assert_eq!(after.identity_requests().len(), 0, "an authority is believed that the file does not name");
    replace(&ca_file, new.ca_pem().as_bytes());
    goes_on(&daemon, &scenario.node);
    assert!(!after.identity_requests().is_empty());
    // And not both of them.
    proxy.lead_to(before.server().address);
    let so_far = before.identity_requests().len();
    fails(&daemon, &scenario.node);
    assert_eq!(before.identity_requests().len(), so_far);
}

#[test]
fn a_client_certificate_that_is_rotated_logs_in_to_the_store() {
    let bao = Arc::new(OpenBao::tls());
    let mut scenario = Scenario::on(bao.clone(), Dump::fresh(834));
    let policy = scenario.node.clone();
    // Each pass logs in.
    let allow = |name: &str| {
        let body = json!({
            "certificate": bao.pki().ca_pem(), "allowed_common_names": [name], "token_policies": [policy],
            "token_ttl": "1s", "token_max_ttl": "1s",
        });
        bao.must("POST", "auth/cert/certs/writer", body);
    };
    bao.cert_auth("writer", &[&scenario.node]);
    allow("first");
    let (certificate, key) = (scenario.idkeep.path("client.crt"), scenario.idkeep.path("client.key"));
    let show = |identity: &Identity| {
        replace(&key, identity.key.as_bytes());
        replace(&certificate, identity.certificate.as_bytes());
    };
    show(&bao.pki().client("first"));
    let tls = format!(
        "tls: {{ca_file: {:?}, client_cert_file: {certificate:?}, client_key_file: {key:?}}}",
        bao.ca_file.as_ref().unwrap()
    );
    scenario.config.vault_auth = "{cert: {role: writer}}".into();
    scenario.vault(&tls).top(EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    allow("second");
    fails(&daemon, &scenario.node);
    show(&bao.pki().client("second"));
    goes_on(&daemon, &scenario.node);
}

/// Half of a pair may be there already when the other half is read; the next pass sees the whole.
#[test]
fn a_certificate_without_its_key_fails_passes_and_not_the_daemon() {
    let bao = Arc::new(OpenBao::tls());
    let mut scenario = Scenario::on(bao.clone(), Dump::fresh(835));
    let identity = bao.cert_auth("writer", &[&scenario.node]);
    let certificate = scenario.idkeep.secret_file("client.crt", identity.certificate.as_bytes());
    let key = scenario.idkeep.secret_file("client.key", identity.key.as_bytes());
    scenario.config.vault_auth = "{cert: {role: writer}}".into();
    let ca_file = bao.ca_file.as_ref().unwrap();
    scenario
        .vault(&format!("tls: {{ca_file: {ca_file:?}, client_cert_file: {certificate:?}, client_key_file: {key:?}}}"));
    scenario.top(EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let other = bao.pki().client("writer");
    replace(&certificate, other.certificate.as_bytes());
    fails(&daemon, &scenario.node);
    replace(&key, other.key.as_bytes());
    goes_on(&daemon, &scenario.node);
}

#[test]
fn a_file_that_is_missing_for_a_while_fails_passes_and_not_the_daemon() {
    let issuer = Issuer::settings().lifetime(2).start();
    let mut scenario = Scenario::issued_by(issuer, 836);
    scenario.top(EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let path = scenario.idkeep.path("client-secret");
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    fails(&daemon, &scenario.node);
    std::fs::rename(&aside, &path).unwrap();
    goes_on(&daemon, &scenario.node);
}
