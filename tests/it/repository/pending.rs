//! What a run that died has left behind, and what the next one makes of it.

use std::rc::Rc;

use idkeep::backup::repository::{Lock, Pending, Repository, clear_leftovers};
use jiff::Timestamp;

use super::{in_bucket, on_each};
use crate::support::s3::{S3, bytes, local, relay};
use crate::support::server::Reply;

const PART: usize = 5 << 20;

/// A run that dies in the middle of its second dump.
async fn die(repository: &Rc<Repository>) -> String {
    let mut pending = Pending::begin(repository, "node", Timestamp::now()).await.unwrap();
    let folder = format!("node/{}", pending.set());
    repository.create(&format!("{folder}/validator.dump.zst.age"), "whole".into()).await.unwrap();
    let mut upload =
        repository.upload(&format!("{folder}/participant.dump.zst.age"), PART, &mut pending).await.unwrap();
    for seed in 0..3 {
        upload.push(bytes(PART, seed)).await.unwrap();
    }
    std::mem::drop(upload);
    folder
}

#[test]
fn a_set_is_begun_once_for_each_second() {
    local(on_each(async |repository| {
        let now: Timestamp = "2026-11-22T22:00:00.7Z".parse().unwrap();
        let first = Pending::begin(&repository, "node", now).await.unwrap();
        assert_eq!(first.set().to_string(), "20261122T220000Z");
        let second = Pending::begin(&repository, "node", now).await.unwrap();
        assert_eq!(second.set().to_string(), "20261122T220001Z");
        // A set that is done takes its second too, though nothing is pending.
        repository.create("node/20261122T220000Z/manifest.json", "{}".into()).await.unwrap();
        first.end().await;
        let third = Pending::begin(&repository, "node", now).await.unwrap();
        assert_eq!(third.set().to_string(), "20261122T220002Z");
    }));
}

#[test]
fn an_upload_is_on_record_before_its_first_part() {
    let bucket = S3::shared().bucket();
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = order.clone();
    let watched = relay(bucket.s3.address, move |request| {
        let query = request.query.clone().unwrap_or_default();
        if request.path.ends_with("pending.json") && request.method == "PUT" {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            seen.lock().unwrap().push(if body.contains("\"id\"") { "record" } else { "begin" });
        } else if query.contains("partNumber") {
            seen.lock().unwrap().push("part");
        }
        None
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&watched.origin()));
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let key = format!("node/{}/dump", pending.set());
        let mut upload = repository.upload(&key, PART, &mut pending).await.unwrap();
        upload.push(bytes(PART, 1)).await.unwrap();
        upload.push(bytes(PART, 2)).await.unwrap();
        upload.commit().await.unwrap();
    });
    assert_eq!(*order.lock().unwrap(), ["begin", "record", "part", "part"]);
}

#[test]
fn the_leftovers_of_a_dead_run_are_removed_and_what_is_whole_stays() {
    local(on_each(async |repository| {
        let lock = Lock::take(&repository, "node").await.unwrap();
        for set in ["20261120T220000Z", "20261121T220000Z"] {
            let end = if set.contains("20T") { "manifest.json" } else { "rejected.json" };
            for file in [end, "pending.json", "validator.dump.zst.age"] {
                repository.create(&format!("node/{set}/{file}"), "{}".into()).await.unwrap();
            }
        }
        let dead = die(&repository).await;
        let cleared = clear_leftovers(&repository, "node", &lock).await.unwrap();
        assert_eq!(cleared.iter().map(|set| format!("node/{set}")).collect::<Vec<_>>(), [dead]);
        let left = repository.list("node").await.unwrap();
        let left: Vec<&str> =
            left.iter().map(|object| object.name.as_str()).filter(|name| name.starts_with("2026")).collect();
        assert_eq!(
            left,
            [
                "20261120T220000Z/manifest.json",
                "20261120T220000Z/validator.dump.zst.age",
                "20261121T220000Z/rejected.json",
                "20261121T220000Z/validator.dump.zst.age",
            ]
        );
        assert!(clear_leftovers(&repository, "node", &lock).await.unwrap().is_empty());
        lock.release().await;
    }));
}

#[test]
fn uploads_of_a_dead_run_are_aborted_by_their_ids() {
    local(async {
        let (bucket, repository) = in_bucket();
        let dead = die(&repository).await;
        assert_eq!(bucket.uploads(), [format!("prefix/{dead}/participant.dump.zst.age")]);
        let lock = Lock::take(&repository, "node").await.unwrap();
        clear_leftovers(&repository, "node", &lock).await.unwrap();
        lock.release().await;
        assert_eq!(bucket.uploads(), [""; 0]);
        assert_eq!(bucket.keys(), ["prefix/node/lock/00000001.json"]);
    });
}

#[test]
fn a_writer_that_may_not_remove_leaves_what_it_finds_and_goes_on() {
    let bucket = S3::shared().bucket();
    let denied = "<Error><Code>AccessDenied</Code><Message>secret server text</Message></Error>";
    let writer = relay(bucket.s3.address, move |seen| {
        let is_removal = seen.method == "DELETE" && seen.query.is_none();
        is_removal.then(|| Reply::new(403, "application/xml", denied))
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&writer.origin()));
        let dead = die(&repository).await;
        let lock = Lock::take(&repository, "node").await.unwrap();
        assert!(clear_leftovers(&repository, "node", &lock).await.unwrap().is_empty());
        let pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        pending.end().await;
        lock.release().await;
        let lock = Lock::take(&repository, "node").await.unwrap();
        lock.release().await;
        assert!(bucket.keys().contains(&format!("prefix/{dead}/pending.json")));
        let (code, message, _) = super::told(repository.remove("node/a").await);
        assert_eq!((code, message.as_str()), (77, "repository dr: removing node/a: permission denied"));
    });
}

/// What stands in `pending.json` anybody may have written, and the server may refuse what it is asked then.
#[test]
fn a_set_that_cannot_be_cleared_keeps_nobody_from_the_others() {
    let bucket = S3::shared().bucket();
    let refusing = relay(bucket.s3.address, |seen| {
        let is_refused = seen.method == "DELETE" && seen.query.as_ref().is_some_and(|query| query.contains("planted"));
        is_refused.then(|| Reply::new(400, "application/xml", "<Error><Code>InvalidArgument</Code></Error>"))
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&refusing.origin()));
        let upload =
            r#"{"run": "x", "started_at": "2020-01-01T00:00:00Z", "uploads": [{"file": "a", "id": "planted"}]}"#;
        let planted: [(&str, &[u8]); 4] = [
            ("20200101T000000Z", &vec![b' '; 2 << 20]),
            ("20200102T000000Z", b"{\"uploads\": 1}"),
            ("20200103T000000Z", b"\xff\xfe"),
            ("20200104T000000Z", upload.as_bytes()),
        ];
        for (set, bytes) in planted {
            bucket.put(&format!("prefix/node/{set}/pending.json"), bytes);
            bucket.put(&format!("prefix/node/{set}/validator.dump.zst.age"), b"some");
        }
        let dead = die(&repository).await;
        let lock = Lock::take(&repository, "node").await.unwrap();
        let cleared = clear_leftovers(&repository, "node", &lock).await.unwrap();
        lock.release().await;
        let cleared: Vec<String> = cleared.iter().map(ToString::to_string).collect();
        let dead = dead.strip_prefix("node/").unwrap().to_owned();
        assert_eq!(cleared, ["20200101T000000Z", "20200102T000000Z", "20200103T000000Z", &dead]);
        assert_eq!(bucket.uploads(), [""; 0]);
        // Where an upload may still have parts, there is still the record of it.
        assert_eq!(bucket.keys(), ["prefix/node/20200104T000000Z/pending.json", "prefix/node/lock/00000001.json"]);
    });
}
