//! After each pass no key material remains in the daemon, and it grows neither in memory nor in open files.

use std::time::Duration;

use super::{LONG, alone};
use crate::support::daemon::{Daemon, ENDED, WELL, passes};
use crate::support::dump::Dump;
use crate::support::fleet::Fleet;
use crate::support::issuer::Issuer;
use crate::support::memory::scan_for;
use crate::support::scenario::Scenario;
use crate::support::server::Gate;
use crate::support::validator::Answer;
use crate::support::{poll, wait_for};

type Secrets = Vec<(String, Vec<u8>)>;

/// What may not stay. Tokens may, until they run out.
fn secrets(dump: &Dump, issuer: &Issuer) -> Secrets {
    let mut secrets = dump.secrets();
    secrets.push(("client secret".into(), issuer.client_secret.clone().into_bytes()));
    secrets
}

fn assert_clean(daemon: &Daemon, secrets: &Secrets) {
    let hits = scan_for(daemon.pid(), secrets);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
}

/// Waits until a pass has come as far as its dump, which is held back: those before it are over, and it has no key yet.
fn held_pass(scenario: &Scenario) -> Gate {
    let gate = Gate::closed();
    scenario.validator.always(Answer::Held(gate.clone()));
    wait_for("a pass that is held", LONG, || gate.is_waited_for().then_some(()));
    gate
}

#[test]
fn between_passes_no_key_is_in_memory_and_within_one_there_is() {
    let mut scenario = alone(880, super::EVERY_SECOND);
    scenario.identity("deadline: 60s");
    scenario.identity("timeout: 60s");
    let changed = scenario.dump.clone().rotated(881, 1);
    let mut secrets = secrets(&scenario.dump, &scenario.issuer);
    secrets.extend(changed.secrets());
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 4);
    scenario.validator.dump(&changed.json());
    let gate = held_pass(&scenario);
    assert_clean(&daemon, &secrets);

    // The positive control: the next dump is there, and the store that it is for hangs.
    let looked = daemon.count("store looked at");
    assert!(looked >= 4);
    scenario.bao.pause();
    gate.open();
    let judged = format!("\"{}\"", changed.digest());
    daemon.find_in_log("the changed dump", |said| said.contains(&judged).then_some(()));
    let hits = scan_for(daemon.pid(), &secrets);
    for (name, _) in changed.secrets().iter().filter(|(name, _)| !name.ends_with("as written")) {
        assert!(hits.iter().any(|hit| hit.needle.starts_with(name.as_str())), "{name} should be found: {hits:#?}");
    }
    scenario.bao.resume();
    daemon.wait_for_passes(&scenario.node, &["written"], 2);
    let gate = held_pass(&scenario);
    assert_clean(&daemon, &secrets);
    gate.open();
    daemon.stop();
    scenario.assert_stored(&changed);
}

#[test]
fn after_passes_that_failed_in_every_way_no_key_is_in_memory() {
    let mut scenario = alone(882, super::EVERY_SECOND);
    scenario.identity("deadline: 2s");
    let secrets = secrets(&scenario.dump, &scenario.issuer);
    let dump = scenario.dump.json();
    let mut broken = dump.clone();
    broken.truncate(broken.len() - 1);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 1);
    for answer in [
        Answer::Dump(broken),
        Answer::Dump(scenario.dump.clone().flip_a_bit(0).json()),
        Answer::CutAfter(dump.len() - 10),
    ] {
        scenario.validator.always(answer);
        let so_far = passes(&daemon.metrics(), &scenario.node, ENDED);
        daemon.wait_for_passes(&scenario.node, ENDED, so_far + 2);
    }
    scenario.validator.always(Answer::status(503));
    super::fails(&daemon, &scenario.node);
    assert_clean(&daemon, &secrets);
}

/// Nodes with passes each second, and what they cost once all is warm.
struct Run {
    fleet: Fleet,
    daemon: Daemon,
}

impl Run {
    fn start(nodes: usize) -> Self {
        let mut fleet = Fleet::new(nodes);
        fleet.configure(&[], &format!("{}\nserver: {{listen: 127.0.0.1:0}}\n", super::EVERY_SECOND));
        let daemon = Daemon::start_with(&fleet.idkeep, &["--log-level", "info"]);
        Self { fleet, daemon }
    }

    /// Waits for so many passes in all, none of which failed, and says how many files are open and how much
    /// memory is used then.
    fn after(&self, count: u64) -> (usize, u64) {
        poll("so many passes", Duration::from_secs(3600), Duration::from_millis(100), || {
            let metrics = self.daemon.metrics();
            let ended = |outcome| metrics.count("idkeep_sync_total", &[("outcome", outcome)]);
            assert_eq!(ended("failed"), 0, "{}", self.daemon.log());
            (ended("written") + ended("unchanged") >= count).then_some(())
        });
        (self.daemon.descriptors(), self.daemon.resident())
    }
}

#[test]
fn open_files_are_as_many_after_three_hundred_passes_as_before() {
    let run = Run::start(50);
    let (before, _) = run.after(100);
    let (after, _) = run.after(400);
    // One pass of each node may be under way, with a connection to its validator app.
    assert!(after <= before + run.fleet.members.len(), "{before} files were open, and {after} are");
    assert_eq!(run.fleet.issuer.token_requests().len(), 1);
}

#[test]
#[ignore = "takes minutes: 10,000 passes, to be run by hand"]
fn open_files_and_memory_are_flat_over_ten_thousand_passes() {
    let run = Run::start(50);
    let before = run.after(1_000);
    let after = run.after(11_000);
    println!("after 1,000 passes: {before:?} (files, KiB); after 11,000: {after:?}");
    assert!(after.0 <= before.0 + run.fleet.members.len(), "{before:?}, {after:?}");
    // Less than half a byte for each pass.
    assert!(after.1 <= before.1 + 4096, "{before:?}, {after:?}");
    assert_eq!(run.fleet.issuer.token_requests().len(), 1);
}
