//! A secret id that came wrapped: it opens once, and the daemon needs it for more than one login.

use serde_json::json;

use super::{EVERY_SECOND, alone, fails, goes_on};
use crate::support::daemon::{Daemon, passes};
use crate::support::scenario::Scenario;

/// A node whose secret id comes in a wrapping token, on an OpenBao of its own.
fn wrapped(seed: u64) -> Scenario {
    let mut scenario = alone(seed, EVERY_SECOND);
    let role_id = scenario.bao.must("GET", &format!("{}/role-id", role(&scenario)), None);
    let path = wrap(&scenario);
    scenario.config.vault_auth = format!(
        "{{approle: {{role_id: {}, secret_id: {{file: {path:?}}}, wrapped: true}}}}",
        role_id["data"]["role_id"]
    );
    scenario.configure();
    scenario
}

fn role(scenario: &Scenario) -> String {
    format!("auth/approle/role/{}", scenario.node)
}

/// Puts a wrapping token that nobody has opened into the file.
fn wrap(scenario: &Scenario) -> std::path::PathBuf {
    let token = scenario.bao.wrapped_secret_id(&scenario.node);
    scenario.idkeep.secret_file("wrapped", token.as_bytes())
}

/// How often somebody else than the root token asked for that.
fn asked(scenario: &Scenario, path: &str) -> usize {
    scenario.bao.audited().iter().filter(|(_, asked)| asked == path).count()
}

#[test]
fn it_serves_the_logins_of_every_configuration_that_is_read_later() {
    let mut scenario = wrapped(910);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    assert_eq!((asked(&scenario, "auth/approle/login"), asked(&scenario, "sys/wrapping/unwrap")), (1, 1));

    // Another interval, a wider deadline: each reload logs in anew, by what was unwrapped before.
    scenario.top("schedule: {identities: {every: 1s, jitter: 1s}}");
    daemon.reload("done");
    goes_on(&daemon, &scenario.node);
    scenario.identity("deadline: 30s");
    daemon.reload("done");
    goes_on(&daemon, &scenario.node);
    let yaml = scenario.yaml().replace("party_hint: acme-", "party_hint: other-");
    scenario.idkeep.config(&yaml);
    daemon.reload("done");
    goes_on(&daemon, &scenario.node);

    assert_eq!((asked(&scenario, "auth/approle/login"), asked(&scenario, "sys/wrapping/unwrap")), (4, 1));
    let metrics = daemon.metrics();
    assert_eq!(passes(&metrics, &scenario.node, &["failed"]), 0, "{}", metrics.text);
    daemon.stop();
    // As a control: whoever starts anew has nothing to unwrap.
    assert!(scenario.sync(77).stderr().contains("someone else may have unwrapped it"));
}

#[test]
fn one_that_was_revoked_is_replaced_by_what_is_wrapped_next() {
    let scenario = wrapped(911);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let known = scenario.bao.must("LIST", &format!("{}/secret-id", role(&scenario)), None);
    for accessor in known["data"]["keys"].as_array().unwrap() {
        let destroy = format!("{}/secret-id-accessor/destroy", role(&scenario));
        scenario.bao.must("POST", &destroy, json!({ "secret_id_accessor": accessor }));
    }
    scenario.bao.must("PUT", "sys/leases/revoke-prefix/auth/approle/login", None);
    fails(&daemon, &scenario.node);
    wrap(&scenario);
    goes_on(&daemon, &scenario.node);
    assert_eq!(asked(&scenario, "sys/wrapping/unwrap"), 2);
    let before = passes(&daemon.metrics(), &scenario.node, &["failed"]);
    goes_on(&daemon, &scenario.node);
    assert_eq!(passes(&daemon.metrics(), &scenario.node, &["failed"]), before);
    // What was in the file was opened by this daemon, and is not opened again: no false alarm.
    assert!(daemon.log().contains("by approle") && !daemon.log().contains("someone else may have unwrapped it"));
}
