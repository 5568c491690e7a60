//! Objects: written once, listed, streamed, uploaded in parts.

use bytes::Bytes;
use idkeep::backup::repository::{Pending, Repository, part_bytes};
use jiff::Timestamp;

use super::{digest, in_bucket, on_each, sha256, told};
use crate::support::s3::{bytes, local};

/// The least that S3 takes for a part that is not the last.
const PART: usize = 5 << 20;

async fn upload(repository: &std::rc::Rc<Repository>, key: &str, parts: &[Bytes]) {
    let mut pending = Pending::begin(repository, "node", Timestamp::now()).await.unwrap();
    let mut upload = repository.upload(key, PART, &mut pending).await.unwrap();
    for part in parts {
        upload.push(part.clone()).await.unwrap();
    }
    upload.commit().await.unwrap();
    pending.end().await;
}

#[test]
fn an_object_is_created_once_and_replaced_at_will() {
    local(on_each(async |repository| {
        assert!(repository.create("node/a.json", "one".into()).await.unwrap());
        assert!(!repository.create("node/a.json", "two".into()).await.unwrap());
        assert!(!repository.create("node/a.json", "one".into()).await.unwrap(), "the same bytes are no other answer");
        assert_eq!(repository.read("node/a.json", 3).await.unwrap().unwrap(), "one");
        repository.replace("node/a.json", "three".into()).await.unwrap();
        assert_eq!(repository.read("node/a.json", 5).await.unwrap().unwrap(), "three");
        assert_eq!(repository.size("node/a.json").await.unwrap(), Some(5));
        let (code, message, _) = told(repository.read("node/a.json", 4).await);
        assert_eq!((code, message.as_str()), (78, "repository dr: reading node/a.json: it is larger than 4 bytes"));
    }));
}

#[test]
fn what_is_not_there_is_nothing_and_removing_it_is_no_mistake() {
    local(on_each(async |repository| {
        assert_eq!(repository.read("node/none", 10).await.unwrap(), None);
        assert_eq!(repository.size("node/none").await.unwrap(), None);
        assert!(repository.list("node").await.unwrap().is_empty());
        assert!(repository.folders("node").await.unwrap().is_empty());
        repository.remove("node/none").await.unwrap();
        let (code, message, _) = told(repository.stream("node/none").await);
        assert_eq!((code, message.as_str()), (75, "repository dr: reading node/none: it is not there"));
    }));
}

#[test]
fn lists_and_folders_show_what_is_below_one_node() {
    local(on_each(async |repository| {
        for key in ["node/b/two", "node/a/one", "node/a/deep/er", "node/top", "node-2/a/other"] {
            repository.replace(key, key.into()).await.unwrap();
        }
        let found = repository.list("node").await.unwrap();
        let names: Vec<(&str, u64)> = found.iter().map(|object| (object.name.as_str(), object.bytes)).collect();
        assert_eq!(names, [("a/deep/er", 14), ("a/one", 10), ("b/two", 10), ("top", 8)]);
        let age = Timestamp::now().duration_since(found[0].modified).abs();
        assert!(age < jiff::SignedDuration::from_mins(5), "{age:?}");
        assert_eq!(repository.folders("node").await.unwrap(), ["a", "b"]);
        for name in ["a/deep/er", "a/one"] {
            repository.remove(&format!("node/{name}")).await.unwrap();
        }
        assert_eq!(repository.folders("node").await.unwrap(), ["b"]);
        assert_eq!(repository.list("node-2").await.unwrap().len(), 1);
    }));
}

/// Whoever may write to the bucket may give objects keys that no list of the client's could show.
#[test]
fn a_key_that_cannot_be_named_is_passed_over_and_spoils_no_list() {
    local(async {
        let (bucket, repository) = in_bucket();
        repository.replace("node/a/one", "one".into()).await.unwrap();
        bucket.put("prefix/node//planted", b"");
        bucket.put("prefix/node/b//planted", b"");
        bucket.put("prefix/node/a/%07planted", b"");
        assert_eq!(bucket.keys().len(), 4);
        let names: Vec<String> = repository.list("node").await.unwrap().into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["a/one"]);
        assert_eq!(repository.folders("node").await.unwrap(), ["a", "b"]);
        bucket.put("prefix//planted", b"");
        assert_eq!(repository.list("node").await.unwrap().len(), 1);
    });
}

#[test]
fn parts_become_one_object_when_committed_and_not_before() {
    local(on_each(async |repository| {
        let parts = [bytes(PART, 1), bytes(PART, 2), bytes(PART, 3), bytes(1234, 4)];
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
        for part in &parts {
            upload.push(part.clone()).await.unwrap();
        }
        assert_eq!(repository.size("node/set/dump").await.unwrap(), None);
        assert!(repository.list("node/set").await.unwrap().is_empty());
        upload.commit().await.unwrap();
        assert_eq!(repository.size("node/set/dump").await.unwrap(), Some(3 * PART as u64 + 1234));
        assert_eq!(digest(&repository, "node/set/dump").await, sha256(&parts));
    }));
}

#[test]
fn an_object_smaller_than_a_part_is_written_at_once() {
    local(async {
        let (bucket, repository) = in_bucket();
        upload(&repository, "node/set/small", &[bytes(1000, 1)]).await;
        upload(&repository, "node/set/empty", &[]).await;
        upload(&repository, "node/set/exact", &[bytes(PART, 2)]).await;
        assert_eq!(bucket.object("prefix/node/set/small").unwrap(), bytes(1000, 1));
        assert_eq!(bucket.object("prefix/node/set/empty").unwrap(), b"");
        assert_eq!(bucket.object("prefix/node/set/exact").unwrap(), bytes(PART, 2));
    });
}

#[test]
fn an_aborted_upload_leaves_no_object_and_no_parts() {
    local(async {
        on_each(async |repository| {
            let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
            let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
            for seed in 0..3 {
                upload.push(bytes(PART, seed)).await.unwrap();
            }
            upload.abort().await;
            assert!(repository.list("node/set").await.unwrap().is_empty());
            assert_eq!(repository.size("node/set/dump").await.unwrap(), None);
        })
        .await;
        let (bucket, repository) = in_bucket();
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
        for seed in 0..2 {
            upload.push(bytes(PART, seed)).await.unwrap();
        }
        assert_eq!(bucket.uploads(), ["prefix/node/set/dump"]);
        upload.abort().await;
        assert_eq!(bucket.uploads(), [""; 0]);
    });
}

#[test]
fn an_object_that_is_there_already_is_never_overwritten_by_a_small_upload() {
    local(on_each(async |repository| {
        repository.replace("node/set/dump", "theirs".into()).await.unwrap();
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
        upload.push("ours".into()).await.unwrap();
        assert_eq!(told(upload.commit().await).0, 75);
        assert_eq!(repository.read("node/set/dump", 10).await.unwrap().unwrap(), "theirs");
    }));
}

#[test]
fn parts_of_unequal_size_are_a_mistake_of_our_own() {
    local(on_each(async |repository| {
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let mut upload = repository.upload("node/set/dump", PART, &mut pending).await.unwrap();
        upload.push(bytes(PART - 1, 1)).await.unwrap();
        assert_eq!(told(upload.push(bytes(1, 2)).await).0, 70);
        upload.abort().await;
        assert!(repository.list("node/set").await.unwrap().is_empty());
    }));
}

#[test]
fn a_part_grows_with_the_database_within_bounds() {
    assert_eq!(part_bytes(0), 8 << 20);
    assert_eq!(part_bytes(40 << 30), (40 << 30) / 5000);
    assert_eq!(part_bytes(u64::MAX), 512 << 20);
}
