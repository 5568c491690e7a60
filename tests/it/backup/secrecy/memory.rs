//! What is in the memory of a process that has nothing left to do but to print its report.

use std::time::Duration;

use serde_json::json;

use super::{Cloud, Planted, Secrets};
use crate::backup::credentials::Bank;
use crate::backup::faults::{children, hold, kill, wait_for_the_dump_to_wait};
use crate::support::age::AgeKey;
use crate::support::backup::below;
use crate::support::idkeep::{Blocked, Signal};
use crate::support::memory::scan_for;
use crate::support::proxy::Fault;
use crate::support::wait_for;

pub(super) const LONG: Duration = Duration::from_secs(100);

/// Enough contracts to fill every buffer on the way to the repository, and the pipe.
const TOO_MANY: u32 = 40_000;

const BACKUP: [&str; 5] = ["-o", "json", "--log-level", "debug", "backup"];

pub(super) fn assert_clean(pid: u32, secrets: &Secrets) {
    let hits = scan_for(pid, secrets);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
}

/// One configuration with five nodes over the same databases.
fn five_nodes(planted: &mut Planted) {
    let yaml = planted.node.yaml();
    let (head, rest) = yaml.split_once("stores:\n  vault:").unwrap();
    let block = head.strip_prefix("nodes:\n").unwrap();
    let name = planted.node.name();
    let nodes: String = (0..5).map(|number| block.replacen(name, &format!("{name}-{number}"), 1)).collect();
    planted.node.idkeep_mut().config(&format!("nodes:\n{nodes}stores:\n  vault:{rest}"));
}

fn five_backups_leave_nothing(seed: u64, workers: u32) {
    let (mut planted, cloud) = Planted::in_a_cloud(seed, 12_000);
    planted.credentials_in_a_file(&cloud);
    planted.node.backup.push(format!("compression: {{level: 3, workers: {workers}}}"));
    five_nodes(&mut planted);
    let run = planted.node.idkeep().spawn_with_blocked_stdout(&BACKUP);
    let keys = cloud.bucket.keys();
    let sealed: Vec<_> = keys.iter().filter(|key| key.ends_with(".dump.zst.age")).collect();
    assert_eq!(sealed.len(), 10);
    for key in sealed {
        planted.secrets.extend(file_keys(&planted.node.key, &cloud.bucket.object(key).unwrap()));
    }
    assert_clean(run.pid(), &planted.secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
    let report = outcome.json();
    assert_eq!(report["nodes"].as_array().unwrap().len(), 5);
    for node in report["nodes"].as_array().unwrap() {
        assert_eq!(node["outcome"], "published", "{outcome}");
    }
}

/// What opens one sealed file alone.
pub(super) fn file_keys(key: &AgeKey, sealed: &[u8]) -> Secrets {
    let keys = key.file_keys(sealed);
    vec![("file key".into(), keys.file.to_vec()), ("payload's key".into(), keys.payload.to_vec())]
}

#[test]
fn nothing_is_left_in_memory_after_five_backups_compressed_in_the_sealing_thread() {
    five_backups_leave_nothing(360, 0);
}

#[test]
fn nothing_is_left_in_memory_after_five_backups_compressed_by_two_workers() {
    five_backups_leave_nothing(361, 2);
}

/// A run whose participant's dump has filled every buffer, as nothing can be uploaded any more; found to hold a key,
/// by the scan that later must find none.
fn stalled(planted: &Planted, cloud: &Cloud) -> Blocked {
    let lock = hold(&planted.node);
    let run = planted.node.idkeep().spawn_blocked(&BACKUP);
    wait_for_the_dump_to_wait(&planted.node);
    cloud.proxy.set(Fault::BlackHole);
    cloud.proxy.break_off();
    drop(lock);
    let keys: Secrets = planted.secrets.iter().filter(|(name, _)| name.starts_with("key 0")).cloned().collect();
    wait_for("the key in memory", LONG, || (!scan_for(run.pid(), &keys).is_empty()).then_some(()));
    run
}

fn go_on(cloud: &Cloud) {
    cloud.proxy.set(Fault::None);
    cloud.proxy.break_off();
}

#[test]
fn the_key_is_in_memory_while_the_upload_hangs_and_gone_after_the_run_was_told_to_end() {
    for workers in [0, 2] {
        let (mut planted, cloud) = Planted::in_a_cloud(362, TOO_MANY);
        planted.credentials_in_a_file(&cloud);
        planted.node.backup.push(format!("compression: {{workers: {workers}}}"));
        planted.node.configure();
        let mut run = stalled(&planted, &cloud);
        run.signal(Signal::TERM);
        run.wait_for_stderr("told to end");
        go_on(&cloud);
        run.wait_to_print();
        assert_clean(run.pid(), &planted.secrets);
        let outcome = run.release();
        assert_eq!(outcome.code, 75, "{outcome}");
        assert_eq!(planted.node.cluster.sessions("idkeep/"), 0);
    }
}

#[test]
fn the_key_is_in_memory_while_the_upload_hangs_and_gone_after_the_dump_was_killed() {
    for workers in [0, 2] {
        let (mut planted, cloud) = Planted::in_a_cloud(363, TOO_MANY);
        planted.credentials_in_a_file(&cloud);
        planted.node.backup.push(format!("compression: {{workers: {workers}}}"));
        planted.node.configure();
        let mut run = stalled(&planted, &cloud);
        let dumps = children(run.pid(), "pg_dump");
        assert_eq!(dumps.len(), 1);
        kill(dumps[0]);
        go_on(&cloud);
        run.wait_to_print();
        assert_clean(run.pid(), &planted.secrets);
        let outcome = run.release();
        assert_eq!(outcome.code, 75, "{outcome}");
        assert!(cloud.bucket.uploads().is_empty(), "{:?}", cloud.bucket.uploads());
    }
}

#[test]
fn nothing_is_left_in_memory_after_a_set_that_was_rejected() {
    let planted = Planted::new(364, 200);
    planted.node.cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 20");
    let run = planted.node.idkeep().spawn_with_blocked_stdout(&BACKUP);
    assert_clean(run.pid(), &planted.secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 2, "{outcome}");
}

#[test]
fn nothing_is_left_in_memory_after_a_set_in_a_folder() {
    let mut planted = Planted::new(365, 12_000);
    let run = planted.node.idkeep().spawn_with_blocked_stdout(&BACKUP);
    let files = below(&planted.node.folder());
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "age")) {
        planted.secrets.extend(file_keys(&planted.node.key, &std::fs::read(file).unwrap()));
    }
    assert_clean(run.pid(), &planted.secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(planted.node.whole().len(), 1);
}

#[test]
fn a_password_that_was_made_for_the_run_is_in_memory_while_it_runs_and_gone_afterwards() {
    let bank = Bank::open(368, json!({"max_ttl": "24h"}));
    let lock = hold(&bank.node);
    let mut run = bank.node.idkeep().spawn_blocked(&BACKUP);
    wait_for_the_dump_to_wait(&bank.node);
    let dump = children(run.pid(), "pg_dump")[0];
    let handed_over = std::fs::read_to_string(format!("/proc/{dump}/fd/3")).unwrap();
    let password = handed_over.strip_prefix("*:*:*:*:").unwrap().trim_end().as_bytes().to_vec();
    let secrets = vec![("password".to_owned(), password)];
    assert!(!scan_for(run.pid(), &secrets).is_empty());
    drop(lock);
    run.wait_to_print();
    assert_clean(run.pid(), &secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
}
