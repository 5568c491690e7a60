//! Each check, by a set that is as it should be and one that is not.

use super::*;
use crate::backup::archive;
use crate::backup::manifest::tests::{dump, manifest};
use crate::backup::manifest::{Invariant, Offsets, Outcome};
use crate::backup::verify::Grade;
use crate::config::Role;

const NOW: &str = "2026-11-23T00:00:00Z";
const ALONE: Neighbours = Neighbours { older: None, newer: None };

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn set() -> Manifest {
    let mut set = manifest();
    set.databases = vec![dump("validator", Role::Validator), dump("participant", Role::Participant)];
    set
}

fn there(set: &Manifest) -> Previous {
    Previous::There(set.previous.as_ref().unwrap().sha256.clone())
}

fn ours() -> Belongs {
    Belongs::To(manifest().participant_id.unwrap())
}

fn judged(
    set: &Manifest,
    signature: &Signature,
    previous: &Previous,
    neighbours: Neighbours,
    pruning_retention: Option<Period>,
    now: Timestamp,
) -> Vec<Check> {
    let encryption = Encryption::Age;
    let belongs = &ours();
    judge(set, &Beside { signature, previous, belongs, neighbours, encryption, pruning_retention }, now)
}

fn checks(set: &Manifest) -> Vec<Check> {
    judged(set, &Signature::Unjudged, &Previous::Gone, ALONE, None, at(NOW))
}

/// The one check of this name is like this.
#[track_caller]
fn expect(checks: &[Check], name: &str, grade: Grade, says: &str) {
    let found: Vec<&Check> = checks.iter().filter(|check| check.check == name).collect();
    let [check] = found[..] else { panic!("{} of {name}: {checks:?}", found.len()) };
    assert_eq!(check.result, grade, "{name}: {}", check.reason);
    assert!(check.reason.contains(says), "{name}: {}", check.reason);
    assert_eq!(check.resolve.is_some(), check.result != Grade::Pass, "{check:?}");
}

#[test]
fn a_good_set_passes_every_check() {
    let set = set();
    let checks = judged(&set, &Signature::Trusted, &there(&set), ALONE, None, at(NOW));
    let names: Vec<&str> = checks.iter().map(|check| check.check.as_str()).collect();
    assert_eq!(names, ["manifest", "signature", "participant", "chain", "order", "I1", "I2", "I3", "I4", "age"]);
    assert!(checks.iter().all(|check| check.result == Grade::Pass), "{checks:?}");
}

#[test]
fn who_did_not_sign_it_fails_it() {
    let refused = Signature::Refused("it is not signed".into());
    let checks = judged(&set(), &refused, &Previous::Gone, ALONE, None, at(NOW));
    expect(&checks, "signature", Grade::Fail, "it is not signed");
}

#[test]
fn a_set_of_another_participant_than_the_folders_fails() {
    let in_folder = |set: &Manifest, belongs: &Belongs| {
        let beside = Beside {
            signature: &Signature::Unjudged,
            previous: &Previous::Gone,
            belongs,
            neighbours: ALONE,
            encryption: Encryption::Age,
            pruning_retention: None,
        };
        judge(set, &beside, at(NOW))
    };
    let mut set = set();
    let other = Belongs::To("PAR::other::1220ff".into());
    expect(&in_folder(&set, &other), "participant", Grade::Fail, "PAR::other::1220ff");
    expect(&in_folder(&set, &Belongs::Nobody), "participant", Grade::Warn, "no node.json");
    expect(&in_folder(&set, &Belongs::Unreadable), "participant", Grade::Unknown, "not what idkeep writes");
    // Whose it is then, I3 does not know either.
    set.participant_id = None;
    assert!(in_folder(&set, &other).iter().all(|check| check.check != "participant"));
}

#[test]
fn a_broken_chain_fails_and_an_expired_link_does_not() {
    let mut set = set();
    let older = Neighbours { older: Some(at("2026-11-22T19:00:00Z")), newer: None };
    let chain = |set: &Manifest, previous: &Previous, neighbours| {
        judged(set, &Signature::Unjudged, previous, neighbours, None, at(NOW))
    };
    expect(&chain(&set, &there(&set), older), "chain", Grade::Pass, "20261122T190000Z");
    expect(&chain(&set, &Previous::There("00".repeat(32)), older), "chain", Grade::Fail, "another than when");
    expect(&chain(&set, &Previous::Gone, ALONE), "chain", Grade::Pass, "gone");
    set.previous = None;
    expect(&chain(&set, &Previous::Gone, ALONE), "chain", Grade::Pass, "first");
    expect(&chain(&set, &Previous::Gone, older), "chain", Grade::Warn, "there is one");
}

#[test]
fn a_reversed_order_fails_whatever_the_manifest_says_of_it() {
    let mut set = set();
    set.databases.swap(0, 1);
    expect(&checks(&set), "order", Grade::Fail, "before");
    set.order.clear();
    expect(&checks(&set), "order", Grade::Fail, "before");
}

#[test]
fn invariants_are_held_against_the_numbers_beside_them() {
    let mut set = set();
    let record = |set: &mut Manifest, name: &str, result| {
        set.invariants.insert(name.into(), Invariant { result, reason: "as recorded".into() });
    };
    let numbers = |ledger_end, pruned_up_to| Some(Offsets::Participant { ledger_end, pruned_up_to });
    expect(&checks(&set), "I1", Grade::Pass, "as it should be");
    for recorded in [Outcome::Pass, Outcome::Unknown, Outcome::Fail] {
        record(&mut set, "I1", recorded);
        set.databases[1].offsets = numbers(Some(65), None);
        expect(&checks(&set), "I1", Grade::Fail, "validator 66, participant ledger end 65");
    }
    set.databases[1].offsets = numbers(None, None);
    record(&mut set, "I1", Outcome::Unknown);
    expect(&checks(&set), "I1", Grade::Unknown, "as recorded");
    record(&mut set, "I1", Outcome::Pass);
    expect(&checks(&set), "I1", Grade::Fail, "without the numbers");
    set.databases[1].offsets = numbers(Some(70), Some(67));
    expect(&checks(&set), "I2", Grade::Fail, "pruned up to 67");
    set.databases[1].offsets = numbers(Some(70), Some(66));
    expect(&checks(&set), "I2", Grade::Pass, "");
    record(&mut set, "I3", Outcome::Unknown);
    expect(&checks(&set), "I3", Grade::Unknown, "as recorded");
    set.invariants.remove("I4");
    expect(&checks(&set), "I4", Grade::Unknown, "does not say");
}

#[test]
fn an_object_that_is_missing_short_or_changed_fails() {
    let dump = dump("participant", Role::Participant);
    let good = || Found { bytes: dump.bytes, sha256: dump.sha256.clone(), contents: None };
    let object = |found: Option<Found>| object(&dump, found.as_ref());
    expect(&object(Some(good())), "object:participant", Grade::Pass, "1234 bytes");
    expect(&object(None), "object:participant", Grade::Fail, "is not there");
    expect(&object(Some(Found { bytes: 1, ..good() })), "object:participant", Grade::Fail, "1 bytes, and not 1234");
    let changed = Found { sha256: "cd".repeat(32), ..good() };
    expect(&object(Some(changed)), "object:participant", Grade::Fail, "SHA-256");
    let inside = |contents| object(Some(Found { contents: Some(contents), ..good() }));
    let contents = |bytes| Contents {
        format: "1.14".into(),
        server_version: "15.18".into(),
        pg_dump_version: "15.18".into(),
        entries: 20,
        entries_with_data: 6,
        large_objects: 2,
        bytes,
    };
    let name = "contents:participant";
    expect(&inside(Ok(contents(5678))), name, Grade::Pass, "20 entries, 6 with data");
    expect(&inside(Ok(contents(5677))), name, Grade::Fail, "5677 bytes, and not 5678");
    expect(&inside(Err(archive::Error::Missing(1).into())), name, Grade::Fail, "missing");
    expect(&inside(Err(contents::Error::OtherKey)), name, Grade::Unknown, "other keys");
}

#[test]
fn age_and_gaps_are_counted_from_the_first_snapshot() {
    let set = set();
    let look = |neighbours, retention: Option<&str>, now: &str| {
        let retention = retention.map(|text| text.parse().unwrap());
        judged(&set, &Signature::Unjudged, &Previous::Gone, neighbours, retention, at(now))
    };
    expect(&look(ALONE, None, "2026-12-22T22:01:01Z"), "age", Grade::Pass, "");
    expect(&look(ALONE, None, "2026-12-22T22:01:02Z"), "age", Grade::Warn, "30 d 0 h");
    let newer = |text| Neighbours { older: None, newer: Some(at(text)) };
    expect(&look(newer("2026-11-23T02:01:00Z"), Some("4h"), NOW), "gap", Grade::Pass, "4h");
    expect(&look(newer("2026-11-23T02:01:02Z"), Some("4h"), NOW), "gap", Grade::Warn, "the set after it");
    let older = Neighbours { older: Some(at("2026-11-22T10:00:00Z")), newer: None };
    expect(&look(older, Some("4h"), NOW), "gap", Grade::Warn, "the set before it");
    expect(&look(ALONE, Some("4h"), "2026-11-23T03:00:00Z"), "gap", Grade::Warn, "to now");
}

#[test]
fn a_dump_in_clear_fails_where_dumps_are_sealed_and_is_warned_of_where_they_are_not() {
    let mut set = set();
    set.databases[1].recipients.clear();
    let in_clear = |encryption, signature| {
        let beside = Beside {
            signature,
            previous: &Previous::Gone,
            belongs: &ours(),
            neighbours: ALONE,
            encryption,
            pruning_retention: None,
        };
        judge(&set, &beside, at(NOW))
    };
    let signatures = [Signature::Unjudged, Signature::Trusted];
    for signature in &signatures {
        expect(&in_clear(Encryption::Age, signature), "encryption:participant", Grade::Fail, "not sealed");
        expect(&in_clear(Encryption::None, signature), "encryption:participant", Grade::Warn, "in clear");
    }
}

#[test]
fn a_remark_is_warned_of() {
    let mut set = set();
    set.remarks.push("the app was not ready".into());
    expect(&checks(&set), "remark", Grade::Warn, "not ready");
}
