//! What the daemon lives through: stores sealed and restarted, issuers down, tokens that run out.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::{EVERY_SECOND, LONG, alone, fails, goes_on, scheduled};
use crate::support::daemon::{Daemon, WELL, passes};
use crate::support::dump::Dump;
use crate::support::issuer::{Answer, Discovery, Issuer};
use crate::support::openbao::OpenBao;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::scenario::Scenario;
use crate::support::wait_for;

/// A node whose passes give up soon, once each second.
fn impatient(bao: OpenBao, seed: u64) -> Scenario {
    let mut scenario = Scenario::on(Arc::new(bao), Dump::fresh(seed));
    scenario.identity("deadline: 2s").top(EVERY_SECOND);
    scenario
}

#[test]
fn a_store_that_is_sealed_and_unsealed_is_used_again() {
    let scenario = impatient(OpenBao::tls(), 810);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    scenario.bao.seal();
    fails(&daemon, &scenario.node);
    scenario.bao.unseal();
    goes_on(&daemon, &scenario.node);
    daemon.stop();
    assert_eq!(scenario.versions(), 1);
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn a_store_that_is_restarted_is_used_again() {
    let mut scenario = impatient(OpenBao::raft(), 811);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let bao = Arc::get_mut(&mut scenario.bao).unwrap();
    bao.stop();
    fails(&daemon, &scenario.node);
    bao.restart();
    goes_on(&daemon, &scenario.node);
    daemon.stop();
    assert_eq!(scenario.versions(), 1);
}

/// What it had in memory is gone with it: tokens, roles, secrets. Whoever sets it up again finds the daemon waiting.
#[test]
fn a_store_that_lost_everything_is_written_again_once_it_is_set_up() {
    let mut scenario = impatient(OpenBao::dev(), 812);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    Arc::get_mut(&mut scenario.bao).unwrap().restart();
    fails(&daemon, &scenario.node);
    let policy = crate::support::openbao::writer_policy(&scenario.path());
    scenario.bao.policy(&scenario.node, &policy);
    let secret_id = std::fs::read_to_string(scenario.idkeep.path("secret-id")).unwrap();
    let (role_id, _) = scenario.bao.approle(&scenario.node, &[&scenario.node], json!({}));
    let role = format!("auth/approle/role/{}", scenario.node);
    scenario.bao.must("POST", &format!("{role}/custom-secret-id"), json!({ "secret_id": secret_id }));
    let yaml = std::fs::read_to_string(scenario.idkeep.path("idkeep.yaml")).unwrap();
    let known = yaml.split("role_id: \"").nth(1).unwrap().split('"').next().unwrap();
    assert_ne!(known, role_id);
    scenario.bao.must("POST", &format!("{role}/role-id"), json!({ "role_id": known }));
    goes_on(&daemon, &scenario.node);
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn one_token_serves_many_passes_and_outlives_an_outage_of_its_issuer() {
    let scenario = scheduled(813, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 2);
    scenario.issuer.always(Answer::Status(503));
    scenario.issuer.discovery(Discovery::Status(503));
    let metrics = daemon.wait_for_passes(&scenario.node, WELL, 5);
    assert_eq!(passes(&metrics, &scenario.node, &["failed"]), 0);
    assert_eq!(scenario.issuer.token_requests().len(), 1);
}

#[test]
fn tokens_that_run_out_are_renewed_in_time_and_no_more_of_them_than_needed() {
    let issuer = Issuer::settings().lifetime(6).start();
    let mut scenario = Scenario::issued_by(issuer, 814);
    scenario.top(EVERY_SECOND);
    let started_at = Instant::now();
    let daemon = Daemon::start(&scenario.idkeep);
    wait_for("three tokens", LONG, || (scenario.issuer.token_requests().len() >= 3).then_some(()));
    let metrics = daemon.wait_for_passes(&scenario.node, WELL, 5);
    assert_eq!(passes(&metrics, &scenario.node, &["failed"]), 0, "{}", daemon.log());
    // A token of six seconds is good for three.
    let most = started_at.elapsed().as_secs() / 3 + 1;
    let tokens = scenario.issuer.token_requests().len() as u64;
    assert!(tokens <= most, "{tokens} tokens, where {most} are enough");
    assert!(!scenario.validator.identity_requests().is_empty());
}

#[test]
fn an_issuer_that_was_down_for_a_while_is_asked_again() {
    let issuer = Issuer::settings().lifetime(2).start();
    let proxy = FaultProxy::before(issuer.server().address, Fault::None);
    let mut scenario = Scenario::issued_by(issuer, 815);
    let issuer = format!("issuer: {:?}", scenario.issuer.url());
    let behind = format!("token_url: \"http://{}/oauth/token\"", proxy.address);
    assert!(scenario.config.auth.contains(&issuer));
    scenario.config.auth = scenario.config.auth.replace(&issuer, &behind);
    scenario.identity("deadline: 2s").top(EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    proxy.set(Fault::ResetAfter(0));
    proxy.break_off();
    fails(&daemon, &scenario.node);
    proxy.set(Fault::None);
    proxy.break_off();
    goes_on(&daemon, &scenario.node);
    scenario.issuer.always(Answer::TooMany(Some("1")));
    fails(&daemon, &scenario.node);
    scenario.issuer.always(Answer::Normal);
    goes_on(&daemon, &scenario.node);
    daemon.stop();
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn a_token_of_the_store_is_renewed_and_not_left_for_another() {
    let scenario = alone(816, EVERY_SECOND);
    let before = scenario.bao.tokens();
    limit(&scenario, json!({"token_ttl": "12s"}));
    let daemon = Daemon::start(&scenario.idkeep);
    let renewed = ("update".to_owned(), "auth/token/renew-self".to_owned());
    wait_for("the token to be renewed", LONG, || scenario.bao.audited().contains(&renewed).then_some(()));
    goes_on(&daemon, &scenario.node);
    assert_eq!(logins(&scenario), 1);
    assert_eq!(passes(&daemon.metrics(), &scenario.node, &["failed"]), 0);
    daemon.stop();
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn a_token_of_the_store_that_may_not_live_on_is_followed_by_another() {
    let scenario = alone(817, EVERY_SECOND);
    let before = scenario.bao.tokens();
    limit(&scenario, json!({"token_ttl": "2s", "token_max_ttl": "4s"}));
    let started_at = Instant::now();
    let daemon = Daemon::start(&scenario.idkeep);
    wait_for("the third login", LONG, || (logins(&scenario) >= 3).then_some(()));
    goes_on(&daemon, &scenario.node);
    assert_eq!(passes(&daemon.metrics(), &scenario.node, &["failed"]), 0, "{}", daemon.log());
    // Each lives for two seconds at least, however often it is renewed.
    let most = started_at.elapsed().as_secs() as usize / 2 + 2;
    assert!(logins(&scenario) <= most, "{} logins, where {most} are enough", logins(&scenario));
    daemon.stop();
    wait_for("all tokens to be gone", LONG, || (scenario.bao.tokens() == before).then_some(()));
}

/// The outside world may take a token away at any time.
#[test]
fn a_token_of_the_store_that_was_revoked_is_followed_by_another() {
    let scenario = alone(818, EVERY_SECOND);
    let before = scenario.bao.tokens();
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    assert_eq!(scenario.bao.tokens(), before + 1);
    scenario.bao.must("PUT", "sys/leases/revoke-prefix/auth/approle/login", None);
    wait_for("another login", LONG, || (logins(&scenario) >= 2).then_some(()));
    goes_on(&daemon, &scenario.node);
    assert_eq!(logins(&scenario), 2);
    daemon.stop();
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn many_passes_hold_one_token_of_the_store() {
    let scenario = alone(819, EVERY_SECOND);
    let before = scenario.bao.tokens();
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 4);
    assert_eq!((logins(&scenario), scenario.bao.tokens()), (1, before + 1));
    daemon.stop();
    assert_eq!(scenario.bao.tokens(), before);
}

/// What the role says of its tokens.
fn limit(scenario: &Scenario, limits: Value) {
    let mut role = json!({"token_policies": [scenario.node]});
    role.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    scenario.bao.must("POST", &format!("auth/approle/role/{}", scenario.node), role);
}

fn logins(scenario: &Scenario) -> usize {
    scenario.bao.audited().iter().filter(|(_, path)| path == "auth/approle/login").count()
}

/// A failure is tried again inside the interval, not only at the next tick.
#[test]
fn what_fails_for_the_moment_is_tried_again_long_before_the_next_tick() {
    let mut scenario = scheduled(820, super::SELDOM);
    scenario.identity("deadline: 1s");
    scenario.validator.ready(false);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, &["failed"], 1);
    let due_at: jiff::Timestamp = wait_for("the next try", LONG, || {
        let status = daemon.get("/status").json();
        status["nodes"][&scenario.node]["due"]["identities"].as_str().map(|at| at.parse().unwrap())
    });
    let pause = due_at.duration_since(jiff::Timestamp::now());
    assert!(pause < jiff::SignedDuration::from_secs(60), "{pause}, with an interval of an hour");
}
