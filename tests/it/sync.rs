//! The whole path: token, identities, proof, store.

use std::process::{Command, Stdio};

use crate::support::parts::tool;
use crate::support::scenario::Scenario;
use crate::support::validator::Answer;

#[test]
fn a_node_is_brought_into_the_store_once() {
    let scenario = Scenario::new(1);
    let first = scenario.sync(0);
    assert_eq!(first.store(), "written");
    scenario.assert_stored(&scenario.dump);
    let facts = scenario.facts();
    assert_eq!(facts["idkeep_digest"], scenario.dump.digest());
    assert_eq!(facts["idkeep_participant_id"], scenario.dump.id.as_str());
    assert_eq!(facts["idkeep_party_hint"], format!("acme-{}", scenario.node));
    assert_eq!(facts["idkeep_network"], "testnet");
    assert_eq!(facts["idkeep_key_kind"], "software");
    assert_eq!(facts["idkeep_key_proof"], "proven");
    assert_eq!(facts["idkeep_stored_version"], "1");
    let second = scenario.sync(0);
    assert_eq!(second.store(), "unchanged");
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn on_a_terminal_the_report_is_a_table_and_every_line_of_the_log_names_its_node() {
    let mut scenario = Scenario::new(1);
    scenario.identity("deadline: 1s");
    scenario.validator.always(Answer::status(500));
    let output = Command::new(tool("script"))
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} sync", env!("CARGO_BIN_EXE_idkeep")))
        .arg("/dev/null")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("IDKEEP_CONFIG", scenario.idkeep.path("idkeep.yaml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(75), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("NODE ") && line.contains("PARTICIPANT")), "{shown}");
    let retries: Vec<&str> = shown.lines().filter(|line| line.contains("trying again")).collect();
    assert!(!retries.is_empty() && retries.iter().all(|line| line.contains(&scenario.node)), "{shown}");
    let is_ours = |line: &str| {
        [" INFO ", " WARN ", "NODE ", &scenario.node, "idkeep: ", "hint: "].iter().any(|part| line.contains(part))
    };
    assert!(shown.lines().all(is_ours), "{shown}");
}
