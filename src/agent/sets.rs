//! What a repository holds of one node, as far as the daemon and whoever watches it want to know.

use jiff::Timestamp;
use serde::Serialize;

use super::status::seconds;
use super::world::World;
use crate::backup::catalog::{Catalog, Entry};
use crate::backup::manifest::{Manifest, Offsets};
use crate::backup::{repository_of, signers};
use crate::error::Failed;
use crate::sync::Subject;

/// A node's sets.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Sets {
    /// How many count as backups.
    pub count: usize,
    /// The newest of them.
    pub newest: Option<Newest>,
    /// The longest stretch between two of them that follow each other, in seconds.
    pub longest_gap_seconds: f64,
    /// When one last passed `verify`.
    pub verified_at: Option<Timestamp>,
}

/// The newest set.
#[derive(Debug, Clone, Serialize)]
pub struct Newest {
    /// Its id.
    pub set: String,
    /// How old its data is: the first snapshot, the validator's.
    pub snapshot_at: Timestamp,
    /// The participant's ledger end less what the validator had ingested.
    pub offset_lag: Option<i64>,
    /// Its dumps.
    pub databases: Vec<Database>,
}

/// One dump of the newest set.
#[derive(Debug, Clone, Serialize)]
pub struct Database {
    /// Its name in the configuration.
    pub name: String,
    /// What was stored, in bytes.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
}

impl Sets {
    /// Looks at the node's repository. Nothing where the node has no backups.
    pub async fn look(world: &World, subject: &Subject) -> Option<Result<Self, Failed>> {
        let repository = match repository_of(&world.config, subject)? {
            Ok(repository) => repository,
            Err(error) => return Some(Err(Failed::from(&error))),
        };
        let signers = signers(&world.config, subject);
        let catalog = Catalog::read(&repository, subject.name.as_str(), signers).await;
        Some(catalog.map(|catalog| Self::of(&catalog)).map_err(|error| Failed::from(&error)))
    }

    /// What a catalogue says.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        let mut snapshots: Vec<Timestamp> = catalog.whole().map(Entry::snapshot_at).collect();
        snapshots.sort_unstable();
        let gaps = snapshots.windows(2).map(|pair| seconds(pair[0], pair[1]));
        Self {
            count: snapshots.len(),
            newest: catalog.whole().next_back().and_then(Newest::of),
            longest_gap_seconds: gaps.fold(0.0, f64::max),
            verified_at: catalog.sets.iter().filter_map(|entry| entry.verified_at).max(),
        }
    }

    /// The longest stretch without a set, in seconds: between two of them, or from the newest until now.
    #[must_use]
    pub fn gap(&self, now: Timestamp) -> Option<f64> {
        let newest = self.newest.as_ref()?;
        Some(self.longest_gap_seconds.max(seconds(newest.snapshot_at, now)))
    }
}

impl Newest {
    fn of(entry: &Entry) -> Option<Self> {
        let manifest = entry.manifest.as_ref()?;
        let databases = manifest.databases.iter().map(|dump| Database {
            name: dump.name.clone(),
            bytes: dump.bytes,
            seconds: dump.completed_at.map(|end| seconds(dump.started_at, end)),
        });
        Some(Self {
            set: entry.id.to_string(),
            snapshot_at: entry.snapshot_at(),
            offset_lag: lag(manifest),
            databases: databases.collect(),
        })
    }
}

fn lag(manifest: &Manifest) -> Option<i64> {
    let (mut ingested, mut end) = (None, None);
    for dump in &manifest.databases {
        match dump.offsets {
            Some(Offsets::Validator { validator_last_ingested, .. }) => ingested = validator_last_ingested,
            Some(Offsets::Participant { ledger_end, .. }) => end = ledger_end,
            None => {}
        }
    }
    Some(end?.saturating_sub(ingested?))
}
