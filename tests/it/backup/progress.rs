//! What is seen of a dump while it runs.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::faults::hold;
use crate::support::backup::Node;
use crate::support::parts::tool;

#[test]
fn logs_say_every_ten_seconds_how_far_a_dump_is() {
    let node = Node::new(450);
    let lock = hold(&node);
    let run = node.idkeep().spawn(&["--log-format", "json", "-o", "json", "backup"]);
    run.wait_for_stderr("\"message\":\"dumping\"");
    drop(lock);
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    let lines =
        outcome.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")));
    let lines: Vec<Value> = lines.filter(|line| line["message"] == "dumping").collect();
    let line = &lines[0];
    assert_eq!((line["level"].as_str(), line["node"].as_str()), (Some("INFO"), Some(node.name())), "{line}");
    assert_eq!(line["database"], "participant", "{line}");
    for field in ["plain_bytes", "stored_bytes", "size", "bytes_per_second"] {
        assert!(line[field].is_u64(), "{line}");
    }
    assert!(line["size"].as_u64().unwrap() > 1 << 20, "{line}");
}

#[test]
fn on_a_terminal_each_dump_has_a_bar_that_is_gone_when_it_ends() {
    let node = Node::new(451);
    let lock = hold(&node);
    let mut terminal = Command::new(tool("script"))
        .args(["--quiet", "--return", "--flush", "--command"])
        .arg(format!("{} backup", env!("CARGO_BIN_EXE_idkeep")))
        .arg("/dev/null")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm")
        .env("IDKEEP_CONFIG", node.idkeep().path("idkeep.yaml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = terminal.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let text = |shown: &[u8]| String::from_utf8_lossy(shown).into_owned();
    let is_shown = |shown: &[u8]| text(shown).split(['\r', '\n']).any(|line| is_bar(line, "participant"));
    while !is_shown(&shown) {
        let read = stdout.read(&mut buffer).unwrap();
        assert!(read > 0, "it ended without a bar:\n{}", text(&shown));
        shown.extend_from_slice(&buffer[..read]);
    }
    drop(lock);
    stdout.read_to_end(&mut shown).unwrap();
    let shown = text(&shown);
    assert_eq!(terminal.wait().unwrap().code(), Some(0), "{shown}");
    for name in ["validator", "participant"] {
        assert!(shown.split(['\r', '\n']).any(|line| is_bar(line, name)), "{name}: {shown:?}");
    }
    let (_, after) = shown.rsplit_once(" of about ").unwrap();
    // Its line was wiped, and the report stands on lines of its own.
    assert!(after.contains("\u{1b}[2K"), "{shown:?}");
    assert!(after.lines().any(|line| line.starts_with("NODE ")), "{shown:?}");
    assert!(!shown.contains("dumping"), "{shown:?}");
}

/// `NAME [==>   ] 1 B of about 2 B, 3 B/s, 4s left`
fn is_bar(line: &str, name: &str) -> bool {
    [name, " [", "] ", " of about ", "/s, ", " left"].iter().all(|part| line.contains(part))
}
