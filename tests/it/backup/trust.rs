//! Whose sets they are, who signed them, and what the set says about the app.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

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
    let allowed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&allowed, format!("idkeep {public}\n")).unwrap();
    let mut command = Command::new(tool("ssh-keygen"));
    command.args(["-Y", "verify", "-I", "idkeep", "-n", "idkeep", "-f"]).arg(allowed.path());
    command.arg("-s").arg(folder.join("manifest.json.sig"));
    command.stdin(std::fs::File::open(folder.join("manifest.json")).unwrap()).stdout(Stdio::null());
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
