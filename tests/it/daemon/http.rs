//! What the daemon answers: alive, ready, and what it knows.

use std::process::Command;

use serde_json::Value;

use super::{EVERY_SECOND, SELDOM, fails, goes_on, scheduled};
use crate::support::daemon::Daemon;
use crate::support::fleet::Fleet;
use crate::support::idkeep::{Idkeep, Signal};
use crate::support::parts::tool;
use crate::support::validator::Answer;

#[test]
fn it_is_alive_at_once_and_ready_when_every_node_is_stored() {
    let mut fleet = Fleet::new(2);
    fleet.configure(&[], &format!("{SELDOM}\nserver: {{listen: 127.0.0.1:0}}\n"));
    let (good, slow) = (&fleet.members[0], &fleet.members[1]);
    slow.validator.always(Answer::Stall);
    let daemon = Daemon::start(&fleet.idkeep);
    let alive = daemon.get("/livez");
    assert_eq!((alive.status, alive.text().trim_end()), (200, "ok"));
    daemon.wait_for_readyz(&format!("?node={}", good.name), 200);
    let unready = daemon.get("/readyz");
    assert_eq!(unready.status, 503);
    assert_eq!(unready.text(), format!("{}: not stored yet\n", slow.name));
    assert_eq!(daemon.get(&format!("/readyz?node={}", slow.name)).text(), unready.text());
    assert_eq!(daemon.get("/readyz?node=nobody").status, 404);
    slow.validator.release();
    assert_eq!(daemon.wait_for_readyz("", 200).trim_end(), "ready");
}

#[test]
fn a_node_whose_last_sync_failed_is_not_ready_until_one_is_well() {
    let mut fleet = Fleet::new(2);
    fleet.configure(&["deadline: 2s"], &format!("{EVERY_SECOND}\nserver: {{listen: 127.0.0.1:0}}\n"));
    let daemon = Daemon::start(&fleet.idkeep);
    daemon.wait_for_readyz("", 200);
    let bad = &fleet.members[0];
    for answer in [Answer::status(403), Answer::NotReady] {
        bad.validator.always(answer);
        fails(&daemon, &bad.name);
        let unready = daemon.wait_for_readyz("", 503);
        assert_eq!(unready.lines().count(), 1, "{unready}");
        assert!(unready.starts_with(&format!("{}: ", bad.name)), "{unready}");
        assert_eq!(daemon.get(&format!("/readyz?node={}", fleet.members[1].name)).status, 200);
        bad.validator.always(Answer::Dump(bad.dump.json()));
        goes_on(&daemon, &bad.name);
    }
}

/// What was stored long ago is not taken for stored, though nothing has failed since.
#[test]
fn a_node_that_was_not_synced_for_three_intervals_is_stale() {
    let mut scenario = scheduled(860, "schedule: {identities: {every: 1s}}");
    scenario.identity("deadline: 60s");
    scenario.identity("timeout: 60s");
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    scenario.validator.always(Answer::Stall);
    let unready = daemon.wait_for_readyz("", 503);
    assert!(unready.starts_with(&format!("{}: stale: ", scenario.node)), "{unready}");
    scenario.validator.always(Answer::Dump(scenario.dump.json()));
    scenario.validator.release();
    goes_on(&daemon, &scenario.node);
}

#[test]
fn status_is_one_document_that_agrees_with_the_metrics() {
    let scenario = scheduled(865, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let answer = daemon.get("/status");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let status = answer.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let identities = &status["nodes"][&scenario.node]["identities"];
    assert_eq!(identities["participant_id"], scenario.dump.id.as_str());
    assert_eq!(identities["digest"], scenario.dump.digest());
    assert!(identities["last_success_at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{status}");
}

/// By a daemon on all addresses of a network of its own.
#[test]
fn status_is_for_this_machine_alone_unless_it_is_said_otherwise() {
    for (status, code) in [("loopback", "403"), ("all", "200")] {
        let mut scenario = scheduled(866, SELDOM);
        scenario.config.top = format!("{SELDOM}\nserver: {{listen: 0.0.0.0:0, status: {status}}}\n");
        scenario.configure();
        let program = env!("CARGO_BIN_EXE_idkeep");
        let script = format!(
            "ip link set lo up && ip address add 192.0.2.7/32 dev lo && \
             IDKEEP_CONFIG={:?} exec {program} --log-format json run",
            scenario.idkeep.path("idkeep.yaml")
        );
        let mut apart = Idkeep::of(tool("unshare"));
        apart.env("PATH", std::env::var_os("PATH").unwrap());
        let running = apart.spawn(&["-n", "sh", "-c", &script]);
        let address = running.find_in_stderr("listening", |said| {
            let line = said.lines().find(|line| line.contains("\"listening\""))?;
            let event: Value = serde_json::from_str(line).unwrap();
            Some(event["address"].as_str().unwrap().to_owned())
        });
        let port = address.rsplit(':').next().unwrap();
        let asked = |from: &str, path: &str| {
            let mut ask = Command::new(tool("nsenter"));
            ask.args(["-t", &running.pid().to_string(), "-n", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]);
            let answer = ask.arg(format!("http://{from}:{port}{path}")).output().unwrap();
            String::from_utf8(answer.stdout).unwrap()
        };
        assert_eq!(asked("127.0.0.1", "/status"), "200");
        assert_eq!(asked("192.0.2.7", "/status"), code, "with status: {status}");
        assert_eq!(asked("192.0.2.7", "/metrics"), "200");
        assert_eq!(asked("192.0.2.7", "/livez"), "200");
        running.signal(Signal::TERM);
        assert_eq!(running.wait().code, 0);
    }
}
