//! Expiry: removes what retention does not keep, the manifest first, so that half a removal is no set.

use std::rc::Rc;

use jiff::Timestamp;
use serde::Serialize;

use super::catalog::{Catalog, Entry};
use super::manifest::{Manifest, Offsets};
use super::repository::{self, Object, Repository};
use super::retention::{Refusal, Retention, SetFacts, Verdict, guard};
use super::set::SetId;
use crate::config::{self, Role};
use crate::error::{Failed, Failure, Fault};

/// Rejected runs whose files are kept as evidence; of older ones only `rejected.json` stays.
const REJECTED_KEPT: usize = 2;

/// How expiry is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Judges and removes nothing.
    pub dry_run: bool,
    /// Removes even more than a quarter of the sets.
    pub yes: bool,
}

/// What the configuration says about a node's sets.
#[derive(Debug, Clone, Copy)]
pub struct Configured<'c> {
    /// The node's backups.
    pub backup: &'c config::Backup,
    /// Whose manifests are believed; everybody's where none is named.
    pub signers: &'c [config::Signer],
}

/// What became of one node's sets.
#[derive(Debug, Default, Serialize)]
pub struct NodeReceipt {
    /// The node's name.
    pub node: String,
    /// Every set that counts as a backup, oldest first.
    pub sets: Vec<SetReceipt>,
    /// Why nothing, or not everything, was removed.
    pub error: Option<String>,
    /// The same, for the exit code and the hint.
    #[serde(skip)]
    pub failed: Option<Failed>,
}

/// What became of one set.
#[derive(Debug, Serialize)]
pub struct SetReceipt {
    /// The set.
    pub set: SetId,
    /// `keep` or `remove`.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
    /// `kept`, `removed`, `held` (the store does not let it go) or `would_remove`.
    pub outcome: &'static str,
}

/// Why expiry stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository's own reason.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// What would remain is not enough.
    #[error("nothing was removed: {0}")]
    Refused(Refusal),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Repository(error) => error.fault(),
            Self::Refused(_) => Fault::Inconsistent,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Repository(error) => error.hint(),
            Self::Refused(refusal) => Some(refusal.hint()),
        }
    }
}

/// Judges the node's sets, and removes those that are not kept.
pub async fn run(
    repository: &Rc<Repository>,
    node: &str,
    config: Configured<'_>,
    options: Options,
    now: Timestamp,
) -> NodeReceipt {
    let mut receipt = NodeReceipt { node: node.to_owned(), ..NodeReceipt::default() };
    if let Err(error) = expire(repository, node, config, options, now, &mut receipt).await {
        let failed = Failed::from(&error);
        receipt.error = Some(failed.message.clone());
        receipt.failed = Some(failed);
    }
    receipt
}

async fn expire(
    repository: &Rc<Repository>,
    node: &str,
    config: Configured<'_>,
    options: Options,
    now: Timestamp,
    receipt: &mut NodeReceipt,
) -> Result<(), Error> {
    let catalog = Catalog::read(repository, node, config.signers).await?;
    for entry in catalog.sets.iter().filter(|entry| !entry.is_whole()) {
        tracing::warn!(node, set = entry.id.to_string(), "not whole or not signed: neither counted nor removed");
    }
    let facts: Vec<SetFacts> = catalog.whole().filter_map(facts).collect();
    let verdicts = Retention::new(config.backup.retention, config.backup.pruning_retention).judge(&facts);
    let refusal = guard(&facts, &verdicts, now, options.yes).err();
    receipt.sets = verdicts.iter().map(|(set, verdict)| SetReceipt::of(*set, verdict)).collect();
    if let Some(refusal) = refusal {
        return Err(Error::Refused(refusal));
    }
    if options.dry_run {
        return Ok(());
    }
    for set in &mut receipt.sets {
        let entry = catalog.whole().find(|entry| entry.id == set.set);
        let Some(entry) = entry.filter(|_| set.verdict == "remove") else { continue };
        set.outcome = if remove(repository, node, entry.id, &entry.files).await? { "removed" } else { "held" };
    }
    clear(repository, node, &catalog).await;
    Ok(())
}

impl SetReceipt {
    fn of(set: SetId, verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Keep(reason) => Self { set, verdict: "keep", reason: reason.clone(), outcome: "kept" },
            Verdict::Remove(reason) => Self { set, verdict: "remove", reason: reason.clone(), outcome: "would_remove" },
        }
    }
}

/// What retention judges a set by.
fn facts(entry: &Entry) -> Option<SetFacts> {
    let manifest = entry.manifest.as_ref()?;
    let of_role = |role| manifest.databases.iter().find(move |dump| dump.role == role);
    Some(SetFacts {
        id: entry.id,
        snapshot_at: entry.snapshot_at(),
        participant_id: manifest.participant_id.clone(),
        participant_database: of_role(Role::Participant).map(|dump| dump.database.clone()),
        migration_id: migration(manifest),
        verified_at: entry.verified_at,
    })
}

fn migration(manifest: &Manifest) -> Option<i64> {
    manifest.databases.iter().find_map(|dump| match dump.offsets {
        Some(Offsets::Validator { migration_id, .. }) => migration_id,
        _ => None,
    })
}

/// Removes a set, the manifest first; false where the store does not let it go.
async fn remove(
    repository: &Rc<Repository>,
    node: &str,
    id: SetId,
    files: &[Object],
) -> Result<bool, repository::Error> {
    let set = id.to_string();
    match repository.remove(&format!("{node}/{set}/manifest.json")).await {
        Ok(()) => {}
        Err(error) if error.fault() == Fault::Credentials => {
            tracing::warn!(node, set, "the store does not let this set go");
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    for file in files.iter().filter(|file| file.name != "manifest.json") {
        match repository.remove(&format!("{node}/{set}/{}", file.name)).await {
            Ok(()) => {}
            Err(error) if error.fault() == Fault::Credentials => {
                tracing::warn!(node, set, file = file.name, "the store does not let this file go");
            }
            Err(error) => return Err(error),
        }
    }
    tracing::info!(node, set, "set removed");
    Ok(true)
}

/// Files of older rejected runs, and whatever is left of runs that ended before a newer set was published: runs of a
/// node never interleave, so nobody writes there any more. But a request of theirs may arrive late: where there is a
/// manifest by now, nothing is removed.
async fn clear(repository: &Rc<Repository>, node: &str, catalog: &Catalog) {
    let rejected = catalog.rejected.iter().rev().skip(REJECTED_KEPT).map(|(id, _)| *id);
    let newest = catalog.whole().next_back().map(|entry| entry.id);
    let ended = catalog.pending.iter().copied().filter(|id| newest.is_some_and(|newest| *id < newest));
    for id in rejected.chain(ended) {
        if let Err(error) = clear_one(repository, node, id).await {
            let (set, error) = (id.to_string(), crate::error::chain(&error));
            tracing::warn!(node, set, error, "leftovers cannot be seen");
        }
    }
}

async fn clear_one(repository: &Rc<Repository>, node: &str, id: SetId) -> Result<(), repository::Error> {
    let folder = format!("{node}/{id}");
    // Looked at again: the catalogue was read before all that was removed since.
    let files = repository.list(&folder).await?;
    for file in files.iter().filter(|file| file.name != "rejected.json") {
        if repository.size(&format!("{folder}/manifest.json")).await?.is_some() {
            tracing::warn!(node, set = id.to_string(), "this set has a manifest by now: it stays");
            return Ok(());
        }
        if let Err(error) = repository.remove(&format!("{folder}/{}", file.name)).await {
            let (file, error) = (file.name.as_str(), crate::error::chain(&error));
            tracing::warn!(node, set = id.to_string(), file, error, "a leftover could not be removed");
        }
    }
    Ok(())
}
