//! Sets in a bucket: parts, the lock, and every way in which a run there can end early.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::faults::{children, held_run, hold, kill};
use crate::support::backup::Node;
use crate::support::client::Client;
use crate::support::idkeep::{Outcome, Signal};
use crate::support::parts::library;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::s3::{Bucket, S3, forward, relay};
use crate::support::server::{Gate, Reply, Seen, Server};

const LONG: Duration = Duration::from_secs(60);

/// Rows that come to about 1 kB each, which no compression makes smaller: several parts of 8 MiB.
const SEVERAL_PARTS: u32 = 24_000;
const TWO_PARTS: u32 = 10_000;

/// Has the node's sets kept in this bucket, at this address of its server.
pub(crate) fn keep_in(node: &mut Node, bucket: &Bucket, endpoint: &str, lock_expiry: &str) {
    node.url = format!("s3://{}/prefix", bucket.name);
    node.repository = [("endpoint", endpoint), ("allow_http", "true"), ("lock_expiry", lock_expiry)]
        .map(|(key, value)| format!("{key}: {value}"))
        .into();
    node.idkeep_mut().env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "synthetic");
    node.configure();
}

/// What a set has by that name.
fn object(bucket: &Bucket, node: &Node, set: &str, file: &str) -> Vec<u8> {
    bucket.object(&format!("prefix/{}/{set}/{file}", node.name())).unwrap_or_else(|| panic!("{set} has no {file}"))
}

fn manifest(bucket: &Bucket, node: &Node, set: &str) -> Value {
    serde_json::from_slice(&object(bucket, node, set, "manifest.json")).unwrap()
}

/// The keys of the node's sets, from the set's name on.
fn keys(bucket: &Bucket, node: &Node) -> Vec<String> {
    let folder = format!("prefix/{}/", node.name());
    let keys = bucket.keys().into_iter().filter_map(|key| Some(key.strip_prefix(&folder)?.to_owned()));
    keys.filter(|key| key.starts_with("20")).collect()
}

/// Every listed set is whole.
fn assert_all_whole(node: &Node) {
    let listed = node.listed();
    for set in listed["sets"].as_array().unwrap() {
        assert_eq!(set["state"], "whole", "{listed}");
    }
}

/// Nothing is there but whole sets, and no upload was left.
pub(crate) fn assert_nothing_left(bucket: &Bucket, node: &Node) {
    assert_all_whole(node);
    assert_eq!(bucket.uploads(), [""; 0]);
    let sets = node.whole();
    let keys = keys(bucket, node);
    let is_of_a_set = |key: &String| sets.iter().any(|set| key.starts_with(set.as_str()));
    assert!(keys.iter().all(|key| is_of_a_set(key) && !key.ends_with("pending.json")), "{keys:?}");
}

fn is_part(seen: &Seen) -> bool {
    seen.query.as_ref().is_some_and(|query| query.contains("partNumber"))
}

/// A relay that tells when a request came in that `is_it`.
fn telling(bucket: &Bucket, is_it: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> (Server, Receiver<()>) {
    let (sender, came) = channel();
    let sender = Mutex::new(sender);
    let relay = relay(bucket.s3.address, move |seen| {
        if is_it(seen) {
            // Once the test has heard it, nobody listens any more.
            let _ = sender.lock().unwrap().send(());
        }
        None
    });
    (relay, came)
}

#[test]
fn a_set_of_several_parts_opens_with_stock_tools_after_it_was_fetched() {
    let bucket = S3::shared().bucket();
    let (relay, _) = telling(&bucket, |_| false);
    let mut node = Node::with(400, |network| network.rows = SEVERAL_PARTS);
    keep_in(&mut node, &bucket, &relay.origin(), "60s");
    let set = node.publish();
    let parts = relay.seen().iter().filter(|seen| is_part(seen)).count();
    assert!(parts >= 3, "{parts} parts");
    let manifest = manifest(&bucket, &node, &set);
    for dump in manifest["databases"].as_array().unwrap() {
        let stored = object(&bucket, &node, &set, dump["file"].as_str().unwrap());
        assert_eq!(dump["bytes"], stored.len());
        assert_eq!(dump["sha256"], base16ct::lower::encode_string(&Sha256::digest(&stored)));
        let fetched = node.idkeep().file("fetched", &stored);
        node.restore(&fetched, &format!("restored_{}", dump["name"].as_str().unwrap()));
    }
    assert!(manifest["databases"][1]["bytes"].as_u64().unwrap() > 20 << 20, "{manifest}");
    let rows = node.cluster.sql("restored_participant", "select count(*) from participant.par_contracts");
    assert_eq!(rows, SEVERAL_PARTS.to_string());
    assert_eq!(node.whole(), [set]);
    assert_nothing_left(&bucket, &node);
}

#[test]
fn a_connection_that_is_cut_in_mid_upload_for_a_moment_costs_nothing() {
    let bucket = S3::shared().bucket();
    let (relay, part) = telling(&bucket, is_part);
    let proxy = FaultProxy::before(relay.address, Fault::None);
    let mut node = Node::with(401, |network| network.rows = SEVERAL_PARTS);
    keep_in(&mut node, &bucket, &format!("http://{}", proxy.address), "60s");
    let run = node.start();
    part.recv_timeout(LONG).unwrap();
    proxy.set(Fault::ResetUpAfter(1 << 20));
    proxy.break_off();
    run.wait_for_stderr("trying again");
    proxy.set(Fault::None);
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(node.whole().len(), 1);
    assert_nothing_left(&bucket, &node);
}

#[test]
fn a_connection_that_stays_cut_in_mid_upload_leaves_no_set_and_the_next_run_heals() {
    let bucket = S3::shared().bucket();
    let (relay, part) = telling(&bucket, is_part);
    let proxy = FaultProxy::before(relay.address, Fault::None);
    let mut node = Node::with(402, |network| network.rows = SEVERAL_PARTS);
    keep_in(&mut node, &bucket, &format!("http://{}", proxy.address), "60s");
    // A part is tried again for five minutes, which the test does not have: the program's clock is put forward.
    let time = put_forward(&mut node);
    let run = node.start();
    part.recv_timeout(LONG).unwrap();
    proxy.set(Fault::CutUpAfter(1 << 20));
    proxy.break_off();
    run.wait_for_stderr("trying again");
    std::fs::write(&time, b"+400").unwrap();
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("participant.dump.zst.age"), "{outcome}");
    assert!(node.whole().is_empty());
    assert_nothing_left(&bucket, &node);
    proxy.set(Fault::None);
    let set = node.publish();
    assert_eq!(node.whole(), [set]);
    assert_nothing_left(&bucket, &node);
}

/// A file by which the program's clock is put forward.
fn put_forward(node: &mut Node) -> PathBuf {
    let time = node.idkeep().file("time", b"+0");
    for (name, value) in [
        ("LD_PRELOAD", library("faketime/libfaketime.so.1")),
        ("FAKETIME_TIMESTAMP_FILE", time.clone()),
        ("FAKETIME_NO_CACHE", PathBuf::from("1")),
    ] {
        node.idkeep_mut().env(name, value);
    }
    time
}

/// Waits for a run's next request of a certain number, of those that are not about the lock.
#[derive(Default)]
struct Trap {
    count: usize,
    at: usize,
    is_lost: bool,
    sprung: Option<Sender<()>>,
    /// Which ones brought a part.
    parts: Vec<usize>,
}

impl Trap {
    fn judge(&mut self, seen: &Seen) -> Option<Reply> {
        if seen.path.contains("/lock/") || seen.query.as_ref().is_some_and(|query| query.contains("lock")) {
            return None;
        }
        self.count += 1;
        if is_part(seen) {
            self.parts.push(self.count);
        }
        if self.count != self.at {
            return None;
        }
        self.sprung.as_ref().unwrap().send(()).unwrap();
        // A request that is lost is never answered: the program waits for it when it dies.
        self.is_lost.then(|| Reply::empty(503).behind(Gate::closed()))
    }

    fn set(&mut self, at: usize, is_lost: bool) -> Receiver<()> {
        let (sender, sprung) = channel();
        *self = Self { count: 0, at, is_lost, sprung: Some(sender), parts: Vec::new() };
        sprung
    }
}

#[test]
fn kill_9_at_any_request_leaves_no_set_that_is_not_whole_and_the_next_run_takes_over() {
    let bucket = S3::shared().bucket();
    let trap = Arc::<Mutex<Trap>>::default();
    let judge = trap.clone();
    let relay = relay(bucket.s3.address, move |seen| judge.lock().unwrap().judge(seen));
    let mut node = Node::with(403, |network| network.rows = TWO_PARTS);
    keep_in(&mut node, &bucket, &relay.origin(), "1s");
    node.publish();
    drop(trap.lock().unwrap().set(0, false));
    node.publish();
    // As many has every run that finds everything in order.
    let (requests, parts) = {
        let trap = trap.lock().unwrap();
        (trap.count, trap.parts.clone())
    };
    let mut random = fastrand::Rng::with_seed(20_261_122);
    let (mut published, mut in_mid_upload) = (2, 0);
    for round in 0..10 {
        // Every other moment is one of the upload's, the rest are any.
        let at = if round % 2 == 0 { *random.choice(&parts).unwrap() } else { random.usize(1..=requests) };
        let is_lost = random.bool();
        let sprung = trap.lock().unwrap().set(at, is_lost);
        let run = node.start();
        sprung.recv_timeout(LONG).unwrap_or_else(|_| panic!("round {round}: no request {at}:\n{}", run.stderr()));
        run.signal(Signal::KILL);
        run.wait();
        drop(trap.lock().unwrap().set(0, false));
        assert_all_whole(&node);
        let whole = node.whole().len();
        assert!(whole >= published, "round {round}, request {at} of {requests}: a set is gone");
        in_mid_upload += usize::from(!bucket.uploads().is_empty());
        let healing = node.backup(0);
        let is_taken_over = healing.stderr.contains("gives no sign of life: taken over");
        assert!(is_taken_over || !is_lost, "round {round}, request {at} of {requests}: {healing}");
        assert_nothing_left(&bucket, &node);
        published = node.whole().len();
        assert_eq!(published, whole + 1, "round {round}, request {at} of {requests}");
    }
    assert!(in_mid_upload >= 5, "only {in_mid_upload} runs were killed in mid-upload");
    // The chain of sets is unbroken.
    let sets = node.whole();
    for pair in sets.windows(2) {
        assert_eq!(manifest(&bucket, &node, &pair[1])["previous"]["set"], pair[0].as_str());
    }
}

#[test]
fn a_planted_key_stops_neither_backups_nor_expiry_and_is_named() {
    let bucket = S3::shared().bucket();
    let mut node = Node::new(409);
    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "60s");
    bucket.put(&format!("prefix/{}//planted", node.name()), b"");
    let first = node.publish();
    bucket.put(&format!("prefix/{}/{first}//planted", node.name()), b"");
    let second = node.publish();
    assert_eq!(node.whole(), [first, second]);
    node.idkeep().expect(3, &["verify", "--all"]);
    let outcome = node.idkeep().expect(0, &["expire"]);
    assert!(outcome.stderr.contains("//planted"), "{outcome}");
}

/// A repository that takes nothing any more must not hide that the databases do not fit together.
#[test]
fn a_rejected_set_is_told_also_where_its_evidence_cannot_be_written() {
    let bucket = S3::shared().bucket();
    for (status, page, code) in [(503, "SlowDown", 2), (403, "AccessDenied", 77)] {
        let page = format!("<Error><Code>{page}</Code></Error>");
        let full = relay(bucket.s3.address, move |seen| {
            let is_evidence = seen.method == "PUT" && seen.path.ends_with("/rejected.json");
            is_evidence.then(|| Reply::new(status, "application/xml", page.clone()))
        });
        let mut node = Node::with(410, |network| network.ledger_end = 1);
        keep_in(&mut node, &bucket, &full.origin(), "60s");
        // The repository is asked for a minute, which the test does not have: the program's clock is put forward.
        let time = put_forward(&mut node);
        let run = node.start();
        if status == 503 {
            run.wait_for_stderr("trying again");
            std::fs::write(&time, b"+120").unwrap();
        }
        let outcome = run.wait();
        assert_eq!(outcome.code, code, "{outcome}");
        for words in ["is rejected: I1 fails", "could not be written", "writing"] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome}");
        }
        assert_eq!(outcome.json()["nodes"][0]["outcome"], "rejected");
        assert!(node.whole().is_empty());
    }
}

/// What a run published at last, though it had given up waiting for the answer.
#[test]
fn expiry_removes_nothing_of_a_set_whose_manifest_came_late() {
    let bucket = S3::shared().bucket();
    let mut node = Node::new(411);
    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "60s");
    let late = node.publish();
    node.publish();
    node.idkeep().expect(3, &["verify"]);
    let key = format!("prefix/{}/{late}/manifest.json", node.name());
    let manifest = bucket.object(&key).unwrap();
    // Before expiry lists it there is none, and right after there is.
    assert_eq!(bucket.ask("DELETE", &format!("/{key}"), None).status, 204);
    let (to, client, came) = (bucket.s3.address, Client::new(None), Arc::new(AtomicBool::new(false)));
    let (path, is_here) = (format!("/{}/{key}", bucket.name), came.clone());
    let server = Server::plain(move |seen: Seen| {
        let (client, came, path, manifest) = (client.clone(), came.clone(), path.clone(), manifest.clone());
        async move {
            let is_list = seen.query.as_ref().is_some_and(|query| query.contains("list-type"));
            let reply = forward(&client, to, seen).await;
            if is_list && !came.swap(true, Ordering::SeqCst) {
                let signed = [("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request")];
                client.send_async("PUT", &format!("http://{to}{path}"), &signed, Some(manifest)).await.unwrap();
            }
            reply
        }
    });
    keep_in(&mut node, &bucket, &server.origin(), "60s");
    let before = keys(&bucket, &node).len();
    let outcome = node.idkeep().expect(0, &["expire"]);
    assert!(is_here.load(Ordering::SeqCst) && outcome.stderr.contains("has a manifest by now"), "{outcome}");
    assert_eq!(keys(&bucket, &node).len(), before + 1);
    assert_eq!(node.whole().len(), 2);
}

/// The manifest's request, whose fate the run does not learn: kept back, or carried out without an answer.
fn run_with_a_lost_manifest(node: &mut Node, bucket: &Bucket, is_carried_out: bool) -> (Outcome, Vec<u8>) {
    let kept = Arc::<Mutex<Vec<u8>>>::default();
    let (to, client, keeping) = (bucket.s3.address, Client::new(None), kept.clone());
    let server = Server::plain(move |seen: Seen| {
        let (client, keeping) = (client.clone(), keeping.clone());
        async move {
            if seen.method != "PUT" || !seen.path.ends_with("/manifest.json") {
                return forward(&client, to, seen).await;
            }
            seen.body.clone_into(&mut keeping.lock().unwrap());
            if is_carried_out {
                forward(&client, to, seen).await;
            }
            Reply::new(503, "application/xml", "<Error><Code>SlowDown</Code></Error>")
        }
    });
    keep_in(node, bucket, &server.origin(), "60s");
    let time = put_forward(node);
    let run = node.start();
    run.wait_for_stderr("trying again");
    std::fs::write(&time, b"+120").unwrap();
    let outcome = run.wait();
    let kept = kept.lock().unwrap().clone();
    (outcome, kept)
}

#[test]
fn a_manifest_of_which_nobody_knows_whether_it_is_there_keeps_its_objects() {
    let bucket = S3::shared().bucket();
    let mut node = Node::new(412);
    let (outcome, manifest) = run_with_a_lost_manifest(&mut node, &bucket, false);
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("it is not known whether set"), "{outcome}");
    assert!(outcome.stderr.contains("all of it stays"), "{outcome}");
    let left = keys(&bucket, &node);
    assert_eq!(left.iter().filter(|key| key.ends_with(".age")).count(), 2, "{left:?}");
    // The request is carried out after all: the set is whole, and the next run leaves it alone.
    let set = left[0].split_once('/').unwrap().0.to_owned();
    bucket.put(&format!("prefix/{}/{set}/manifest.json", node.name()), &manifest);
    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "60s");
    assert_eq!(node.whole(), std::slice::from_ref(&set));
    let next = node.publish();
    assert_eq!(node.whole(), [set, next]);
    assert_nothing_left(&bucket, &node);
}

#[test]
fn a_manifest_that_is_there_is_published_though_nobody_said_so() {
    let bucket = S3::shared().bucket();
    let mut node = Node::new(413);
    let (outcome, _) = run_with_a_lost_manifest(&mut node, &bucket, true);
    assert_eq!(outcome.code, 0, "{outcome}");
    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "60s");
    assert_eq!(node.whole().len(), 1);
    assert_nothing_left(&bucket, &node);
}

#[test]
fn two_agents_of_one_node_never_interleave() {
    let bucket = S3::shared().bucket();
    let mut node = Node::new(404);
    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "4s");
    let lock = hold(&node);
    let first = held_run(&node);
    let second = node.idkeep().expect(75, &["backup"]);
    assert!(second.stderr.contains("another run holds the lock"), "{second}");
    drop(lock);
    let outcome = first.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(node.whole().len(), 1);
    assert_nothing_left(&bucket, &node);
}

#[test]
fn a_run_that_is_told_to_end_in_mid_upload_leaves_nothing() {
    let bucket = S3::shared().bucket();
    let trap = Arc::<Mutex<Trap>>::default();
    let judge = trap.clone();
    let relay = relay(bucket.s3.address, move |seen| is_part(seen).then(|| judge.lock().unwrap().judge(seen))?);
    let mut node = Node::with(405, |network| network.rows = SEVERAL_PARTS);
    keep_in(&mut node, &bucket, &relay.origin(), "60s");
    // The second part never gets an answer, and the dump cannot get on.
    let sprung = trap.lock().unwrap().set(2, true);
    let run = node.start();
    sprung.recv_timeout(LONG).unwrap();
    assert_eq!(bucket.uploads().len(), 1);
    run.signal(Signal::TERM);
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("told to end"), "{outcome}");
    assert_eq!(node.cluster.sessions("idkeep/"), 0);
    assert_nothing_left(&bucket, &node);
    assert!(node.whole().is_empty());
}

#[test]
fn a_run_that_is_told_to_end_does_not_wait_for_a_server_that_says_nothing_any_more() {
    let bucket = S3::shared().bucket();
    let is_silent = Arc::new(AtomicBool::new(false));
    let (silent, (sender, sprung)) = (is_silent.clone(), channel());
    let sender = Mutex::new(sender);
    let relay = relay(bucket.s3.address, move |seen| {
        if is_part(seen) && !silent.swap(true, Ordering::SeqCst) {
            sender.lock().unwrap().send(()).unwrap();
        }
        silent.load(Ordering::SeqCst).then(|| Reply::empty(503).behind(Gate::closed()))
    });
    let mut node = Node::with(408, |network| network.rows = SEVERAL_PARTS);
    keep_in(&mut node, &bucket, &relay.origin(), "1s");
    let run = node.start();
    sprung.recv_timeout(LONG).unwrap();
    run.signal(Signal::TERM);
    // Removing what was begun would be tried for minutes, and this waits for two at most.
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("stays for the next run to remove"), "{outcome}");
    assert_eq!(node.cluster.sessions("idkeep/"), 0);
    assert_eq!(bucket.uploads().len(), 1);

    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "1s");
    let set = node.publish();
    assert_eq!(node.whole(), [set]);
    assert_nothing_left(&bucket, &node);
}

#[test]
fn a_bucket_that_cannot_hold_sets_is_told_before_anything_is_dumped() {
    let bucket = S3::shared().bucket();
    let mut node = Node::new(406);
    node.cluster.sql("postgres", "alter system set log_connections = on");
    node.cluster.sql("postgres", "select pg_reload_conf()");

    let deaf = relay(bucket.s3.address, |seen| {
        seen.headers.remove("if-none-match");
        None
    });
    keep_in(&mut node, &bucket, &deaf.origin(), "60s");
    let outcome = node.backup(78);
    assert!(outcome.stderr.contains("ignores conditional puts"), "{outcome}");

    let page = "<Error><Code>AccessDenied</Code><Message>text of the server</Message></Error>";
    let denying = relay(bucket.s3.address, move |_| Some(Reply::new(403, "application/xml", page)));
    keep_in(&mut node, &bucket, &denying.origin(), "60s");
    let outcome = node.backup(77);
    assert!(outcome.stderr.contains("permission denied"), "{outcome}");
    assert!(!outcome.output().contains("text of the server"), "{outcome}");

    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "60s");
    node.url = "s3://no-such-bucket/prefix".into();
    node.configure();
    let outcome = node.backup(78);
    assert!(outcome.stderr.contains("the bucket or container is not there"), "{outcome}");

    assert_eq!(bucket.keys(), [""; 0]);
    let log = node.cluster.log();
    assert!(!log.contains("user=idkeep_backup"), "{log}");
}

#[test]
fn a_writer_that_may_not_remove_anything_takes_sets_and_is_not_confused_by_what_stays() {
    let bucket = S3::shared().bucket();
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let writer = relay(bucket.s3.address, move |seen| {
        (seen.method == "DELETE").then(|| Reply::new(403, "application/xml", denied))
    });
    let mut node = Node::with(407, |network| network.rows = TWO_PARTS);
    keep_in(&mut node, &bucket, &writer.origin(), "60s");
    let first = node.publish();
    let second = node.publish();
    assert_eq!(node.whole(), [first, second.clone()]);

    // A run that fails leaves what it stored, under no manifest.
    let lock = hold(&node);
    let run = held_run(&node);
    kill(children(run.pid(), "pg_dump")[0]);
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("stays"), "{outcome}");
    drop(lock);
    let dead: Vec<String> = keys(&bucket, &node).into_iter().filter(|key| key.contains("validator.dump")).collect();
    assert_eq!(dead.len(), 3, "{dead:?}");

    let third = node.publish();
    assert_eq!(manifest(&bucket, &node, &third)["previous"]["set"], second.as_str());
    assert_eq!(node.whole().len(), 3);
    assert_all_whole(&node);
    assert_eq!(node.listed()["under_way"], 1, "{}", node.listed());

    // Who may remove does so in the next run.
    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "60s");
    node.publish();
    assert_eq!(node.whole().len(), 4);
    assert_nothing_left(&bucket, &node);
}
