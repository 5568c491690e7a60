//! What somebody in between, beside or behind could try: each was tried on an earlier version and worked.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::age::AgeKey;
use crate::support::dump::{Dump, Field, Key, Spec};
use crate::support::idkeep::Signal;
use crate::support::scenario::Scenario;
use crate::support::server::Gate;
use crate::support::validator::Answer;
use crate::support::wait_for;

/// Replaces the facts in the store by these, as whoever may write there can.
fn set_facts(scenario: &Scenario, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut facts = scenario.facts();
    change(facts.as_object_mut().unwrap());
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"custom_metadata": facts}));
}

fn kms_namespace() -> Key {
    Key::Kms { purpose: "signing", id: "arn:x".into(), name: Field::Is("namespace".into()) }
}

#[test]
fn a_dump_that_proves_less_does_not_follow_a_proven_one() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    let good = &scenario.dump;
    let only_kms = Dump::of(1, good.namespace(), vec![kms_namespace()]);
    let without_namespace = Dump::of(1, good.namespace(), good.keys[1..].to_vec()).key(kms_namespace());
    let unknown = Dump::fresh(1).change(0, |key| {
        key.spec = Spec::Unknown;
        key.private = b"garbage".to_vec();
    });
    for dump in [only_kms, without_namespace, unknown] {
        scenario.validator.dump(&dump.json());
        let refused = scenario.sync(65);
        assert!(refused.stderr().contains("holds the proven key of its namespace"), "{}", refused.stderr());
        assert_eq!(scenario.versions(), 1);
    }
    // An operator whose key has moved says so.
    scenario.validator.dump(&Dump::of(1, good.namespace(), vec![kms_namespace()]).json());
    let accepted = format!("--accept-new-identity={}", good.id);
    assert_eq!(scenario.sync_with(0, &[&accepted]).store(), "written");
}

#[test]
fn an_encryption_key_is_no_namespace_key() {
    let scenario = Scenario::new(1);
    let key = Dump::fresh(1).software(2).clone();
    let dump = Dump::of(1, &key.fingerprint(), vec![key.into()]);
    scenario.validator.dump(&dump.json());
    assert!(scenario.sync(65).stderr().contains("does not hold the key of its own namespace"));
    assert_eq!(scenario.versions(), 0);
}

/// The dump with the decoded key pair at this place changed.
fn with_key_pair(dump: &Dump, place: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(&dump.json()).unwrap();
    let mut pair = STANDARD.decode(json["keys"][place]["keyPair"].as_str().unwrap()).unwrap();
    change(&mut pair);
    json["keys"][place]["keyPair"] = json!(STANDARD.encode(pair));
    json.to_string().into_bytes()
}

/// Canton merges a message that stands twice, and we would read one of the two.
#[test]
fn a_message_that_stands_twice_proves_nothing() {
    let scenario = Scenario::new(1);
    scenario.validator.dump(&with_key_pair(&scenario.dump, 0, |pair| pair.extend(pair.clone())));
    assert!(scenario.sync(65).stderr().contains("does not decode as a key pair"));
    assert_eq!(scenario.versions(), 0);
}

/// The last byte of a key pair is its version, 30.
#[test]
fn a_later_version_of_the_message_excuses_no_key_that_is_not_what_it_says() {
    let scenario = Scenario::new(1);
    let later = |pair: &mut Vec<u8>| assert_eq!(std::mem::replace(pair.last_mut().unwrap(), 31), 30);
    let wrong = Dump::fresh(1).change(1, |key| key.id = Dump::fresh(2).software(1).id.clone());
    scenario.validator.dump(&with_key_pair(&wrong, 1, later));
    assert!(scenario.sync(65).stderr().contains("fingerprint differs"));
    assert_eq!(scenario.versions(), 0);
    // The positive control: with the right key the later version is proven like any other.
    scenario.validator.dump(&with_key_pair(&scenario.dump, 0, later));
    assert_eq!(scenario.sync(0).node["key_proof"], "proven");
}

#[test]
fn lost_facts_do_not_let_another_participant_follow() {
    for lost in ["idkeep_digest", "idkeep_stored_version"] {
        let scenario = Scenario::new(1);
        scenario.sync(0);
        set_facts(&scenario, |facts| drop(facts.remove(lost)));
        scenario.validator.dump(&Dump::fresh(2).json());
        let refused = scenario.sync(65);
        assert!(refused.stderr().contains("the store holds the identity of"), "{lost}: {}", refused.stderr());
        assert_eq!(scenario.versions(), 1, "{lost}");
    }
    // The same where only the facts of an older version are left.
    let scenario = Scenario::new(1);
    scenario.sync(0);
    scenario.validator.dump(&Dump::fresh(1).rotated(1, 1).json());
    scenario.sync(0);
    set_facts(&scenario, |facts| facts.retain(|key, _| key == "idkeep_v1"));
    scenario.validator.dump(&Dump::fresh(2).json());
    assert!(scenario.sync(65).stderr().contains("the store holds the identity of"));
    assert_eq!(scenario.versions(), 2);
}

#[test]
fn a_folder_whose_newest_facts_are_lost_still_knows_whose_it_is() {
    let (scenario, folder) = with_folder();
    scenario.sync(0);
    scenario.validator.dump(&Dump::fresh(1).rotated(1, 1).json());
    scenario.sync(0);
    for damage in [None, Some("{\"idkeep_digest\": 5}")] {
        let facts = folder.join("00000002.json");
        match damage {
            None => std::fs::remove_file(&facts).unwrap(),
            Some(text) => std::fs::write(&facts, text).unwrap(),
        }
        scenario.validator.dump(&Dump::fresh(2).json());
        assert!(scenario.sync(65).stderr().contains("the store holds the identity of"));
        assert!(!folder.join("00000003.age").exists());
    }
}

/// A scenario with a file store alone, and the node's folder in it.
fn with_folder() -> (Scenario, std::path::PathBuf) {
    let mut scenario = Scenario::new(1);
    let recipient = AgeKey::new().recipient;
    let folder = scenario.idkeep.path("kept");
    scenario.config.stores = "[local]".into();
    scenario.config.more_stores = format!("  local: {{file: {{path: {folder:?}, recipients: [{recipient}]}}}}\n");
    scenario.identity("deadline: 2s");
    let folder = folder.join(&scenario.node);
    (scenario, folder)
}

#[test]
fn files_that_are_no_versions_neither_count_nor_stop_a_pass() {
    let (scenario, folder) = with_folder();
    scenario.sync(0);
    for name in ["18446744073709551615.age", "7.age", "+5.age", "0000000000002.age", "x.age"] {
        std::fs::write(folder.join(name), "foreign").unwrap();
    }
    let first = std::fs::read(folder.join("00000001.age")).unwrap();
    for number in [2, 3] {
        scenario.validator.dump(&Dump::fresh(1).rotated(1, number).json());
        assert_eq!(scenario.sync(0).node["stores"][0]["version"], number.to_string());
    }
    assert_eq!(std::fs::read(folder.join("00000001.age")).unwrap(), first);
}

#[test]
fn a_pipe_in_the_folder_does_not_hold_a_pass_up() {
    let (scenario, folder) = with_folder();
    scenario.sync(0);
    let facts = folder.join("00000001.json");
    std::fs::remove_file(&facts).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&facts).status().unwrap().success());
    let refused = scenario.sync(78);
    assert!(refused.stderr().contains("is not a plain file"), "{}", refused.stderr());
}

#[test]
fn keys_of_others_that_come_while_the_node_is_slow_are_kept() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    scenario.validator.dump(&Dump::fresh(1).rotated(1, 1).json());
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let run = scenario.idkeep.spawn(&["--log-level", "debug", "sync"]);
    run.wait_for_stderr("store looked at");
    set_facts(&scenario, |facts| drop(facts.insert("team".into(), json!("a note"))));
    gate.open();
    assert_eq!(run.wait().code, 0);
    assert_eq!(scenario.facts()["team"], "a note");
    assert_eq!(scenario.facts()["idkeep_stored_version"], "2");
}

#[test]
fn facts_that_are_dated_anew_do_not_undo_another_writers() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    set_facts(&scenario, |facts| drop(facts.insert("idkeep_checked_at".into(), json!("2020-01-01T00:00:00Z"))));
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone()), Answer::Dump(Dump::fresh(2).json())]);
    let slow = scenario.idkeep.spawn(&["--log-level", "debug", "sync"]);
    slow.wait_for_stderr("store looked at");
    scenario.validator.server().wait_for_requests(1);
    let other = Dump::fresh(2);
    let accepted = format!("--accept-new-identity={}", other.id);
    assert_eq!(scenario.sync_with(0, &[&accepted]).store(), "written");
    gate.open();
    slow.wait();
    assert_eq!(scenario.facts()["idkeep_participant_id"], other.id.as_str());
    assert_eq!(scenario.facts()["idkeep_stored_version"], "2");
    assert!(scenario.facts()["idkeep_v1"].is_string());
}

#[test]
fn what_the_configuration_learns_later_reaches_the_facts_without_a_version() {
    let mut scenario = Scenario::new(1);
    let yaml = scenario.yaml();
    let hint = format!("    party_hint: acme-{}\n", scenario.node);
    scenario.idkeep.config(&yaml.replace(&hint, ""));
    scenario.sync(0);
    assert!(scenario.facts()["idkeep_party_hint"].is_null());
    scenario.idkeep.config(&yaml);
    assert_eq!(scenario.sync(0).store(), "unchanged");
    assert_eq!(scenario.facts()["idkeep_party_hint"], format!("acme-{}", scenario.node));
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn recipients_that_come_later_are_sealed_to() {
    let mut scenario = Scenario::new(1);
    scenario.sync(0);
    let (first, second) = (AgeKey::new(), AgeKey::new());
    for key in [&first, &second] {
        scenario.identity(&format!("recipients: [{}]", key.recipient));
        let synced = scenario.sync(0);
        assert_eq!(synced.store(), "repaired");
        assert!(synced.stderr().contains("sealed to other recipients"), "{}", synced.stderr());
        let stored = scenario.bao.kv_get(&scenario.path()).unwrap();
        assert_eq!(stored.data["encoding"], "age");
        assert_eq!(key.open(stored.data["content"].as_str().unwrap().as_bytes()).unwrap(), scenario.dump.json());
        assert_eq!(scenario.sync(0).store(), "unchanged");
    }
}

#[test]
fn a_stored_version_that_is_no_number_becomes_no_key() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    set_facts(&scenario, |facts| drop(facts.insert("idkeep_stored_version".into(), json!("9".repeat(200)))));
    scenario.bao.kv_delete(&scenario.path());
    assert_eq!(scenario.sync(0).store(), "repaired");
    assert_eq!(scenario.facts()["idkeep_stored_version"], "2");
    assert!(scenario.facts().as_object().unwrap().keys().all(|key| key.len() < 40));
}

#[test]
fn told_to_end_a_sync_gives_its_token_back() {
    for signal in [Signal::TERM, Signal::INT] {
        let scenario = Scenario::alone(Dump::fresh(1));
        let before = scenario.bao.tokens();
        let gate = Gate::closed();
        scenario.validator.script([Answer::Held(gate.clone())]);
        let run = scenario.idkeep.spawn(&["--log-level", "debug", "sync"]);
        run.wait_for_stderr("store looked at");
        wait_for("the login", Duration::from_secs(20), || (scenario.bao.tokens() > before).then_some(()));
        run.signal(signal);
        let outcome = run.wait();
        assert_eq!(outcome.code, 75, "{outcome}");
        assert!(outcome.stderr.contains("told to end"), "{outcome}");
        assert_eq!(scenario.bao.tokens(), before, "{outcome}");
        gate.open();
    }
}

#[test]
fn a_large_error_page_is_an_error_not_a_dump() {
    let mut scenario = Scenario::new(1);
    scenario.identity("deadline: 1s");
    let page = "x".repeat(2 << 20);
    for (status, code) in [(503, 75), (403, 77), (401, 77)] {
        scenario.validator.always(Answer::Status(status, page.clone(), Vec::new()));
        let synced = scenario.sync(code);
        assert!(synced.stderr().contains(&format!("status {status}")), "{}", synced.stderr());
    }
}

#[test]
fn what_others_wrote_reaches_the_terminal_as_text_alone() {
    let (scenario, folder) = with_folder();
    scenario.sync(0);
    let facts = folder.join("00000001.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&facts).unwrap()).unwrap();
    json["idkeep_participant_id"] = json!("PAR::\u{1b}]0;owned\u{7}\nidkeep: forged line");
    std::fs::write(&facts, json.to_string()).unwrap();
    for arguments in [&["sync"][..], &["check", "--live"]] {
        let outcome = scenario.idkeep.expect(65, arguments);
        let said = outcome.stdout.clone() + &outcome.stderr;
        assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "{outcome}");
        assert!(!said.lines().any(|line| line.starts_with("idkeep: forged")), "{outcome}");
    }
    let outcome = scenario.idkeep.expect(64, &["sync", "node\u{1b}[31m"]);
    assert!(!outcome.stderr.contains('\u{1b}'), "{outcome}");
}

#[test]
fn a_report_that_cannot_be_written_is_no_success() {
    let scenario = Scenario::new(1);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_idkeep"))
        .args(["-o", "json", "sync"])
        .env_clear()
        .env("IDKEEP_CONFIG", scenario.idkeep.path("idkeep.yaml"))
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&output.stderr).contains("report could not be written"));
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn a_secret_in_the_wrong_place_of_the_configuration_is_not_repeated() {
    let mut scenario = Scenario::new(1);
    let yaml = scenario.yaml();
    let secret = "hunter2-S3cr3t";
    let at = |from: &str, to: String| {
        assert!(yaml.contains(from), "{from}");
        yaml.replacen(from, &to, 1)
    };
    for broken in [
        at("client_secret: {file:", format!("client_secret:{secret}: x, client_secret: {{file:")),
        at("audience:", format!("extra_params: {{client_secret: {secret}}}, audience:")),
        at("audience:", format!("extra_params: {{password: {secret}}}, audience:")),
        at("audience:", format!("tls: {{{secret}: x}}, audience:")),
        at("network: testnet", format!("network: ../{secret}")),
    ] {
        scenario.idkeep.config(&broken);
        for arguments in [&["check", "--offline"][..], &["sync"], &["-o", "json", "check"]] {
            let outcome = scenario.idkeep.expect(78, arguments);
            assert!(!outcome.stdout.contains(secret) && !outcome.stderr.contains(secret), "{broken}\n{outcome}");
        }
    }
}
