//! What runs that died have left behind, removed by the next one under its lock.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::pending::{Document, FILE};
use super::{Error, Lock, Place, Repository, upload};
use crate::backup::set::SetId;
use crate::error::chain;

/// The largest `pending.json` that is read.
const CAP: usize = 1 << 20;

/// Removes sets that were begun and never ended, and says which. What may not be removed is left.
pub async fn clear_leftovers(repository: &Rc<Repository>, node: &str, lock: &Lock) -> Result<Vec<SetId>, Error> {
    let mut sets: BTreeMap<SetId, Vec<String>> = BTreeMap::new();
    for object in repository.list(node).await? {
        let Some((folder, file)) = object.name.split_once('/') else { continue };
        if let Ok(set) = folder.parse() {
            sets.entry(set).or_default().push(file.to_owned());
        }
    }
    let mut cleared = Vec::new();
    for (set, files) in sets {
        let has = |name: &str| files.iter().any(|file| file == name);
        if !has(FILE) {
            continue;
        }
        if !lock.is_ours().await? {
            return Err(lock.lost_error());
        }
        let folder = format!("{node}/{set}");
        if let Place::Folder(place) = &repository.place {
            place.sweep(&folder).await.map_err(repository.io(super::REMOVING, &folder))?;
        }
        let is_ended = has("manifest.json") || has("rejected.json");
        let result = if is_ended {
            repository.remove(&format!("{folder}/{FILE}")).await
        } else {
            clear(repository, &folder, &files).await
        };
        let (name, set_text) = (repository.name(), set.to_string());
        match result {
            Ok(()) | Err(Error::Denied { .. }) if is_ended => {}
            Ok(()) => {
                tracing::warn!(repository = name, node, set = set_text, "removed a set that was never ended");
                cleared.push(set);
            }
            Err(error @ Error::Denied { .. }) => {
                let error = chain(&error);
                tracing::warn!(repository = name, node, set = set_text, error, "a set that was never ended stays");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(cleared)
}

/// `pending.json` goes last: until then the next run can go on with this.
async fn clear(repository: &Repository, folder: &str, files: &[String]) -> Result<(), Error> {
    let pending = format!("{folder}/{FILE}");
    if let Place::Cloud(cloud) = &repository.place {
        let bytes = repository.read(&pending, CAP).await?.unwrap_or_default();
        let uploads = serde_json::from_slice::<Document>(&bytes).map(|document| document.uploads);
        for begun in uploads.unwrap_or_default() {
            upload::abort(repository, cloud, &format!("{folder}/{}", begun.file), &begun.id).await?;
        }
    }
    // A request of a run that gave up waiting for the answer may have come late: what it names is no leftover.
    if repository.size(&format!("{folder}/manifest.json")).await?.is_some() {
        return repository.remove(&pending).await;
    }
    for file in files.iter().filter(|file| *file != FILE) {
        repository.remove(&format!("{folder}/{file}")).await?;
    }
    repository.remove(&pending).await
}
