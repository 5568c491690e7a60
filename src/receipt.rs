//! Receipts: what one pass did, without anything secret. The report of `sync -o json`.

use serde::Serialize;

use crate::error::Failed;
use crate::identity::About;
use crate::store::{self, Kept};

/// The report of one pass over all nodes.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One receipt per node, in the order of the configuration.
    pub nodes: Vec<NodeReceipt>,
}

/// What became of one node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeReceipt {
    /// The node's name.
    pub node: String,
    /// What is public about its dump, where one came.
    #[serde(flatten)]
    pub about: Facts,
    /// What became of each store.
    pub stores: Vec<StoreReceipt>,
    /// Why there is no dump, or not enough stores took it.
    pub error: Option<String>,
    /// Milliseconds that the node's pass took.
    pub elapsed_ms: u64,
    /// The gravest failure that counts, for the exit code.
    #[serde(skip)]
    pub failed: Option<Failed>,
}

/// What is public about a dump; all null where none came.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// Whose identities.
    pub participant_id: Option<String>,
    /// Digest over the semantic form.
    pub digest: Option<String>,
    /// The validator app's version.
    pub dump_version: Option<String>,
    /// `software`, `kms` or `mixed`.
    pub key_kind: Option<&'static str>,
    /// What is known about the namespace's key.
    pub key_proof: Option<&'static str>,
    /// Number of keys.
    pub keys: Option<usize>,
    /// Size of the dump.
    pub bytes: Option<usize>,
}

/// What became of one store.
#[derive(Debug, Clone, Serialize)]
pub struct StoreReceipt {
    /// The store's name.
    pub store: String,
    /// `written`, `unchanged`, `repaired`, `would_write` or `failed`.
    pub outcome: &'static str,
    /// The version that is now current.
    pub version: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The part of the store's limit that the identities fill, for the daemon's metrics.
    #[serde(skip)]
    pub fill_ratio: Option<f64>,
    /// The same, for the exit code and the hint.
    #[serde(skip)]
    pub failed: Option<Failed>,
}

impl Facts {
    /// What the report says about a dump.
    #[must_use]
    pub fn of(about: &About) -> Self {
        Self {
            participant_id: Some(about.participant_id.to_string()),
            digest: Some(about.digest.to_string()),
            dump_version: about.dump_version.clone(),
            key_kind: Some(about.key_kind.as_str()),
            key_proof: Some(about.key_proof.as_str()),
            keys: Some(about.keys),
            bytes: Some(about.bytes),
        }
    }
}

impl StoreReceipt {
    /// The receipt of a store's part.
    #[must_use]
    pub fn of(store: &str, result: Result<Kept, store::Error>) -> Self {
        let store = store.to_owned();
        match result {
            Ok(kept) => Self {
                store,
                outcome: kept.outcome.as_str(),
                version: kept.version.map(|version| version.0),
                error: None,
                fill_ratio: None,
                failed: None,
            },
            Err(error) => Self::failed(&store, Failed::from(&error)),
        }
    }

    /// The receipt of a store that was not even tried.
    #[must_use]
    pub fn failed(store: &str, failed: Failed) -> Self {
        Self {
            store: store.to_owned(),
            outcome: "failed",
            version: None,
            error: Some(failed.message.clone()),
            fill_ratio: None,
            failed: Some(failed),
        }
    }
}

impl NodeReceipt {
    /// The receipt of a node whose pass ended before any store.
    #[must_use]
    pub fn failed(node: &str, failed: Failed, elapsed_ms: u64) -> Self {
        Self {
            node: node.to_owned(),
            about: Facts::default(),
            stores: Vec::new(),
            error: Some(failed.message.clone()),
            elapsed_ms,
            failed: Some(failed),
        }
    }
}

/// The gravest of several failures.
#[must_use]
pub fn gravest<'f>(failures: impl IntoIterator<Item = &'f Failed>) -> Option<&'f Failed> {
    failures.into_iter().max_by_key(|failed| failed.fault.gravity())
}

impl Report {
    /// The exit code: 0, or that of the gravest failure that counts.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let failures = self.nodes.iter().filter_map(|node| node.failed.as_ref());
        gravest(failures).map_or(0, |failed| failed.fault.exit_code())
    }
}
