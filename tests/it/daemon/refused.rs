//! Who is refused: a user by the node, and identities by the store that holds another participant's.

use serde_json::json;

use super::{EVERY_SECOND, LONG, fails, goes_on, scheduled};
use crate::support::daemon::{Daemon, passes};
use crate::support::dump::Dump;
use crate::support::idkeep::write_private;
use crate::support::jwt;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::scenario::AUDIENCE;
use crate::support::validator::Validator;
use crate::support::wait_for;

/// The token is good for another hour, and its user may not any more: only a look at the file helps.
#[test]
fn a_ready_token_whose_user_lost_his_rights_is_read_again() {
    let mut scenario = scheduled(918, EVERY_SECOND);
    let token = |user: &str| {
        let now = jwt::now();
        let issuer = scenario.issuer.url();
        jwt::mint(&json!({"iss": issuer, "sub": user, "aud": AUDIENCE, "iat": now, "exp": now + 3600}))
    };
    let knowing = |users: &[&str]| {
        let settings = Validator::trusting(&scenario.issuer.jwks_uri(), None).audience(AUDIENCE);
        users.iter().fold(settings, |settings, user| settings.user(user)).dump(&scenario.dump.json()).start()
    };
    let (first, second) = (token("first"), token("second"));
    let (before, after) = (knowing(&["first", "second"]), knowing(&["second"]));
    let proxy = FaultProxy::before(before.server().address, Fault::None);
    let path = scenario.idkeep.secret_file("token", first.as_bytes());
    scenario.config.auth = format!("{{token: {{file: {path:?}}}}}");
    let endpoint = before.endpoint().replace(&before.server().address.to_string(), &proxy.address.to_string());
    let yaml = scenario.yaml().replace(&scenario.validator.endpoint(), &endpoint);
    scenario.idkeep.config(&yaml);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    proxy.lead_to(after.server().address);
    fails(&daemon, &scenario.node);
    let new = path.with_extension("new");
    write_private(&new, second.as_bytes());
    std::fs::rename(new, &path).unwrap();
    wait_for("the new token to be shown", LONG, || {
        let shown = after.identity_requests();
        let header = format!("Bearer {second}");
        shown.last().is_some_and(|seen| seen.header("authorization") == Some(&header)).then_some(())
    });
    goes_on(&daemon, &scenario.node);
}

/// A store that denies everything is graver, and hides nothing.
#[test]
fn another_participant_is_counted_whatever_else_fails_beside_it() {
    let mut scenario = scheduled(919, EVERY_SECOND);
    scenario.sync(0);
    let token = scenario.bao.token(&["default"], "1h");
    let file = scenario.idkeep.secret_file("denied-token", token.as_bytes());
    scenario.config.stores = "[vault, denying]".into();
    scenario.config.more_stores = format!(
        "  denying:\n    vault:\n      address: {}\n      allow_http: true\n      path: canton/{{node}}/elsewhere\n      \
         auth: {{token: {{file: {file:?}}}}}\n",
        scenario.bao.address
    );
    scenario.configure();
    let daemon = Daemon::start(&scenario.idkeep);
    let of_node = [("node", scenario.node.as_str())];
    // As a control: that store alone is no refusal of an identity.
    fails(&daemon, &scenario.node);
    assert_eq!(daemon.metrics().count("idkeep_sync_refused_total", &of_node), 0);
    scenario.validator.dump(&Dump::fresh(920).json());
    daemon.wait_for_metrics("a refusal", |metrics| {
        (metrics.count("idkeep_sync_refused_total", &of_node) > 0).then_some(())
    });
    assert_eq!(scenario.sync(77).node["stores"].as_array().unwrap().len(), 2, "the graver one ends a run");
    let metrics = daemon.metrics();
    let refused = metrics.count("idkeep_sync_refused_total", &of_node);
    assert!(passes(&metrics, &scenario.node, &["failed"]) > refused, "{}", metrics.text);
    daemon.stop();
    assert_eq!(scenario.versions(), 1);
    scenario.assert_stored(&scenario.dump);
}
