//! An object that is written while it comes into being: equal parts, two on their way at once.
//!
//! It is there only after `commit`; dropped without it, what was sent is named in `pending.json` and removed later.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::PutPayload;
use object_store::multipart::PartId;
use object_store::path::Path;
use tokio::task::JoinSet;

use super::folder::Growing;
use super::pending::Notes;
use super::{Cloud, Error, Pending, Place, Repository, WRITING};

/// The most parts that S3 and Google take.
const MAX_PARTS: usize = 10_000;
const AT_ONCE: usize = 2;

/// How long one part, or putting all together, is tried again.
const PATIENCE: Duration = Duration::from_mins(5);
const COMPLETING: Duration = Duration::from_mins(20);

/// The size of a part for a database of that size: half as many parts as are allowed, within what memory allows.
#[must_use]
pub fn part_bytes(database_bytes: u64) -> usize {
    let part = (database_bytes / 5000).clamp(8 << 20, 512 << 20);
    usize::try_from(part).unwrap_or(512 << 20)
}

/// An upload under way.
pub struct Upload {
    repository: Repository,
    key: String,
    part_bytes: usize,
    sent: u64,
    is_last: bool,
    way: Way,
}

enum Way {
    Folder(Growing),
    Cloud(Parts),
}

/// Parts on their way to a cloud.
struct Parts {
    cloud: Arc<dyn Cloud>,
    path: Path,
    notes: Rc<Notes>,
    /// Kept back: an object of one part is written at once.
    first: Option<Bytes>,
    id: Option<String>,
    next: usize,
    done: BTreeMap<usize, PartId>,
    running: JoinSet<Result<(usize, PartId), Error>>,
}

impl Upload {
    pub(super) async fn start(
        repository: Repository,
        key: &str,
        part_bytes: usize,
        pending: &Pending,
    ) -> Result<Self, Error> {
        let way = match &repository.place {
            Place::Folder(folder) => Way::Folder(folder.grow(key).await.map_err(repository.io(WRITING, key))?),
            Place::Cloud(cloud) => Way::Cloud(Parts {
                cloud: Arc::clone(cloud),
                path: repository.path(key),
                notes: pending.notes(),
                first: None,
                id: None,
                next: 0,
                done: BTreeMap::new(),
                running: JoinSet::new(),
            }),
        };
        Ok(Self { repository, key: key.to_owned(), part_bytes, sent: 0, is_last: false, way })
    }

    /// Sends the next part, after waiting for room; every part but the last has exactly `part_bytes`.
    pub async fn push(&mut self, part: Bytes) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        let doing = || self.repository.doing(WRITING, &self.key);
        if self.is_last || part.len() > self.part_bytes {
            return Err(Error::UnequalParts { doing: doing() });
        }
        self.is_last = part.len() < self.part_bytes;
        self.sent += part.len() as u64;
        match &mut self.way {
            Way::Folder(file) => file.push(part).await.map_err(self.repository.io(WRITING, &self.key)),
            Way::Cloud(parts) if parts.next == MAX_PARTS => {
                Err(Error::TooManyParts { doing: doing(), max: MAX_PARTS, part_bytes: self.part_bytes })
            }
            Way::Cloud(parts) => parts.push(&self.repository, &self.key, part).await,
        }
    }

    /// Makes the object of its parts. When this returns it is whole and durable; after an error there is none.
    pub async fn commit(self) -> Result<(), Error> {
        let Self { repository, key, sent, way, .. } = self;
        match way {
            Way::Folder(file) => file.commit().await.map_err(repository.io(WRITING, &key))?,
            Way::Cloud(mut parts) => {
                let result = parts.commit(&repository, &key, sent).await;
                if let Err(error) = result {
                    parts.abort(&repository, &key).await;
                    return Err(error);
                }
            }
        }
        let stored = repository.size(&key).await?.unwrap_or(0);
        if stored == sent {
            return Ok(());
        }
        // Whoever may not remove it leaves it to the next run: its set is never ended.
        let _ = repository.remove(&key).await;
        Err(Error::Incomplete { doing: repository.doing(WRITING, &key), sent, stored })
    }

    /// Leaves no object and no parts.
    pub async fn abort(self) {
        match self.way {
            Way::Folder(file) => file.abort().await,
            Way::Cloud(mut parts) => parts.abort(&self.repository, &self.key).await,
        }
    }
}

impl Parts {
    async fn push(&mut self, repository: &Repository, key: &str, part: Bytes) -> Result<(), Error> {
        if self.next == 0 {
            self.first = Some(part);
            self.next = 1;
            return Ok(());
        }
        if let Some(first) = self.first.take() {
            self.begin(repository, key).await?;
            self.send(repository, key, 0, first).await?;
        }
        self.next += 1;
        self.send(repository, key, self.next - 1, part).await
    }

    /// The upload's id is on record before its first part: parts of a run that dies are found by it alone.
    async fn begin(&mut self, repository: &Repository, key: &str) -> Result<(), Error> {
        let create = async || self.cloud.create_multipart(&self.path).await;
        let id = repository.ask(WRITING, key, super::PATIENCE, create).await?;
        self.id = Some(id.clone());
        self.notes.record(repository, key, id).await
    }

    async fn send(&mut self, repository: &Repository, key: &str, index: usize, part: Bytes) -> Result<(), Error> {
        while self.running.len() >= AT_ONCE {
            self.wait_for_one().await?;
        }
        let Some(id) = self.id.clone() else { return Ok(()) };
        let (repository, key) = (repository.clone(), key.to_owned());
        let (cloud, path) = (Arc::clone(&self.cloud), self.path.clone());
        self.running.spawn_local(async move {
            let put = async || cloud.put_part(&path, &id, index, PutPayload::from(part.clone())).await;
            let done = repository.ask(WRITING, &key, patience(part.len()), put).await?;
            Ok((index, done))
        });
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<(), Error> {
        match self.running.join_next().await {
            Some(Ok(result)) => {
                let (index, part) = result?;
                self.done.insert(index, part);
                Ok(())
            }
            // A panic goes on where it can be caught and told.
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Ok(()),
            },
            None => Ok(()),
        }
    }

    async fn commit(&mut self, repository: &Repository, key: &str, sent: u64) -> Result<(), Error> {
        let Some(id) = self.id.clone() else {
            let bytes = self.first.take().unwrap_or_default();
            let is_new = repository.create(key, bytes).await?;
            return if is_new { Ok(()) } else { Err(Error::Exists { doing: repository.doing(WRITING, key) }) };
        };
        while !self.running.is_empty() {
            self.wait_for_one().await?;
        }
        let parts: Vec<PartId> = self.done.values().cloned().collect();
        let complete = async || self.cloud.complete_multipart(&self.path, &id, parts.clone()).await;
        match repository.ask(WRITING, key, COMPLETING, complete).await {
            Ok(_) => Ok(()),
            // An answer that was lost: the upload is gone because it has become the object.
            Err(Error::Missing { .. }) if repository.size(key).await? == Some(sent) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn abort(&mut self, repository: &Repository, key: &str) {
        self.running.shutdown().await;
        if let Some(id) = self.id.take()
            && let Err(error) = abort(repository, &self.cloud, key, &id).await
        {
            let error = crate::error::chain(&error);
            tracing::warn!(repository = repository.name(), key, error, "parts are left for the next run to remove");
        }
    }
}

/// Removes the parts of an upload; one that is not there has none.
pub async fn abort(repository: &Repository, cloud: &Arc<dyn Cloud>, key: &str, id: &String) -> Result<(), Error> {
    let path = repository.path(key);
    let abort = async || cloud.abort_multipart(&path, id).await;
    match repository.ask(super::REMOVING, key, super::PATIENCE, abort).await {
        Err(Error::Missing { .. }) => Ok(()),
        result => result,
    }
}

/// Several tries, each with the time that a slow line needs.
fn patience(bytes: usize) -> Duration {
    PATIENCE.max(Duration::from_secs(bytes as u64 / (64 << 10)))
}

#[cfg(test)]
mod strict;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use object_store::{ObjectStoreExt as _, WriteMultipart};
    use tokio::task::LocalSet;

    use super::strict::Strict;
    use super::*;
    use crate::error::Failure as _;

    /// More than 10,000 parts of the size that `object_store` takes by default.
    const WHOLE: u64 = 50 << 30;

    async fn upload(cloud: &Strict, key: &str, part_bytes: usize) -> (Rc<Repository>, Upload) {
        let repository = Rc::new(Repository {
            name: "dr".into(),
            url: "s3://bucket/prefix".parse().unwrap(),
            lock_expiry: Duration::from_mins(1),
            place: Place::Cloud(Arc::new(cloud.clone())),
        });
        let mut pending = Pending::begin(&repository, "node", Timestamp::now()).await.unwrap();
        let upload = repository.upload(key, part_bytes, &mut pending).await.unwrap();
        (repository, upload)
    }

    /// Pushes clones of one part until the whole is sent, or no more is taken.
    async fn push(upload: &mut Upload, part_bytes: usize, whole: u64) -> Result<(), Error> {
        let part = Bytes::from(vec![0; part_bytes]);
        let mut left = whole;
        while left > 0 {
            let next = usize::try_from(left).unwrap().min(part_bytes);
            upload.push(part.slice(..next)).await?;
            left -= next as u64;
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_needs_more_than_10000_parts_of_the_usual_size_fits_into_ours() {
        let cloud = Strict::default();
        // As a control: object_store's own writer, at its own size, is refused.
        let mut writer = WriteMultipart::new(cloud.put_multipart(&Path::from("control")).await.unwrap());
        let part = Bytes::from(vec![0; 5 << 20]);
        for _ in 0..WHOLE / (5 << 20) {
            writer.put(part.clone());
        }
        assert!(writer.finish().await.is_err());
        let cloud = Strict::default();
        let local = LocalSet::new();
        let work = async {
            let size = part_bytes(WHOLE);
            let (repository, mut upload) = upload(&cloud, "node/set/dump", size).await;
            push(&mut upload, size, WHOLE).await.unwrap();
            upload.commit().await.unwrap();
            assert_eq!(repository.size("node/set/dump").await.unwrap(), Some(WHOLE));
        };
        local.run_until(work).await;
        assert!(cloud.parts() <= 5001, "{}", cloud.parts());
    }

    #[tokio::test]
    async fn more_parts_than_there_may_be_are_refused_before_the_server_is_asked() {
        let cloud = Strict::default();
        let work = async {
            let (_repository, mut upload) = upload(&cloud, "node/set/dump", 8 << 20).await;
            push(&mut upload, 8 << 20, (8 << 20) * MAX_PARTS as u64).await.unwrap();
            let error = upload.push(Bytes::from_static(b"one more")).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "repository dr: writing node/set/dump: it does not fit into 10000 parts of 8388608 bytes"
            );
            assert!(error.hint().unwrap().contains("twice its size"));
            upload.abort().await;
        };
        LocalSet::new().run_until(work).await;
        assert_eq!(cloud.parts(), 0, "what was sent is gone");
    }
}
