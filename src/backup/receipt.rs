//! Receipts of backups: the report of `backup -o json`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::manifest::{Invariant, Manifest};
use super::set::SetId;
use crate::error::Failed;
use crate::receipt::gravest;

/// The report of one run over all nodes.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One receipt per node, in the order of the configuration.
    pub nodes: Vec<NodeReceipt>,
}

/// What became of one node's set.
#[derive(Debug, Clone, Serialize)]
pub struct NodeReceipt {
    /// The node's name.
    pub node: String,
    /// `published`, `rejected` or `failed`.
    pub outcome: &'static str,
    /// The set, where one was begun.
    pub set: Option<SetId>,
    /// Whose databases.
    pub participant_id: Option<String>,
    /// What the data says about the set's consistency.
    pub invariants: BTreeMap<String, Invariant>,
    /// What was stored.
    pub databases: Vec<DatabaseReceipt>,
    /// Why there is no set.
    pub error: Option<String>,
    /// Milliseconds that the node's run took.
    pub elapsed_ms: u64,
    /// The same, for the exit code and the hint.
    #[serde(skip)]
    pub failed: Option<Failed>,
}

/// What became of one database.
#[derive(Debug, Clone, Serialize)]
pub struct DatabaseReceipt {
    /// Its name in the configuration.
    pub name: String,
    /// The database's own name.
    pub database: String,
    /// What `pg_dump` wrote, in bytes.
    pub plain_bytes: u64,
    /// What was stored, in bytes.
    pub bytes: u64,
}

impl NodeReceipt {
    /// The receipt of a set that was published.
    #[must_use]
    pub fn published(manifest: &Manifest) -> Self {
        let databases = manifest.databases.iter().map(|dump| DatabaseReceipt {
            name: dump.name.clone(),
            database: dump.database.clone(),
            plain_bytes: dump.plain_bytes,
            bytes: dump.bytes,
        });
        Self {
            node: manifest.node.clone(),
            outcome: "published",
            set: Some(manifest.set),
            participant_id: manifest.participant_id.clone(),
            invariants: manifest.invariants.clone(),
            databases: databases.collect(),
            error: None,
            elapsed_ms: 0,
            failed: None,
        }
    }

    /// The receipt of a run that ended without a set.
    #[must_use]
    pub fn failed(node: &str, error: &super::Error) -> Self {
        let (outcome, set, invariants) = match error {
            super::Error::Rejected { set, invariants } | super::Error::Unkept { set, invariants, .. } => {
                ("rejected", Some(*set), invariants.clone())
            }
            _ => ("failed", None, BTreeMap::new()),
        };
        Self { outcome, set, invariants, ..Self::ended(node, Failed::from(error)) }
    }

    /// The receipt of a run of which nothing more is known than why it ended.
    #[must_use]
    pub fn ended(node: &str, failed: Failed) -> Self {
        Self {
            node: node.to_owned(),
            outcome: "failed",
            set: None,
            participant_id: None,
            invariants: BTreeMap::new(),
            databases: Vec::new(),
            error: Some(failed.message.clone()),
            elapsed_ms: 0,
            failed: Some(failed),
        }
    }
}

impl Report {
    /// The exit code: 0, or that of the gravest failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let failures = self.nodes.iter().filter_map(|node| node.failed.as_ref());
        gravest(failures).map_or(0, |failed| failed.fault.exit_code())
    }
}
