//! The forms of what is stored, against stock tools: dumps sealed by `age` and compressed by `zstd`, manifests against their
//! published schema.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use idkeep::backup::manifest::{Dump, Edge, Invariant, Manifest, Offsets, Outcome, Previous, SCHEMA};
use idkeep::backup::verify::contents::{self, Error, KeyError};
use idkeep::config::Role;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::parts;

/// What pg_dump wrote of a small database.
const ARCHIVE: &[u8] = include_bytes!("../../src/backup/archive/samples/18.dump");

fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let mut command = Command::new(parts::tool(program));
    let ended = command.args(arguments).current_dir(folder).output().unwrap();
    assert!(ended.status.success(), "{program} {arguments:?}: {ended:?}");
}

/// A folder with the archive as an operator would make the same object by hand, and the key that opens it.
fn sealed_by_hand(make_key: impl FnOnce(&Path) -> PathBuf, recipients: &str) -> (TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let key = make_key(folder.path());
    std::fs::write(folder.path().join("archive"), ARCHIVE).unwrap();
    run(folder.path(), "zstd", &["-q", "-19", "archive", "-o", "archive.zst"]);
    run(folder.path(), "age", &["-R", recipients, "-o", "archive.zst.age", "archive.zst"]);
    let object = std::fs::read(folder.path().join("archive.zst.age")).unwrap();
    (folder, key, object)
}

fn age_key(folder: &Path) -> PathBuf {
    run(folder, "age-keygen", &["-o", "key"]);
    let made = Command::new(parts::tool("age-keygen")).args(["-y", "key"]).current_dir(folder).output().unwrap();
    std::fs::write(folder.join("key.pub"), made.stdout).unwrap();
    folder.join("key")
}

fn ssh_key(folder: &Path) -> PathBuf {
    run(folder, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "key"]);
    folder.join("key")
}

#[test]
fn what_stock_tools_sealed_is_opened_with_a_key_of_age_or_of_ssh() {
    for make_key in [age_key, ssh_key] {
        let (folder, key, object) = sealed_by_hand(make_key, "key.pub");
        let contents = contents::walk(&object[..], Some(&key)).unwrap();
        assert_eq!(contents.bytes, ARCHIVE.len() as u64);
        let another = tempfile::tempdir().unwrap();
        assert!(matches!(contents::walk(&object[..], Some(&make_key(another.path()))), Err(Error::OtherKey)));
        drop(folder);
    }
}

#[test]
fn a_key_with_a_passphrase_or_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret", "-f", "key"]);
    assert!(matches!(contents::load_key(&folder.path().join("key")), Err(KeyError::NotAKey(_))));
    run(folder.path(), "ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "other"]);
    assert!(matches!(contents::load_key(&folder.path().join("other")), Err(KeyError::NotAKey(_))));
}

fn dump(name: &str, role: Role, offsets: Option<Offsets>) -> Dump {
    Dump {
        name: name.into(),
        role,
        database: format!("{name}-4"),
        driver: "pg_dump".into(),
        server_version: "15.18".into(),
        pg_dump_version: "15.18".into(),
        standby: false,
        started_at: "2026-11-22T22:00:00Z".parse().unwrap(),
        snapshot_at: "2026-11-22T22:00:00.25Z".parse().unwrap(),
        completed_at: Some("2026-11-22T22:00:01.1234567Z".parse().unwrap()),
        system_identifier: "7580000000000000001".into(),
        timeline: 1,
        wal_lsn: "0/1A2B3C4D".into(),
        offsets,
        file: format!("{name}.dump.zst.age"),
        bytes: u64::MAX,
        sha256: "ab".repeat(32),
        plain_bytes: 1,
        recipients: vec!["age1leh563e45d9hha0ug776am2wr983wh8ymxmxdn7uxj229w9085us4w482h".into()],
    }
}

fn manifests() -> Vec<Manifest> {
    let full = Manifest {
        schema: SCHEMA.into(),
        node: "validator-1".into(),
        set: "20261122T220000Z".parse().unwrap(),
        network: Some("mainnet".into()),
        participant_id: Some("PAR::acme::1220".into()),
        idkeep_version: "0.1.0".into(),
        splice_version: Some("0.7.5".into()),
        remarks: vec!["the app was not ready".into()],
        previous: Some(Previous { set: "20261122T190000Z".parse().unwrap(), sha256: "0f".repeat(32) }),
        databases: vec![
            dump(
                "validator",
                Role::Validator,
                Some(Offsets::Validator { validator_last_ingested: Some(66), migration_id: None }),
            ),
            dump(
                "participant",
                Role::Participant,
                Some(Offsets::Participant { ledger_end: Some(70), pruned_up_to: None }),
            ),
            dump("bft", Role::Cantonbft, None),
        ],
        order: vec![Edge { before: "validator".into(), after: "participant".into() }],
        invariants: [("I1".into(), Invariant { result: Outcome::Unknown, reason: "…".into() })].into(),
    };
    let bare = Manifest {
        network: None,
        participant_id: None,
        splice_version: None,
        remarks: vec![],
        previous: None,
        databases: vec![Dump { completed_at: None, ..dump("other", Role::Other, None) }],
        order: vec![],
        invariants: [].into(),
        ..full.clone()
    };
    vec![full, bare]
}

/// Whether each document is valid against the published schema, by Python's `jsonschema`.
fn are_valid(documents: &[Value]) -> Vec<bool> {
    const CHECK: &str = "
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
print(json.dumps([validator.is_valid(document) for document in json.load(sys.stdin)]))
";
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.schema.json");
    let mut command = Command::new(parts::tool("python3"));
    command.args(["-c", CHECK]).arg(schema).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), documents).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[test]
fn what_is_written_is_valid_against_the_published_schema_and_what_is_wrong_is_not() {
    let good: Vec<Value> =
        manifests().iter().map(|manifest| serde_json::from_slice(&manifest.to_bytes()).unwrap()).collect();
    let changes: [fn(&mut Value); 8] = [
        |value| value["schema"] = json!("idkeep/backup-set/v2"),
        |value| value["set"] = json!("2026-11-22T22:00:00Z"),
        |value| value["databases"][0]["file"] = json!("../x.dump"),
        |value| value["databases"][0]["sha256"] = json!("AB"),
        |value| value["databases"][0]["bytes"] = json!("12"),
        |value| value["databases"][0]["role"] = json!("wallet"),
        |value| value["databases"][1]["offsets"] = json!({"ledger_end": 70}),
        |value| value["invariants"]["I1"]["result"] = json!("maybe"),
    ];
    let bad = changes.into_iter().map(|change| {
        let mut value = good[0].clone();
        change(&mut value);
        value
    });
    let documents: Vec<Value> = good.iter().cloned().chain(bad).collect();
    assert_eq!(are_valid(&documents), [&[true, true][..], &[false; 8]].concat());
}
