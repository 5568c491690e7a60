//! The daemon: what it does when, what it lives through, what it answers, and how it ends.

mod backups;
mod calls;
mod changed;
mod ending;
mod heartbeat;
mod hosts;
mod http;
mod lasting;
mod memory;
mod metrics;
mod planted;
mod queued;
mod refused;
mod reload;
mod rotation;
mod schedule;
mod secrecy;
mod start;
mod storm;
mod strangers;
mod unwrapped;

use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, ENDED, Event, WELL, passes};
use crate::support::dump::Dump;
use crate::support::scenario::Scenario;
use crate::support::wait_for;

/// Far beyond what anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A pass each second, as often as there can be one.
const EVERY_SECOND: &str = "schedule: {identities: {every: 1s}}";

/// So seldom that only the first pass comes within a test.
const SELDOM: &str = "schedule: {identities: {every: 1h}}";

/// A node under the daemon, on the OpenBao that most tests share.
fn scheduled(seed: u64, schedule: &str) -> Scenario {
    let mut scenario = Scenario::new(seed);
    scenario.top(schedule);
    scenario
}

/// The same on an OpenBao of its own.
fn alone(seed: u64, schedule: &str) -> Scenario {
    let mut scenario = Scenario::alone(Dump::fresh(seed));
    scenario.top(schedule);
    scenario
}

/// Lets time pass, where its passing is what is tried.
fn let_pass(span: Duration) {
    let since = Instant::now();
    wait_for("time to pass", LONG, || (since.elapsed() >= span).then_some(()));
}

/// Waits for a pass that begins after this call and ends well, and for `/readyz`.
fn goes_on(daemon: &Daemon, node: &str) {
    let of_node = |event: &Event| event.is("sync begun") && event.text("node") == node;
    let begun = daemon.events().into_iter().filter(of_node).count() as u64;
    let so_far = daemon.wait_for_metrics("the pass that is under way to end", |metrics| {
        (passes(metrics, node, ENDED) >= begun).then(|| passes(metrics, node, WELL))
    });
    daemon.wait_for_passes(node, WELL, so_far + 1);
    daemon.wait_for_readyz("", 200);
}

/// Waits for a pass that failed, of which `/readyz` tells.
fn fails(daemon: &Daemon, node: &str) {
    let so_far = passes(&daemon.metrics(), node, &["failed"]);
    daemon.wait_for_passes(node, &["failed"], so_far + 1);
    let said = daemon.wait_for_readyz("", 503);
    assert!(said.starts_with(&format!("{node}: ")) && said.contains("last sync failed: "), "{said}");
}
