//! Names under which the daemon is asked: a page in a browser reaches loopback by a name of its own.

use super::{SELDOM, scheduled};
use crate::support::client::{Answer, Client};
use crate::support::daemon::Daemon;

fn asked(daemon: &Daemon, path: &str, host: &str) -> Answer {
    Client::new(None).send("GET", &daemon.url(path), &[("host", host)], None).unwrap()
}

const OURS: [&str; 5] = ["127.0.0.1", "127.0.0.1:9464", "localhost", "localhost:9464", "[::1]:9464"];

const FOREIGN: [&str; 5] =
    ["evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.7:9464"];

#[test]
fn status_is_shown_under_names_of_this_machine_alone() {
    let scenario = scheduled(923, SELDOM);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_readyz("", 200);
    for host in OURS {
        let answer = asked(&daemon, "/status", host);
        assert_eq!(answer.status, 200, "{host}");
        assert!(answer.text().contains(&scenario.node), "{host}");
    }
    for host in FOREIGN {
        let answer = asked(&daemon, "/status", host);
        assert_eq!(answer.status, 403, "{host}");
        assert!(!answer.text().contains(&scenario.node), "{host}: {}", answer.text());
        // What is for others anyway is asked for by whatever name they know.
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(asked(&daemon, path, host).status, 200, "{path} of {host}");
        }
    }
}

#[test]
fn status_that_is_for_all_is_shown_under_every_name() {
    let mut scenario = scheduled(924, SELDOM);
    scenario.config.top = format!("{SELDOM}\nserver: {{listen: 127.0.0.1:0, status: all}}\n");
    scenario.configure();
    let daemon = Daemon::start(&scenario.idkeep);
    for host in OURS.iter().chain(&FOREIGN) {
        assert_eq!(asked(&daemon, "/status", host).status, 200, "{host}");
    }
}
