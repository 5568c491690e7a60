//! The lock: one run at a time, no clocks compared, nobody waits for the dead longer than an expiry.

use std::rc::Rc;
use std::sync::mpsc;

use idkeep::backup::repository::{Lock, Repository, clear_leftovers};

use super::{in_bucket, in_folder, on_each, told};
use crate::support::s3::{Bucket, S3, apart, local, relay};
use crate::support::server::Reply;

/// A thread that takes the lock, tells so, and stands still until it is let go on.
fn holder(
    bucket: &Bucket,
    then: impl AsyncFnOnce(Rc<Repository>, Lock) + Send + 'static,
) -> (mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let config = bucket.config(&bucket.s3.endpoint(), serde_json::json!({"lock_expiry": "1s"}));
    let (taken, is_taken) = mpsc::channel();
    let (resume, resumed) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        local(async move {
            let repository = Repository::open_with("dr", &config, &crate::support::s3::credentials()).unwrap();
            let repository = Rc::new(repository);
            let lock = Lock::take(&repository, "node").await.unwrap();
            taken.send(()).unwrap();
            // The whole thread stands still, heartbeat and all, as a paused process does.
            let _ = resumed.recv();
            then(repository, lock).await;
        });
    });
    is_taken.recv().unwrap();
    (resume, thread)
}

#[test]
fn a_lock_is_held_by_one_and_free_again_when_given_back() {
    local(on_each(async |repository| {
        for _ in 0..3 {
            let lock = Lock::take(&repository, "node").await.unwrap();
            assert!(lock.is_ours().await.unwrap());
            let (code, message, hint) = told(Lock::take(&repository, "node").await);
            assert_eq!(code, 75, "{message}");
            assert!(message.starts_with("repository dr: another run holds the lock of node (process "), "{message}");
            assert!(message.contains(&format!("process {} on ", std::process::id())), "{message}");
            assert!(hint.contains("lock_expiry"), "{hint}");
            let other = Lock::take(&repository, "node-2").await.unwrap();
            other.release().await;
            lock.release().await;
        }
    }));
}

#[test]
fn a_released_lock_leaves_one_small_file() {
    local(async {
        let (bucket, repository) = in_bucket();
        for _ in 0..3 {
            Lock::take(&repository, "node").await.unwrap().release().await;
        }
        assert_eq!(bucket.keys(), ["prefix/node/lock/00000003.json"]);
    });
}

#[test]
fn of_many_who_take_it_at_once_exactly_one_has_it() {
    let bucket = S3::shared().bucket();
    let (all_done, is_all_done) = tokio::sync::watch::channel(false);
    let (told_by, tellers) = mpsc::channel();
    let take = || {
        let (mut is_all_done, told_by) = (is_all_done.clone(), told_by.clone());
        local(async {
            let repository = Rc::new(bucket.repository());
            let taken = Lock::take(&repository, "node").await;
            told_by.send(taken.is_ok()).unwrap();
            let Ok(lock) = taken else { return assert_eq!(told(taken).0, 75) };
            // The holder is there, and lives, until every other has looked.
            is_all_done.wait_for(|done| *done).await.unwrap();
            assert!(lock.is_ours().await.unwrap());
        });
    };
    std::thread::scope(|scope| {
        let takers: Vec<_> = (0..6).map(|_| scope.spawn(take)).collect();
        let won = tellers.iter().take(takers.len()).filter(|won| *won).count();
        all_done.send(true).unwrap();
        assert_eq!(won, 1);
    });
}

#[test]
fn a_holder_that_may_not_give_signs_of_life_is_told_at_once() {
    let bucket = S3::shared().bucket();
    // As a bucket whose objects cannot be overwritten.
    let writer = relay(bucket.s3.address, |seen| {
        let is_overwrite = seen.method == "PUT" && !seen.headers.contains_key("if-none-match");
        is_overwrite.then(|| Reply::empty(403))
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&writer.origin()));
        let (code, message, _) = told(Lock::take(&repository, "node").await);
        assert_eq!((code, message.contains("permission denied")), (77, true), "{message}");
    });
}

#[test]
fn the_lock_of_a_dead_holder_is_taken_over_after_its_expiry() {
    let bucket = S3::shared().bucket();
    // A thread whose runtime is gone gives no sign of life, and gives nothing back.
    let (resume, thread) = holder(&bucket, async |_, lock| drop(lock));
    drop(resume);
    thread.join().unwrap();
    local(async {
        let repository = Rc::new(bucket.repository());
        let lock = Lock::take(&repository, "node").await.unwrap();
        assert!(lock.is_ours().await.unwrap());
        assert!(bucket.keys().contains(&"prefix/node/lock/00000002.json".to_owned()));
    });
}

/// Whoever may write to the bucket may plant any of them, and must not keep all runs out by it.
#[test]
fn a_planted_lock_of_the_highest_number_is_taken_over_like_any_other() {
    let bucket = S3::shared().bucket();
    bucket.put("prefix/node/lock/00000007.json", b"{}");
    bucket.put("prefix/node/lock/99999999.json", &vec![b' '; 1 << 20]);
    local(async {
        let repository = Rc::new(bucket.repository());
        for generation in 100_000_000..100_000_003_u64 {
            let lock = Lock::take(&repository, "node").await.unwrap();
            assert!(lock.is_ours().await.unwrap());
            assert_eq!(told(Lock::take(&repository, "node").await).0, 75);
            assert!(bucket.keys().contains(&format!("prefix/node/lock/{generation}.json")), "{:?}", bucket.keys());
            lock.release().await;
            assert_eq!(bucket.keys(), [format!("prefix/node/lock/{generation}.json")]);
        }
        // After the very last there is none, and whoever can remove it is told.
        bucket.put(&format!("prefix/node/lock/{}.json", u64::MAX), b"{}");
        let (code, message, hint) = told(Lock::take(&repository, "node").await);
        assert_eq!(code, 78, "{message}");
        assert!(
            message.contains("18446744073709551615.json") && hint.contains("remove the objects"),
            "{message} {hint}"
        );
    });
}

#[test]
fn a_paused_holder_finds_that_its_lock_is_anothers() {
    let bucket = S3::shared().bucket();
    let (resume, paused) = holder(&bucket, async |repository, lock| {
        assert!(!lock.is_ours().await.unwrap());
        lock.lost().await;
        let (code, message, _) = told(Err::<(), _>(lock.lost_error()));
        assert_eq!((code, message.contains("taken over by another run")), (75, true), "{message}");
        // What it would clear belongs to the other now.
        repository.replace("node/20261122T220000Z/pending.json", "{}".into()).await.unwrap();
        assert_eq!(told(clear_leftovers(&repository, "node", &lock).await).0, 75);
        lock.release().await;
    });
    local(async {
        let repository = Rc::new(bucket.repository());
        let lock = Lock::take(&repository, "node").await.unwrap();
        resume.send(()).unwrap();
        apart(|| paused.join().unwrap());
        assert!(lock.is_ours().await.unwrap(), "the old holder's words change nothing");
        lock.release().await;
    });
}

#[test]
fn a_server_that_ignores_conditional_puts_is_a_mistake_of_the_configuration() {
    let bucket = S3::shared().bucket();
    let deaf = relay(bucket.s3.address, |seen| {
        seen.headers.remove("if-none-match");
        None
    });
    local(async {
        let repository = Rc::new(bucket.repository_at(&deaf.origin()));
        let (code, message, hint) = told(Lock::take(&repository, "node").await);
        assert_eq!((code, message.as_str()), (78, "repository dr: its server ignores conditional puts"));
        assert!(hint.contains("If-None-Match"), "{hint}");
    });
    assert_eq!(bucket.keys(), [""; 0]);
}

#[test]
fn a_folders_lock_goes_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    local(async {
        let repository = in_folder(&folder);
        let lock = Lock::take(&repository, "node").await.unwrap();
        drop(lock);
        let lock = Lock::take(&repository, "node").await.unwrap();
        assert!(lock.is_ours().await.unwrap());
        std::fs::remove_file(folder.path().join("kept/node/.lock")).unwrap();
        assert!(!lock.is_ours().await.unwrap(), "another process can lock the file that is there next");
    });
}
