//! A reference to a secret: the configuration says where it is, never what it is.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}
