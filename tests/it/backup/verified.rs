//! `verify` and `expire`: sets read again, judged, and let go.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::age::AgeKey;
use crate::support::backup::Node;
use crate::support::idkeep::Outcome;

/// A node whose identities are known, so that every invariant is decided.
fn synced(seed: u64) -> Node {
    let node = Node::new(seed);
    node.scenario.idkeep.sync(0);
    node
}

fn verify(node: &Node, code: i32, more: &[&str]) -> Value {
    let arguments = [&["-o", "json", "verify"], more].concat();
    node.idkeep().expect(code, &arguments).json()
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["sets"][0]["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no check {name}: {report:#}"))
}

fn stored(node: &Node, set: &str, file: &str) -> PathBuf {
    node.folder().join(set).join(file)
}

#[test]
fn a_good_set_passes_every_check_and_counts_as_verified() {
    let node = synced(360);
    let set = node.publish();
    assert!(node.listed()["sets"][0]["verified_at"].is_null());
    let key = node.key.key_file.to_str().unwrap().to_owned();
    let report = verify(&node, 0, &["--key", &key]);
    assert_eq!(report["sets"][0]["set"], set.as_str());
    for name in [
        "manifest",
        "participant",
        "chain",
        "order",
        "I1",
        "I2",
        "I3",
        "I4",
        "age",
        "object:validator",
        "object:participant",
        "contents:validator",
        "contents:participant",
    ] {
        assert_eq!(check(&report, name)["result"], "pass", "{name}: {report:#}");
    }
    assert!(!node.listed()["sets"][0]["verified_at"].is_null());
    let record = node.files().into_iter().find(|file| file.contains("/verify-")).expect("a record is kept");
    let record: Value = serde_json::from_slice(&std::fs::read(node.folder().join(record)).unwrap()).unwrap();
    assert_eq!((record["result"].as_str(), record["with_key"].as_bool()), (Some("pass"), Some(true)));
}

#[test]
fn a_flipped_bit_and_a_missing_object_fail() {
    let node = synced(361);
    let set = node.publish();
    let file = stored(&node, &set, "participant.dump.zst.age");
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let key = node.key.key_file.to_str().unwrap().to_owned();
    let report = verify(&node, 2, &["--key", &key]);
    assert_eq!(check(&report, "object:participant")["result"], "fail");
    assert_eq!(check(&report, "contents:participant")["result"], "fail");
    assert_eq!(check(&report, "object:validator")["result"], "pass");
    assert!(node.listed()["sets"][0]["verified_at"].is_null(), "what failed does not count");

    std::fs::remove_file(&file).unwrap();
    let report = verify(&node, 2, &[]);
    assert_eq!(check(&report, "object:participant")["result"], "fail");
    assert_eq!(node.listed()["sets"][0]["state"], "broken");
    assert!(node.whole().is_empty());
}

/// Whoever writes the bucket can change both the manifest and what it says about itself.
#[test]
fn a_manifest_whose_order_or_numbers_were_changed_fails() {
    let node = synced(362);
    let set = node.publish();
    let file = stored(&node, &set, "manifest.json");
    let good = node.manifest(&set);
    let tampered = |change: &dyn Fn(&mut Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        std::fs::write(&file, manifest.to_string()).unwrap();
    };
    // The participant's dump first, and times to match.
    tampered(&|manifest| manifest["databases"].as_array_mut().unwrap().reverse());
    assert_eq!(verify(&node, 2, &[])["sets"][0]["result"], "fail");
    tampered(&|manifest| manifest["databases"][1]["snapshot_at"] = manifest["databases"][0]["started_at"].clone());
    assert_eq!(verify(&node, 2, &[])["sets"][0]["result"], "fail");
    tampered(&|manifest| manifest["databases"][0]["offsets"]["validator_last_ingested"] = json!(101));
    assert_eq!(check(&verify(&node, 2, &[]), "I1")["result"], "fail");
    tampered(&|manifest| manifest["databases"][1]["offsets"]["pruned_up_to"] = json!(67));
    assert_eq!(check(&verify(&node, 2, &[]), "I2")["result"], "fail");
    tampered(&|manifest| manifest["invariants"]["I4"]["result"] = json!("fail"));
    assert_eq!(check(&verify(&node, 2, &[]), "I4")["result"], "fail");
    tampered(&|manifest| manifest["set"] = json!("20200101T000000Z"));
    verify(&node, 2, &[]);
    std::fs::write(&file, "{").unwrap();
    verify(&node, 2, &[]);
}

#[test]
fn a_set_of_another_participant_than_the_folders_fails() {
    let node = synced(389);
    node.publish();
    assert_eq!(check(&verify(&node, 0, &[]), "participant")["result"], "pass");
    let file = node.folder().join("node.json");
    std::fs::write(&file, json!({"participant_id": "PAR::other::1220ff", "network": null}).to_string()).unwrap();
    let report = verify(&node, 2, &[]);
    assert!(check(&report, "participant")["reason"].as_str().unwrap().contains("PAR::other::1220ff"), "{report:#}");
    std::fs::write(&file, "{").unwrap();
    assert_eq!(check(&verify(&node, 3, &[]), "participant")["result"], "unknown");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(check(&verify(&node, 0, &[]), "participant")["result"], "warn");
}

#[test]
fn a_chain_whose_link_was_replaced_fails_and_one_whose_link_expired_passes() {
    let node = synced(363);
    let first = node.publish();
    node.publish();
    let file = stored(&node, &first, "manifest.json");
    let mut manifest = std::fs::read(&file).unwrap();
    manifest.push(b'\n');
    std::fs::write(&file, &manifest).unwrap();
    assert_eq!(check(&verify(&node, 2, &[]), "chain")["result"], "fail");
    std::fs::remove_dir_all(node.folder().join(&first)).unwrap();
    assert_eq!(check(&verify(&node, 0, &[]), "chain")["result"], "pass");
}

#[test]
fn what_cannot_be_decided_says_what_would_decide_it() {
    let node = Node::new(364);
    node.publish();
    let report = verify(&node, 3, &[]);
    let unknown = check(&report, "I3");
    assert_eq!(unknown["result"], "unknown");
    assert!(unknown["resolve"].as_str().unwrap().contains("sync"), "{unknown}");

    let node = synced(365);
    node.publish();
    let other = AgeKey::new();
    let report = verify(&node, 3, &["--key", other.key_file.to_str().unwrap()]);
    assert_eq!(check(&report, "contents:participant")["result"], "unknown");
    assert!(check(&report, "contents:participant")["resolve"].as_str().unwrap().contains(&node.key.recipient));
    let no_key = node.idkeep().secret_file("no-key", b"nothing of the kind\n");
    node.idkeep().expect(78, &["verify", "--key", no_key.to_str().unwrap()]);
    node.idkeep().expect(64, &["verify", node.name(), "--set", "20200101T000000Z"]);
}

#[test]
fn a_node_without_a_set_has_nothing_to_verify() {
    let node = Node::new(366);
    let outcome = node.idkeep().expect(2, &["verify"]);
    assert!(outcome.stderr.contains("there is no backup set"), "{outcome}");
}

/// Sets of these ages in days, made from one real set; the oldest first.
pub(crate) fn aged(node: &Node, days: &[i64]) -> Vec<String> {
    let template = node.publish();
    let manifest = node.manifest(&template);
    // Out of the way: the youngest one may be of the same second.
    std::fs::rename(node.folder().join(&template), node.folder().join("template")).unwrap();
    let template = "template";
    let now = jiff::Timestamp::now();
    let sets = days.iter().map(|days| {
        // And an hour, or the youngest would be in the template's place.
        let back = jiff::SignedDuration::from_hours(days * 24 + 1);
        let id = now.checked_sub(back).unwrap().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut manifest = manifest.clone();
        manifest["set"] = json!(id);
        for dump in manifest["databases"].as_array_mut().unwrap() {
            for field in ["started_at", "snapshot_at", "completed_at"] {
                let at: jiff::Timestamp = dump[field].as_str().unwrap().parse().unwrap();
                dump[field] = json!(format!("{:.6}", at.checked_sub(back).unwrap()));
            }
        }
        let folder = node.folder().join(&id);
        std::fs::create_dir(&folder).unwrap();
        for file in ["validator.dump.zst.age", "participant.dump.zst.age"] {
            std::fs::copy(stored(node, template, file), folder.join(file)).unwrap();
        }
        std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        id
    });
    let sets = sets.collect();
    std::fs::remove_dir_all(node.folder().join(template)).unwrap();
    sets
}

fn expire(node: &Node, code: i32, more: &[&str]) -> Outcome {
    node.idkeep().expect(code, &[&["-o", "json", "expire"], more].concat())
}

#[test]
fn age_and_gaps_are_warnings_that_name_the_numbers() {
    let mut node = synced(367);
    node.backup.push("pruning_retention: 2d".into());
    node.configure();
    let sets = aged(&node, &[40, 3, 0]);
    let report = verify(&node, 0, &[node.name(), "--set", &sets[0]]);
    assert_eq!(check(&report, "age")["result"], "warn");
    assert_eq!(check(&report, "gap")["result"], "warn");
    assert!(check(&report, "gap")["reason"].as_str().unwrap().contains("37 d"), "{report:#}");
}

#[test]
fn expiry_removes_what_no_rule_keeps_and_only_after_something_was_verified() {
    let mut node = synced(368);
    node.backup.push("retention: {keep_last: 7, keep_daily: 0, keep_weekly: 0}".into());
    node.configure();
    let sets = aged(&node, &[9, 8, 7, 6, 5, 4, 3, 2, 1]);
    let refused = expire(&node, 2, &[]);
    assert!(refused.stderr.contains("verified in the last 7 days"), "{refused}");
    assert_eq!(node.whole(), sets);

    verify(&node, 0, &[]);
    let dry = expire(&node, 0, &["--dry-run"]).json();
    let verdicts = dry["nodes"][0]["sets"].as_array().unwrap();
    assert_eq!(verdicts.len(), 9);
    assert!(verdicts.iter().all(|set| !set["reason"].as_str().unwrap().is_empty()));
    assert_eq!((&verdicts[0]["verdict"], &verdicts[0]["outcome"]), (&json!("remove"), &json!("would_remove")));
    assert_eq!(node.whole(), sets, "a dry run removes nothing");

    let report = expire(&node, 0, &[]).json();
    assert_eq!(report["nodes"][0]["sets"][0]["outcome"], "removed");
    assert_eq!(node.whole(), sets[2..]);
    assert!(node.files().iter().all(|file| !file.starts_with(&sets[0]) && !file.starts_with(&sets[1])));
}

#[test]
fn more_than_a_quarter_wants_a_yes() {
    let mut node = synced(369);
    node.backup.push("retention: {keep_last: 1, keep_daily: 0, keep_weekly: 0}".into());
    node.configure();
    let sets = aged(&node, &[3, 2, 1]);
    verify(&node, 0, &[]);
    let refused = expire(&node, 2, &[]);
    assert!(refused.stderr.contains("--yes"), "{refused}");
    assert_eq!(node.whole(), sets);
    expire(&node, 0, &["--yes"]);
    assert_eq!(node.whole(), sets[2..]);
}

/// The last good set is never the one that goes, whatever the numbers say.
#[test]
fn the_newest_verified_set_stays_when_newer_ones_are_not() {
    let mut node = synced(370);
    node.backup.push("retention: {keep_last: 1, keep_daily: 0, keep_weekly: 0}".into());
    node.configure();
    let sets = aged(&node, &[6, 5, 4, 3]);
    verify(&node, 0, &[node.name(), "--set", &sets[1]]);
    expire(&node, 0, &["--yes"]);
    assert_eq!(node.whole(), [sets[1].clone(), sets[3].clone()]);
}

#[test]
fn only_the_two_newest_rejected_runs_keep_their_files() {
    let node = Node::with(371, |network| network.ledger_end = 1);
    for _ in 0..3 {
        node.backup(2);
    }
    node.cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 100");
    node.publish();
    expire(&node, 0, &[]);
    let evidence = |file: &String| Some(file.strip_suffix("/rejected.json")?.to_owned());
    let rejected: Vec<String> = node.files().iter().filter_map(evidence).collect();
    let dumps = |set: &String| node.files().iter().any(|file| file.starts_with(set) && file.contains(".dump."));
    let kept: Vec<bool> = rejected.iter().map(dumps).collect();
    assert_eq!(kept, [false, true, true]);
}
