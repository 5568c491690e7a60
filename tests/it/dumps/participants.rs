//! Whose identities they are: another participant's never take the place of the stored ones unasked.

use serde_json::Value;

use crate::support::dump::Dump;
use crate::support::scenario::Scenario;

/// A scenario whose node was stored once and answers as another participant since.
fn reset() -> (Scenario, Dump) {
    let scenario = Scenario::new(1);
    assert_eq!(scenario.sync(0).store(), "written");
    let other = Dump::fresh(2);
    scenario.validator.dump(&other.json());
    (scenario, other)
}

#[test]
fn a_configured_participant_refuses_any_other_on_the_first_sync_too() {
    let mut scenario = Scenario::new(1);
    let other = Dump::fresh(2);
    scenario.identity(&format!("participant: {:?}", other.id));
    for arguments in [&[][..], &["--accept-new-identity"]] {
        let refused = scenario.sync_with(65, arguments);
        assert!(refused.stderr().contains(&scenario.dump.id), "{}", refused.stderr());
        assert!(refused.stderr().contains(&other.id), "{}", refused.stderr());
        assert_eq!(scenario.versions(), 0);
    }
    scenario.validator.dump(&other.json());
    assert_eq!(scenario.sync(0).store(), "written");
    scenario.assert_stored(&other);
}

#[test]
fn another_participant_is_refused_and_both_are_named() {
    let (scenario, other) = reset();
    let before = scenario.bao.kv_metadata(&scenario.path());
    let refused = scenario.sync(65);
    assert_eq!(refused.store(), "failed");
    let error = refused.node["stores"][0]["error"].as_str().unwrap();
    assert!(error.contains(&scenario.dump.id) && error.contains(&other.id), "{error}");
    let fix = format!("--accept-new-identity={}", other.id);
    assert!(refused.stderr().contains(&fix), "{}", refused.stderr());
    assert_eq!(scenario.bao.kv_metadata(&scenario.path()), before);
    scenario.assert_stored(&scenario.dump);
    scenario.sync_with(65, &["--dry-run"]);
}

#[test]
fn another_participant_of_the_same_namespace_is_another_one_too() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    let mut renamed = scenario.dump.clone();
    renamed.id = renamed.id.replace("test-validator", "renamed-validator");
    scenario.validator.dump(&renamed.json());
    scenario.sync(65);
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn an_accepted_participant_follows_and_the_old_ones_party_hint_stays() {
    let (mut scenario, other) = reset();
    let old = scenario.dump.clone();
    let node = scenario.node.clone();
    let yaml = scenario.yaml().replace(&format!("party_hint: acme-{node}"), "party_hint: after-the-reset");
    scenario.idkeep.config(&yaml);
    let accepted = scenario.sync_with(0, &[&format!("--accept-new-identity={}", other.id)]);
    assert_eq!(accepted.store(), "written");
    assert!(!accepted.stderr().contains("any would do"), "{}", accepted.stderr());
    scenario.assert_stored(&other);
    let facts = scenario.facts();
    assert_eq!(facts["idkeep_participant_id"], other.id.as_str());
    assert_eq!(facts["idkeep_party_hint"], "after-the-reset");
    let history: Value = serde_json::from_str(facts["idkeep_v1"].as_str().unwrap()).unwrap();
    assert_eq!(history["party_hint"], format!("acme-{node}"));
    assert_eq!(history["participant_id"], old.id.as_str());
    assert_eq!(history["digest"], old.digest());
    // The old identity itself can still be read.
    let kept = scenario.bao.kv_version(&scenario.path(), 1).unwrap();
    assert_eq!(kept["content"].as_str().unwrap().as_bytes(), old.json());
    // From now on it is the stored one, and the old one is the stranger.
    assert_eq!(scenario.sync(0).store(), "unchanged");
    scenario.validator.dump(&old.json());
    scenario.sync(65);
    scenario.configure();
}

#[test]
fn an_accepted_participant_must_be_the_one_that_is_named() {
    let (scenario, other) = reset();
    let third = Dump::fresh(3);
    let refused = scenario.sync_with(65, &[&format!("--accept-new-identity={}", third.id)]);
    assert!(refused.stderr().contains(&third.id) && refused.stderr().contains(&other.id), "{}", refused.stderr());
    scenario.assert_stored(&scenario.dump);
    let usage = scenario.idkeep.expect(64, &["sync", "--accept-new-identity=PAR::someone"]);
    assert!(usage.stderr.contains("PAR::<identifier>::1220"), "{usage}");
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn accepting_whichever_participant_comes_warns_and_names_both() {
    let (scenario, other) = reset();
    let accepted = scenario.sync_with(0, &["--accept-new-identity"]);
    assert_eq!(accepted.store(), "written");
    let warning = accepted.stderr().lines().find(|line| line.contains("WARN")).unwrap_or_default();
    assert!(warning.contains(&scenario.dump.id) && warning.contains(&other.id), "{}", accepted.stderr());
    scenario.assert_stored(&other);
}

#[test]
fn accepting_a_new_identity_where_none_came_changes_nothing() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    let same = scenario.sync_with(0, &["--accept-new-identity"]);
    assert_eq!(same.store(), "unchanged");
    assert!(!same.stderr().contains("WARN"), "{}", same.stderr());
    assert_eq!(scenario.versions(), 1);
}
