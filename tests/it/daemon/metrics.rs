//! What the metrics tell, and that Prometheus reads them.

use std::collections::BTreeSet;

use super::{EVERY_SECOND, SELDOM, goes_on, scheduled};
use crate::support::daemon::{Daemon, passes};
use crate::support::metrics::promtool;
use crate::support::proxy;
use crate::support::validator::Answer;

#[test]
fn another_participant_is_refused_and_counted_as_that() {
    let scenario = scheduled(861, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    scenario.validator.dump(&crate::support::dump::Dump::fresh(862).json());
    let refused = daemon.wait_for_metrics("a refusal", |metrics| {
        let refused = metrics.count("idkeep_sync_refused_total", &[("node", &scenario.node)]);
        (refused > 0).then_some(refused)
    });
    let metrics = daemon.metrics();
    assert!(passes(&metrics, &scenario.node, &["failed"]) >= refused);
    let of_node = [("node", scenario.node.as_str())];
    let info = metrics.samples("idkeep_identity_info", &of_node).next().unwrap();
    assert_eq!(info.labels["participant_id"], scenario.dump.id, "what is stored is still the old one");
    assert_eq!(scenario.versions(), 1);
}

#[test]
fn metrics_are_read_by_prometheus_and_have_every_name_that_was_promised() {
    let scenario = scheduled(863, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let answer = daemon.get("/metrics");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{answer:?}");
    let (is_read, said) = promtool(&answer.text());
    assert!(is_read, "{said}");
    let metrics = daemon.metrics();
    let node = [("node", scenario.node.as_str())];
    let names: BTreeSet<&str> = metrics.names().filter(|name| metrics.samples(name, &[]).next().is_some()).collect();
    for name in [
        "idkeep_build_info",
        "idkeep_sync_total",
        "idkeep_sync_last_success_timestamp_seconds",
        "idkeep_sync_duration_seconds",
        "idkeep_sync_refused_total",
        "idkeep_store_write_total",
        "idkeep_store_fill_ratio",
        "idkeep_identity_bytes",
        "idkeep_identity_info",
        "idkeep_schedule_interval_seconds",
        "idkeep_config_last_reload_successful",
    ] {
        assert!(names.contains(name), "{name} is missing:\n{}", metrics.text);
    }
    assert_eq!(metrics.value("idkeep_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert_eq!(metrics.value("idkeep_identity_bytes", &node), Some(scenario.dump.json().len() as f64));
    let info = [node[0], ("participant_id", &scenario.dump.id), ("key_kind", "software"), ("key_proof", "proven")];
    assert_eq!(metrics.value("idkeep_identity_info", &info), Some(1.0), "{}", metrics.text);
    let store = [node[0], ("store", "vault")];
    let fill = metrics.value("idkeep_store_fill_ratio", &store).unwrap();
    assert!(fill > 0.0 && fill < 0.1, "{fill}");
    assert_eq!(metrics.count("idkeep_store_write_total", &[store[0], store[1], ("outcome", "written")]), 1);
    assert_eq!(metrics.value("idkeep_schedule_interval_seconds", &[("task", "identities")]), Some(1.0));
    assert_eq!(metrics.value("idkeep_config_last_reload_successful", &[]), Some(1.0));
    let now = jiff::Timestamp::now().as_second() as f64;
    let last = metrics.value("idkeep_sync_last_success_timestamp_seconds", &node).unwrap();
    assert!((now - 600.0..=now + 1.0).contains(&last), "{last}, and now is {now}");
}

#[test]
fn a_store_that_is_not_needed_and_fails_is_counted_and_leaves_the_node_ready() {
    let mut scenario = scheduled(873, EVERY_SECOND);
    let down = proxy::refused();
    scenario.config.stores = "[vault, down]".into();
    scenario.config.more_stores = format!(
        "  down:\n    vault:\n      address: http://{down}\n      allow_http: true\n      \
         path: canton/{{node}}/identities\n      auth: {{token: {{file: {:?}}}}}\n",
        scenario.idkeep.secret_file("down-token", b"s.nothing")
    );
    scenario.identity("deadline: 2s");
    scenario.identity("require: any");
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let metrics = daemon.metrics();
    let count = |store, outcome| {
        let labels = [("node", scenario.node.as_str()), ("store", store), ("outcome", outcome)];
        metrics.count("idkeep_store_write_total", &labels)
    };
    assert_eq!((count("vault", "written"), count("vault", "failed"), count("down", "written")), (1, 0, 0));
    assert!(count("down", "failed") >= 1, "{}", metrics.text);
    assert_eq!(passes(&metrics, &scenario.node, &["failed"]), 0, "{}", metrics.text);
}

/// A counter that begins with its first event has no increase there, and no alert is raised by it.
#[test]
fn counters_are_there_before_they_count() {
    let scenario = scheduled(864, SELDOM);
    scenario.validator.always(Answer::Stall);
    let daemon = Daemon::start(&scenario.idkeep);
    let metrics = daemon.metrics();
    for outcome in ["written", "unchanged", "repaired", "failed"] {
        let labels = [("node", scenario.node.as_str()), ("outcome", outcome)];
        assert_eq!(metrics.value("idkeep_sync_total", &labels), Some(0.0), "{}", metrics.text);
    }
    assert_eq!(metrics.value("idkeep_sync_refused_total", &[("node", &scenario.node)]), Some(0.0));
    let unknown = metrics.value("idkeep_sync_last_success_timestamp_seconds", &[("node", &scenario.node)]);
    assert_eq!(unknown, None, "a time that is not known is not 0");
    scenario.validator.release();
}
