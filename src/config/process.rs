//! How the process protects itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the process protects itself.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Keeps memory out of swap with `mlockall`.
    #[serde(default)]
    pub lock_memory: LockMemory,
}

/// Whether memory is locked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockMemory {
    /// Refuse to run where memory cannot be locked.
    Required,
    /// Lock only where the limit is unlimited, and say which it was.
    #[default]
    Try,
    /// Do not lock.
    Off,
}
