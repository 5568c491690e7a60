//! Somebody else who writes the repository, the database's owner, and clients that lie about how they ended.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::backup::{Node, database};
use crate::support::parts;
use crate::support::postgres;

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
