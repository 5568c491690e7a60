//! The catalogue: what a repository holds of one node, as its listing and its manifests say.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::manifest::{self, Manifest};
use super::repository::{self, Object, Repository};
use super::set::SetId;
use super::sign::{self, Purpose};
use super::verify::Record;
use crate::config::Signer;

/// Small documents that are fetched at the same time.
const AT_ONCE: usize = 8;

/// How far the clock of another machine that verifies may be ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// Everything of one node.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Sets with a manifest, oldest first.
    pub sets: Vec<Entry>,
    /// Runs that were rejected, oldest first, with their files.
    pub rejected: Vec<(SetId, Vec<Object>)>,
    /// Runs that are under way, or whose end nobody has cleaned up.
    pub pending: Vec<SetId>,
}

/// One set.
#[derive(Debug)]
pub struct Entry {
    /// Its id.
    pub id: SetId,
    /// Whether it can be believed.
    pub state: State,
    /// Its manifest, where it can be read.
    pub manifest: Option<Manifest>,
    /// Hex SHA-256 of `manifest.json` as stored.
    pub sha256: String,
    /// Its files, names relative to the set's folder.
    pub files: Vec<Object>,
    /// When it last passed `verify`.
    pub verified_at: Option<Timestamp>,
}

/// Whether a set can be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum State {
    /// Every object of its manifest is there, in its size.
    Whole,
    /// Something is missing or cannot be read.
    Broken(String),
    /// None of the configured signers signed it.
    Unbelieved(String),
}

impl Entry {
    /// When the set's first snapshot was taken: the age of what it holds.
    #[must_use]
    pub fn snapshot_at(&self) -> Timestamp {
        let snapshots = self.manifest.iter().flat_map(|manifest| &manifest.databases).map(|dump| dump.snapshot_at);
        snapshots.min().unwrap_or_else(|| self.id.started_at())
    }

    /// True where the set counts as a backup.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.state == State::Whole
    }
}

impl Catalog {
    /// Reads it.
    pub async fn read(repository: &Rc<Repository>, node: &str, signers: &[Signer]) -> Result<Self, repository::Error> {
        let mut folders: BTreeMap<SetId, Vec<Object>> = BTreeMap::new();
        for object in repository.list(node).await? {
            let Some((folder, name)) = object.name.split_once('/') else { continue };
            // What is not named as we name it is not ours.
            let Ok(id) = folder.parse::<SetId>() else { continue };
            folders.entry(id).or_default().push(Object { name: name.to_owned(), ..object.clone() });
        }
        let mut catalog = Self::default();
        let mut with_manifest = Vec::new();
        for (id, files) in folders {
            let has = |name: &str| files.iter().any(|file| file.name == name);
            if has("manifest.json") {
                with_manifest.push((id, files));
            } else if has("rejected.json") {
                catalog.rejected.push((id, files));
            } else {
                catalog.pending.push(id);
            }
        }
        let entries = with_manifest.into_iter().map(|(id, files)| entry(repository, node, id, files, signers));
        catalog.sets = stream::iter(entries).buffered(AT_ONCE).try_collect().await?;
        Ok(catalog)
    }

    /// Sets that count as backups, oldest first.
    #[must_use]
    pub fn whole(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.sets.iter().filter(|entry| entry.is_whole())
    }
}

async fn entry(
    repository: &Rc<Repository>,
    node: &str,
    id: SetId,
    files: Vec<Object>,
    signers: &[Signer],
) -> Result<Entry, repository::Error> {
    let key = |name: &str| format!("{node}/{id}/{name}");
    let bytes = small(repository, &key("manifest.json")).await?.unwrap_or_default();
    let sha256 = base16ct::lower::encode_string(&Sha256::digest(&bytes));
    let manifest = Manifest::parse(&bytes);
    let signature = small(repository, &key("manifest.json.sig")).await?;
    let state = match &manifest {
        Err(error) => State::Broken(format!("its manifest cannot be read: {error}")),
        Ok(manifest) => match unbelieved(signers, Purpose::Manifest, signature.as_ref(), &bytes) {
            Some(reason) => State::Unbelieved(reason),
            None => state(manifest, node, id, &files),
        },
    };
    let verified_at = verified_at(repository, node, id, &files, &sha256, signers).await?;
    Ok(Entry { id, state, manifest: manifest.ok(), sha256, files, verified_at })
}

/// Reads one of the documents beside the dumps. One that is larger than any of ours reads as an empty one, which is
/// none either: whoever leaves such a thing there spoils that set, and no other.
pub(super) async fn small(repository: &Repository, key: &str) -> Result<Option<Bytes>, repository::Error> {
    match repository.read(key, manifest::MAX_BYTES).await {
        Err(repository::Error::TooLarge { .. }) => Ok(Some(Bytes::new())),
        result => result,
    }
}

/// Why a manifest or a record is not believed.
pub(super) fn unbelieved(
    signers: &[Signer],
    purpose: Purpose,
    signature: Option<&Bytes>,
    bytes: &[u8],
) -> Option<String> {
    if signers.is_empty() {
        return None;
    }
    match signature {
        None => Some("it is not signed".into()),
        Some(signature) => sign::verify(signature, purpose, bytes, signers).err().map(|error| error.to_string()),
    }
}

fn state(manifest: &Manifest, node: &str, id: SetId, files: &[Object]) -> State {
    if manifest.node != node || manifest.set != id {
        return State::Broken(format!("its manifest is that of {}/{}", manifest.node, manifest.set));
    }
    for dump in &manifest.databases {
        match files.iter().find(|file| file.name == dump.file) {
            None => return State::Broken(format!("{} is missing", dump.file)),
            Some(file) if file.bytes != dump.bytes => {
                return State::Broken(format!("{} has {} bytes, not {}", dump.file, file.bytes, dump.bytes));
            }
            Some(_) => {}
        }
    }
    State::Whole
}

/// When the newest `verify-<time>.json` about this manifest was written, if that one is without a failure: what was
/// damaged since does not count as verified any more.
///
/// Where signers are named, only what they signed makes a set verified. A failure counts whoever tells of it: who could
/// plant that could as well damage the set.
async fn verified_at(
    repository: &Rc<Repository>,
    node: &str,
    id: SetId,
    files: &[Object],
    sha256: &str,
    signers: &[Signer],
) -> Result<Option<Timestamp>, repository::Error> {
    // One that says to be of the future would have the last word for ever.
    let latest = SetId::at(Timestamp::now().saturating_add(AHEAD).unwrap_or(Timestamp::MAX));
    let mut names: Vec<(SetId, &str)> = files
        .iter()
        .filter_map(|file| {
            let name = file.name.as_str();
            Some((name.strip_prefix("verify-")?.strip_suffix(".json")?.parse().ok()?, name))
        })
        .filter(|(at, _)| *at <= latest)
        .collect();
    names.sort_unstable();
    let mut is_told = false;
    for (_, name) in names.iter().rev() {
        let key = format!("{node}/{id}/{name}");
        let bytes = small(repository, &key).await?.unwrap_or_default();
        let Some(record) = Record::about(&bytes, name, node, id, sha256) else { continue };
        let signature = match signers {
            [] => None,
            _ => small(repository, &format!("{key}.sig")).await?,
        };
        let Some(why) = unbelieved(signers, Purpose::Record, signature.as_ref(), &bytes) else {
            return Ok(record.passed_at());
        };
        let (set, failed) = (id.to_string(), record.passed_at().is_none());
        let record = *name;
        if failed {
            tracing::warn!(node, set, record, why, "a record that no signer signed says that this set failed");
            return Ok(None);
        }
        // Of all those from before there were signers, one is enough.
        if !is_told {
            tracing::warn!(node, set, record, why, "a record that no signer signed does not make this set verified");
        }
        is_told = true;
    }
    Ok(None)
}
