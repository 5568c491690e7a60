//! What the daemon answers, to whom, and what it never says.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Command;

use serde_json::Value;

use super::{EVERY_SECOND, LONG, SELDOM, fails, goes_on, scheduled};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, passes};
use crate::support::fleet::Fleet;
use crate::support::idkeep::{Idkeep, Signal};
use crate::support::memory::forms;
use crate::support::metrics::promtool;
use crate::support::parts::tool;
use crate::support::proxy;
use crate::support::validator::Answer;
use crate::support::wait_for;

const PATHS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/status"];

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

#[test]
fn there_is_nothing_to_control() {
    let scenario = scheduled(867, SELDOM);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_readyz("", 200);
    let before = daemon.metrics().text.lines().count();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for path in PATHS {
            assert_eq!(daemon.send(method, path).status, 405, "{method} {path}");
        }
    }
    for path in
        ["/", "/sync", "/reload", "/-/reload", "/quit", "/debug/pprof", "/metrics/", "//metrics", "/livez/../metrics"]
    {
        assert_eq!(daemon.send("POST", path).status / 100, 4, "{path}");
    }
    for path in ["/", "/sync", "/reload", "/-/quit", "/status/x", "/idkeep.yaml", "/%2e%2e/idkeep.yaml"] {
        assert_eq!(daemon.get(path).status, 404, "{path}");
    }
    for path in PATHS {
        let head = daemon.send("HEAD", path);
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {path}");
    }
    assert_eq!(daemon.metrics().text.lines().count(), before);
    assert_eq!(scenario.validator.identity_requests().len(), 1);
}

#[test]
fn requests_that_are_none_are_refused_and_do_no_harm() {
    let scenario = scheduled(868, SELDOM);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_readyz("", 200);
    let long = "x".repeat(100_000);
    let many: String = (0..5000).map(|number| format!("a{number}: b\r\n")).collect();
    let garbage: Vec<u8> = (0..200_000).map(|_| fastrand::u8(..)).collect();
    let requests: Vec<Vec<u8>> = vec![
        garbage,
        b"\r\n\r\n\r\n".to_vec(),
        b"GET /metrics\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/9.9\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes(),
        format!("GET /livez HTTP/1.1\r\nhost: {long}\r\n\r\n").into_bytes(),
        format!("GET /livez HTTP/1.1\r\nhost: a\r\n{many}\r\n").into_bytes(),
        b"GET /readyz?node=%ff%00%0a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /readyz?node HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(),
        b"POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\nx".to_vec(),
        b"POST /livez HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
    ];
    for request in requests {
        let answer = daemon.raw(&request);
        assert!(
            !answer.starts_with("HTTP/1.1 2"),
            "{}: {answer}",
            String::from_utf8_lossy(&request[..request.len().min(60)])
        );
        wait_for("an answer", LONG, || Client::new(None).get(&daemon.url("/livez")).is_ok().then_some(()));
    }
    let said = daemon.stop().stderr;
    assert!(!said.contains("mistake of idkeep itself"), "{said}");
}

/// Or whoever holds them would have the daemon taken for dead.
#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let scenario = scheduled(872, SELDOM);
    let daemon = Daemon::start(&scenario.idkeep);
    let idle: Vec<_> = (0..200).map(|_| daemon.connect()).collect();
    for path in ["/livez", "/metrics"] {
        assert_eq!(daemon.get(path).status, 200);
    }
    drop(idle);
}

#[test]
fn a_hundred_connections_that_say_nothing_stop_no_pass_and_are_closed() {
    let scenario = scheduled(869, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let open = daemon.descriptors();
    let mut idle: Vec<_> = (0..100).map(|_| daemon.connect()).collect();
    // Half of them say half a word.
    for stream in idle.iter_mut().step_by(2) {
        let _ = stream.write_all(b"GET /met");
    }
    let requests = scenario.validator.identity_requests().len();
    scenario.validator.server().wait_for_requests(requests + 3);
    wait_for("an answer beside them", LONG, || Client::new(None).get(&daemon.url("/livez")).is_ok().then_some(()));
    wait_for("them to be closed", LONG, || (daemon.descriptors() <= open + 8).then_some(()));
    goes_on(&daemon, &scenario.node);
    drop(idle);
}

/// No secret, and no word of where one is kept: whoever reaches the port would know what to look for.
#[test]
fn no_answer_holds_a_secret_or_the_path_of_one() {
    let mut scenario = scheduled(870, EVERY_SECOND);
    scenario.identity("deadline: 2s");
    let daemon = Daemon::start_with(&scenario.idkeep, &["--log-level", "trace"]);
    let mut said = Vec::new();
    let mut ask = || {
        for path in PATHS.iter().chain(&["/", "/readyz?node=nobody"]) {
            let answer = daemon.get(path);
            said.extend(format!("{:?}\n", answer.headers).into_bytes());
            said.extend(answer.body);
        }
    };
    ask();
    goes_on(&daemon, &scenario.node);
    ask();
    // Failures of every kind, some of which quote what they tried.
    let secret = scenario.idkeep.path("client-secret");
    let aside = scenario.idkeep.path("aside");
    scenario.validator.always(Answer::status(401));
    fails(&daemon, &scenario.node);
    ask();
    std::fs::rename(&secret, &aside).unwrap();
    std::fs::remove_file(scenario.idkeep.path("secret-id")).unwrap();
    fails(&daemon, &scenario.node);
    fails(&daemon, &scenario.node);
    ask();
    let mut secrets = scenario.dump.secrets();
    secrets.push(("client secret".into(), scenario.issuer.client_secret.clone().into_bytes()));
    for seen in scenario.validator.identity_requests().iter().take(1) {
        let token = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        secrets.push(("access token".into(), token.as_bytes().to_vec()));
    }
    let logged = daemon.stop().stderr.into_bytes();
    for (name, needle) in secrets.iter().flat_map(|(name, secret)| forms(name, secret)) {
        for (place, bytes) in [("an answer", &said), ("the log", &logged)] {
            assert!(memchr::memmem::find(bytes, &needle).is_none(), "{name} is in {place}");
        }
    }
    let folder = scenario.idkeep.folder().to_str().unwrap();
    let said = String::from_utf8_lossy(&said);
    for path in [folder, "client-secret", "secret-id", "/v1/secret", "canton/", "role_id"] {
        assert!(!said.contains(path), "{path} is in an answer:\n{said}");
    }
    // As a control: the log, which is the operator's, does name the file that is missing.
    assert!(String::from_utf8_lossy(&logged).contains("client-secret"));
}
