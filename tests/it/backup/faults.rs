//! What goes wrong in mid-run: never a listed set that is not whole, and the next run heals.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::backup::{Node, below, run_script};
use crate::support::idkeep::{Running, Signal};
use crate::support::parts::library;
use crate::support::postgres::Client;
use crate::support::wait_for;

const LONG: Duration = Duration::from_secs(60);

/// Holds a table that every dump wants, so that the participant's dump waits before its first byte.
pub(crate) fn hold(node: &Node) -> Client {
    let mut client = node.cluster.client("participant");
    client.run("begin; lock table participant.par_contracts in access exclusive mode");
    client
}

/// A run whose validator is durable, and whose `pg_dump` of the participant waits for a lock.
pub(crate) fn held_run(node: &Node) -> Running {
    let run = node.start();
    wait_for_the_dump_to_wait(node);
    run
}

pub(crate) fn wait_for_the_dump_to_wait(node: &Node) {
    wait_for("pg_dump to wait", LONG, || {
        let waiting = "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
            where not l.granted and a.application_name like 'idkeep/%'";
        (node.cluster.sql("postgres", waiting).trim() == "1").then_some(())
    });
}

/// The children of a process by that name.
pub(crate) fn children(pid: u32, name: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |child: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let Some((head, tail)) = stat.rsplit_once(')') else { return false };
        let parent = tail.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
        head.ends_with(&format!("({name}")) && parent == Some(pid)
    };
    pids.filter(is_child).collect()
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// Nothing counts as a backup, nothing is left over, and the next run is a whole one.
pub(crate) fn heals(node: &Node) {
    assert!(node.whole().is_empty());
    let left: Vec<String> = node.files().into_iter().filter(|file| file.contains(".dump.")).collect();
    assert!(left.is_empty(), "{left:?}");
    let set = node.publish();
    assert_eq!(node.whole(), std::slice::from_ref(&set));
    node.idkeep().expect(3, &["verify"]);
    assert!(node.files().iter().all(|file| !file.ends_with("pending.json")), "{:?}", node.files());
}

#[test]
fn a_dump_that_is_killed_leaves_no_set() {
    let node = Node::new(340);
    let lock = hold(&node);
    let run = held_run(&node);
    let dumps = children(run.pid(), "pg_dump");
    assert_eq!(dumps.len(), 1);
    kill(dumps[0]);
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    // The server does not see that its client is gone while it waits for a lock, with all the others in its hands.
    assert_eq!(node.cluster.sessions("idkeep/"), 0, "sessions are left");
    drop(lock);
    heals(&node);
}

#[test]
fn a_session_that_the_server_ends_leaves_no_set() {
    let node = Node::new(341);
    let lock = hold(&node);
    let run = held_run(&node);
    node.cluster.sql(
        "postgres",
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'idkeep/%'",
    );
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    drop(lock);
    heals(&node);
}

#[test]
fn a_run_that_is_told_to_end_leaves_nothing_and_no_session() {
    for signal in [Signal::TERM, Signal::INT] {
        let node = Node::new(342);
        let lock = hold(&node);
        let run = held_run(&node);
        run.signal(signal);
        let outcome = run.wait();
        assert_eq!(outcome.code, 75, "{outcome}");
        assert!(outcome.stderr.contains("told to end"), "{outcome}");
        assert_eq!(node.cluster.sessions("idkeep/"), 0, "sessions are left");
        drop(lock);
        heals(&node);
    }
}

/// One whose client is killed in the middle of a transaction lets go of what it holds only when the server notices.
#[test]
fn sessions_are_closed_and_not_broken_off_however_a_run_ends() {
    let unexpected = |node: &Node| node.cluster.log().matches("unexpected EOF").count();
    let node = Node::new(352);
    node.publish();
    assert_eq!(unexpected(&node), 0, "{}", node.cluster.log());
    // Judged, and found wanting, with its snapshot in hand.
    node.cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 1");
    node.backup(2);
    assert_eq!(unexpected(&node), 0, "{}", node.cluster.log());
    // As a control: one that is killed is told by the log.
    node.cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 100");
    let lock = hold(&node);
    let run = held_run(&node);
    kill(children(run.pid(), "psql")[0]);
    wait_for("the log to tell", LONG, || (unexpected(&node) > 0).then_some(()));
    drop(lock);
    run.wait();
}

/// Anybody may name his session like ours; one that may not be ended would keep all of ours from ending, too.
#[test]
fn only_sessions_of_the_backups_own_user_are_ended() {
    let node = Node::new(351);
    let lock = hold(&node);
    let run = held_run(&node);
    let ours =
        "select application_name from pg_stat_activity where application_name like 'idkeep/%/participant/%' limit 1";
    let name = node.cluster.sql("postgres", ours);
    let mut stranger = node.cluster.client("participant");
    stranger.run(&format!("set application_name = '{}'", name.trim()));
    run.signal(Signal::TERM);
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(!outcome.stderr.contains("could not be ended"), "{outcome}");
    assert_eq!(node.cluster.sessions("idkeep/"), 1, "only the stranger's is left");
    assert_eq!(stranger.run("select 7"), ["7"]);
    drop(lock);
    drop(stranger);
    heals(&node);
}

#[test]
fn a_dump_gives_way_to_whoever_waits_for_its_locks_and_names_them() {
    let mut node = Node::with(343, |network| network.rows = 20_000);
    node.backup.push("yield_after: 1s".into());
    node.configure();
    // The dump holds its locks from its beginning, and cannot get on: one table of many is not to be had.
    let lock = hold(&node);
    let run = node.start();
    let mut change = node.cluster.client("participant");
    wait_for("the dump to hold its locks", LONG, || {
        let held = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where l.granted \
            and l.relation = 'participant.lapi_parameters'::regclass and a.application_name like 'idkeep/%'";
        (node.cluster.sql("participant", held).trim() != "0").then_some(())
    });
    change.send("set application_name = 'migration-7'; alter table participant.lapi_parameters add column extra int");
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("gave way") && outcome.stderr.contains("migration-7"), "{outcome}");
    change.rows();
    drop(lock);
    heals(&node);
}

/// Whoever watches for others may lose its connection, and the dump go on.
#[test]
fn a_dump_whose_watcher_was_lost_still_gives_way() {
    let mut node = Node::new(349);
    node.backup.push("yield_after: 1s".into());
    node.configure();
    let lock = hold(&node);
    let run = held_run(&node);
    let watchers = children(run.pid(), "psql");
    assert_eq!(watchers.len(), 1);
    kill(watchers[0]);
    run.wait_for_stderr("cannot be seen");
    let mut change = node.cluster.client("participant");
    change.send("alter table participant.lapi_parameters add column extra int");
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("gave way"), "{outcome}");
    change.rows();
    drop(lock);
    heals(&node);
}

#[test]
fn two_runs_of_one_node_never_interleave() {
    let node = Node::new(344);
    let lock = hold(&node);
    let first = held_run(&node);
    let second = node.idkeep().expect(75, &["backup"]);
    assert!(second.stderr.contains("another run holds the lock"), "{second}");
    drop(lock);
    let outcome = first.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(node.whole().len(), 1);
}

#[test]
fn a_full_disk_leaves_no_set() {
    let mut node = Node::with(345, |network| network.rows = 3_000);
    let disk = Disk::mount(node.idkeep().path("disk"), "600k");
    node.url = format!("file://{}/repository", disk.0.display());
    node.configure();
    let outcome = node.idkeep().run(&["backup"]);
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("make room"), "{outcome}");
    assert!(node.whole().is_empty());
    disk.resize("64m");
    heals(&node);
}

/// A small file system of the test's own.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: PathBuf, size: &str) -> Self {
        std::fs::create_dir(&folder).unwrap();
        run_script(&format!("mount -t tmpfs -o size={size} none {folder:?}"));
        Self(folder)
    }

    fn resize(&self, size: &str) {
        run_script(&format!("mount -o remount,size={size} {:?}", self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run_script(&format!("umount -l {:?}", self.0));
    }
}

/// A process that dies anywhere leaves what the next run clears away.
#[test]
fn kill_9_at_any_moment_never_leaves_a_listed_set_that_is_not_whole() {
    let node = Node::with(346, |network| network.rows = 3_000);
    node.publish();
    let span = node.idkeep().expect(0, &["backup"]).elapsed;
    let mut random = fastrand::Rng::with_seed(20_261_125);
    let (mut killed, mut published) = (0, node.whole().len());
    for round in 0..24 {
        let mut run = node.start();
        // The moment is what is tried here, so it is drawn.
        std::thread::sleep(span.mul_f64(random.f64()));
        if run.is_running() {
            run.signal(Signal::KILL);
            killed += 1;
        }
        run.wait();
        let whole = node.whole();
        assert!(whole.len() >= published, "round {round}: a set is gone");
        published = whole.len();
        let listed = node.listed();
        for set in listed["sets"].as_array().unwrap() {
            assert_eq!(set["state"], "whole", "round {round}: {set}");
        }
    }
    assert!(killed >= 12, "only {killed} runs were killed in mid-run");
    let outcome = node.idkeep().run(&["-o", "json", "verify", "--all"]);
    assert_eq!(outcome.code, 3, "{outcome}");
    node.publish();
    let files = node.files();
    assert!(files.iter().all(|file| !file.ends_with("pending.json")), "{files:?}");
    let sets = node.whole();
    let stray = files.iter().filter(|file| file.contains(".dump.") && !sets.iter().any(|set| file.starts_with(set)));
    assert_eq!(stray.count(), 0, "{files:?}");
}

/// The wall clock goes back by an hour while the participant is dumped: order is by time that has passed.
#[test]
fn a_clock_that_is_stepped_back_cannot_reorder_a_set() {
    let mut node = Node::new(347);
    let time = node.idkeep().file("time", b"+0");
    for (name, value) in [
        ("LD_PRELOAD", library("faketime/libfaketime.so.1")),
        ("FAKETIME_TIMESTAMP_FILE", time.clone()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ] {
        node.idkeep_mut().env(name, value);
    }
    let lock = hold(&node);
    let run = held_run(&node);
    std::fs::write(&time, b"-3600").unwrap();
    drop(lock);
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    let set = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
    let manifest = node.manifest(&set);
    let mut times = Vec::new();
    for dump in manifest["databases"].as_array().unwrap() {
        times.extend(["started_at", "snapshot_at", "completed_at"].map(|at| dump[at].as_str().unwrap().to_owned()));
    }
    assert!(times.is_sorted(), "{times:?}");
    // The next one, an hour in the past by its own clock, still comes after it.
    let next = node.publish();
    assert!(next > set, "{next} is not after {set}");
    assert_eq!(node.manifest(&next)["previous"]["set"], set);
}

#[test]
fn plaintext_is_in_no_file() {
    let node = Node::new(348);
    node.publish();
    let keys: Vec<&Vec<u8>> = node.network.keys.iter().map(|(_, key)| key).collect();
    let hexadecimal = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    for file in below(Path::new(node.idkeep().folder())) {
        let bytes = std::fs::read(&file).unwrap();
        for key in &keys {
            for form in [key.to_vec(), hexadecimal(key)] {
                assert!(memchr::memmem::find(&bytes, &form).is_none(), "a key is in {}", file.display());
            }
        }
    }
}
