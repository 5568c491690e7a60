//! A set from its beginning to its end, as its user sees it.

use crate::support::backup::{Node, run_script};
use crate::support::parts::tool;

/// A recipient whose private half would live in hardware; nobody has it.
const TAG: &str = "age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e";

#[test]
fn a_set_is_ordered_sealed_and_proven() {
    let node = Node::new(300);
    node.scenario.idkeep.sync(0);
    let outcome = node.backup(0);
    let report = &outcome.json()["nodes"][0];
    assert_eq!(report["outcome"], "published", "{outcome}");
    for name in ["I1", "I2", "I3", "I4"] {
        assert_eq!(report["invariants"][name]["result"], "pass", "{outcome}");
    }
    let set = report["set"].as_str().unwrap();
    let files = node.files();
    let expected = [
        format!("{set}/manifest.json"),
        format!("{set}/participant.dump.zst.age"),
        format!("{set}/validator.dump.zst.age"),
        "node.json".into(),
    ];
    let mut there: Vec<&String> = files.iter().filter(|file| !file.starts_with('.')).collect();
    there.sort();
    assert_eq!(there, expected.iter().collect::<Vec<_>>(), "{files:?}");

    let manifest = node.manifest(set);
    assert_eq!(manifest["schema"], "idkeep/backup-set/v1");
    assert_eq!(manifest["node"], node.name());
    assert_eq!(manifest["participant_id"], node.scenario.dump.id);
    assert_eq!(manifest["splice_version"], "0.7.5");
    assert_eq!(manifest["network"], "testnet");
    let names: Vec<&str> =
        manifest["databases"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["validator", "participant"]);
    assert_eq!(manifest["order"][0], serde_json::json!({"before": "validator", "after": "participant"}));
    let [validator, participant] = [&manifest["databases"][0], &manifest["databases"][1]];
    assert_eq!(validator["offsets"], serde_json::json!({"validator_last_ingested": 66, "migration_id": 3}));
    assert_eq!(participant["offsets"], serde_json::json!({"ledger_end": 100, "pruned_up_to": 10}));
    assert!(validator["completed_at"].as_str().unwrap() < participant["started_at"].as_str().unwrap());
    assert!(validator["snapshot_at"].as_str().unwrap() < participant["snapshot_at"].as_str().unwrap());
    for dump in [validator, participant] {
        let file = node.folder().join(set).join(dump["file"].as_str().unwrap());
        let stored = std::fs::read(&file).unwrap();
        assert_eq!(dump["bytes"], stored.len());
        assert_eq!(dump["sha256"], sha256(&stored));
        assert_eq!(dump["recipients"], serde_json::json!([node.key.recipient]));
        let plain = node.key.open(&stored).unwrap();
        assert!(dump["plain_bytes"].as_u64().unwrap() > plain.len() as u64, "compressed");
        let at = dump["snapshot_at"].as_str().unwrap();
        assert!(at.len() == "2026-11-22T22:00:00.000000Z".len() && at.ends_with('Z'), "{at}");
        let name = dump["name"].as_str().unwrap();
        node.restore(&file, &format!("restored_{name}"));
    }
    let keys = "select count(*) from participant.common_crypto_private_keys";
    assert_eq!(node.cluster.sql("restored_participant", keys).trim(), "3");
    let listed = node.listed();
    assert_eq!(listed["sets"][0]["state"], "whole");
    assert_eq!(listed["identities"][0]["participant_id"], node.scenario.dump.id);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    base16ct::lower::encode_string(&sha2::Sha256::digest(bytes))
}

#[test]
fn each_set_names_the_one_before_it() {
    let node = Node::new(301);
    let first = node.publish();
    let second = node.publish();
    assert!(node.manifest(&first)["previous"].is_null());
    let previous = &node.manifest(&second)["previous"];
    assert_eq!(previous["set"], first.as_str());
    let stored = std::fs::read(node.folder().join(&first).join("manifest.json")).unwrap();
    assert_eq!(previous["sha256"], sha256(&stored));
    assert_eq!(node.whole(), [first, second]);
}

/// Several recipients, of every kind that may stand together: each opens the set alone.
#[test]
fn an_ssh_key_and_a_hardware_key_may_stand_beside_an_age_key() {
    let mut node = Node::new(302);
    let ssh_key = node.idkeep().path("ssh-key");
    run_script(&format!("ssh-keygen -q -t ed25519 -N '' -C '' -f {ssh_key:?}"));
    let ssh_recipient = std::fs::read_to_string(ssh_key.with_extension("pub")).unwrap();
    let recipients = [node.key.recipient.as_str(), ssh_recipient.trim(), TAG];
    node.backup.push(format!("recipients: {recipients:?}"));
    node.configure();
    let set = node.publish();
    let sealed = node.folder().join(&set).join("validator.dump.zst.age");
    let stored = std::fs::read(&sealed).unwrap();
    let header = String::from_utf8_lossy(&stored[..600]).into_owned();
    for stanza in ["-> X25519 ", "-> ssh-ed25519 ", "-> p256tag "] {
        assert!(header.contains(stanza), "{header}");
    }
    let (key, archive) = (tool("age").display().to_string(), node.idkeep().path("archive"));
    run_script(&format!("set -o pipefail; {key} -d -i {ssh_key:?} {sealed:?} | zstd -dq > {archive:?}"));
    assert!(std::fs::read(&archive).unwrap().starts_with(b"PGDMP"));
    assert!(node.key.open(&stored).is_ok());
    let (ssh, age) = (ssh_key.to_str().unwrap(), node.key.key_file.to_str().unwrap());
    for key in [ssh, age] {
        node.idkeep().expect(3, &["verify", "--key", key]);
    }
}
