//! Starts that are not easy: everything else is down, or the end is told before anything has begun.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{EVERY_SECOND, LONG, SELDOM, fails, goes_on, scheduled};
use crate::support::daemon::Daemon;
use crate::support::idkeep::is_writing_to;
use crate::support::issuer::{Answer, Discovery};
use crate::support::wait_for;

/// There is no state of its own: how old the identities are is told by the store.
#[test]
fn a_start_while_the_issuer_is_down_knows_when_the_identities_were_stored() {
    let mut scenario = scheduled(921, EVERY_SECOND);
    scenario.identity("deadline: 2s");
    scenario.sync(0);
    let stored_at = "2026-01-02T03:04:05Z";
    let mut facts = scenario.facts();
    facts["idkeep_checked_at"] = json!(stored_at);
    scenario.bao.kv_put_metadata(&scenario.path(), json!({ "custom_metadata": facts }));
    scenario.issuer.always(Answer::Status(503));
    scenario.issuer.discovery(Discovery::Status(503));
    let daemon = Daemon::start(&scenario.idkeep);
    fails(&daemon, &scenario.node);
    let said = daemon.wait_for_readyz("", 503);
    assert!(said.contains("last sync failed: ") && said.contains(&format!("last stored at {stored_at}")), "{said}");
    let last = || {
        let of_node = [("node", scenario.node.as_str())];
        daemon.metrics().value("idkeep_sync_last_success_timestamp_seconds", &of_node)
    };
    let told = stored_at.parse::<jiff::Timestamp>().unwrap().as_second() as f64;
    assert_eq!(last(), Some(told));
    scenario.issuer.always(Answer::Normal);
    scenario.issuer.discovery(Discovery::Right);
    goes_on(&daemon, &scenario.node);
    assert!(last() > Some(told));
    daemon.stop();
    assert_eq!(scenario.versions(), 1);
}

/// It stands still in the middle of the line that says that it is up: whoever waits for that line may end it at once.
#[test]
fn a_daemon_that_is_told_to_end_as_soon_as_it_listens_ends_well() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let scenario = scheduled(922, SELDOM);
        let (mut log, mut into) = std::io::pipe().unwrap();
        // Each write is a packet that fills a place of its own, and all places but one are taken.
        let flags = fcntl_getfl(into.as_fd()).unwrap();
        fcntl_setfl(into.as_fd(), flags | OFlags::DIRECT | OFlags::NONBLOCK).unwrap();
        while into.write(b".").is_ok() {}
        fcntl_setfl(into.as_fd(), flags | OFlags::DIRECT).unwrap();
        let mut packet = || {
            let mut bytes = vec![0; 4096];
            let read = log.read(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..read]).into_owned()
        };
        packet();
        let mut command = Command::new(env!("CARGO_BIN_EXE_idkeep"));
        command.args(["--log-format", "json", "run"]).env_clear();
        command.env("IDKEEP_CONFIG", scenario.idkeep.path("idkeep.yaml"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(into).spawn().unwrap();
        drop(command);
        // The first line took the free place; the second waits for one.
        wait_for("it to stand still", LONG, || is_writing_to(child.id(), 2).then_some(()));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut said = String::new();
        loop {
            let more = packet();
            if more.is_empty() {
                break;
            }
            said.push_str(&more);
            if signal == Signal::HUP && said.contains("configuration read again") {
                kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}\n{said}");
        let lines: Vec<&str> = said.trim_start_matches('.').lines().collect();
        assert!(lines[0].contains("process protected") && lines[1].contains("listening"), "{said}");
    }
}
