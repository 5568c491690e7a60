//! Whoever reaches the port: nothing to control, nothing to break, nothing secret to read.

use std::io::Write as _;

use super::{EVERY_SECOND, LONG, SELDOM, fails, goes_on, scheduled};
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::memory::forms;
use crate::support::validator::Answer;
use crate::support::wait_for;

const PATHS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/status"];

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
