//! A node that a reload makes another: what was known of it counts no more, and it is looked after at once.

use super::{EVERY_SECOND, goes_on, scheduled};
use crate::support::daemon::{Daemon, ENDED, WELL, passes};
use crate::support::fleet::Fleet;
use crate::support::metrics::Metrics;
use crate::support::openbao::writer_policy;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::scenario::{AUDIENCE, Scenario};
use crate::support::server::Gate;
use crate::support::validator::{Answer, Validator};

/// So seldom that no second pass comes by itself.
const DAILY: &str = "schedule: {identities: {every: 24h}}";

fn stored_at(metrics: &Metrics, node: &str) -> Option<f64> {
    metrics.value("idkeep_sync_last_success_timestamp_seconds", &[("node", node)])
}

/// Neither ready nor known to have been stored.
fn is_unknown(daemon: &Daemon, node: &str) {
    let answer = daemon.get("/readyz");
    assert_eq!((answer.status, answer.text()), (503, format!("{node}: not stored yet\n")));
    let metrics = daemon.metrics();
    assert_eq!(stored_at(&metrics, node), None, "{}", metrics.text);
    let known = metrics.samples("idkeep_identity_info", &[("node", node)]).count();
    assert_eq!(known, 0, "{}", metrics.text);
}

#[test]
fn another_source_is_not_ready_before_it_was_stored_and_is_asked_at_once() {
    let mut scenario = scheduled(912, DAILY);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_readyz("", 200);
    assert!(stored_at(&daemon.metrics(), &scenario.node).is_some());

    let gate = Gate::closed();
    let other = Validator::trusting(&scenario.issuer.jwks_uri(), None).audience(AUDIENCE);
    let other = other.user(&scenario.issuer.subject()).dump(&scenario.dump.json()).start();
    other.script([Answer::Held(gate.clone())]);
    let old = std::mem::replace(&mut scenario.validator, other);
    scenario.configure();
    daemon.reload("done");
    is_unknown(&daemon, &scenario.node);
    scenario.validator.server().wait_for_requests(1);
    is_unknown(&daemon, &scenario.node);
    gate.open();
    daemon.wait_for_readyz("", 200);
    let metrics = daemon.wait_for_passes(&scenario.node, WELL, 2);
    assert_eq!(passes(&metrics, &scenario.node, ENDED), 2, "what was counted before counts on: {}", metrics.text);
    assert_eq!((old.identity_requests().len(), scenario.validator.identity_requests().len()), (1, 1));
}

#[test]
fn another_store_is_written_at_once_and_not_at_the_next_interval() {
    let mut scenario = scheduled(913, DAILY);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_readyz("", 200);
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    scenario.config.stores = "[vault, second]".into();
    scenario.config.more_stores = second(&scenario);
    scenario.configure();
    daemon.reload("done");
    is_unknown(&daemon, &scenario.node);
    gate.open();
    daemon.wait_for_readyz("", 200);
    let metrics = daemon.wait_for_passes(&scenario.node, WELL, 2);
    let written = |store| [("node", scenario.node.as_str()), ("store", store), ("outcome", "written")];
    assert_eq!(metrics.count("idkeep_store_write_total", &written("second")), 1, "{}", metrics.text);
    assert_eq!(metrics.count("idkeep_store_write_total", &written("vault")), 1, "{}", metrics.text);
    assert_eq!(scenario.versions(), 1, "nothing has changed for the first store");
}

/// A store beside the usual one: another path of the same server.
fn second(scenario: &Scenario) -> String {
    let path = format!("canton/{}-second", scenario.node);
    let policy = format!("{}-second", scenario.node);
    scenario.bao.policy(&policy, &writer_policy(&path));
    let token = scenario.bao.token(&[&policy], "1h");
    let file = scenario.idkeep.secret_file("second-token", token.as_bytes());
    format!(
        "  second:\n    vault:\n      address: {}\n      allow_http: true\n      path: canton/{{node}}-second\n      \
         auth: {{token: {{file: {file:?}}}}}\n",
        scenario.bao.address
    )
}

/// Its pass of before goes on meanwhile, and says nothing about the node that has come back.
#[test]
fn a_node_that_comes_back_as_another_is_stored_though_its_old_pass_is_still_under_way() {
    let mut fleet = Fleet::new(2);
    let top = format!("{DAILY}\nserver: {{listen: 127.0.0.1:0}}\n");
    fleet.configure(&["deadline: 60s", "timeout: 60s"], &top);
    let gate = Gate::closed();
    fleet.members[1].validator.script([Answer::Held(gate.clone())]);
    let daemon = Daemon::start(&fleet.idkeep);
    daemon.wait_for_readyz(&format!("?node={}", fleet.members[0].name), 200);
    fleet.members[1].validator.server().wait_for_requests(1);
    fleet.configured = 0..1;
    fleet.configure(&["deadline: 60s", "timeout: 60s"], &top);
    daemon.reload("done");
    // The same app under another address.
    let other = FaultProxy::before(fleet.members[1].validator.server().address, Fault::None);
    let _old = std::mem::replace(&mut fleet.members[1].proxy, other);
    fleet.configured = 0..2;
    fleet.configure(&["deadline: 60s", "timeout: 60s"], &top);
    daemon.reload("done");
    let name = &fleet.members[1].name;
    assert_eq!(daemon.get(&format!("/readyz?node={name}")).text(), format!("{name}: not stored yet\n"));
    gate.open();
    daemon.wait_for_readyz("", 200);
    assert_eq!(fleet.members[1].validator.identity_requests().len(), 2);
    assert_eq!(passes(&daemon.metrics(), &fleet.members[0].name, ENDED), 1);
}

/// Whoever reloads each minute is not to use up the issuer's tokens.
#[test]
fn a_file_that_says_the_same_costs_no_token_and_no_login() {
    let mut scenario = super::alone(914, EVERY_SECOND);
    let logins = |scenario: &Scenario| {
        let audited = scenario.bao.audited();
        let logins = audited.iter().filter(|(_, path)| path == "auth/approle/login").count();
        (scenario.issuer.token_requests().len(), logins)
    };
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let yaml = scenario.yaml();
    for reload in 0..3 {
        scenario.idkeep.config(&format!("# For the {reload}. time.\n{yaml}"));
        daemon.reload("done");
        goes_on(&daemon, &scenario.node);
    }
    assert_eq!(logins(&scenario), (1, 1));
    assert_eq!(daemon.count("configuration read again: nothing has changed"), 3);
    // As a control: what says something else does.
    scenario.top("schedule: {identities: {every: 1s, jitter: 1s}}");
    daemon.reload("done");
    goes_on(&daemon, &scenario.node);
    assert_eq!(logins(&scenario), (2, 2));
}
