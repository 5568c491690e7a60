//! `custom_metadata`: our facts, those of older versions, and the keys of others.

use serde_json::{Value, json};

use super::keys;
use crate::support::scenario::Scenario;

fn others(count: usize) -> Value {
    let map: serde_json::Map<_, _> = (0..count).map(|n| (format!("team-{n:02}"), json!("x".repeat(512)))).collect();
    json!({ "custom_metadata": map })
}

fn after_changes(scenario: &mut Scenario, count: u64) {
    scenario.identity("max_changes_per_day: 1000");
    for number in 0..count {
        scenario.validator.dump(&scenario.dump.clone().rotated(500 + number, 1).json());
        assert_eq!(scenario.sync(0).store(), "written");
    }
}

#[test]
fn the_facts_of_older_versions_are_kept_with_their_digests() {
    let mut scenario = Scenario::new(1);
    scenario.sync(0);
    after_changes(&mut scenario, 3);
    let facts = scenario.facts();
    let history: Vec<&str> = keys(&facts).into_iter().filter(|key| key.starts_with("idkeep_v")).collect();
    assert_eq!(history, ["idkeep_v1", "idkeep_v2", "idkeep_v3"]);
    let first: Value = serde_json::from_str(facts["idkeep_v1"].as_str().unwrap()).unwrap();
    assert_eq!(first["digest"], scenario.dump.digest());
    assert_eq!(first["party_hint"], format!("acme-{}", scenario.node));
    assert_eq!(first["network"], "testnet");
    assert_eq!(facts["idkeep_stored_version"], "4");
}

#[test]
fn history_gives_way_to_the_keys_of_others_and_never_passes_the_limit() {
    let mut scenario = Scenario::new(1);
    scenario.bao.kv_put_metadata(&scenario.path(), others(50));
    scenario.sync(0);
    after_changes(&mut scenario, 6);
    let facts = scenario.facts();
    let keys = keys(&facts);
    assert_eq!(keys.len(), 64);
    assert_eq!(keys.iter().filter(|key| key.starts_with("team-")).count(), 50);
    let history: Vec<_> = keys.iter().filter(|key| key.starts_with("idkeep_v")).collect();
    assert_eq!(history, [&"idkeep_v3", &"idkeep_v4", &"idkeep_v5", &"idkeep_v6"]);
    assert_eq!(scenario.sync(0).store(), "unchanged");
}

#[test]
fn a_secret_without_room_for_the_facts_is_refused_before_anything_is_written() {
    let scenario = Scenario::new(1);
    scenario.bao.kv_put_metadata(&scenario.path(), others(60));
    let synced = scenario.sync(78);
    assert!(synced.stderr().contains("has no room left: 64 keys are the limit"), "{}", synced.stderr());
    assert!(synced.stderr().contains("hint: remove keys of others"), "{}", synced.stderr());
    assert_eq!(scenario.versions(), 0);
    assert_eq!(keys(&scenario.facts()).len(), 60);
}

#[test]
fn keys_of_others_that_come_between_two_versions_are_kept() {
    let mut scenario = Scenario::new(1);
    scenario.sync(0);
    let mut map = scenario.facts();
    map["zone"] = json!("eu \"1\" \\ ü");
    map["idkeep_vnote"] = json!("not a version");
    scenario.bao.kv_put_metadata(&scenario.path(), json!({ "custom_metadata": map }));
    after_changes(&mut scenario, 2);
    assert_eq!(scenario.facts()["zone"], "eu \"1\" \\ ü");
    assert_eq!(scenario.facts()["idkeep_vnote"], "not a version");
}

#[test]
fn facts_that_have_not_been_looked_at_for_hours_are_dated_anew_without_a_version() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    let mut map = scenario.facts();
    map["idkeep_checked_at"] = json!("2020-01-01T00:00:00Z");
    map["team"] = json!("canton");
    scenario.bao.kv_put_metadata(&scenario.path(), json!({ "custom_metadata": map }));
    assert_eq!(scenario.sync_with(0, &["--dry-run"]).store(), "unchanged");
    assert_eq!(scenario.facts()["idkeep_checked_at"], "2020-01-01T00:00:00Z");
    assert_eq!(scenario.sync(0).store(), "unchanged");
    let facts = scenario.facts();
    assert_ne!(facts["idkeep_checked_at"], "2020-01-01T00:00:00Z");
    assert_eq!(facts["idkeep_captured_at"], map["idkeep_captured_at"]);
    assert_eq!(keys(&facts), keys(&map));
    assert_eq!(scenario.versions(), 1);
    let again = scenario.facts();
    scenario.sync(0);
    assert_eq!(scenario.facts(), again, "a pass within six hours writes nothing");
}
