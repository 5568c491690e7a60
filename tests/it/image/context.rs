//! What a build is given, and what it is built from.

use std::process::Command;

use serde_json::Value;

use super::root;
use crate::support::podman::said;

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The names that `.dockerignore` lets through.
fn given() -> Vec<String> {
    let ignored = read(".dockerignore");
    let rules: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "everything is left out that is not named");
    rules[1..].iter().map(|rule| rule.strip_prefix('!').unwrap().to_owned()).collect()
}

#[test]
fn cargo_finds_in_a_build_what_it_needs_and_nothing_else_is_there() {
    let folder = tempfile::tempdir().unwrap();
    for name in given() {
        assert!(root().join(&name).exists(), "{name}");
        said(Command::new("cp").arg("-r").arg(root().join(&name)).arg(folder.path()));
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]);
    let read: Value = serde_json::from_str(&said(cargo.current_dir(folder.path()))).unwrap();
    let targets = read["packages"][0]["targets"].as_array().unwrap();
    assert!(targets.iter().any(|target| target["name"] == "idkeep" && target["kind"][0] == "bin"), "{targets:?}");
    for left_out in [".git", "target", "tests", "docs"] {
        assert!(!given().contains(&left_out.to_owned()), "{left_out}");
    }
}

#[test]
fn the_images_are_built_by_the_version_of_rust_that_is_asked_for_and_for_one_debian() {
    let (dockerfile, manifest) = (read("Dockerfile"), read("Cargo.toml"));
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let default = |name: &str| {
        let line = dockerfile.lines().find_map(|line| line.strip_prefix(&format!("ARG {name}=")));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    assert_eq!(default("RUST"), format!("docker.io/library/rust:{wanted}-bookworm"));
    assert_eq!(default("DEBIAN"), "docker.io/library/debian:bookworm-slim");
    assert_eq!(default("BASE"), "gcr.io/distroless/cc-debian12:nonroot");
    // What the tests call the newest.
    assert_eq!(default("POSTGRES_MAJOR"), crate::support::postgres::NEWEST.to_string());
}
