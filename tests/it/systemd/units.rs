//! What systemd says of the units.

use std::path::Path;
use std::process::{Command, Output};

use super::{SERVICES, folder, settings};
use crate::support::parts::tool;
use crate::support::podman::said;

/// `exposure level` times ten, of a hundred: what is left is the network, netlink and sockets, which idkeep needs.
const EXPOSURE: &str = "15";

/// A machine's root with these units and what they start.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    for name in ["etc/systemd", "usr/local/bin", "usr/lib/systemd", "bin"] {
        std::fs::create_dir_all(root.path().join(name)).unwrap();
    }
    said(Command::new("cp").arg("-r").arg(folder()).arg(&units));
    said(Command::new("cp").args(["-r", "/usr/lib/systemd/system"]).arg(root.path().join("usr/lib/systemd/system")));
    // They are looked for, not started.
    for name in ["usr/local/bin/idkeep", "bin/kill"] {
        std::fs::copy(tool("true"), root.path().join(name)).unwrap();
    }
    root
}

fn analyze(root: &Path, arguments: &[&str]) -> Output {
    Command::new(tool("systemd-analyze")).args(arguments).arg(format!("--root={}", root.display())).output().unwrap()
}

fn verify(root: &Path, unit: &str) -> String {
    let output = analyze(root, &["verify", unit]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{unit}: {said}");
    said
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let root = machine();
    let timers = ["idkeep-sync.timer", "idkeep-backup.timer"];
    for unit in SERVICES.iter().chain(&timers) {
        assert_eq!(verify(root.path(), unit), "", "{unit}");
    }
    // The control: a word that it does not know.
    let unit = root.path().join("etc/systemd/system/idkeep.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    std::fs::write(&unit, text.replace("MemorySwapMax", "MemorySwapMex")).unwrap();
    assert!(verify(root.path(), "idkeep.service").contains("MemorySwapMex"));
}

#[test]
fn systemd_judges_the_services_to_be_little_exposed() {
    let root = machine();
    for unit in SERVICES {
        let threshold = format!("--threshold={EXPOSURE}");
        let output = analyze(root.path(), &["security", "--no-pager", "--offline=true", &threshold, unit]);
        assert!(output.status.success(), "{unit}: {}", String::from_utf8_lossy(&output.stdout));
    }
    // The control: the same without its sandbox is above the threshold.
    let unit = root.path().join("etc/systemd/system/idkeep.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    std::fs::write(&unit, text.replace("ProtectSystem=strict", "").replace("SystemCallFilter=", "#")).unwrap();
    let output =
        analyze(root.path(), &["security", "--no-pager", "--offline=true", "--threshold=15", "idkeep.service"]);
    assert!(!output.status.success());
}

/// From the account to the filter of system calls.
fn sandbox(unit: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(unit)).unwrap();
    let lines = text.lines().skip_while(|line| *line != "User=idkeep").map(str::to_owned);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with("SystemCallErrorNumber")).collect();
    assert!(lines.len() > 30, "{unit}");
    lines
}

#[test]
fn every_service_is_confined_in_the_same_way_and_keeps_its_memory_off_the_disk() {
    for unit in SERVICES {
        assert_eq!(sandbox(unit), sandbox("idkeep.service"), "{unit}");
        for (key, value) in [("MemorySwapMax", "0"), ("LimitCORE", "0"), ("LimitMEMLOCK", "infinity")] {
            assert_eq!(settings(unit, key), [value], "{unit}: {key}");
        }
        assert_eq!(settings(unit, "TimeoutStopSec"), ["30"], "a stop may take 25 seconds");
    }
}

#[test]
fn a_pass_is_tried_again_only_after_what_may_pass_by_itself_and_the_daemon_stays_up() {
    for unit in ["idkeep-sync.service", "idkeep-backup.service"] {
        // Every exit code but 0 and 75.
        assert_eq!(settings(unit, "RestartPreventExitStatus"), ["2 3 64 65 70 77 78"]);
        assert_eq!(settings(unit, "Restart"), ["on-failure"]);
        assert!(settings(unit, "SuccessExitStatus").is_empty());
    }
    // With the timers' delay the ticks are at least 50 minutes and 2:50 hours apart: none finds the tries used up.
    assert_eq!(settings("idkeep-sync.service", "StartLimitIntervalSec"), ["40min"]);
    assert_eq!(settings("idkeep-backup.service", "StartLimitIntervalSec"), ["2h"]);
    assert_eq!(settings("idkeep.service", "RestartPreventExitStatus"), ["64 78"]);
    assert_eq!(settings("idkeep.service", "StartLimitIntervalSec"), ["0"]);
    for timer in ["idkeep-sync.timer", "idkeep-backup.timer"] {
        assert_eq!(settings(timer, "Persistent"), ["true"]);
        assert_eq!(settings(timer, "RandomizedDelaySec"), ["10min"]);
    }
}

#[test]
fn the_ticks_of_the_timers_are_an_hour_and_three_hours_apart() {
    for (timer, hours) in [("idkeep-sync.timer", 1), ("idkeep-backup.timer", 3)] {
        let calendar = settings(timer, "OnCalendar").remove(0);
        let mut analyze = Command::new(tool("systemd-analyze"));
        let ticks = said(analyze.env("TZ", "UTC").args(["calendar", "--iterations=30", &calendar]));
        // `Next elapse: Sat 2026-11-28 03:15:00 UTC`, then `Iter. #2: …`.
        let is_tick = |line: &&str| line.trim().starts_with("Next") || line.trim().starts_with("Iter");
        let ticks = ticks.lines().filter(is_tick).map(|line| line.split_once(": ").unwrap().1);
        let ticks: Vec<i64> = ticks.map(seconds).collect();
        assert!(ticks.len() >= 30, "{ticks:?}");
        assert!(ticks.windows(2).all(|two| two[1] - two[0] == hours * 3600), "{ticks:?}");
    }
}

/// Of `Sat 2026-11-28 03:15:00 UTC`.
fn seconds(at: &str) -> i64 {
    said(Command::new("date").args(["-u", "+%s", "-d", at])).trim().parse().unwrap()
}
