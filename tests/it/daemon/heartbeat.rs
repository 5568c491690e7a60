//! The heartbeat: called when every node was stored, silent otherwise, and its address is a secret.

use super::{EVERY_SECOND, LONG, SELDOM, fails, goes_on, scheduled};
use crate::support::daemon::{Daemon, ENDED, WELL, passes};
use crate::support::fleet::Fleet;
use crate::support::idkeep::Idkeep;
use crate::support::memory::forms;
use crate::support::proxy;
use crate::support::server::{Reply, Server};
use crate::support::validator::Answer;
use crate::support::wait_for;

/// Whoever waits for heartbeats; the address that it gave out is a canary.
struct Watch {
    server: Server,
    secret: String,
}

impl Watch {
    fn answering(status: u16) -> Self {
        let secret = format!("canary-beat-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let server = Server::plain(move |_| std::future::ready(Reply::new(status, "text/plain", "OK")));
        Self { server, secret }
    }

    /// Lines of the configuration that has it called.
    fn configure(&self, idkeep: &Idkeep) -> String {
        self.configure_at(idkeep, &self.server.origin())
    }

    fn configure_at(&self, idkeep: &Idkeep, origin: &str) -> String {
        let path =
            idkeep.secret_file("heartbeat", format!("{origin}/ping/{}?token={}", self.secret, self.secret).as_bytes());
        format!("heartbeat: {{url: {{file: {path:?}}}, allow_http: true, timeout: 1s}}\n")
    }

    fn calls(&self) -> usize {
        let right = |seen: &crate::support::server::Seen| {
            seen.method == "GET"
                && seen.path == format!("/ping/{}", self.secret)
                && seen.query.as_ref().is_some_and(|query| query.contains(&self.secret))
        };
        let seen = self.server.seen();
        assert!(seen.iter().all(right), "{seen:?}");
        seen.len()
    }

    fn assert_secret(&self, said: &str) {
        for (name, needle) in forms("the heartbeat's address", self.secret.as_bytes()) {
            assert!(memchr::memmem::find(said.as_bytes(), &needle).is_none(), "{name} is in what was said:\n{said}");
        }
    }
}

const FREE_PORT: &str = "server: {listen: 127.0.0.1:0}\n";

#[test]
fn it_follows_a_pass_over_every_node_and_no_pass_that_failed_for_one() {
    let watch = Watch::answering(200);
    let mut fleet = Fleet::new(3);
    let top = format!("{EVERY_SECOND}\n{FREE_PORT}{}", watch.configure(&fleet.idkeep));
    fleet.configure(&["deadline: 2s"], &top);
    fleet.members[0].validator.always(Answer::status(403));
    let daemon = Daemon::start_with(&fleet.idkeep, &["--log-level", "trace"]);
    for member in &fleet.members {
        daemon.wait_for_passes(&member.name, ENDED, 3);
    }
    assert_eq!(watch.calls(), 0, "it is called though a node is not stored");
    fleet.members[0].validator.always(Answer::Dump(fleet.members[0].dump.json()));
    wait_for("heartbeats", LONG, || (watch.calls() >= 2).then_some(()));
    daemon.wait_for_metrics("them to be counted", |metrics| {
        (metrics.count("idkeep_heartbeat_total", &[("outcome", "done")]) >= 2).then_some(())
    });
    // One for each round, not one for each node.
    let metrics = daemon.metrics();
    let (calls, first) = (watch.calls() as u64, passes(&metrics, &fleet.members[0].name, WELL));
    assert!(calls <= first + 1, "{calls} heartbeats for {first} rounds");
    // The other way about: one node fails, and it falls silent.
    fleet.members[2].validator.always(Answer::status(403));
    fails(&daemon, &fleet.members[2].name);
    let calls = watch.calls();
    let so_far = passes(&daemon.metrics(), &fleet.members[0].name, WELL);
    daemon.wait_for_passes(&fleet.members[0].name, WELL, so_far + 3);
    assert_eq!(watch.calls(), calls);
    let metrics = daemon.metrics().text;
    watch.assert_secret(&metrics);
    watch.assert_secret(&daemon.get("/status").text());
    watch.assert_secret(&daemon.stop().stderr);
}

#[test]
fn one_that_fails_is_a_warning_and_a_count_and_nothing_else() {
    let refusing = Watch::answering(500);
    let away = proxy::refused();
    for (origin, told) in [(refusing.server.origin(), "500"), (format!("http://{away}"), "refused")] {
        let mut scenario = scheduled(890, "");
        let top = format!("{EVERY_SECOND}\n{}", refusing.configure_at(&scenario.idkeep, &origin));
        scenario.top(&top);
        let daemon = Daemon::start_with(&scenario.idkeep, &["--log-level", "trace"]);
        daemon.wait_for_metrics("a heartbeat that failed", |metrics| {
            (metrics.count("idkeep_heartbeat_total", &[("outcome", "failed")]) >= 2).then_some(())
        });
        goes_on(&daemon, &scenario.node);
        assert_eq!(passes(&daemon.metrics(), &scenario.node, &["failed"]), 0);
        let warning =
            daemon.wait_for_event("a warning", |event| event.text("level") == "WARN" && event.says("heartbeat"));
        assert!(warning.says(told), "{warning:?}");
        refusing.assert_secret(&daemon.stop().stderr);
    }
}

/// A heartbeat that hangs must not be what stops the passes.
#[test]
fn one_that_hangs_stops_no_pass() {
    use crate::support::server::Gate;
    let server = Server::plain(|_| std::future::ready(Reply::empty(200).behind(Gate::closed())));
    let watch = Watch { server, secret: "canary-beat-that-hangs".into() };
    let mut scenario = scheduled(891, "");
    let top = format!("{EVERY_SECOND}\n{}", watch.configure(&scenario.idkeep).replace("timeout: 1s", "timeout: 60s"));
    scenario.top(&top);
    let daemon = Daemon::start(&scenario.idkeep);
    watch.server.wait_for_requests(1);
    goes_on(&daemon, &scenario.node);
    daemon.stop();
}

#[test]
fn a_sync_by_hand_over_all_nodes_calls_it_and_one_over_some_does_not() {
    let watch = Watch::answering(204);
    let mut fleet = Fleet::new(2);
    fleet.configure(&["deadline: 2s"], &watch.configure(&fleet.idkeep));
    fleet.idkeep.expect(0, &["sync", &fleet.members[0].name]);
    assert_eq!(watch.calls(), 0);
    fleet.idkeep.expect(0, &["sync", "--dry-run"]);
    assert_eq!(watch.calls(), 0, "a dry run stores nothing, so nothing is told");
    let outcome = fleet.idkeep.expect(0, &["--log-level", "trace", "-o", "json", "sync"]);
    assert_eq!(watch.calls(), 1);
    watch.assert_secret(&outcome.output());
    fleet.members[1].validator.always(Answer::status(403));
    fleet.idkeep.expect(77, &["sync"]);
    assert_eq!(watch.calls(), 1);
}

#[test]
fn a_sync_by_hand_is_well_though_its_heartbeat_is_not() {
    let watch = Watch::answering(503);
    let mut scenario = scheduled(892, SELDOM);
    let top = format!("{SELDOM}\n{}", watch.configure(&scenario.idkeep));
    scenario.top(&top);
    let synced = scenario.sync(0);
    assert!(synced.stderr().contains("heartbeat"), "{}", synced.outcome);
    assert!(watch.calls() >= 1);
    watch.assert_secret(&synced.outcome.output());
}

#[test]
fn one_in_clear_is_refused_unless_that_is_allowed() {
    let watch = Watch::answering(200);
    let mut scenario = scheduled(893, "");
    let allowed = watch.configure(&scenario.idkeep);
    scenario.top(&format!("{EVERY_SECOND}\n{}", allowed.replace(", allow_http: true", "")));
    let daemon = Daemon::start_with(&scenario.idkeep, &["--log-level", "trace"]);
    let warning = daemon.wait_for_event("a warning", |event| event.text("level") == "WARN" && event.says("heartbeat"));
    assert!(warning.0.to_string().contains("allow_http"), "{warning:?}");
    goes_on(&daemon, &scenario.node);
    assert_eq!(watch.calls(), 0);
    watch.assert_secret(&daemon.stop().stderr);
}

/// In the configuration itself it would be a secret in a file that many may read.
#[test]
fn an_address_in_the_configuration_itself_is_a_mistake() {
    let mut scenario = scheduled(894, "");
    scenario.top(&format!("{SELDOM}\nheartbeat: {{url: \"https://beat.example/ping/inline-canary\"}}\n"));
    let outcome = scenario.idkeep.expect(78, &["check", "--offline"]);
    assert!(!outcome.output().contains("inline-canary"), "{outcome}");
}
