//! When passes come, and that neither a slow node nor a stopped clock brings them out of step.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{EVERY_SECOND, LONG, SELDOM, goes_on, let_pass, scheduled};
use crate::support::daemon::{Daemon, ENDED, Event, WELL, passes};
use crate::support::fleet::Fleet;
use crate::support::idkeep::Signal;
use crate::support::parts::library;
use crate::support::server::Gate;
use crate::support::validator::Answer;
use crate::support::wait_for;

#[test]
fn passes_come_at_start_and_at_each_interval_and_what_has_not_changed_makes_no_version() {
    let scenario = scheduled(800, EVERY_SECOND);
    let node = &scenario.node;
    let started_at = Instant::now();
    let daemon = Daemon::start(&scenario.idkeep);
    let metrics = daemon.wait_for_passes(node, &["unchanged"], 3);
    let count = passes(&metrics, node, ENDED);
    assert_eq!(passes(&metrics, node, &["written"]), 1, "{}", metrics.text);
    assert_eq!(passes(&metrics, node, &["failed"]), 0, "{}", metrics.text);
    assert!(count <= started_at.elapsed().as_secs() + 2, "{count} passes come more often than each second");
    let requests = scenario.validator.identity_requests().len() as u64;
    assert!((count..=count + 1).contains(&requests), "{requests} requests for {count} passes");
    daemon.stop();
    assert_eq!(scenario.versions(), 1);
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn a_change_is_written_by_the_next_pass() {
    let scenario = scheduled(801, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, &["unchanged"], 1);
    let rotated = scenario.dump.clone().rotated(802, 1);
    scenario.validator.dump(&rotated.json());
    daemon.wait_for_passes(&scenario.node, &["written"], 2);
    daemon.stop();
    assert_eq!(scenario.versions(), 2);
    scenario.assert_stored(&rotated);
}

#[test]
fn intervals_that_were_missed_are_made_up_for_by_one_pass() {
    let interval = Duration::from_secs(1);
    let scenario = scheduled(803, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 1);
    daemon.signal(Signal::STOP);
    let_pass(interval * 5);
    let before = scenario.validator.identity_requests().len();
    let gone_on_at = Instant::now();
    daemon.signal(Signal::CONT);
    // What was under way when it was stopped ends, what was missed comes once, and then the next after its interval.
    wait_for("three passes", LONG, || (scenario.validator.identity_requests().len() >= before + 3).then_some(()));
    assert!(gone_on_at.elapsed() >= interval, "missed passes are run one after the other\n{}", daemon.log());
    daemon.wait_for_passes(&scenario.node, WELL, before as u64 + 3);
    let metrics = daemon.metrics();
    assert_eq!(passes(&metrics, &scenario.node, &["failed"]), 0, "{}", metrics.text);
}

#[test]
fn a_pass_that_outlasts_its_interval_is_not_overlapped_by_the_next() {
    let scenario = scheduled(804, EVERY_SECOND);
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let daemon = Daemon::start(&scenario.idkeep);
    scenario.validator.server().wait_for_requests(1);
    let_pass(Duration::from_secs(3));
    assert_eq!(scenario.validator.identity_requests().len(), 1);
    gate.open();
    daemon.wait_for_passes(&scenario.node, WELL, 3);
    assert_eq!(scenario.validator.server().most_in_flight(), 1);
}

#[test]
fn at_start_what_the_store_says_is_fresh_is_left_alone_and_what_is_due_is_synced() {
    let mut fleet = Fleet::new(4);
    fleet.configure(&[], &format!("{SELDOM}\nserver: {{listen: 127.0.0.1:0}}\n"));
    let names: Vec<&str> = fleet.members.iter().map(|member| member.name.as_str()).collect();
    fleet.idkeep.expect(0, &["sync", names[0], names[1], names[2]]);
    // The third was last looked at long ago.
    let path = format!("canton/{}/identities", names[2]);
    let mut facts = fleet.bao.kv_metadata(&path).unwrap()["custom_metadata"].clone();
    facts["idkeep_checked_at"] = json!("2026-01-01T00:00:00Z");
    fleet.bao.kv_put_metadata(&path, json!({ "custom_metadata": facts }));
    let daemon = Daemon::start(&fleet.idkeep);
    daemon.wait_for_readyz("", 200);
    let metrics = daemon.metrics();
    for (place, outcome) in [(0, None), (1, None), (2, Some("unchanged")), (3, Some("written"))] {
        let requests = fleet.members[place].validator.identity_requests().len();
        assert_eq!(requests, if place == 2 { 2 } else { 1 }, "node {place}");
        let count = u64::from(outcome.is_some());
        assert_eq!(passes(&metrics, names[place], ENDED), count, "node {place}: {}", metrics.text);
        assert_eq!(outcome.map_or(0, |outcome| passes(&metrics, names[place], &[outcome])), count, "{}", metrics.text);
        let last = metrics.value("idkeep_sync_last_success_timestamp_seconds", &[("node", names[place])]);
        assert!(last.is_some_and(|last| last > 1.79e9), "node {place}: {last:?}");
    }
    // What it takes the facts' word for is what they say.
    let facts = fleet.bao.kv_metadata(&format!("canton/{}/identities", names[0])).unwrap();
    let checked_at: jiff::Timestamp = facts["custom_metadata"]["idkeep_checked_at"].as_str().unwrap().parse().unwrap();
    let last = metrics.value("idkeep_sync_last_success_timestamp_seconds", &[("node", names[0])]).unwrap();
    assert!((last - checked_at.as_second() as f64).abs() <= 1.0, "{last} is not {checked_at}");
}

#[test]
fn a_secret_that_is_gone_is_not_taken_for_fresh() {
    let scenario = scheduled(805, SELDOM);
    scenario.sync(0);
    scenario.bao.kv_delete(&scenario.path());
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, &["repaired"], 1);
    daemon.wait_for_readyz("", 200);
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn a_node_that_hangs_delays_no_other() {
    let mut fleet = Fleet::new(11);
    fleet.members[0].validator.always(Answer::Stall);
    fleet.configure(&["deadline: 60s", "timeout: 60s"], &format!("{EVERY_SECOND}\nserver: {{listen: 127.0.0.1:0}}\n"));
    let daemon = Daemon::start(&fleet.idkeep);
    for member in &fleet.members[1..] {
        daemon.wait_for_passes(&member.name, WELL, 4);
    }
    let hanging = &fleet.members[0];
    assert_eq!(passes(&daemon.metrics(), &hanging.name, ENDED), 0);
    assert_eq!(hanging.validator.identity_requests().len(), 1);
    let missing = daemon.wait_for_readyz("", 503);
    assert_eq!(missing.trim_end(), format!("{}: not stored yet", hanging.name));
    assert_eq!(daemon.get(&format!("/readyz?node={}", fleet.members[1].name)).status, 200);
    hanging.validator.release();
    daemon.wait_for_passes(&hanging.name, &["written"], 1);
}

/// With many nodes a line that names none is of no use.
#[test]
fn every_line_of_a_pass_names_its_node() {
    let mut fleet = Fleet::new(2);
    fleet.configure(&["deadline: 5s"], &format!("{EVERY_SECOND}\nserver: {{listen: 127.0.0.1:0}}\n"));
    fleet.members[0].validator.script([Answer::status(503), Answer::status(500)]);
    let daemon = Daemon::start(&fleet.idkeep);
    for member in &fleet.members {
        daemon.wait_for_passes(&member.name, WELL, 2);
    }
    let events = daemon.events();
    let is_of_the_daemon = |event: &&Event| ["process protected", "listening"].iter().any(|message| event.is(message));
    for event in events.iter().filter(|event| !is_of_the_daemon(event)) {
        let node = event.0["node"].as_str().or(event.0["span"]["node"].as_str());
        assert!(node.is_some_and(|node| node.starts_with("fleet-")), "{event:?}");
    }
    assert!(events.iter().any(|event| event.says("trying again")), "{events:#?}");
}

/// By an hour, as a clock that was wrong is set: nothing waits for that hour to come again.
#[test]
fn a_clock_that_is_set_back_stops_no_pass() {
    let mut scenario = scheduled(806, EVERY_SECOND);
    let time = scenario.idkeep.file("time", b"+0");
    for (name, value) in [
        ("LD_PRELOAD", library("faketime/libfaketime.so.1")),
        ("FAKETIME_TIMESTAMP_FILE", time.clone()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ] {
        scenario.idkeep.env(name, value);
    }
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 2);
    let last = |daemon: &Daemon| {
        let of_node = [("node", scenario.node.as_str())];
        daemon.metrics().value("idkeep_sync_last_success_timestamp_seconds", &of_node).unwrap()
    };
    let before = last(&daemon);
    std::fs::write(&time, b"-3600").unwrap();
    goes_on(&daemon, &scenario.node);
    assert!(last(&daemon) < before - 3000.0, "the clock was not set back");
}

#[test]
fn a_cron_schedule_has_what_was_never_stored_synced_at_start_and_what_is_fresh_at_its_tick() {
    let scenario = scheduled(807, "schedule: {identities: {cron: \"0 */3 * * *\", jitter: 5m}}");
    let daemon = Daemon::start(&scenario.idkeep);
    let metrics = daemon.wait_for_passes(&scenario.node, &["written"], 1);
    assert_eq!(metrics.value("idkeep_schedule_interval_seconds", &[("task", "identities")]), Some(11_100.0));
    daemon.stop();
    let daemon = Daemon::start(&scenario.idkeep);
    let due_at: jiff::Timestamp = wait_for("the next tick", LONG, || {
        let status = daemon.get("/status").json();
        status["nodes"][&scenario.node]["due"]["identities"].as_str().map(|at| at.parse().unwrap())
    });
    // Unless the hour changed in between.
    let stored_at: jiff::Timestamp = scenario.facts()["idkeep_checked_at"].as_str().unwrap().parse().unwrap();
    let tick = jiff::Timestamp::from_second((stored_at.as_second() / 10_800 + 1) * 10_800).unwrap();
    if jiff::Timestamp::now() < tick {
        let late = due_at.duration_since(tick);
        assert!((0..=300).contains(&late.as_secs()), "{due_at} is not the tick of {tick}");
        assert_eq!(scenario.validator.identity_requests().len(), 1);
    }
    daemon.wait_for_readyz("", 200);
}
