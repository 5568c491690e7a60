//! What every store does, whatever system is behind it: run by each of them with `contract!`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::age::AgeKey;
use crate::support::dump::Dump;
use crate::support::proxy::refused;
use crate::support::scenario::{Scenario, Synced};

/// One system with one node that is kept in it and nowhere else; looked at beside idkeep.
pub trait Kept {
    /// True where what was there before stays, version by version.
    const KEEPS_VERSIONS: bool = true;
    /// True where of several writers at once exactly one makes a version.
    const HAS_CHECK_AND_SET: bool = true;

    /// The system, empty, and a scenario whose node has this dump and this store alone.
    fn start(dump: Dump) -> Self;
    /// The scenario.
    fn scenario(&mut self) -> &mut Scenario;
    /// Points the store at this address, at which nothing answers.
    fn misdirect(&mut self, address: &str);
    /// The values that are stored, oldest first (where only the newest is kept, that one): what a restorer would get.
    fn values(&self) -> Vec<Vec<u8>>;
    /// The facts about the newest version, by their names (`idkeep_digest`).
    fn facts(&self) -> BTreeMap<String, String>;
    /// Takes the agent's right to write.
    fn deny(&mut self);
    /// The next so many writes are answered with "too many requests", each asking for no more than a second; false
    /// where the real system cannot be made to, and other tests see to it.
    fn throttle(&mut self, writes: usize) -> bool;
    /// How often the agent has read, or tried to read, what is stored.
    fn reads(&self) -> usize;
    /// The most bytes of one value.
    fn max_bytes(&self) -> usize;
}

/// The tests of the contract for one store.
macro_rules! contract {
    ($kept:ty) => {
        mod contract {
            use super::*;
            use crate::stores::contract as rules;

            #[test]
            fn what_is_stored_is_the_dump_byte_for_byte_with_its_facts() {
                rules::stores_the_dump_with_its_facts::<$kept>();
            }
            #[test]
            fn what_has_not_changed_is_not_written() {
                rules::writes_nothing_unchanged::<$kept>();
            }
            #[test]
            fn what_has_changed_is_a_new_version() {
                rules::adds_a_version::<$kept>();
            }
            #[test]
            fn a_dry_run_writes_nothing() {
                rules::writes_nothing_in_a_dry_run::<$kept>();
            }
            #[test]
            fn another_participant_is_refused_until_it_is_accepted() {
                rules::refuses_another_participant::<$kept>();
            }
            #[test]
            fn what_is_sealed_is_opened_by_its_key_alone() {
                rules::stores_what_is_sealed::<$kept>();
            }
            #[test]
            fn what_is_too_large_is_refused_before_it_is_sent() {
                rules::refuses_what_is_too_large::<$kept>();
            }
            #[test]
            fn what_nearly_fills_the_store_is_warned_about() {
                rules::warns_when_nearly_full::<$kept>();
            }
            #[test]
            fn a_right_that_lacks_is_named() {
                rules::says_what_right_lacks::<$kept>();
            }
            #[test]
            fn a_store_that_cannot_be_reached_is_a_matter_of_time() {
                rules::tries_later_when_unreachable::<$kept>();
            }
            #[test]
            fn a_store_that_is_busy_is_asked_again() {
                rules::waits_when_throttled::<$kept>();
            }
            #[test]
            fn writers_at_once_leave_one_truth() {
                rules::leaves_one_truth_after_a_race::<$kept>();
            }
            #[test]
            fn list_shows_what_is_stored() {
                rules::is_listed::<$kept>();
            }
        }
    };
}
pub(super) use contract;

/// Nothing secret was said, and nothing stored was read.
fn assert_discreet<K: Kept>(kept: &mut K, synced: &Synced) {
    assert_eq!(kept.reads(), 0, "what is stored was read: {}", synced.outcome);
    let said = format!("{}{}", synced.outcome.stdout, synced.outcome.stderr);
    let dump: Value = serde_json::from_slice(&kept.scenario().dump.json()).unwrap();
    for key in dump["keys"].as_array().unwrap() {
        // The middle of it, wherever it may be cut.
        let pair = key["keyPair"].as_str().unwrap();
        assert!(!said.contains(&pair[pair.len() / 2..][..16]), "a key was said: {}", synced.outcome);
    }
}

/// Runs a sync with all that can be logged, and looks at what was said.
fn sync<K: Kept>(kept: &mut K, code: i32, arguments: &[&str]) -> Synced {
    let arguments = [&["-o", "json", "--log-level", "debug", "sync"], arguments].concat();
    let outcome = kept.scenario().idkeep.expect(code, &arguments);
    let node = outcome.json()["nodes"][0].clone();
    let synced = Synced { outcome, node };
    assert_discreet(kept, &synced);
    synced
}

pub fn stores_the_dump_with_its_facts<K: Kept>() {
    let mut kept = K::start(Dump::fresh(1));
    let synced = sync(&mut kept, 0, &[]);
    assert_eq!(synced.store(), "written", "{}", synced.outcome);
    let dump = kept.scenario().dump.clone();
    assert_eq!(kept.values(), [dump.json()]);
    let (facts, node) = (kept.facts(), kept.scenario().node.clone());
    let expected = [
        ("idkeep_digest", dump.digest()),
        ("idkeep_participant_id", dump.id.clone()),
        ("idkeep_dump_version", "0.7.5".into()),
        ("idkeep_party_hint", format!("acme-{node}")),
        ("idkeep_network", "testnet".into()),
        ("idkeep_key_kind", "software".into()),
        ("idkeep_key_proof", "proven".into()),
    ];
    for (key, value) in expected {
        assert_eq!(facts.get(key), Some(&value), "{key} of {facts:?}");
    }
    for key in ["idkeep_captured_at", "idkeep_checked_at"] {
        facts[key].parse::<jiff::Timestamp>().unwrap_or_else(|_| panic!("{key} of {facts:?}"));
    }
    assert!(!facts.contains_key("idkeep_sealed_to"));
}

pub fn writes_nothing_unchanged<K: Kept>() {
    let mut kept = K::start(Dump::fresh(2));
    let first = sync(&mut kept, 0, &[]);
    let values = kept.values();
    // Neither a new order of keys nor a new app version is a change.
    let reordered = kept.scenario().dump.clone().shuffled().version("0.8.0");
    assert_ne!(reordered.json(), kept.scenario().dump.json());
    kept.scenario().validator.dump(&reordered.json());
    for _ in 0..2 {
        let again = sync(&mut kept, 0, &[]);
        assert_eq!(again.store(), "unchanged", "{}", again.outcome);
        assert_eq!(again.node["stores"][0]["version"], first.node["stores"][0]["version"]);
        assert!(!again.stderr().contains("WARN"), "{}", again.outcome);
    }
    assert_eq!(kept.values(), values);
}

pub fn adds_a_version<K: Kept>() {
    let mut kept = K::start(Dump::fresh(3));
    let first = sync(&mut kept, 0, &[]);
    let old = kept.scenario().dump.clone();
    let new = old.clone().rotated(31, 1);
    kept.scenario().validator.dump(&new.json());
    let second = sync(&mut kept, 0, &[]);
    assert_eq!(second.store(), "written", "{}", second.outcome);
    assert_ne!(second.node["stores"][0]["version"], first.node["stores"][0]["version"]);
    assert_eq!(kept.facts()["idkeep_digest"], new.digest());
    // Back to the first: a store that recognises a value it has had must not take that for done.
    kept.scenario().validator.dump(&old.json());
    let third = sync(&mut kept, 0, &[]);
    assert_eq!(third.store(), "written", "{}", third.outcome);
    assert_eq!(kept.facts()["idkeep_digest"], old.digest());
    let expected = [old.json(), new.json(), old.json()];
    let values = kept.values();
    if K::KEEPS_VERSIONS {
        assert_eq!(values, expected);
    } else {
        assert_eq!(values, expected[2..]);
    }
    assert_eq!(sync(&mut kept, 0, &[]).store(), "unchanged");
}

pub fn writes_nothing_in_a_dry_run<K: Kept>() {
    let mut kept = K::start(Dump::fresh(4));
    let synced = sync(&mut kept, 0, &["--dry-run"]);
    assert_eq!(synced.store(), "would_write", "{}", synced.outcome);
    assert_eq!(kept.values(), Vec::<Vec<u8>>::new());
    sync(&mut kept, 0, &[]);
    assert_eq!(sync(&mut kept, 0, &["--dry-run"]).store(), "unchanged");
}

pub fn refuses_another_participant<K: Kept>() {
    let mut kept = K::start(Dump::fresh(5));
    sync(&mut kept, 0, &[]);
    let (old, other) = (kept.scenario().dump.clone(), Dump::fresh(51));
    kept.scenario().validator.dump(&other.json());
    let refused = sync(&mut kept, 65, &[]);
    assert!(refused.stderr().contains(&old.id) && refused.stderr().contains(&other.id), "{}", refused.outcome);
    assert_eq!(kept.values(), [old.json()]);
    let accepted = sync(&mut kept, 0, &[&format!("--accept-new-identity={}", other.id)]);
    assert_eq!(accepted.store(), "written");
    assert_eq!(kept.values().last(), Some(&other.json()));
    assert_eq!(kept.facts()["idkeep_participant_id"], other.id);
}

pub fn stores_what_is_sealed<K: Kept>() {
    let mut kept = K::start(Dump::fresh(6));
    let key = AgeKey::new();
    kept.scenario().identity(&format!("recipients: [{}]", key.recipient));
    assert_eq!(sync(&mut kept, 0, &[]).store(), "written");
    assert_eq!(sync(&mut kept, 0, &[]).store(), "unchanged");
    let (values, dump) = (kept.values(), kept.scenario().dump.clone());
    assert_eq!(values.len(), 1);
    assert_eq!(key.open(&values[0]).unwrap(), dump.json());
    assert!(kept.facts().contains_key("idkeep_sealed_to"));
}

pub fn refuses_what_is_too_large<K: Kept>() {
    let mut kept = K::start(Dump::fresh(7));
    sync(&mut kept, 0, &[]);
    let (values, max) = (kept.values(), kept.max_bytes());
    if max > 900_000 {
        // No dump that a node may give is larger.
        return;
    }
    let large = Dump::fresh(7).padded_to(max + 100);
    kept.scenario().validator.dump(&large.json());
    let refused = sync(&mut kept, 65, &[]);
    let by = large.json().len() - max;
    assert!(
        refused.stderr().contains(&format!("are {by} bytes too large for this store, which takes {max}")),
        "{}",
        refused.outcome
    );
    assert!(refused.stderr().contains("hint: nothing is ever split"), "{}", refused.outcome);
    assert_eq!(kept.values(), values);
    // And what just fits, fits.
    let fitting = Dump::fresh(7).padded_to(max - 8);
    kept.scenario().validator.dump(&fitting.json());
    assert_eq!(sync(&mut kept, 0, &[]).store(), "written");
    assert_eq!(kept.values().last(), Some(&fitting.json()));
}

pub fn warns_when_nearly_full<K: Kept>() {
    let mut kept = K::start(Dump::fresh(8));
    let max = kept.max_bytes();
    if max > 900_000 {
        return;
    }
    for (percent, warns) in [(69, false), (71, true)] {
        let dump = Dump::fresh(8).padded_to(max / 100 * percent);
        kept.scenario().validator.dump(&dump.json());
        let synced = sync(&mut kept, 0, &[]);
        let warned = synced.stderr().contains("nearly fill what this store takes");
        assert_eq!(warned, warns, "{percent} %: {}", synced.outcome);
    }
}

pub fn says_what_right_lacks<K: Kept>() {
    let mut kept = K::start(Dump::fresh(9));
    sync(&mut kept, 0, &[]);
    let values = kept.values();
    kept.deny();
    let changed = kept.scenario().dump.clone().rotated(91, 1);
    kept.scenario().validator.dump(&changed.json());
    let denied = sync(&mut kept, 77, &[]);
    assert!(denied.stderr().contains("denied") || denied.stderr().contains("may not"), "{}", denied.outcome);
    assert!(denied.stderr().contains("\nhint: "), "{}", denied.outcome);
    assert_eq!(kept.values(), values);
}

pub fn tries_later_when_unreachable<K: Kept>() {
    let mut kept = K::start(Dump::fresh(10));
    kept.scenario().identity("deadline: 2s");
    kept.misdirect(&refused().to_string());
    let synced = sync(&mut kept, 75, &[]);
    assert_eq!(synced.store(), "failed", "{}", synced.outcome);
    assert_eq!(kept.values(), Vec::<Vec<u8>>::new());
}

pub fn waits_when_throttled<K: Kept>() {
    let mut kept = K::start(Dump::fresh(11));
    if !kept.throttle(2) {
        return;
    }
    let synced = sync(&mut kept, 0, &[]);
    assert_eq!(synced.store(), "written", "{}", synced.outcome);
    let dump = kept.scenario().dump.clone();
    assert_eq!(kept.values(), [dump.json()]);
    // For ever: the deadline ends it.
    kept.scenario().identity("deadline: 3s");
    kept.throttle(1000);
    let changed = kept.scenario().dump.clone().rotated(111, 1);
    kept.scenario().validator.dump(&changed.json());
    sync(&mut kept, 75, &[]);
    assert_eq!(kept.values(), [dump.json()]);
}

pub fn leaves_one_truth_after_a_race<K: Kept>() {
    let mut kept = K::start(Dump::fresh(12));
    let idkeep = &kept.scenario().idkeep;
    let runs: Vec<_> = (0..4).map(|_| idkeep.spawn(&["-o", "json", "sync"])).collect();
    let outcomes: Vec<_> = runs.into_iter().map(crate::support::idkeep::Running::wait).collect();
    assert!(outcomes.iter().all(|outcome| [0, 75].contains(&outcome.code)), "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| outcome.code == 0), "{outcomes:?}");
    let (values, dump) = (kept.values(), kept.scenario().dump.clone());
    assert!(!values.is_empty() && values.iter().all(|value| *value == dump.json()));
    if K::HAS_CHECK_AND_SET {
        assert_eq!(values.len(), 1, "{outcomes:?}");
    }
    let after = sync(&mut kept, 0, &[]);
    assert_eq!(after.store(), "unchanged", "{}", after.outcome);
    assert_eq!(kept.values().len(), values.len());
}

pub fn is_listed<K: Kept>() {
    let mut kept = K::start(Dump::fresh(13));
    let nothing = kept.scenario().idkeep.expect(0, &["-o", "json", "list"]).json();
    assert_eq!(nothing["nodes"][0]["identities"][0]["version"], Value::Null);
    let synced = sync(&mut kept, 0, &[]);
    let listed = kept.scenario().idkeep.expect(0, &["-o", "json", "list"]).json();
    let identity = &listed["nodes"][0]["identities"][0];
    assert_eq!(identity["version"], synced.node["stores"][0]["version"], "{listed}");
    assert_eq!(identity["describes"], identity["version"], "{listed}");
    assert_eq!(
        [&identity["digest"], &identity["participant_id"]],
        [&synced.node["digest"], &synced.node["participant_id"]]
    );
    assert_eq!(kept.reads(), 0);
}
