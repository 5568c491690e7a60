//! A repository: objects that are whole or not there, one writer per node, nothing left behind.

mod clouds;
mod faults;
mod files;
mod lock;
mod objects;
mod pending;

use std::rc::Rc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use idkeep::backup::repository::{Error, Repository};
use idkeep::error::{Failure as _, chain};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::s3::{Bucket, S3};

/// A repository in a folder of its own.
fn in_folder(folder: &TempDir) -> Rc<Repository> {
    let config = serde_json::json!({"url": format!("file://{}/kept", folder.path().display())});
    let config = serde_json::from_value(config).unwrap();
    Rc::new(Repository::open_with("dr", &config, &[]).unwrap())
}

/// A bucket of its own and a repository in it.
fn in_bucket() -> (Bucket, Rc<Repository>) {
    let bucket = S3::shared().bucket();
    let repository = Rc::new(bucket.repository());
    (bucket, repository)
}

/// Both kinds, for what has to hold for both.
async fn on_each(test: impl AsyncFn(Rc<Repository>)) {
    let folder = tempfile::tempdir().unwrap();
    test(in_folder(&folder)).await;
    let (_bucket, repository) = in_bucket();
    test(repository).await;
}

async fn digest(repository: &Repository, key: &str) -> String {
    let mut digest = Sha256::new();
    let mut stream = repository.stream(key).await.unwrap();
    while let Some(piece) = stream.try_next().await.unwrap() {
        digest.update(&piece);
    }
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn sha256(parts: &[Bytes]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    hex(&digest.finalize())
}

/// The exit code, the message and the hint of a failure.
#[track_caller]
fn told<T>(result: Result<T, Error>) -> (u8, String, String) {
    let Err(error) = result else { panic!("it succeeded") };
    (error.fault().exit_code(), chain(&error), error.hint().unwrap_or_default())
}
