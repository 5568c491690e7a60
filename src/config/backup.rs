//! A node's database backups: which databases, in which order, where to, and how long they are kept.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AgeRecipient, DatabaseUrl, Name, Period, SecretRef};

/// A node's database backups.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The name of the repository that keeps the sets.
    pub repository: Name,
    /// Seals every dump to these age recipients. Required, unless `encryption: none` stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<AgeRecipient>,
    /// `none` stores the participant's private keys in clear, and has to be written out.
    #[serde(default)]
    pub encryption: Encryption,
    /// The participant's pruning `retention`: bounds the gap between kept sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruning_retention: Option<Period>,
    /// How dumps are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// A dump gives way when another session has waited on its locks for this long.
    #[serde(default = "thirty_seconds")]
    pub yield_after: Period,
    /// The databases; `after` orders them, without it the order of the list.
    pub databases: Vec<Database>,
    /// Which sets are kept.
    #[serde(default)]
    pub retention: Retention,
}

const fn thirty_seconds() -> Period {
    Period::seconds(30)
}

/// Whether dumps are sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Sealed to the recipients.
    #[default]
    Age,
    /// Not sealed: whoever reads the repository has the node's private keys.
    None,
}

/// How dumps are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// The level of zstd.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 19))]
    pub level: u32,
    /// Threads that compress; by default one per core, up to four. 0 compresses in the thread that reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub workers: Option<u32>,
}

impl Default for Compression {
    fn default() -> Self {
        Self { level: three(), workers: None }
    }
}

const fn three() -> u32 {
    3
}

/// One database of a node.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name in sets, which need not be the database's own.
    pub name: Name,
    /// What is in it.
    pub role: Role,
    /// The databases of this node that must be complete before this one is begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Name>,
    /// How it is dumped.
    pub pg_dump: PgDump,
}

/// What is in a database. Apps refer to what the participant has seen, so they come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The validator app's.
    Validator,
    /// The participant's, with its private keys.
    Participant,
    /// The SV app's.
    Sv,
    /// The scan app's.
    Scan,
    /// The sequencer's.
    Sequencer,
    /// The mediator's.
    Mediator,
    /// The BFT orderer's, which comes before the sequencer.
    Cantonbft,
    /// Another one, about which nothing is known.
    Other,
}

impl Role {
    /// The word that configuration, manifests and messages use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Participant => "participant",
            Self::Sv => "sv",
            Self::Scan => "scan",
            Self::Sequencer => "sequencer",
            Self::Mediator => "mediator",
            Self::Cantonbft => "cantonbft",
            Self::Other => "other",
        }
    }

    /// True where a database of this role has to be complete before one of `later` is begun.
    #[must_use]
    pub const fn must_precede(self, later: Self) -> bool {
        match later {
            Self::Participant => matches!(self, Self::Validator | Self::Sv | Self::Scan),
            Self::Sequencer => matches!(self, Self::Cantonbft),
            _ => false,
        }
    }
}

/// A dump by `pg_dump`: over a connection of its own, or inside the server's container (`exec`).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgDump {
    /// Where the database is, as libpq reads it, without a password. Left out: the container's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<DatabaseUrl>,
    /// Allows a connection beyond this machine that is weaker than `sslmode=verify-full`.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Credentials made for this dump, in place of `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// The `pg_dump` to run, with `psql` beside it; by default the newest one of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<PathBuf>,
    /// The command that runs another inside the server's container: `[docker, exec, -i, CONTAINER]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// Asks the participant for its database's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseName>,
}

/// Credentials made for one dump: exactly one kind.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(extend("examples" = [{"vault": {"store": "vault", "path": "database/creds/idkeep-backup"}}]))]
pub enum Credentials {
    /// By the database engine of a Vault store's server.
    Vault {
        /// The store whose server and login are used.
        store: Name,
        /// The path to read: `database/creds/ROLE`.
        #[schemars(extend("examples" = ["database/creds/idkeep-backup"]))]
        path: String,
    },
}

/// Where the participant's database is named.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseName {
    /// The variable that holds the name.
    #[schemars(extend("format" = "variable", "pattern" = "^[A-Za-z_][A-Za-z0-9_]*$", "examples" = ["CANTON_PARTICIPANT_POSTGRES_DB"]))]
    pub env: String,
    /// The command that runs another inside the participant's container.
    pub exec: Vec<String>,
}

/// Which sets are kept, beside those that must not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The newest sets, this many.
    #[serde(default = "forty_two")]
    #[schemars(range(min = 1))]
    pub keep_last: u32,
    /// The newest set of each of the last days (UTC) that have one, this many.
    #[serde(default = "thirty")]
    pub keep_daily: u32,
    /// The newest set of each of the last weeks (UTC, from Monday) that have one, this many.
    #[serde(default = "twelve")]
    pub keep_weekly: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_last: forty_two(), keep_daily: thirty(), keep_weekly: twelve() }
    }
}

const fn forty_two() -> u32 {
    42
}

const fn thirty() -> u32 {
    30
}

const fn twelve() -> u32 {
    12
}
