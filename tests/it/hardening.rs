//! What the process gives up before it touches a secret.

use std::process::Command;

use idkeep::harden;

use crate::support::parts::tool;
use crate::support::scenario::Scenario;
use crate::support::server::Gate;
use crate::support::validator::Answer;

#[test]
fn a_running_sync_dumps_no_core_gains_no_privilege_and_keeps_its_memory_out_of_swap() {
    let scenario = Scenario::new(40);
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let run = scenario.idkeep.spawn(&["sync"]);
    run.wait_for_stderr("process protected");
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", run.pid())).unwrap();
    let line =
        |text: &str, start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    let status = read("status");
    assert!(line(&status, "NoNewPrivs:").ends_with('1'), "{status}");
    let locked: u64 = line(&status, "VmLck:").split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(locked > 1024, "memory is not locked: {status}");
    let core = line(&read("limits"), "Max core file size");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert_eq!(run.stderr().matches("memory=\"locked\"").count(), 1, "{}", run.stderr());
    gate.open();
    assert_eq!(run.wait().code, 0);
}

/// As a user without privileges and with the usual limit on locked memory.
fn as_nobody(scenario: &Scenario) -> Command {
    let folder = scenario.idkeep.folder();
    // The build may lie where only its owner can go.
    std::fs::copy(env!("CARGO_BIN_EXE_idkeep"), folder.join("idkeep")).unwrap();
    let owned = Command::new("chown").args(["-R", "nobody"]).arg(folder).status().unwrap();
    assert!(owned.success());
    let mut command = Command::new(tool("setpriv"));
    command.args([
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--",
    ]);
    command.args(["prlimit", "--memlock=8388608:8388608", "--"]).arg(folder.join("idkeep"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("IDKEEP_CONFIG", folder.join("idkeep.yaml"));
    command
}

#[test]
fn under_a_limit_memory_is_not_locked_and_the_log_says_so() {
    let scenario = Scenario::new(41);
    let output = as_nobody(&scenario).arg("sync").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("not locked: limited"), "{stderr}");
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn where_locked_memory_is_required_a_limit_is_a_configuration_error() {
    let mut scenario = Scenario::new(42);
    let yaml = scenario.yaml() + "process: {lock_memory: required}\n";
    scenario.idkeep.config(&yaml);
    let output = as_nobody(&scenario).arg("sync").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("LimitMEMLOCK=infinity"), "{stderr}");
    assert_eq!(scenario.versions(), 0);
    // The same as root, which has no limit.
    assert_eq!(scenario.sync(0).store(), "written");
}

#[test]
fn a_confined_thread_writes_in_its_folder_and_nowhere_else() {
    let inside = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    // Landlock binds the thread that asks for it, which here ends with the test.
    let state = harden::confine(&[inside.path().to_owned()]);
    assert!(state.starts_with("enforced"), "this kernel has no Landlock: {state}");
    std::fs::write(inside.path().join("file"), "x").unwrap();
    let refused = std::fs::write(outside.path().join("file"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(std::fs::create_dir(outside.path().join("folder")).is_err());
}

#[test]
fn a_sync_to_a_file_store_may_write_there_and_says_that_it_is_confined() {
    let mut scenario = Scenario::new(43);
    let age = crate::support::age::AgeKey::new();
    scenario.config.stores = "[local]".into();
    scenario.config.more_stores =
        format!("  local: {{file: {{path: {:?}, recipients: [{}]}}}}\n", scenario.idkeep.path("kept"), age.recipient);
    scenario.configure();
    let synced = scenario.sync(0);
    assert_eq!(synced.store(), "written");
    assert!(synced.stderr().contains("files=\"enforced"), "{}", synced.stderr());
}
