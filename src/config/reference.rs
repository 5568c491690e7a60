//! A reference to a secret: the configuration says where it is, never what it is.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Name;

/// Where a secret is read, at each use. It is never written in the configuration itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(extend("x-secret" = true, "examples" = [{"file": "/run/secrets/idkeep"}]))]
pub enum SecretRef {
    /// A file; one trailing newline is dropped. Refused if others may read it.
    File(PathBuf),
    /// An environment variable.
    Env(
        #[schemars(extend("format" = "variable", "pattern" = "^[A-Za-z_][A-Za-z0-9_]*$", "examples" = ["IDKEEP_SECRET"]))]
         String,
    ),
    /// A field of a secret in Vault or `OpenBao`.
    Vault(VaultRef),
}

/// A field of a secret in Vault or `OpenBao`, read with the login of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-secret" = true))]
pub struct VaultRef {
    /// The store under `stores` whose server and login are used.
    pub store: Name,
    /// What is read there, as the API names it: in a KV engine of version 2 `MOUNT/data/PATH`.
    #[schemars(extend("examples" = ["secret/data/canton/oauth"]))]
    pub path: String,
    /// The field of it; a text. One trailing newline is dropped.
    #[schemars(extend("examples" = ["client-secret"]))]
    pub field: String,
}

impl SecretRef {
    /// The reference to Vault, if it is one.
    #[must_use]
    pub const fn in_vault(&self) -> Option<&VaultRef> {
        match self {
            Self::Vault(reference) => Some(reference),
            Self::File(_) | Self::Env(_) => None,
        }
    }
}
