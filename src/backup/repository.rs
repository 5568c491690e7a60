//! Where backup sets lie: objects under keys, in a cloud's bucket or a folder of this machine.
//!
//! What a call has written is whole and durable when it returns; a key is `NODE/…`, below the repository's prefix.

mod error;
mod folder;
mod leftovers;
mod lock;
mod network;
mod open;
mod pending;
mod reading;
mod upload;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, TryStreamExt as _};
use jiff::Timestamp;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};

use crate::config::{self, RepositoryUrl};
use crate::retry::{Deadline, retry};
pub use error::{Doing, Error};
use folder::Folder;
pub use folder::open_to_others;
pub use leftovers::clear_leftovers;
pub use lock::Lock;
pub use open::Environment;
pub use pending::Pending;
pub use upload::{Upload, part_bytes};

/// How long a small request is tried again.
const PATIENCE: Duration = Duration::from_mins(1);

/// The verbs of messages.
const WRITING: &str = "writing";
const READING: &str = "reading";
const LISTING: &str = "listing";
const REMOVING: &str = "removing";

/// A repository. Clones are the same one.
#[derive(Clone)]
pub struct Repository {
    name: Rc<str>,
    url: RepositoryUrl,
    lock_expiry: Duration,
    place: Place,
}

/// What a repository is in.
#[derive(Clone)]
enum Place {
    Cloud(Arc<dyn Cloud>),
    Folder(Folder),
}

/// What a cloud's client has to know.
trait Cloud: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Cloud for T {}

/// An object, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, from the listed folder on.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, by the repository's clock.
    pub modified: Timestamp,
    /// Changes with its content; a folder has none.
    pub e_tag: Option<String>,
}

impl Repository {
    /// Opens a repository with the credentials of the process's environment. Touches nothing yet.
    pub fn open(name: &str, config: &config::Repository) -> Result<Self, Error> {
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::open_with(name, config, &environment)
    }

    /// The same with these variables in place of the process's.
    pub fn open_with(name: &str, config: &config::Repository, environment: &Environment) -> Result<Self, Error> {
        let place = match config.url.folder() {
            Some(root) => Place::Folder(Folder::new(root)),
            None => Place::Cloud(open::cloud(name, config, environment)?),
        };
        Ok(Self { name: name.into(), url: config.url.clone(), lock_expiry: config.lock_expiry.0, place })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &RepositoryUrl {
        &self.url
    }

    /// Writes an object that must be new; false where it is there already.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        let cloud = match &self.place {
            Place::Folder(folder) => return folder.create(key, bytes).await.map_err(self.io(WRITING, key)),
            Place::Cloud(cloud) => cloud,
        };
        let path = self.path(key);
        let tries = Cell::new(0);
        let put = self.ask(WRITING, key, PATIENCE, async || {
            tries.set(tries.get() + 1);
            cloud.put_opts(&path, PutPayload::from(bytes.clone()), PutMode::Create.into()).await
        });
        match put.await {
            Ok(_) => Ok(true),
            // A try whose answer was lost may be the very writer that was first.
            Err(Error::Exists { .. }) if tries.get() > 1 => match self.read(key, bytes.len()).await {
                Ok(found) => Ok(found == Some(bytes)),
                Err(Error::TooLarge { .. }) => Ok(false),
                Err(source) => Err(Error::Unsure { doing: self.doing(WRITING, key), source: source.into() }),
            },
            Err(Error::Exists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an object, whatever was there.
    pub async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        match &self.place {
            Place::Folder(folder) => folder.replace(key, bytes).await.map_err(self.io(WRITING, key)),
            Place::Cloud(cloud) => {
                let path = self.path(key);
                let put = async || cloud.put(&path, PutPayload::from(bytes.clone())).await;
                self.ask(WRITING, key, PATIENCE, put).await.map(|_| ())
            }
        }
    }

    /// Reads an object of at most `cap` bytes; `None` where there is none.
    pub async fn read(&self, key: &str, cap: usize) -> Result<Option<Bytes>, Error> {
        let too_large = || Error::TooLarge { doing: self.doing(READING, key), cap };
        let bytes = match &self.place {
            Place::Folder(folder) => folder.read(key, cap).await.map_err(self.io(READING, key))?,
            Place::Cloud(cloud) => {
                let path = self.path(key);
                let get = async || {
                    let answer = cloud.get(&path).await?;
                    // Judged before it is read: the server says the size first.
                    if answer.meta.size > cap as u64 { Ok(None) } else { answer.bytes().await.map(Some) }
                };
                match self.ask(READING, key, PATIENCE, get).await {
                    Ok(bytes) => Some(bytes.ok_or_else(too_large)?),
                    Err(Error::Missing { .. }) => None,
                    Err(error) => return Err(error),
                }
            }
        };
        if bytes.as_ref().is_some_and(|bytes| bytes.len() > cap) { Err(too_large()) } else { Ok(bytes) }
    }

    /// An object's size; `None` where there is none.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        match &self.place {
            Place::Folder(folder) => folder.size(key).await.map_err(self.io(READING, key)),
            Place::Cloud(_) => Ok(self.head(key).await?.map(|object| object.bytes)),
        }
    }

    /// What a list would show of one object of a cloud.
    async fn head(&self, key: &str) -> Result<Option<Object>, Error> {
        let Place::Cloud(cloud) = &self.place else { return Ok(None) };
        let path = self.path(key);
        match self.ask(READING, key, PATIENCE, async || cloud.head(&path).await).await {
            Ok(meta) => Ok(Some(object(key.to_owned(), meta))),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every object below a folder, sorted by name; empty where there is no such folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, Error> {
        let mut objects = match &self.place {
            Place::Folder(place) => place.list(folder).await.map_err(self.io(LISTING, folder))?,
            Place::Cloud(cloud) => {
                let path = self.path(folder);
                let list = async || cloud.list(Some(&path)).try_collect::<Vec<_>>().await;
                let found = self.ask(LISTING, folder, PATIENCE, list).await?;
                let name = |found: &Path| {
                    found
                        .prefix_match(&path)
                        .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
                };
                found.into_iter().filter_map(|meta| Some(object(name(&meta.location)?, meta))).collect()
            }
        };
        objects.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(objects)
    }

    /// The names of the folders in a folder, sorted.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, Error> {
        let mut folders = match &self.place {
            Place::Folder(place) => place.folders(folder).await.map_err(self.io(LISTING, folder))?,
            Place::Cloud(cloud) => {
                let path = self.path(folder);
                let list = async || cloud.list_with_delimiter(Some(&path)).await;
                let found = self.ask(LISTING, folder, PATIENCE, list).await?;
                let names = found.common_prefixes.iter().filter_map(|found| found.filename().map(str::to_owned));
                names.collect()
            }
        };
        folders.sort_unstable();
        Ok(folders)
    }

    /// Removes an object; one that is not there is removed already.
    pub async fn remove(&self, key: &str) -> Result<(), Error> {
        match &self.place {
            Place::Folder(folder) => folder.remove(key).await.map_err(self.io(REMOVING, key)),
            Place::Cloud(cloud) => {
                let path = self.path(key);
                match self.ask(REMOVING, key, PATIENCE, async || cloud.delete(&path).await).await {
                    Err(Error::Missing { .. }) => Ok(()),
                    result => result,
                }
            }
        }
    }

    /// An object's bytes from the beginning; a connection that breaks is taken up again where it broke.
    pub async fn stream(&self, key: &str) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let doing = self.doing(READING, key);
        match &self.place {
            Place::Folder(folder) => reading::of_file(folder.clone(), key.to_owned(), doing).await,
            Place::Cloud(cloud) => reading::of_object(Arc::clone(cloud), self.path(key), doing).await,
        }
    }

    /// Begins an object of equal parts. Must be called inside a `LocalSet`.
    pub async fn upload(&self, key: &str, part_bytes: usize, pending: &mut Pending) -> Result<Upload, Error> {
        Upload::start(self.clone(), key, part_bytes, pending).await
    }

    /// Asks a cloud until it answers, says no, or `patience` is over.
    async fn ask<T>(
        &self,
        verb: &'static str,
        key: &str,
        patience: Duration,
        mut attempt: impl AsyncFnMut() -> object_store::Result<T>,
    ) -> Result<T, Error> {
        retry(Deadline::after(patience), verb, async || {
            match attempt().await.map_err(|error| Error::of(self.doing(verb, key), &error)) {
                Err(error) if !error.is_answer() => Err(error),
                answer => Ok(answer),
            }
        })
        .await?
    }

    fn doing(&self, verb: &'static str, key: &str) -> Doing {
        Doing { repository: self.name.to_string(), verb, key: key.to_owned() }
    }

    fn io(&self, verb: &'static str, key: &str) -> impl FnOnce(std::io::Error) -> Error {
        let doing = self.doing(verb, key);
        |source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists { doing },
            std::io::ErrorKind::NotFound => Error::Missing { doing },
            _ => Error::Io { doing, source },
        }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}/{key}", self.url.prefix()))
    }
}

fn object(name: String, meta: object_store::ObjectMeta) -> Object {
    let nanos = i32::try_from(meta.last_modified.timestamp_subsec_nanos()).unwrap_or_default();
    let modified = Timestamp::new(meta.last_modified.timestamp(), nanos).unwrap_or_default();
    Object { name, bytes: meta.size, modified, e_tag: meta.e_tag }
}
