//! The daemon's system calls and its words over some passes: no file is made, and nothing secret is said.

use super::{EVERY_SECOND, alone, goes_on};
use crate::secrecy::{WATCHED, assert_makes_no_file, unescaped};
use crate::support::daemon::{Daemon, WELL};
use crate::support::idkeep::{Idkeep, Signal};
use crate::support::memory::forms;
use crate::support::parts::tool;
use crate::support::validator::Answer;

#[test]
fn what_carries_a_key_goes_to_a_socket_and_no_file_is_created() {
    let scenario = alone(895, EVERY_SECOND);
    let trace = scenario.idkeep.path("trace");
    let mut traced = Idkeep::of(tool("strace"));
    traced.env("IDKEEP_CONFIG", scenario.idkeep.path("idkeep.yaml"));
    // `-D`: the daemon is our child, and strace is its.
    let arguments = ["-D", "-f", "-yy", "-xx", "-s", "1000000", "-e", WATCHED, "-o", trace.to_str().unwrap()];
    let run = [env!("CARGO_BIN_EXE_idkeep"), "--log-format", "json", "--log-level", "trace", "run"];
    let daemon = Daemon::of(traced.spawn(&[&arguments[..], &run].concat()));
    daemon.wait_for_passes(&scenario.node, WELL, 3);
    let rotated = scenario.dump.clone().rotated(896, 1);
    scenario.validator.dump(&rotated.json());
    daemon.wait_for_passes(&scenario.node, &["written"], 2);
    daemon.reload("done");
    goes_on(&daemon, &scenario.node);
    daemon.stop();
    scenario.assert_stored(&rotated);

    let mut secrets = scenario.dump.secrets();
    secrets.extend(rotated.secrets());
    secrets.push(("client secret".into(), scenario.issuer.client_secret.clone().into_bytes()));
    let needles: Vec<_> = secrets.iter().flat_map(|(name, secret)| forms(name, secret)).collect();
    let lines = std::fs::read_to_string(&trace).unwrap();
    let mut carrying = 0;
    for line in lines.lines() {
        let bytes = unescaped(line);
        if needles.iter().any(|(_, needle)| memchr::memmem::find(&bytes, needle).is_some()) {
            let shown = line.get(..200).unwrap_or(line);
            assert!(line.contains("<TCP:"), "a secret is written to something else than a socket: {shown}");
            carrying += 1;
        }
        assert_makes_no_file(line, &bytes);
    }
    assert!(carrying >= 2, "the keys go to the store in clear here, so calls must carry them");
}

#[test]
fn nothing_secret_is_said_at_trace_nor_shown_to_other_processes() {
    let start = |format| {
        let mut scenario = alone(897, EVERY_SECOND);
        scenario.identity("deadline: 1s");
        let running = scenario.idkeep.spawn(&["--log-level", "trace", "--log-format", format, "run"]);
        (scenario, running)
    };
    let both = ["text", "json"].map(start);
    let usual = Answer::Dump(both[0].0.dump.json());
    for answer in [usual.clone(), Answer::status(403), Answer::Html, Answer::status(500), usual] {
        both.iter().for_each(|(scenario, _)| scenario.validator.always(answer.clone()));
        for (scenario, _) in &both {
            let so_far = scenario.validator.identity_requests().len();
            scenario.validator.server().wait_for_requests(so_far + 2);
        }
    }
    for (scenario, running) in both {
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", running.pid())).unwrap();
        let outside = [read("cmdline"), read("environ")].concat();
        running.signal(Signal::TERM);
        let outcome = running.wait();
        assert_eq!(outcome.code, 0, "{outcome}");
        assert_eq!(outcome.stdout, "", "what a daemon says is its log");
        assert!(outcome.stderr.contains("trying again"), "{outcome}");
        let mut secrets = scenario.dump.secrets();
        secrets.push(("client secret".into(), scenario.issuer.client_secret.clone().into_bytes()));
        secrets.push(("secret id".into(), std::fs::read(scenario.idkeep.path("secret-id")).unwrap()));
        let shown = scenario.validator.identity_requests();
        let bearer = shown[0].header("authorization").unwrap();
        secrets.push(("access token".into(), bearer.strip_prefix("Bearer ").unwrap().as_bytes().to_vec()));
        let said = [outside, outcome.stderr.clone().into_bytes()].concat();
        for (name, needle) in secrets.iter().flat_map(|(name, secret)| forms(name, secret)) {
            assert!(memchr::memmem::find(&said, &needle).is_none(), "{name} is in what was said:\n{outcome}");
        }
    }
}
