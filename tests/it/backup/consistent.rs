//! What the data says about a set's consistency: judged before the participant's database is read.

use serde_json::Value;

use crate::support::backup::{Node, database};
use crate::support::idkeep::Outcome;
use crate::support::postgres::{Cluster, Store, Writer};

fn store(id: i64, migration: i64, offset: i64) -> Store {
    Store { id, migration, offset: Some(offset) }
}

fn invariant<'o>(report: &'o Value, name: &str) -> &'o Value {
    &report["nodes"][0]["invariants"][name]
}

/// A rejected run: exit code 2, its evidence kept, and nothing that could be taken for a backup.
fn rejected(node: &Node, name: &str) -> Outcome {
    let outcome = node.backup(2);
    let report = outcome.json();
    assert_eq!(report["nodes"][0]["outcome"], "rejected", "{outcome}");
    assert_eq!(invariant(&report, name)["result"], "fail", "{outcome}");
    let set = report["nodes"][0]["set"].as_str().unwrap();
    let files = node.files();
    assert!(files.contains(&format!("{set}/rejected.json")), "{files:?}");
    for file in ["manifest.json", "participant.dump.zst.age", "pending.json"] {
        assert!(!files.contains(&format!("{set}/{file}")), "{files:?}");
    }
    assert!(node.whole().is_empty());
    assert_eq!(node.listed()["rejected"], 1);
    let list = node.idkeep().expect(0, &["list"]);
    assert!(!list.stdout.contains(set), "a rejected set is listed: {list}");
    outcome
}

#[test]
fn a_validator_ahead_of_its_participant_is_rejected_before_the_participant_is_dumped() {
    let node = Node::with(310, |network| network.ledger_end = 65);
    let outcome = rejected(&node, "I1");
    assert!(outcome.stderr.contains("66"), "{outcome}");
}

#[test]
fn an_app_that_needs_what_was_pruned_is_rejected() {
    let node = Node::with(311, |network| network.pruned = Some(67));
    rejected(&node, "I2");
}

#[test]
fn an_app_some_of_whose_stores_lag_behind_the_pruning_is_published_with_a_warning_that_names_them() {
    let node = Node::with(312, |network| {
        network.pruned = Some(50);
        network.stores.push(store(7, 3, 49));
    });
    node.scenario.idkeep.sync(0);
    let outcome = node.backup(0);
    let report = outcome.json();
    assert_eq!(invariant(&report, "I2")["result"], "unknown", "{outcome}");
    assert!(invariant(&report, "I2")["reason"].as_str().unwrap().contains('7'), "{outcome}");
    assert!(outcome.stderr.contains("not proven"), "{outcome}");
    assert_eq!(node.whole().len(), 1);
}

#[test]
fn nothing_pruned_passes() {
    let node = Node::with(313, |network| network.pruned = None);
    let report = node.backup(0).json();
    assert_eq!(invariant(&report, "I2")["result"], "pass");
}

#[test]
fn another_participant_than_the_one_last_synced_is_rejected() {
    let node =
        Node::with(314, |network| network.participant = network.participant.replace("1220", "1220ab")[..].into());
    node.scenario.idkeep.sync(0);
    rejected(&node, "I3");
}

#[test]
fn before_the_first_sync_nobody_knows_whose_the_database_is() {
    let node = Node::new(315);
    let report = node.backup(0).json();
    assert_eq!(invariant(&report, "I3")["result"], "unknown");
}

#[test]
fn a_configured_participant_is_enough_to_know() {
    let mut node = Node::new(316);
    let line = format!("participant: {}", node.scenario.dump.id);
    node.scenario.identity(&line);
    node.configure();
    let report = node.backup(0).json();
    assert_eq!(invariant(&report, "I3")["result"], "pass");
}

#[test]
fn a_participant_without_the_key_of_its_namespace_is_rejected_unless_that_is_kept_offline() {
    let mut node = Node::with(317, |network| {
        network.keys.remove(0);
    });
    rejected(&node, "I4");
    node.scenario.identity("namespace_key: offline");
    node.configure();
    let report = node.backup(0).json();
    assert_eq!(invariant(&report, "I4")["result"], "unknown");
}

#[test]
fn a_namespace_key_in_a_kms_counts() {
    let node = Node::with(318, |network| {
        let (id, _) = network.keys.remove(0);
        network.kms.push(id);
    });
    let report = node.backup(0).json();
    assert_eq!(invariant(&report, "I4")["result"], "pass");
}

#[test]
fn missing_tables_are_unknown_and_never_pass() {
    let node = Node::new(319);
    node.cluster.sql("validator", "drop table validator.store_last_ingested_offsets");
    node.cluster.sql("participant", "drop table participant.lapi_parameters, participant.common_crypto_private_keys");
    let outcome = node.backup(0);
    let report = outcome.json();
    for name in ["I1", "I2", "I4"] {
        assert_eq!(invariant(&report, name)["result"], "unknown", "{outcome}");
    }
}

/// The proof of the whole: what the manifest says is what is inside, however busy the node is.
#[test]
fn the_offsets_of_the_manifest_are_those_inside_the_dumps_under_writes() {
    let node = Node::with(320, |network| network.rows = 2000);
    let writer = Writer::start((&node.cluster, "validator"), (&node.cluster, "participant"), 100);
    for run in 0..20 {
        let set = node.publish();
        let manifest = node.manifest(&set);
        for (dump, sql, field) in [
            (
                0,
                "select ('x' || max(last_ingested_offset))::varchar from validator.store_last_ingested_offsets where migration_id = 3",
                "validator_last_ingested",
            ),
            (1, "select ledger_end from participant.lapi_parameters", "ledger_end"),
        ] {
            let dump = &manifest["databases"][dump];
            let name = dump["name"].as_str().unwrap();
            let restored = format!("restored_{name}_{run}");
            node.restore(&node.folder().join(&set).join(dump["file"].as_str().unwrap()), &restored);
            let inside = node.cluster.sql(&restored, sql).trim().to_owned();
            let inside = inside
                .strip_prefix('x')
                .map_or_else(|| inside.parse().unwrap(), |hex| i64::from_str_radix(hex, 16).unwrap());
            assert_eq!(dump["offsets"][field], inside, "run {run}, {name}");
            node.cluster.sql("postgres", &format!("drop database {restored}"));
        }
        let offset = |dump: usize, field: &str| manifest["databases"][dump]["offsets"][field].as_i64().unwrap();
        assert!(offset(0, "validator_last_ingested") <= offset(1, "ledger_end"));
    }
    let at = writer.stop();
    assert!(at > 120, "the node stood still: {at}");
}

#[test]
fn two_servers_are_as_good_as_one() {
    let other = Cluster::packaged();
    let mut node = Node::on(Cluster::packaged(), 321, |_| {});
    other.validator("validator", &node.network);
    node.cluster.participant("participant", &node.network);
    node.databases[0] = database(&other, "validator", "validator", &other.url("validator"));
    node.configure();
    let set = node.publish();
    let manifest = node.manifest(&set);
    let identifier = |index: usize| manifest["databases"][index]["system_identifier"].as_str().unwrap().to_owned();
    assert_ne!(identifier(0), identifier(1));
}

#[test]
fn a_standby_that_lags_is_asked_until_it_has_caught_up() {
    let primary = Cluster::packaged();
    let mut node = Node::on(primary, 322, |_| {});
    node.cluster.node(&node.network);
    let standby = node.cluster.standby();
    standby.pause_replay();
    node.cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 200");
    node.cluster.sql(
        "validator",
        &format!(
            "update validator.store_last_ingested_offsets set last_ingested_offset = '{:018x}' where migration_id = 3",
            150
        ),
    );
    node.databases[1] = database(&standby, "participant", "participant", &standby.url("participant"));
    node.scenario.identity("deadline: 2s");
    node.configure();
    let outcome = node.backup(75);
    assert!(outcome.stderr.contains("the standby lags"), "{outcome}");
    assert!(node.files().iter().all(|file| !file.contains(".dump.")), "{:?}", node.files());

    node.scenario.identity("deadline: 60s");
    node.configure();
    let run = node.start();
    run.wait_for_stderr("asking the standby again");
    standby.resume_replay();
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    let set = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
    assert_eq!(node.manifest(&set)["databases"][1]["standby"], true);
    assert_eq!(node.manifest(&set)["databases"][1]["offsets"]["ledger_end"], 200);
}
