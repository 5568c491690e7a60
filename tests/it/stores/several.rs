//! Several stores of a node and several nodes of a pass: no failure stops another, and the gravest is the exit code.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::age::AgeKey;
use crate::support::idkeep::{Idkeep, Outcome};
use crate::support::proxy::refused;
use crate::support::scenario::Scenario;

/// A node with four stores: `vault` and `dr` are good, `down` is unreachable (75), `denied` has a wrong token (77),
/// `misplaced` is a folder under a file (78).
fn with_stores(stores: &str, require: &str) -> Scenario {
    let mut scenario = Scenario::new(1);
    let key = AgeKey::new();
    let (bad, blocked) = (scenario.idkeep.secret_file("bad", b"s.bad"), scenario.idkeep.file("blocked", b""));
    let folder = scenario.idkeep.path("kept");
    let vault = |name: &str, address: &str| {
        format!(
            "  {name}:\n    vault:\n      address: {address}\n      allow_http: true\n      \
             path: canton/{{node}}/{name}\n      auth: {{token: {{file: {bad:?}}}}}\n"
        )
    };
    let file = |name: &str, path: PathBuf| {
        format!("  {name}:\n    file: {{path: {path:?}, recipients: [{}]}}\n", key.recipient)
    };
    scenario.config.more_stores = [
        file("dr", folder),
        vault("down", &format!("http://{}", refused())),
        vault("denied", &scenario.bao.address),
        file("misplaced", blocked.join("x")),
    ]
    .concat();
    scenario.config.stores = stores.into();
    scenario.identity("deadline: 1s");
    scenario.identity(&format!("require: {require}"));
    scenario
}

/// Name, outcome and whether there is an error, store by store.
fn stores(node: &Value) -> Vec<(String, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let stores = node["stores"].as_array().unwrap().iter();
    stores.map(|store| (text(&store["store"]), text(&store["outcome"]), store["error"].is_string())).collect()
}

#[test]
fn one_store_that_fails_stops_no_other() {
    for (failing, code) in [("down", 75), ("denied", 77), ("misplaced", 78)] {
        let scenario = with_stores(&format!("[{failing}, vault, dr]"), "all");
        let synced = scenario.sync(code);
        let expected = [(failing, "failed", true), ("vault", "written", false), ("dr", "written", false)];
        let expected = expected.map(|(name, outcome, error)| (name.to_owned(), outcome.to_owned(), error));
        assert_eq!(stores(&synced.node), expected);
        scenario.assert_stored(&scenario.dump);
        assert_eq!(synced.node["error"], "2 of 3 stores took the identities, which is not enough");
        assert!(synced.stderr().contains(&format!("idkeep: {}: {failing}: ", scenario.node)), "{}", synced.outcome);
    }
}

#[test]
fn enough_stores_are_a_success_with_a_warning() {
    for (named, require) in [
        ("[down, vault]", "any"),
        ("[denied, misplaced, down, dr]", "any"),
        ("[misplaced, vault, dr]", "2"),
        ("[vault, dr, down]", "1"),
    ] {
        let scenario = with_stores(named, require);
        let synced = scenario.sync(0);
        assert!(synced.stderr().contains("this store failed, the others are enough"), "{}", synced.outcome);
        assert!(synced.node["error"].is_null());
        assert!(stores(&synced.node).iter().any(|(_, outcome, _)| outcome == "failed"));
    }
}

#[test]
fn too_few_stores_end_with_the_gravest_failure() {
    for (named, require, code) in [
        ("[down, denied, vault]", "2", 77),
        ("[down, denied]", "any", 77),
        ("[down, misplaced, denied, vault]", "2", 78),
        ("[down, vault]", "2", 75),
    ] {
        let synced = with_stores(named, require).sync(code);
        assert!(synced.node["error"].as_str().unwrap().ends_with("which is not enough"), "{}", synced.outcome);
    }
}

#[test]
fn a_store_that_was_away_is_written_by_the_next_pass() {
    let mut scenario = with_stores("[vault, away]", "any");
    let folder = scenario.idkeep.file("away", b"");
    scenario.config.more_stores +=
        &format!("  away:\n    file: {{path: {:?}, recipients: [{}]}}\n", folder.join("x"), AgeKey::new().recipient);
    scenario.configure();
    assert_eq!(stores(&scenario.sync(0).node)[1].1, "failed");
    std::fs::remove_file(folder).unwrap();
    let outcomes = stores(&scenario.sync(0).node);
    assert_eq!([&outcomes[0].1, &outcomes[1].1], ["unchanged", "written"]);
}

#[test]
fn list_says_which_stores_hold_the_same_and_which_has_fallen_behind() {
    let scenario = with_stores("[vault, dr]", "all");
    let listed = || {
        let outcome = scenario.idkeep.expect(0, &["-o", "json", "list"]);
        let identities = outcome.json()["nodes"][0]["identities"].as_array().unwrap().clone();
        let states = identities.iter().map(|identity| identity["state"].as_str().unwrap().to_owned());
        (states.collect::<Vec<_>>(), identities, outcome)
    };
    assert_eq!(listed().0, ["empty", "empty"]);
    scenario.sync(0);
    let (states, identities, outcome) = listed();
    assert_eq!(states, ["current", "current"]);
    assert_eq!(identities[0]["digest"], identities[1]["digest"]);
    assert!(!outcome.stderr.contains("WARN"), "{outcome}");
    // The folder is away while the identity changes.
    let (folder, away) = (scenario.idkeep.path("kept"), scenario.idkeep.path("away"));
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, b"").unwrap();
    let rotated = scenario.dump.clone().rotated(7, 1);
    scenario.validator.dump(&rotated.json());
    scenario.sync(78);
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    let (states, identities, outcome) = listed();
    assert_eq!(states, ["current", "behind"], "{outcome}");
    assert_eq!([&identities[0]["digest"], &identities[1]["digest"]], [&rotated.digest(), &scenario.dump.digest()]);
    assert!(outcome.stderr.contains("this store does not hold what another does"), "{outcome}");
    scenario.sync(0);
    assert_eq!(listed().0, ["current", "current"]);
}

/// A pass over several nodes: each is the scenario's node under another name and with these changes.
struct Nodes {
    scenario: Scenario,
    idkeep: Idkeep,
}

impl Nodes {
    fn new(names: &[&str]) -> Self {
        let mut scenario = Scenario::new(1);
        scenario.identity("deadline: 1s");
        let paths = "canton/+/identities";
        scenario.bao.policy(&scenario.node, &crate::support::openbao::writer_policy(paths));
        let bad = scenario.idkeep.secret_file("bad", b"bad");
        let yaml = scenario.yaml();
        let (node, stores) = yaml.split_once("stores:\n  vault:").unwrap();
        let node = node.strip_prefix("nodes:\n").unwrap();
        let auth = format!("auth: {}", scenario.config.auth);
        let nodes: String = names
            .iter()
            .map(|name| {
                let node = node.replacen(&scenario.node, &unique(&scenario, name), 1);
                match *name {
                    "down" => {
                        node.replace(&scenario.validator.endpoint(), &format!("http://{}/api/validator", refused()))
                    }
                    "denied" => node.replace(&auth, &format!("auth: {{token: {{file: {bad:?}}}}}")),
                    "foreign" => node.replace(&auth, &format!("participant: {:?}\n      {auth}", other())),
                    "misplaced" => node.replace("/api/validator", "/api/elsewhere"),
                    _ => node,
                }
            })
            .collect();
        let mut idkeep = Idkeep::new();
        idkeep.config(&format!("nodes:\n{nodes}stores:\n  vault:{stores}"));
        Self { scenario, idkeep }
    }

    fn sync(&self, code: i32, nodes: &[&str]) -> Outcome {
        let nodes: Vec<String> = nodes.iter().map(|node| unique(&self.scenario, node)).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        self.idkeep.expect(code, &[&["-o", "json", "sync"], &nodes[..]].concat())
    }

    fn versions(&self, node: &str) -> u64 {
        let path = format!("canton/{}/identities", unique(&self.scenario, node));
        self.scenario.bao.kv_metadata(&path).map_or(0, |metadata| metadata["current_version"].as_u64().unwrap())
    }
}

/// The shared server knows no two nodes of the same name.
fn unique(scenario: &Scenario, name: &str) -> String {
    format!("{name}-of-{}", scenario.node)
}

fn other() -> String {
    crate::support::dump::Dump::fresh(99).id
}

#[test]
fn one_node_that_fails_stops_no_other_and_the_gravest_failure_is_the_exit_code() {
    for (names, code) in [
        (&["good", "down", "fine"][..], 75),
        (&["good", "down", "denied", "fine"], 77),
        (&["foreign", "down", "good", "fine"], 65),
        (&["foreign", "down", "denied", "good", "fine"], 77),
        (&["misplaced", "foreign", "denied", "good", "fine"], 78),
    ] {
        let nodes = Nodes::new(names);
        let report = nodes.sync(code, &[]).json();
        assert_eq!(report["nodes"].as_array().unwrap().len(), names.len());
        for node in report["nodes"].as_array().unwrap() {
            let name = node["node"].as_str().unwrap();
            let is_good = name.starts_with("good-") || name.starts_with("fine-");
            assert_eq!(node["error"].is_null(), is_good, "{node}");
            assert_eq!(node["stores"].as_array().unwrap().len(), usize::from(is_good), "{node}");
        }
        for name in names {
            assert_eq!(nodes.versions(name), u64::from(["good", "fine"].contains(name)), "{name}");
        }
    }
}

#[test]
fn nodes_that_are_named_are_the_only_ones() {
    let nodes = Nodes::new(&["good", "down", "fine"]);
    let report = nodes.sync(0, &["fine"]).json();
    assert_eq!(report["nodes"].as_array().unwrap().len(), 1);
    assert_eq!([nodes.versions("good"), nodes.versions("fine")], [0, 1]);
    nodes.sync(0, &["fine", "good"]);
    assert_eq!(nodes.versions("good"), 1);
    let outcome = nodes.sync(64, &["good", "nobody"]);
    assert!(outcome.stderr.contains("there is no node `nobody-of-"), "{outcome}");
    assert!(outcome.stderr.contains("hint: configured are: "), "{outcome}");
    assert!(outcome.json()["error"].as_str().unwrap().starts_with("there is no node"), "{outcome}");
}

#[test]
fn the_report_has_exactly_the_fields_that_are_promised() {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let node_keys = [
        "node",
        "participant_id",
        "digest",
        "dump_version",
        "key_kind",
        "key_proof",
        "keys",
        "bytes",
        "stores",
        "error",
        "elapsed_ms",
    ];
    let scenario = with_stores("[vault, down]", "all");
    let synced = scenario.sync(75);
    let report = synced.outcome.json();
    assert_eq!(keys(&report), set(&["nodes"]));
    let node = &synced.node;
    assert_eq!(keys(node), set(&node_keys));
    assert_eq!(node["node"], scenario.node.as_str());
    assert_eq!(node["participant_id"], scenario.dump.id.as_str());
    assert_eq!(node["digest"], scenario.dump.digest());
    assert_eq!(node["dump_version"], "0.7.5");
    assert_eq!([&node["key_kind"], &node["key_proof"]], ["software", "proven"]);
    assert_eq!(node["keys"], 3);
    assert_eq!(node["bytes"], scenario.dump.json().len());
    assert!(node["elapsed_ms"].is_u64());
    for store in node["stores"].as_array().unwrap() {
        assert_eq!(keys(store), set(&["store", "outcome", "version", "error"]));
    }
    assert_eq!(node["stores"][0]["version"], "1");
    assert!(node["stores"][1]["version"].is_null());
    // A node without a dump has the same fields.
    let failed = Nodes::new(&["down"]).sync(75, &[]).json()["nodes"][0].clone();
    assert_eq!(keys(&failed), set(&node_keys));
    assert!(failed["digest"].is_null() && failed["error"].is_string());
    assert_eq!(failed["stores"], serde_json::json!([]));
}

#[test]
fn the_text_for_a_pipe_is_one_line_of_tabs_for_each_store() {
    let scenario = with_stores("[vault, down]", "any");
    let (digest, id) = (scenario.dump.digest(), &scenario.dump.id);
    let node = &scenario.node;
    for outcome in ["written", "unchanged"] {
        let text = scenario.idkeep.expect(0, &["sync"]).stdout;
        let expected = format!(
            "{node}\tvault\t{outcome}\t1\tproven\t{digest}\t{id}\n{node}\tdown\tfailed\t-\tproven\t{digest}\t{id}\n"
        );
        assert_eq!(text, expected);
    }
    let nodes = Nodes::new(&["down"]);
    let text = nodes.idkeep.expect(75, &["sync"]).stdout;
    assert_eq!(text, format!("{}\t-\tfailed\t-\t-\t-\t-\n", unique(&nodes.scenario, "down")));
}
