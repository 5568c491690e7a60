//! Whose sets they are, who signed them, and what the set says about the app.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::faults::{held_run, hold};
use crate::support::backup::Node;
use crate::support::idkeep::Outcome;
use crate::support::parts::tool;
use crate::support::proxy::refused;

/// A node whose folder holds sets of somebody else.
fn refused_for_another(node: &Node) -> Outcome {
    let outcome = node.backup(65);
    assert!(outcome.stderr.contains("this folder holds sets of PAR::"), "{outcome}");
    assert!(outcome.stderr.contains(&node.scenario.dump.id), "{outcome}");
    // Before anything is dumped, so that hours are not spent in vain.
    assert!(!outcome.stderr.contains("set begun"), "{outcome}");
    outcome
}

#[test]
fn a_folder_of_another_participant_is_refused_before_anything_is_dumped() {
    let node = Node::new(430);
    std::fs::create_dir_all(node.folder()).unwrap();
    let owner = json!({"participant_id": "PAR::other::1220ff", "network": "testnet"});
    std::fs::write(node.folder().join("node.json"), owner.to_string()).unwrap();
    refused_for_another(&node);
    let files = node.files();
    let left: Vec<&String> = files.iter().filter(|file| !file.starts_with('.')).collect();
    assert_eq!(left, ["node.json"]);
    assert_eq!(std::fs::read_to_string(node.folder().join("node.json")).unwrap(), owner.to_string());
}

#[test]
fn two_clusters_with_one_nodes_name_do_not_mix_their_sets() {
    let first = Node::new(431);
    let set = first.publish();
    let owner: Value = serde_json::from_slice(&std::fs::read(first.folder().join("node.json")).unwrap()).unwrap();
    assert_eq!(owner, json!({"participant_id": first.scenario.dump.id, "network": "testnet"}));

    let mut second = Node::new(432);
    let own = second.name().to_owned();
    first.name().clone_into(&mut second.scenario.node);
    second.url.clone_from(&first.url);
    second.configure();
    assert_ne!(own, second.name());
    refused_for_another(&second);
    assert_eq!(first.whole(), std::slice::from_ref(&set));
    assert!(first.publish() > set);
}

#[test]
fn a_nodes_name_stands_in_a_configuration_once() {
    let mut node = Node::new(433);
    let yaml = node.yaml();
    let (_, rest) = yaml.split_once("nodes:\n").unwrap();
    let (one, others) = rest.split_once("stores:\n  vault").unwrap();
    node.idkeep_mut().config(&format!("nodes:\n{one}{one}stores:\n  vault{others}"));
    let outcome = node.backup(78);
    assert!(outcome.stderr.contains(node.name()), "{outcome}");
    assert!(node.files().is_empty());
}

/// A set with that many remarks, which are warnings too.
fn remarks(node: &Node, outcome: &Outcome, count: usize) -> String {
    assert_eq!(outcome.code, 0, "{outcome}");
    let set = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
    let remarks = node.manifest(&set)["remarks"].as_array().unwrap().clone();
    assert_eq!(remarks.len(), count, "{remarks:?}");
    for remark in &remarks {
        assert!(outcome.stderr.contains(remark.as_str().unwrap()), "{outcome}");
    }
    remarks.iter().map(|remark| remark.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_app_that_is_not_ready_is_remarked_upon() {
    let node = Node::new(434);
    node.scenario.validator.ready(false);
    let told = remarks(&node, &node.backup(0), 1);
    assert!(told.contains("not ready when the set was begun"), "{told}");
    node.scenario.validator.ready(true);
    let outcome = node.backup(0);
    assert_eq!(outcome.code, 0);
    let set = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
    assert!(node.manifest(&set).get("remarks").is_none_or(|remarks| remarks == &json!([])));
}

#[test]
fn an_app_that_changes_while_the_set_is_taken_is_remarked_upon() {
    let node = Node::new(435);
    let lock = hold(&node);
    let run = held_run(&node);
    node.scenario.validator.version("0.7.6");
    node.scenario.validator.ready(false);
    drop(lock);
    let told = remarks(&node, &run.wait(), 2);
    assert!(told.contains("version changed from 0.7.5 to 0.7.6"), "{told}");
    assert!(told.contains("not ready any more"), "{told}");
}

#[test]
fn an_app_that_is_out_of_reach_is_remarked_upon() {
    let mut node = Node::new(436);
    let yaml = node.yaml().replace(&node.scenario.validator.endpoint(), &format!("http://{}/api/validator", refused()));
    node.idkeep_mut().config(&yaml);
    let outcome = node.backup(0);
    let told = remarks(&node, &outcome, 1);
    assert!(told.contains("did not say whether it was ready"), "{told}");
    let set = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
    assert!(node.manifest(&set)["splice_version"].is_null());
}

/// A key that `ssh-keygen` made in the node's folder; its public half.
fn signing_key(node: &Node, name: &str) -> String {
    let mut command = Command::new(tool("ssh-keygen"));
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(node.idkeep().path(name));
    assert!(command.status().unwrap().success());
    std::fs::read_to_string(node.idkeep().path(&format!("{name}.pub"))).unwrap().trim_end().to_owned()
}

/// Signs by this key from now on (by none, where there is no name), and believes these.
fn sign_by(node: &mut Node, name: Option<&str>, signers: &[&str]) {
    let sign = name.map(|name| format!("sign: {{file: {:?}}}", node.idkeep().path(name)));
    let signers = (!signers.is_empty()).then(|| format!("signers: {signers:?}"));
    node.repository = sign.into_iter().chain(signers).collect();
    node.configure();
}

/// Whether `ssh-keygen` takes the signature for that of this key's.
fn is_signed(folder: &Path, public: &str) -> bool {
    is_signed_for("idkeep", &folder.join("manifest.json"), public)
}

fn is_signed_for(namespace: &str, file: &Path, public: &str) -> bool {
    let allowed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&allowed, format!("idkeep {public}\n")).unwrap();
    let mut command = Command::new(tool("ssh-keygen"));
    command.args(["-Y", "verify", "-I", "idkeep", "-n", namespace, "-f"]).arg(allowed.path());
    command.arg("-s").arg(format!("{}.sig", file.display()));
    command.stdin(std::fs::File::open(file).unwrap()).stdout(Stdio::null());
    command.stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn a_manifest_is_signed_so_that_ssh_keygen_verifies_it() {
    let mut node = Node::new(437);
    let (ours, theirs) = (signing_key(&node, "ours"), signing_key(&node, "theirs"));
    sign_by(&mut node, Some("ours"), &[&ours]);
    let set = node.publish();
    let folder = node.folder().join(&set);
    assert!(is_signed(&folder, &ours));
    assert!(!is_signed(&folder, &theirs));
    assert_eq!(node.whole(), [set]);
    // Any other byte is another manifest.
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    std::fs::write(folder.join("manifest.json"), manifest.replace("\"testnet\"", "\"mainnet\"")).unwrap();
    assert!(!is_signed(&folder, &ours));
    assert!(node.whole().is_empty());
    assert_eq!(node.listed()["sets"][0]["state"], "unbelieved", "{}", node.listed());
}

#[test]
fn a_signature_that_somebody_else_put_there_is_not_written_over() {
    let mut node = Node::new(448);
    let ours = signing_key(&node, "ours");
    sign_by(&mut node, Some("ours"), &[&ours]);
    let lock = hold(&node);
    let run = held_run(&node);
    let pending = node.files().into_iter().find_map(|file| Some(file.strip_suffix("/pending.json")?.to_owned()));
    let planted = node.folder().join(pending.unwrap()).join("manifest.json.sig");
    std::fs::write(&planted, "theirs").unwrap();
    drop(lock);
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("manifest.json.sig is there already"), "{outcome}");
    assert!(node.whole().is_empty());
    node.publish();
}

#[test]
fn only_sets_of_the_signers_are_believed_and_built_upon() {
    let mut node = Node::new(438);
    let ours = signing_key(&node, "ours");
    signing_key(&node, "theirs");
    sign_by(&mut node, Some("ours"), &[&ours]);
    let first = node.publish();
    sign_by(&mut node, None, &[]);
    let unsigned = node.publish();
    sign_by(&mut node, Some("theirs"), &[]);
    let foreign = node.publish();
    // Where nobody is named, everybody is believed.
    assert_eq!(node.manifest(&foreign)["previous"]["set"], unsigned.as_str());
    assert_eq!(node.whole(), [&first[..], &unsigned, &foreign]);

    sign_by(&mut node, Some("ours"), &[&ours]);
    let outcome = node.backup(0);
    let last = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
    assert_eq!(node.manifest(&last)["previous"]["set"], first.as_str(), "{outcome}");
    for set in [&unsigned, &foreign] {
        assert!(
            outcome.stderr.lines().any(|line| line.contains("passed over") && line.contains(set.as_str())),
            "{outcome}"
        );
    }
    assert_eq!(node.whole(), [&first[..], &last]);
    let listed = node.listed();
    let states: Vec<&str> =
        listed["sets"].as_array().unwrap().iter().map(|set| set["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["whole", "unbelieved", "unbelieved", "whole"], "{listed}");
    let reasons: Vec<&str> =
        listed["sets"].as_array().unwrap().iter().filter_map(|set| set["reason"].as_str()).collect();
    assert!(reasons[0].contains("not signed") && reasons[1].contains("none of the `signers`"), "{listed}");
}

#[test]
fn a_key_that_cannot_sign_or_that_nobody_believes_is_told_before_anything_is_dumped() {
    let mut node = Node::new(439);
    let ours = signing_key(&node, "ours");
    signing_key(&node, "theirs");
    for (name, words) in [
        ("ours.pub", "reading the key that signs"),
        ("public", "not an Ed25519 private key"),
        ("theirs", "none of the `signers`"),
    ] {
        if name == "public" {
            node.idkeep().secret_file(name, ours.as_bytes());
        }
        sign_by(&mut node, Some(name), &[&ours]);
        let outcome = node.backup(78);
        assert!(outcome.stderr.contains(words), "{outcome}");
        assert!(!outcome.stderr.contains("set begun"), "{outcome}");
        assert!(node.whole().is_empty());
    }
    sign_by(&mut node, Some("ours"), &[&ours]);
    node.publish();
}

/// The names of a set's records, oldest first.
fn records(node: &Node, set: &str) -> Vec<String> {
    let files = node.files().into_iter();
    let names = files.filter_map(|file| Some(file.strip_prefix(set)?.strip_prefix('/')?.to_owned()));
    names.filter(|name| name.starts_with("verify-") && name.ends_with(".json")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

fn record(node: &Node, set: &str, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(node.folder().join(set).join(name)).unwrap()).unwrap()
}

/// When each set last passed, as `list` says.
fn verified(node: &Node) -> Vec<bool> {
    node.listed()["sets"].as_array().unwrap().iter().map(|set| !set["verified_at"].is_null()).collect()
}

/// Whoever writes the bucket could otherwise call a set verified that is not, and `expire` would let the good one go.
#[test]
fn only_a_record_that_a_signer_signed_in_its_place_makes_a_set_verified() {
    let mut node = Node::new(445);
    let ours = signing_key(&node, "ours");
    node.backup.push("retention: {keep_last: 1, keep_daily: 0, keep_weekly: 0}".into());
    sign_by(&mut node, Some("ours"), &[&ours]);
    let sets = [node.publish(), node.publish()];
    node.idkeep().expect(3, &["verify", node.name(), "--set", &sets[0]]);
    assert_eq!(verified(&node), [true, false]);
    let name = records(&node, &sets[0]).remove(0);
    let (first, second) = (node.folder().join(&sets[0]), node.folder().join(&sets[1]));
    let signature = std::fs::read(first.join(format!("{name}.sig"))).unwrap();
    assert!(is_signed_for("idkeep-verification", &first.join(&name), &ours));

    // Another set's record, as it was and made to fit; and the manifest's own signature beside it.
    let mut forged = record(&node, &sets[0], &name);
    std::fs::copy(first.join(&name), second.join(&name)).unwrap();
    std::fs::write(second.join(format!("{name}.sig")), &signature).unwrap();
    assert_eq!(verified(&node), [true, false]);
    forged["set"] = json!(sets[1]);
    forged["manifest_sha256"] = json!(sha256(&std::fs::read(second.join("manifest.json")).unwrap()));
    std::fs::write(second.join(&name), forged.to_string()).unwrap();
    assert_eq!(verified(&node), [true, false]);
    std::fs::copy(second.join("manifest.json.sig"), second.join(format!("{name}.sig"))).unwrap();
    assert_eq!(verified(&node), [true, false]);
    std::fs::remove_file(second.join(format!("{name}.sig"))).unwrap();
    let listed = node.idkeep().expect(0, &["list"]);
    assert!(listed.stderr.contains("no signer signed") && listed.stderr.contains(&name), "{listed}");

    // As a control: where nobody is named, such a record would do.
    sign_by(&mut node, None, &[]);
    assert_eq!(verified(&node), [true, true]);
    sign_by(&mut node, Some("ours"), &[&ours]);
    std::fs::remove_file(first.join(&name)).unwrap();
    let refused = node.idkeep().expect(2, &["expire", "--yes"]);
    assert!(refused.stderr.contains("verified in the last 7 days"), "{refused}");
    assert!(refused.stderr.contains("no signer signed"), "{refused}");
    assert_eq!(node.whole(), sets);
}

#[test]
fn a_signed_record_under_another_time_than_its_own_is_none() {
    let mut node = Node::new(446);
    let ours = signing_key(&node, "ours");
    sign_by(&mut node, Some("ours"), &[&ours]);
    let set = node.publish();
    node.idkeep().expect(3, &["verify"]);
    let folder = node.folder().join(&set);
    let file = folder.join("participant.dump.zst.age");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&good[..], b"more"].concat()).unwrap();
    node.idkeep().expect(2, &["verify"]);
    std::fs::write(&file, &good).unwrap();
    assert_eq!(verified(&node), [false]);
    // The good record once more, as if it were the newest.
    let names = records(&node, &set);
    assert_eq!(names.len(), 2, "{names:?}");
    // Still within what the clock of another machine may be ahead by.
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(30);
    let later = later.strftime("verify-%Y%m%dT%H%M%SZ.json").to_string();
    for end in ["", ".sig"] {
        std::fs::copy(folder.join(format!("{}{end}", names[0])), folder.join(format!("{later}{end}"))).unwrap();
    }
    assert_eq!(verified(&node), [false]);
    // As a control: without the record of damage the good one counts.
    std::fs::remove_file(folder.join(&names[1])).unwrap();
    assert_eq!(verified(&node), [true]);
}

#[test]
fn a_verifier_that_cannot_sign_says_that_its_record_does_not_count_unless_it_tells_of_damage() {
    let mut node = Node::new(447);
    let ours = signing_key(&node, "ours");
    signing_key(&node, "theirs");
    sign_by(&mut node, Some("ours"), &[&ours]);
    let set = node.publish();
    sign_by(&mut node, Some("theirs"), &[&ours]);
    let outcome = node.idkeep().expect(78, &["verify"]);
    assert!(outcome.stderr.contains("none of the `signers`"), "{outcome}");

    sign_by(&mut node, None, &[&ours]);
    let outcome = node.idkeep().expect(3, &["verify"]);
    assert!(outcome.stderr.contains("only a `verify` where `sign` is configured"), "{outcome}");
    assert_eq!(verified(&node), [false]);

    sign_by(&mut node, Some("ours"), &[&ours]);
    let outcome = node.idkeep().expect(3, &["verify"]);
    assert!(!outcome.stderr.contains("the record is not signed"), "{outcome}");
    assert_eq!(verified(&node), [true]);

    // Damage counts whoever tells of it.
    let file = node.folder().join(&set).join("participant.dump.zst.age");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"damaged").unwrap();
    sign_by(&mut node, None, &[&ours]);
    node.idkeep().expect(2, &["verify"]);
    std::fs::write(&file, good).unwrap();
    assert_eq!(verified(&node), [false]);
}
