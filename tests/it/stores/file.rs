//! The `file` store: one age file per version, nothing half written, nothing lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::age::AgeKey;
use crate::support::dump::Dump;
use crate::support::idkeep::Idkeep;
use crate::support::scenario::Scenario;

/// A node that is kept in a folder.
struct Kept {
    scenario: Scenario,
    key: AgeKey,
}

impl Kept {
    fn new() -> Self {
        let (mut scenario, key) = (Scenario::new(1), AgeKey::new());
        let path = scenario.idkeep.path("kept");
        scenario.config.stores = "[dr]".into();
        scenario.config.more_stores = format!("  dr:\n    file: {{path: {path:?}, recipients: [{}]}}\n", key.recipient);
        scenario.configure();
        Self { scenario, key }
    }

    fn folder(&self) -> PathBuf {
        self.scenario.idkeep.path("kept").join(&self.scenario.node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn sync(&self, code: i32) -> String {
        self.scenario.sync(code).store().to_owned()
    }

    /// All files but the lock, with content and time.
    fn files(&self) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
        let files = fs::read_dir(self.folder()).into_iter().flatten().map(|file| file.unwrap());
        let named = files.map(|file| (file.file_name().into_string().unwrap(), file.path()));
        let named = named.filter(|(name, _)| name != ".lock");
        named.map(|(name, path)| (name, (fs::read(&path).unwrap(), modified(&path)))).collect()
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    fn assert_opens_to(&self, name: &str, dump: &Dump) {
        assert_eq!(self.key.open(&fs::read(self.path(name)).unwrap()).unwrap(), dump.json(), "{name}");
    }

    /// As if it had been written an hour ago.
    fn age(&self, name: &str) {
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        File::options().write(true).open(self.path(name)).unwrap().set_modified(hour_ago).unwrap();
    }

    /// The same program and configuration under `limits`, lines of a shell.
    fn limited(&self, limits: &str) -> Idkeep {
        let mut idkeep = Idkeep::of(self.wrapper(limits));
        idkeep.config(&self.scenario.yaml());
        idkeep
    }

    fn wrapper(&self, limits: &str) -> PathBuf {
        let script = format!("#!/bin/sh\n{limits}\nexec {:?} \"$@\"\n", env!("CARGO_BIN_EXE_idkeep"));
        let path = self.scenario.idkeep.file("limited", script.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_version_is_an_age_file_for_its_owner_alone() {
    let kept = Kept::new();
    assert_eq!(kept.sync(0), "written");
    assert_eq!(kept.names(), ["00000001.age", "00000001.json"]);
    kept.assert_opens_to("00000001.age", &kept.scenario.dump);
    assert!(AgeKey::new().open(&fs::read(kept.path("00000001.age")).unwrap()).is_err());
    for name in ["00000001.age", "00000001.json", ".lock"] {
        assert_eq!(mode(&kept.path(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&kept.folder()), 0o700);
    assert_eq!(mode(kept.folder().parent().unwrap()), 0o700);
    let facts: Value = serde_json::from_slice(&fs::read(kept.path("00000001.json")).unwrap()).unwrap();
    assert_eq!(facts["idkeep_digest"], kept.scenario.dump.digest());
    assert_eq!(facts["idkeep_party_hint"], format!("acme-{}", kept.scenario.node));
    assert_eq!(facts["idkeep_stored_version"], "1");
}

#[test]
fn an_unchanged_identity_writes_nothing() {
    let kept = Kept::new();
    kept.sync(0);
    let before = kept.files();
    for _ in 0..3 {
        assert_eq!(kept.sync(0), "unchanged");
    }
    assert_eq!(kept.scenario.sync_with(0, &["--dry-run"]).store(), "unchanged");
    assert_eq!(kept.files(), before);
}

#[test]
fn a_dry_run_makes_not_even_the_folder() {
    let kept = Kept::new();
    assert_eq!(kept.scenario.sync_with(0, &["--dry-run"]).store(), "would_write");
    assert!(!kept.folder().parent().unwrap().exists());
}

#[test]
fn old_versions_stay_as_they_were() {
    let kept = Kept::new();
    kept.sync(0);
    let first = kept.files();
    let next = kept.scenario.dump.clone().rotated(5, 1);
    kept.scenario.validator.dump(&next.json());
    assert_eq!(kept.sync(0), "written");
    kept.assert_opens_to("00000001.age", &kept.scenario.dump);
    kept.assert_opens_to("00000002.age", &next);
    let after = kept.files();
    assert!(first.iter().all(|(name, file)| after.get(name) == Some(file)));
    assert_eq!(after.len(), 4);
}

#[test]
fn a_damaged_or_truncated_newest_version_is_written_again_and_kept() {
    for damage in [truncate as fn(&Path), flip] {
        let kept = Kept::new();
        kept.sync(0);
        damage(&kept.path("00000001.age"));
        let damaged = fs::read(kept.path("00000001.age")).unwrap();
        let synced = kept.scenario.sync(0);
        assert_eq!(synced.store(), "repaired");
        assert!(synced.stderr().contains("version 1 was deleted, destroyed or damaged"), "{}", synced.outcome);
        kept.assert_opens_to("00000002.age", &kept.scenario.dump);
        assert_eq!(fs::read(kept.path("00000001.age")).unwrap(), damaged);
        assert_eq!(kept.sync(0), "unchanged");
    }
}

fn truncate(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(100).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_version_without_its_facts_is_kept_and_followed_by_another() {
    for lost in [|path: &Path| fs::remove_file(path).unwrap(), truncate as fn(&Path)] {
        let kept = Kept::new();
        kept.sync(0);
        lost(&kept.path("00000001.json"));
        kept.age("00000001.age");
        let synced = kept.scenario.sync(0);
        assert_eq!(synced.store(), "written");
        assert!(synced.stderr().contains("WARN"), "{}", synced.outcome);
        kept.assert_opens_to("00000001.age", &kept.scenario.dump);
        kept.assert_opens_to("00000002.age", &kept.scenario.dump);
        assert_eq!(kept.sync(0), "unchanged");
    }
}

#[test]
fn a_version_that_was_deleted_by_hand_is_written_again() {
    let kept = Kept::new();
    kept.sync(0);
    fs::remove_file(kept.path("00000001.age")).unwrap();
    assert_eq!(kept.sync(0), "written");
    kept.assert_opens_to("00000001.age", &kept.scenario.dump);
}

#[test]
fn another_participant_is_refused() {
    let kept = Kept::new();
    kept.sync(0);
    let before = kept.files();
    kept.scenario.validator.dump(&Dump::fresh(2).json());
    assert_eq!(kept.sync(65), "failed");
    assert_eq!(kept.files(), before);
}

#[test]
fn more_changes_than_allowed_are_refused() {
    let mut kept = Kept::new();
    kept.scenario.identity("max_changes_per_day: 1");
    kept.sync(0);
    kept.scenario.validator.dump(&kept.scenario.dump.clone().rotated(5, 1).json());
    assert_eq!(kept.sync(65), "failed");
    assert_eq!(kept.names().len(), 2);
}

#[test]
fn eight_runs_at_once_make_one_version() {
    let kept = Kept::new();
    let running: Vec<_> = (0..8).map(|_| kept.scenario.idkeep.spawn(&["-o", "json", "sync"])).collect();
    let outcomes: Vec<_> = running.into_iter().map(|running| running.wait()).collect();
    let written = |outcome: &&crate::support::idkeep::Outcome| outcome.stdout.contains("\"written\"");
    for outcome in &outcomes {
        assert_eq!(outcome.code, 0, "{outcome}");
    }
    assert_eq!(outcomes.iter().filter(written).count(), 1);
    assert_eq!(kept.names(), ["00000001.age", "00000001.json"]);
    kept.assert_opens_to("00000001.age", &kept.scenario.dump);
}

#[test]
fn a_write_that_the_system_cuts_short_leaves_no_half_version() {
    // In blocks of 512 bytes: the facts do not fit, or only the version does not.
    for blocks in [1, 3] {
        let mut kept = Kept::new();
        kept.scenario.identity("deadline: 1s");
        let outcome = kept.limited(&format!("trap '' XFSZ\nulimit -f {blocks}")).sync(75);
        let file = kept.path(if blocks == 1 { "00000001.json" } else { "00000001.age" });
        assert!(outcome.stderr.contains(&format!("writing {}: ", file.display())), "{outcome}");
        assert!(outcome.stderr.contains("\nhint: make room"), "{outcome}");
        assert!(
            !kept.names().iter().any(|name| name.ends_with(".age") || name.ends_with(".new")),
            "{:?}",
            kept.names()
        );
        kept.scenario.identity("deadline: 20s");
        assert_eq!(kept.sync(0), "written");
        kept.assert_opens_to("00000001.age", &kept.scenario.dump);
    }
}

#[test]
fn a_run_that_is_killed_while_it_writes_leaves_no_half_version() {
    for blocks in [1, 3] {
        let kept = Kept::new();
        // Without the trap, the signal for too large a file kills in mid-write.
        let outcome = kept.limited(&format!("ulimit -f {blocks}")).run(&["sync"]);
        assert!(outcome.signal.is_some(), "{outcome}");
        assert!(!kept.names().iter().any(|name| name.ends_with(".age")), "{:?}", kept.names());
        assert_eq!(kept.sync(0), "written");
        assert_eq!(kept.names(), ["00000001.age", "00000001.json"]);
        kept.assert_opens_to("00000001.age", &kept.scenario.dump);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_a_matter_of_configuration() {
    let mut kept = Kept::new();
    let blocked = kept.scenario.idkeep.file("blocked", b"").join("kept");
    // Nobody may make a folder in the second one, not even root.
    for path in [blocked.as_path(), Path::new("/sys/idkeep")] {
        kept.scenario.config.more_stores =
            format!("  dr:\n    file: {{path: {path:?}, recipients: [{}]}}\n", kept.key.recipient);
        kept.scenario.configure();
        let synced = kept.scenario.sync(78);
        let folder = path.join(&kept.scenario.node);
        assert!(synced.stderr().contains(&folder.display().to_string()), "{}", synced.outcome);
        assert!(synced.stderr().contains("\nhint: let this user write there, or change `path`"), "{}", synced.outcome);
        assert!(!synced.stderr().contains("trying again"), "{}", synced.outcome);
    }
}

#[test]
fn recipients_of_the_node_seal_for_the_folder_too() {
    let (mut kept, other) = (Kept::new(), AgeKey::new());
    kept.scenario.identity(&format!("recipients: [{}]", other.recipient));
    kept.sync(0);
    let sealed = fs::read(kept.path("00000001.age")).unwrap();
    assert_eq!(other.open(&sealed).unwrap(), kept.scenario.dump.json());
}

#[test]
fn the_live_check_changes_nothing_and_names_a_folder_that_cannot_be_written() {
    let mut kept = Kept::new();
    kept.sync(0);
    let before = kept.files();
    let text = kept.scenario.idkeep.expect(0, &["check", "--live"]).stdout;
    assert!(text.contains(&format!("{} can be written", kept.folder().display())), "{text}");
    assert_eq!(kept.files(), before);
    let blocked = kept.scenario.idkeep.file("blocked", b"");
    kept.scenario.config.more_stores =
        format!("  dr:\n    file: {{path: {:?}, recipients: [{}]}}\n", blocked.join("kept"), kept.key.recipient);
    kept.scenario.configure();
    let text = kept.scenario.idkeep.expect(78, &["check", "--live"]).stdout;
    let expected = format!("fail: {}: store dr: writing to {}: ", kept.scenario.node, blocked.display());
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("; let this user write there, or change `path`\n"), "{text}");
}
