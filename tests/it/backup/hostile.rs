//! Somebody else who writes the repository, the database's owner, and clients that lie about how they ended.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::backup::{Node, database};
use crate::support::parts;
use crate::support::postgres;

/// Puts a manifest there as of that set, whoever asked for it.
pub(crate) fn plant(node: &Node, set: &str, manifest: &[u8]) {
    let folder = node.folder().join(set);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("manifest.json"), manifest).unwrap();
}

/// The set's own folder copied to another place, with a manifest to match.
pub(crate) fn forge(node: &Node, from: &str, to: &str) {
    let mut manifest = node.manifest(from);
    manifest["set"] = json!(to);
    plant(node, to, manifest.to_string().as_bytes());
    for file in ["validator.dump.zst.age", "participant.dump.zst.age"] {
        std::fs::copy(node.folder().join(from).join(file), node.folder().join(to).join(file)).unwrap();
    }
}

#[test]
fn what_failed_since_it_was_verified_does_not_count_as_verified_any_more() {
    let node = Node::new(380);
    let set = node.publish();
    node.idkeep().expect(3, &["verify"]);
    assert!(!node.listed()["sets"][0]["verified_at"].is_null());
    let file = node.folder().join(&set).join("participant.dump.zst.age");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    // At once: records of one second do not get lost.
    node.idkeep().expect(2, &["verify"]);
    assert!(node.listed()["sets"][0]["verified_at"].is_null());
}

#[test]
fn a_manifest_too_large_to_be_read_is_one_broken_set_and_no_more() {
    let node = Node::new(381);
    let first = node.publish();
    plant(&node, "20990101T000000Z", &vec![b' '; 2 << 20]);
    let listed = node.listed();
    assert_eq!((&listed["sets"][0]["state"], &listed["sets"][1]["state"]), (&json!("whole"), &json!("broken")));
    let second = node.publish();
    assert_eq!(node.manifest(&second)["previous"]["set"], first.as_str());
}

/// Nothing else tells a forged set where nobody signs.
#[test]
fn a_set_that_says_that_it_is_not_sealed_fails_where_sets_are() {
    let node = Node::new(388);
    let set = node.publish();
    node.idkeep().expect(3, &["verify"]);
    let mut manifest = node.manifest(&set);
    manifest["databases"][1]["recipients"] = json!([]);
    std::fs::write(node.folder().join(&set).join("manifest.json"), manifest.to_string()).unwrap();
    let outcome = node.idkeep().expect(2, &["verify"]);
    assert!(outcome.stdout.contains("encryption:participant"), "{outcome}");
}

#[test]
fn numbers_that_add_up_to_more_than_there_is_are_listed() {
    let node = Node::new(382);
    let set = node.publish();
    let mut manifest = node.manifest(&set);
    for dump in manifest["databases"].as_array_mut().unwrap() {
        dump["bytes"] = json!(u64::MAX);
    }
    std::fs::write(node.folder().join(&set).join("manifest.json"), manifest.to_string()).unwrap();
    assert_eq!(node.listed()["sets"][0]["state"], "broken");
}

#[test]
fn a_set_in_the_last_second_there_is_does_not_keep_a_run_for_ever() {
    let node = Node::new(383);
    let set = node.publish();
    forge(&node, &set, "99991230T220000Z");
    let outcome = node.backup(75);
    assert!(outcome.stderr.contains("another writer"), "{outcome}");
}

#[test]
fn only_a_set_that_is_signed_and_in_its_place_comes_before_another() {
    let mut node = Node::new(384);
    let key = node.idkeep().path("signing-key");
    let made = Command::new(parts::tool("ssh-keygen")).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).output();
    assert!(made.unwrap().status.success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    node.repository.push(format!("sign: {{file: {key:?}}}"));
    node.repository.push(format!("signers: [{:?}]", public.trim_end()));
    node.configure();
    let first = node.publish();
    forge(&node, &first, "29990101T000000Z");
    // Signed, and good where it was taken.
    let moved = node.folder().join("29990102T000000Z");
    std::fs::create_dir(&moved).unwrap();
    for file in ["manifest.json", "manifest.json.sig", "validator.dump.zst.age", "participant.dump.zst.age"] {
        std::fs::copy(node.folder().join(&first).join(file), moved.join(file)).unwrap();
    }
    let second = node.publish();
    assert!(second.as_str() < "2999", "{second}");
    assert_eq!(node.manifest(&second)["previous"]["set"], first.as_str());
    assert_eq!(node.whole(), [first, second]);
}

/// The owner of a database may name it as he likes.
#[test]
fn what_would_not_be_read_again_is_not_published() {
    let mut node = Node::new(385);
    node.cluster.sql("postgres", r#"alter database participant rename to U&"participant\001B[2J""#);
    node.databases[1] = database(&node.cluster, "participant", "participant", &node.cluster.url(""));
    node.configure();
    let outcome = node.idkeep().run(&["-o", "json", "backup"]);
    assert_ne!(outcome.code, 0, "{outcome}");
    assert!(!outcome.stderr.contains('\u{1b}'), "{outcome}");
    let listed = node.listed();
    assert_eq!(listed["sets"], Value::Array(Vec::new()), "{listed}");
}

/// `kubectl exec` whose connection ends early, or a wrapper with a pipe in it, ends well with half a dump.
#[test]
fn half_a_dump_of_a_client_that_ends_well_is_no_set() {
    for (seed, cut) in [(386, "| head -c 40000"), (387, "; echo 'welcome to this server'")] {
        let mut node = Node::with(seed, |network| network.rows = 3_000);
        let real = postgres::client_binary(node.cluster.major, "pg_dump");
        let folder = node.idkeep().path("bin");
        std::fs::create_dir(&folder).unwrap();
        let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && exec {real:?} \"$@\"\n{real:?} \"$@\" {cut}\n");
        write_program(&folder.join("pg_dump"), &script);
        std::os::unix::fs::symlink(real.with_file_name("psql"), folder.join("psql")).unwrap();
        node.databases[1] = node.databases[1].replace(real.to_str().unwrap(), folder.join("pg_dump").to_str().unwrap());
        node.configure();
        let outcome = node.backup(75);
        assert!(outcome.stderr.contains("not a whole dump"), "{outcome}");
        assert!(node.whole().is_empty());
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
