//! Backups under the daemon: when they are due, what follows them, and what is told of them.

use std::path::Path;

use jiff::Timestamp;

use super::LONG;
use crate::backup::faults::{hold, wait_for_the_dump_to_wait};
use crate::backup::secrecy::Planted;
use crate::backup::verified::aged;
use crate::support::backup::Node;
use crate::support::daemon::{Daemon, WELL};
use crate::support::memory::scan_for;
use crate::support::metrics::{Metrics, promtool};
use crate::support::wait_for;

const ALL: &str = "schedule: {identities: {every: 1h}, backups: {every: 3h, objective: 5h}, verify: {every: 24h}, expire: {every: 24h}}";

/// A node with this schedule, and what else there is to say of its backup.
fn scheduled(seed: u64, schedule: &str, backup: &[&str]) -> Node {
    let mut node = Node::new(seed);
    node.backup.extend(backup.iter().map(ToString::to_string));
    reschedule(&mut node, schedule);
    node
}

fn reschedule(node: &mut Node, schedule: &str) {
    node.scenario.top(schedule);
    node.configure();
}

fn wait_for_count(daemon: &Daemon, name: &str, node: &Node, outcome: &str, count: u64) -> Metrics {
    let labels = [("node", node.name()), ("outcome", outcome)];
    daemon.wait_for_metrics(&format!("{name}{labels:?} {count}"), |metrics| {
        (metrics.count(name, &labels) >= count).then_some(())
    });
    daemon.metrics()
}

fn seconds(at: &serde_json::Value) -> f64 {
    at.as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond() as f64 / 1000.0
}

#[test]
fn a_node_without_a_set_gets_one_at_once_which_is_verified_and_told_of() {
    let mut node = scheduled(900, ALL, &["pruning_retention: 30d"]);
    // The identities come first, or the set's participant could not be compared with the stored one's.
    reschedule(&mut node, "schedule: {identities: {every: 1h}}");
    let daemon = Daemon::start(node.idkeep());
    daemon.wait_for_passes(node.name(), WELL, 1);
    reschedule(&mut node, ALL);
    daemon.stop();
    let daemon = Daemon::start(node.idkeep());
    wait_for_count(&daemon, "idkeep_backup_total", &node, "published", 1);
    wait_for_count(&daemon, "idkeep_verify_total", &node, "pass", 1);
    let metrics = wait_for_count(&daemon, "idkeep_expire_total", &node, "done", 1);
    let sets = node.whole();
    assert_eq!(sets.len(), 1);
    let manifest = node.manifest(&sets[0]);
    let of_node = [("node", node.name())];
    for dump in manifest["databases"].as_array().unwrap() {
        let labels = [of_node[0], ("database", dump["name"].as_str().unwrap())];
        assert_eq!(metrics.value("idkeep_backup_bytes", &labels), dump["bytes"].as_f64(), "{}", metrics.text);
        let took = seconds(&dump["completed_at"]) - seconds(&dump["started_at"]);
        let told = metrics.value("idkeep_backup_duration_seconds", &labels).unwrap();
        assert!((told - took).abs() < 0.01, "{told} is not {took}");
    }
    let snapshot_at = seconds(&manifest["databases"][0]["snapshot_at"]);
    let last = metrics.value("idkeep_backup_last_success_timestamp_seconds", &of_node).unwrap();
    assert!((last - snapshot_at).abs() < 0.01, "{last} is not {snapshot_at}");
    let gap = metrics.value("idkeep_backup_gap_seconds", &of_node).unwrap();
    let age = Timestamp::now().as_second() as f64 - snapshot_at;
    assert!((0.0..=age + 1.0).contains(&gap), "{gap}, {age}");
    let ends = (&manifest["databases"][1]["offsets"]["ledger_end"], &manifest["databases"][0]["offsets"]);
    let lag = ends.0.as_f64().unwrap() - ends.1["validator_last_ingested"].as_f64().unwrap();
    assert_eq!(metrics.value("idkeep_backup_offset_lag", &of_node), Some(lag));
    assert_eq!(metrics.value("idkeep_backup_objective_seconds", &of_node), Some(5.0 * 3600.0));
    assert_eq!(metrics.value("idkeep_backup_pruning_retention_seconds", &of_node), Some(30.0 * 86400.0));
    assert_eq!(metrics.value("idkeep_schedule_interval_seconds", &[("task", "backups")]), Some(3.0 * 3600.0));
    assert!(metrics.value("idkeep_verify_last_success_timestamp_seconds", &of_node).unwrap() >= snapshot_at.floor());
    let (is_read, said) = promtool(&metrics.text);
    assert!(is_read, "{said}");
    let status = daemon.get("/status").json();
    assert_eq!(status["nodes"][node.name()]["backups"]["sets"]["newest"]["set"], sets[0].as_str(), "{status:#}");
    daemon.stop();

    // After a restart all of that is known again, and nothing of it is done again.
    let daemon = Daemon::start(node.idkeep());
    for task in ["identities", "backups", "verify"] {
        daemon.wait_for_event("not due", |event| event.is("not due yet") && event.text("task") == task);
    }
    let again = wait_for_count(&daemon, "idkeep_expire_total", &node, "done", 1);
    for name in ["idkeep_backup_total", "idkeep_verify_total", "idkeep_sync_total"] {
        assert_eq!(again.count(name, &of_node), 0, "{name}: {}", again.text);
    }
    assert_eq!(again.value("idkeep_backup_last_success_timestamp_seconds", &of_node), Some(last));
    assert!(again.value("idkeep_verify_last_success_timestamp_seconds", &of_node).is_some());
    daemon.stop();
    assert_eq!(node.whole(), sets);
}

#[test]
fn a_set_that_is_older_than_the_interval_is_followed_by_another_at_start() {
    let mut node = scheduled(901, ALL, &["retention: {keep_last: 9, keep_daily: 0, keep_weekly: 0}"]);
    node.idkeep().expect(0, &["sync"]);
    let sets = aged(&node, &[9, 8, 7, 6, 5, 4, 3, 2, 1]);
    reschedule(&mut node, ALL);
    let daemon = Daemon::start(node.idkeep());
    wait_for_count(&daemon, "idkeep_backup_total", &node, "published", 1);
    wait_for_count(&daemon, "idkeep_verify_total", &node, "pass", 1);
    let metrics = wait_for_count(&daemon, "idkeep_expire_total", &node, "done", 1);
    // A day and an hour lie between the last two.
    let gap = metrics.value("idkeep_backup_gap_seconds", &[("node", node.name())]).unwrap();
    assert!((25.0 * 3600.0..26.0 * 3600.0).contains(&gap), "{gap}");
    let kept = node.whole();
    assert_eq!(kept.len(), 9);
    assert_eq!(kept[..8], sets[1..], "the oldest is expired, and nothing else");
}

#[test]
fn backups_come_at_each_interval_and_their_chain_is_whole() {
    let node = scheduled(902, "schedule: {backups: {every: 1s}}", &[]);
    let daemon = Daemon::start(node.idkeep());
    wait_for_count(&daemon, "idkeep_backup_total", &node, "published", 3);
    daemon.stop();
    let sets = node.whole();
    assert!(sets.len() >= 3);
    for pair in sets.windows(2) {
        assert_eq!(node.manifest(&pair[1])["previous"]["set"], pair[0].as_str());
    }
    assert!(node.files().iter().all(|file| !file.ends_with("pending.json")), "{:?}", node.files());
}

#[test]
fn a_server_that_is_restarted_in_a_dump_costs_that_set_and_no_other() {
    let mut node = scheduled(903, "schedule: {backups: {every: 3s}}", &[]);
    let lock = hold(&node);
    let daemon = Daemon::start(node.idkeep());
    wait_for_the_dump_to_wait(&node);
    node.cluster.stop();
    drop(lock);
    let metrics = wait_for_count(&daemon, "idkeep_backup_total", &node, "failed", 1);
    let name = node.name().to_owned();
    let of_node = [("node", name.as_str())];
    assert_eq!(metrics.count("idkeep_backup_total", &[of_node[0], ("outcome", "published")]), 0);
    assert_eq!(metrics.value("idkeep_backup_last_success_timestamp_seconds", &of_node), None);
    assert!(node.whole().is_empty());
    node.cluster.restart();
    let metrics = wait_for_count(&daemon, "idkeep_backup_total", &node, "published", 1);
    assert!(metrics.value("idkeep_backup_last_success_timestamp_seconds", &of_node).is_some());
    daemon.stop();
    assert!(!node.whole().is_empty());
    let left: Vec<String> = node.files().into_iter().filter(|file| file.ends_with("pending.json")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_set_that_is_not_consistent_is_counted_as_rejected_and_is_no_success() {
    let node = scheduled(904, "schedule: {backups: {every: 1h}}", &[]);
    node.cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 1");
    let daemon = Daemon::start(node.idkeep());
    let metrics = wait_for_count(&daemon, "idkeep_backup_total", &node, "rejected", 1);
    let of_node = [("node", node.name())];
    assert_eq!(metrics.value("idkeep_backup_last_success_timestamp_seconds", &of_node), None, "{}", metrics.text);
    assert_eq!(metrics.count("idkeep_backup_total", &of_node), 1);
    assert!(node.whole().is_empty());
}

#[test]
fn a_set_that_is_damaged_afterwards_is_found_by_the_next_verification() {
    let mut node = scheduled(905, ALL, &[]);
    node.idkeep().expect(0, &["sync"]);
    let set = node.publish();
    reschedule(&mut node, "schedule: {verify: {every: 1s}}");
    let daemon = Daemon::start(node.idkeep());
    wait_for_count(&daemon, "idkeep_verify_total", &node, "pass", 2);
    damage(&node.folder().join(&set).join("participant.dump.zst.age"));
    wait_for_count(&daemon, "idkeep_verify_total", &node, "fail", 1);
    daemon.stop();
}

/// One byte in the middle is another.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_database_that_is_down_fails_backups_and_no_pass() {
    let mut node = scheduled(906, "schedule: {identities: {every: 1s}, backups: {every: 1s}}", &[]);
    node.cluster.stop();
    let daemon = Daemon::start(node.idkeep());
    wait_for_count(&daemon, "idkeep_backup_total", &node, "failed", 1);
    daemon.wait_for_passes(node.name(), WELL, 3);
    let ready = daemon.get("/readyz");
    assert_eq!(ready.status, 200, "readiness is of identities: {}", ready.text());
    daemon.stop();
}

/// While a dump hangs, in whatever way, the identities of the same node go on.
#[test]
fn a_backup_that_hangs_delays_no_pass() {
    let node = scheduled(907, "schedule: {identities: {every: 1s}, backups: {every: 1h}}", &[]);
    let lock = hold(&node);
    let daemon = Daemon::start(node.idkeep());
    wait_for_the_dump_to_wait(&node);
    daemon.wait_for_passes(node.name(), WELL, 3);
    let so_far = node.scenario.validator.identity_requests().len();
    wait_for("passes beside the dump", LONG, || {
        (node.scenario.validator.identity_requests().len() >= so_far + 3).then_some(())
    });
    drop(lock);
    wait_for_count(&daemon, "idkeep_backup_total", &node, "published", 1);
}

#[test]
fn nothing_of_a_backup_is_left_in_the_daemon_s_memory() {
    let mut planted = Planted::new(908, 2_000);
    reschedule(&mut planted.node, "schedule: {backups: {every: 1h}}");
    let daemon = Daemon::start(planted.node.idkeep());
    wait_for_count(&daemon, "idkeep_backup_total", &planted.node, "published", 1);
    // A token of the store may stay.
    planted.secrets.retain(|(name, _)| name != "vault token");
    assert!(planted.secrets.len() > 5);
    wait_for("the job to end", LONG, || {
        let status = daemon.get("/status").json();
        status["nodes"][planted.node.name()]["due"]["backups"].is_string().then_some(())
    });
    let hits = scan_for(daemon.pid(), &planted.secrets);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
}
