//! `idkeep demo`: the first thing that anybody runs.

use std::process::Command;

use crate::support::idkeep::Idkeep;
use crate::support::parts::tool;

#[test]
fn the_demo_shows_the_whole_path_and_leaves_nothing() {
    let mut idkeep = Idkeep::new();
    let folder = idkeep.folder().to_owned();
    idkeep.env("TMPDIR", &folder);
    let outcome = idkeep.expect(0, &["demo"]);
    for step in ["the namespace's key: proven", "local: written, version 1", "the same bytes", "Next:"] {
        assert!(outcome.stdout.contains(step), "{step} is missing\n{outcome}");
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demo_needs_no_root_and_no_network() {
    let folder = tempfile::tempdir().unwrap();
    // The build may lie where only its owner can go.
    let program = folder.path().join("idkeep");
    std::fs::copy(env!("CARGO_BIN_EXE_idkeep"), &program).unwrap();
    let owned = Command::new("chown").args(["-R", "nobody"]).arg(folder.path()).status().unwrap();
    assert!(owned.success());
    // A network of its own in which nothing but loopback is up.
    let script = "ip link set lo up 2>/dev/null || true; exec \"$@\"";
    let output = Command::new(tool("unshare"))
        .args(["--net", "sh", "-c", script, "sh"])
        .args(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--bounding-set=-all", "--"])
        .arg(&program)
        .arg("demo")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("the same bytes"));
}

#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let mut idkeep = Idkeep::new();
    idkeep.env("TMPDIR", "/nowhere");
    let outcome = idkeep.expect(75, &["demo"]);
    assert!(outcome.stderr.contains("TMPDIR"), "{outcome}");
}
