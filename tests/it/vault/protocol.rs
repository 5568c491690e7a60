//! Hazards 1 and 2: facts that are tied to a version, races, and writes that would push history out.

use serde_json::json;

use crate::support::dump::Dump;
use crate::support::idkeep::Outcome;
use crate::support::openbao::writer_policy;
use crate::support::scenario::Scenario;

/// A change of keys, as rotation makes it: the same participant, another digest.
fn changed(dump: &Dump, number: u64) -> Dump {
    dump.clone().rotated(900 + number, 1)
}

/// Runs eight at once; returns how often each outcome came.
fn race(scenario: &Scenario) -> (usize, usize) {
    let running: Vec<_> = (0..8).map(|_| scenario.idkeep.spawn(&["-o", "json", "sync"])).collect();
    let outcomes: Vec<Outcome> = running.into_iter().map(|running| running.wait()).collect();
    let count = |wanted: &str| {
        outcomes.iter().filter(|outcome| outcome.json()["nodes"][0]["stores"][0]["outcome"] == wanted).count()
    };
    for outcome in &outcomes {
        assert_eq!(outcome.code, 0, "{outcome}");
    }
    (count("written"), count("unchanged"))
}

#[test]
fn eight_writers_at_once_make_one_version_of_a_new_secret_and_one_of_a_change() {
    for round in 0..4 {
        let scenario = Scenario::new(round);
        assert_eq!(race(&scenario), (1, 7), "round {round}, a new secret");
        assert_eq!(scenario.versions(), 1);
        scenario.assert_stored(&scenario.dump);
        let next = changed(&scenario.dump, round);
        scenario.validator.dump(&next.json());
        assert_eq!(race(&scenario), (1, 7), "round {round}, a change");
        assert_eq!(scenario.versions(), 2);
        scenario.assert_stored(&next);
        assert_eq!(scenario.facts()["idkeep_stored_version"], "2");
    }
}

#[test]
fn a_deleted_version_is_written_again() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    scenario.bao.kv_delete(&scenario.path());
    let synced = scenario.sync(0);
    assert_eq!(synced.store(), "repaired");
    assert_eq!(synced.node["stores"][0]["version"], "2");
    assert!(
        synced.stderr().contains("version 1 was deleted, destroyed or damaged: writing it again"),
        "{}",
        synced.stderr()
    );
    scenario.assert_stored(&scenario.dump);
    assert_eq!(scenario.sync(0).store(), "unchanged");
}

#[test]
fn a_destroyed_version_is_written_again() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    scenario.bao.kv_destroy(&scenario.path(), 1);
    assert_eq!(scenario.sync(0).store(), "repaired");
    scenario.assert_stored(&scenario.dump);
    scenario.bao.must("DELETE", &format!("secret/metadata/{}", scenario.path()), None);
    assert_eq!(scenario.sync(0).store(), "written");
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn a_young_foreign_version_over_ours_is_left_alone() {
    let mut scenario = Scenario::new(1);
    scenario.sync(0);
    scenario.bao.kv_put(&scenario.path(), json!({"content": "somebody's"}));
    scenario.identity("deadline: 1s");
    let synced = scenario.sync(75);
    assert!(synced.stderr().contains("another writer seems to be at work"), "{}", synced.stderr());
    assert!(synced.stderr().contains("hint: does another idkeep, or somebody by hand, write this secret?"));
    assert_eq!(scenario.versions(), 2);
    assert_eq!(scenario.content(2), b"somebody's");
}

#[test]
fn a_young_secret_without_facts_may_be_a_first_writer_s_and_is_left_alone() {
    let mut scenario = Scenario::new(1);
    scenario.identity("deadline: 1s");
    scenario.bao.kv_put(&scenario.path(), json!({"content": "a first writer's"}));
    let synced = scenario.sync(75);
    assert!(synced.stderr().contains("version 1 is"), "{}", synced.outcome);
    assert!(synced.stderr().contains("has no facts yet: another writer seems to be at work"), "{}", synced.outcome);
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn a_secret_of_somebody_else_is_adopted_and_their_version_kept() {
    let scenario = Scenario::new(1);
    scenario.bao.kv_put(&scenario.path(), json!({"content": "somebody's", "note": "by hand"}));
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"custom_metadata": {"owner": "somebody"}}));
    // It may be a first writer's between its two calls, so it is looked at again until it is five seconds old.
    let synced = scenario.sync(0);
    assert_eq!(synced.store(), "written");
    assert!(synced.stderr().contains("version 1 was not written by idkeep"), "{}", synced.stderr());
    assert_eq!(scenario.content(1), b"somebody's");
    scenario.assert_stored(&scenario.dump);
    assert_eq!(scenario.facts()["idkeep_stored_version"], "2");
    assert_eq!(scenario.facts()["owner"], "somebody");
}

#[test]
fn a_crash_between_data_and_facts_is_not_taken_for_success() {
    let mut scenario = Scenario::new(1);
    scenario.sync(0);
    let next = changed(&scenario.dump, 1);
    scenario.validator.dump(&next.json());
    let path = scenario.path();
    let without_facts = format!(
        "path \"secret/data/{path}\" {{ capabilities = [\"create\", \"update\"] }}\n\
         path \"secret/metadata/{path}\" {{ capabilities = [\"read\"] }}\n"
    );
    scenario.bao.policy(&scenario.node, &without_facts);
    let synced = scenario.sync(77);
    assert!(
        synced
            .stderr()
            .contains(&format!("writing the facts of {}/v1/secret/metadata/{path}: status 403", scenario.bao.address)),
        "{}",
        synced.stderr()
    );
    assert_eq!(synced.store(), "failed");
    // The data is there, the facts are the old ones.
    assert_eq!(scenario.versions(), 2);
    scenario.assert_stored(&next);
    assert_eq!(scenario.facts()["idkeep_stored_version"], "1");
    // As long as the facts cannot be written, no further version pushes an older one out.
    scenario.bao.must("DELETE", &format!("secret/data/{path}"), None);
    scenario.sync(77);
    assert_eq!(scenario.versions(), 2);
    scenario.bao.must("POST", &format!("secret/undelete/{path}"), serde_json::json!({"versions": [2]}));
    scenario.bao.policy(&scenario.node, &writer_policy(&path));
    scenario.identity("deadline: 1s");
    let synced = scenario.sync(75);
    assert!(synced.stderr().contains("version 2 is"), "{}", synced.stderr());
    assert_eq!(scenario.versions(), 2);
}

#[test]
fn more_changes_than_allowed_are_refused_and_nothing_is_pushed_out() {
    let mut scenario = Scenario::new(1);
    scenario.identity("max_changes_per_day: 2");
    let other = changed(&scenario.dump, 1);
    scenario.sync(0);
    scenario.validator.dump(&other.json());
    scenario.sync(0);
    scenario.validator.dump(&scenario.dump.json());
    let before = scenario.metadata();
    let synced = scenario.sync(65);
    let stderr = synced.stderr();
    assert!(stderr.contains(&scenario.dump.digest()) && stderr.contains(&other.digest()), "{stderr}");
    assert!(stderr.contains("2 versions were written within 24 hours, 2 are allowed"), "{stderr}");
    assert!(stderr.contains("hint: something alternates"), "{stderr}");
    assert!(!stderr.contains("trying again"), "{stderr}");
    assert_eq!(scenario.metadata(), before);
    // The stored one is still fine.
    scenario.validator.dump(&other.json());
    assert_eq!(scenario.sync(0).store(), "unchanged");
}

#[test]
fn the_changes_of_a_day_count_where_the_store_has_already_pushed_versions_out() {
    let mut scenario = Scenario::new(1);
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"max_versions": 2}));
    scenario.identity("max_changes_per_day: 4");
    let other = changed(&scenario.dump, 1);
    for pass in 0..4 {
        scenario.validator.dump(&if pass % 2 == 0 { &scenario.dump } else { &other }.json());
        assert_eq!(scenario.sync(0).store(), "written", "pass {pass}");
    }
    scenario.validator.dump(&scenario.dump.json());
    scenario.sync(65);
    assert_eq!(scenario.versions(), 4);
}

#[test]
fn another_participant_is_refused_until_it_is_accepted() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    let other = Dump::fresh(2);
    scenario.validator.dump(&other.json());
    let synced = scenario.sync(65);
    for id in [&scenario.dump.id, &other.id] {
        assert!(synced.stderr().contains(id.as_str()), "{}", synced.stderr());
    }
    assert!(synced.stderr().contains(&format!("--accept-new-identity={}", other.id)), "{}", synced.stderr());
    let wrong = format!("--accept-new-identity={}", Dump::fresh(3).id);
    scenario.sync_with(65, &[&wrong]);
    assert_eq!(scenario.versions(), 1);
    let right = format!("--accept-new-identity={}", other.id);
    let synced = scenario.sync_with(0, &[&right]);
    assert_eq!(synced.store(), "written");
    assert!(!synced.stderr().contains("names no id"), "{}", synced.stderr());
    scenario.assert_stored(&other);
    // The hint of the old identity's party must survive.
    let old: serde_json::Value = serde_json::from_str(scenario.facts()["idkeep_v1"].as_str().unwrap()).unwrap();
    assert_eq!(old["participant_id"], scenario.dump.id.as_str());
    assert_eq!(old["party_hint"], format!("acme-{}", scenario.node));
    scenario.validator.dump(&scenario.dump.json());
    let synced = scenario.sync_with(0, &["--accept-new-identity"]);
    assert!(synced.stderr().contains("names no id"), "{}", synced.stderr());
}

#[test]
fn another_participant_is_refused_though_the_stored_version_is_deleted() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    scenario.bao.kv_delete(&scenario.path());
    scenario.validator.dump(&Dump::fresh(2).json());
    scenario.sync(65);
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn a_dry_run_says_what_would_be_written_and_writes_nothing() {
    let scenario = Scenario::new(1);
    let synced = scenario.sync_with(0, &["--dry-run"]);
    assert_eq!(synced.store(), "would_write");
    assert!(scenario.bao.kv_metadata(&scenario.path()).is_none());
    scenario.sync(0);
    let before = scenario.metadata();
    assert_eq!(scenario.sync_with(0, &["--dry-run"]).store(), "unchanged");
    scenario.bao.kv_delete(&scenario.path());
    assert_eq!(scenario.sync_with(0, &["--dry-run"]).store(), "would_write");
    assert_eq!(scenario.metadata()["custom_metadata"], before["custom_metadata"]);
    assert_eq!(scenario.versions(), 1);
}
