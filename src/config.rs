//! The configuration as written: types that mirror the YAML, with unknown keys refused.
//!
//! Nothing here holds a secret; where one is needed the configuration holds a reference to it.

mod address;
mod backup;
mod cron;
mod database_url;
mod document;
mod judge;
mod node;
mod outside;
mod period;
mod process;
mod reference;
mod repository;
mod schedule;
mod server;
mod shape;
mod store;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{Address, Proxy, Tls, is_loopback};
pub use backup::{Backup, Compression, Credentials, Database, DatabaseName, Encryption, PgDump, Retention, Role};
pub use cron::Cron;
pub use database_url::DatabaseUrl;
pub use document::{Finding, Findings};
pub use node::{
    AssertionAudience, Auth, BasicEncoding, ClientAuth, Identity, NamespaceKey, Node, Oauth2, Require, UnsafeHs256,
};
pub use outside::Reference;
pub use period::Period;
pub use process::{LockMemory, Process};
pub use reference::{SecretRef, VaultRef};
pub use repository::{Repository, RepositoryKind, RepositoryUrl, Signer};
pub use schedule::{BackupTiming, Schedule, Timing};
pub use server::{Heartbeat, Server, StatusFor};
pub use store::{AwsStore, AzureStore, FileStore, GcpStore, KubernetesStore, Store, VaultAuth, VaultStore};
pub use text::{AgeRecipient, Name, ParticipantName, Template};

use crate::error::{Failure, Fault};

/// The whole configuration file.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "idkeep configuration")]
pub struct Config {
    /// The validators to look after, by name.
    pub nodes: BTreeMap<Name, Node>,
    /// Where identities are kept, by name.
    #[serde(default)]
    pub stores: BTreeMap<Name, Store>,
    /// Where backup sets are kept, by name.
    #[serde(default)]
    pub repositories: BTreeMap<Name, Repository>,
    /// When the daemon does what.
    #[serde(default)]
    pub schedule: Schedule,
    /// What the daemon answers over HTTP.
    #[serde(default)]
    pub server: Server,
    /// Whom a full success is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// How the process protects itself.
    #[serde(default)]
    pub process: Process,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or not readable.
    #[error("reading the configuration {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file has mistakes; each is named with its place.
    #[error("{0}")]
    Mistakes(Findings),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        Fault::Config
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("name the file with --config or IDKEEP_CONFIG".into()),
            Self::Mistakes(_) => Some("`idkeep check` also lists warnings".into()),
        }
    }
}

/// Reads and checks a configuration; all mistakes at once.
pub fn load(path: &Path) -> Result<Config, Error> {
    let (config, findings) = inspect(path)?;
    match config {
        Some(config) if findings.mistakes.is_empty() => Ok(config),
        _ => Err(Error::Mistakes(findings)),
    }
}

/// Reads a configuration and returns everything that is to be said about it. The configuration is
/// there unless the file is no YAML mapping at all; where it has mistakes it holds placeholders.
pub fn inspect(path: &Path) -> Result<(Option<Config>, Findings), Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(judge::inspect(path, &text))
}

/// The JSON Schema of the configuration, which is also what it is checked with.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".into(), "https://idkeep.dev/schema/config/v1".into());
    }
    describe(&mut schema);
    schema
}

/// Says beside each key of an externally tagged enum what its branch says, where editors look for it.
fn describe(schema: &mut serde_json::Value) {
    let branches = schema.get_mut("oneOf").and_then(serde_json::Value::as_array_mut);
    for branch in branches.into_iter().flatten() {
        let description = branch.get("description").cloned();
        let properties = branch.get_mut("properties").and_then(serde_json::Value::as_object_mut);
        for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
            if let (Some(property), Some(description)) = (property.as_object_mut(), &description) {
                property.entry("description").or_insert_with(|| description.clone());
            }
        }
    }
    let inner = match schema {
        serde_json::Value::Object(object) => object.values_mut().collect(),
        serde_json::Value::Array(list) => list.iter_mut().collect(),
        _ => Vec::new(),
    };
    inner.into_iter().for_each(describe);
}
