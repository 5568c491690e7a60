//! What runs that died have left behind, removed by the next one under its lock.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::pending::{Document, FILE};
use super::{Cloud, Error, Lock, Place, Repository, upload};
use crate::backup::set::SetId;
use crate::error::{Failure as _, Fault, chain};

/// The largest `pending.json` that is read.
const CAP: usize = 1 << 20;

/// The most uploads of one run that are looked at; a set has fewer databases.
const UPLOADS: usize = 100;

/// Failures that time may mend, after which it is no use to go on.
const FAILURES: u32 = 3;

/// Removes sets that were begun and never ended, and says which. What may not or cannot be removed is left, and keeps
/// nobody from the others: anybody may have written it.
pub async fn clear_leftovers(repository: &Rc<Repository>, node: &str, lock: &Lock) -> Result<Vec<SetId>, Error> {
    let mut sets: BTreeMap<SetId, Vec<String>> = BTreeMap::new();
    for object in repository.list(node).await? {
        let Some((folder, file)) = object.name.split_once('/') else { continue };
        if let Ok(set) = folder.parse() {
            sets.entry(set).or_default().push(file.to_owned());
        }
    }
    let mut cleared = Vec::new();
    let mut failures = 0;
    for (set, files) in sets {
        let has = |name: &str| files.iter().any(|file| file == name);
        if !has(FILE) {
            continue;
        }
        if !lock.is_ours().await? {
            return Err(lock.lost_error());
        }
        let is_ended = has("manifest.json") || has("rejected.json");
        let folder = format!("{node}/{set}");
        let (name, set_text) = (repository.name(), set.to_string());
        match clear(repository, &folder, &files, is_ended).await {
            Ok(()) | Err(Error::Denied { .. }) if is_ended => {}
            Ok(()) => {
                tracing::warn!(repository = name, node, set = set_text, "removed a set that was never ended");
                cleared.push(set);
            }
            Err(error) => {
                failures += u32::from(error.fault() == Fault::Transient);
                if failures == FAILURES {
                    return Err(error);
                }
                let error = chain(&error);
                tracing::warn!(repository = name, node, set = set_text, error, "a set that was never ended stays");
            }
        }
    }
    Ok(cleared)
}

/// `pending.json` goes last: until then the next run can go on with this.
async fn clear(repository: &Repository, folder: &str, files: &[String], is_ended: bool) -> Result<(), Error> {
    if let Place::Folder(place) = &repository.place {
        place.sweep(folder).await.map_err(repository.io(super::REMOVING, folder))?;
    }
    let pending = format!("{folder}/{FILE}");
    if is_ended {
        return repository.remove(&pending).await;
    }
    let aborted = match &repository.place {
        Place::Cloud(cloud) => abort_all(repository, cloud, folder).await,
        Place::Folder(_) => Ok(()),
    };
    // A request of a run that gave up waiting for the answer may have come late: what it names is no leftover.
    if repository.size(&format!("{folder}/manifest.json")).await?.is_some() {
        return repository.remove(&pending).await;
    }
    for file in files.iter().filter(|file| *file != FILE) {
        repository.remove(&format!("{folder}/{file}")).await?;
    }
    aborted?;
    repository.remove(&pending).await
}

/// Removes the parts of every upload on record; the first failure is told once all were tried.
async fn abort_all(repository: &Repository, cloud: &Arc<dyn Cloud>, folder: &str) -> Result<(), Error> {
    let bytes = match repository.read(&format!("{folder}/{FILE}"), CAP).await {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(Error::TooLarge { .. }) => Bytes::new(),
        Err(error) => return Err(error),
    };
    let Ok(document) = serde_json::from_slice::<Document>(&bytes) else {
        let name = repository.name();
        tracing::warn!(repository = name, folder, "its pending.json is none of ours: parts of uploads may be left");
        return Ok(());
    };
    let mut result = Ok(());
    for begun in document.uploads.iter().take(UPLOADS) {
        let aborted = upload::abort(repository, cloud, &format!("{folder}/{}", begun.file), &begun.id).await;
        if let Err(error) = aborted
            && result.is_ok()
        {
            // Without an answer to one there is none to the next.
            let is_silent = error.fault() == Fault::Transient;
            result = Err(error);
            if is_silent {
                break;
            }
        }
    }
    result
}
