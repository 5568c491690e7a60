//! The manifest: what a set is made of, and the evidence that it is ordered and consistent. It holds no secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::set::SetId;
use crate::config::Role;

/// The name of this form of manifest.
pub const SCHEMA: &str = "idkeep/backup-set/v1";

/// A set's manifest: `manifest.json`, or `rejected.json` of a set that is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The node's name.
    pub node: String,
    /// The set's id.
    pub set: SetId,
    /// The node's network, where it is configured.
    pub network: Option<String>,
    /// Whose databases, as the participant's says (`PAR::…`).
    pub participant_id: Option<String>,
    /// The idkeep that took it.
    pub idkeep_version: String,
    /// The validator app's version when the set was begun.
    pub splice_version: Option<String>,
    /// What was seen of the app that a set should not hide: not ready, another version at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The set before this one.
    pub previous: Option<Previous>,
    /// The databases in the order in which they were dumped.
    pub databases: Vec<Dump>,
    /// Which database came before which, and had to.
    pub order: Vec<Edge>,
    /// What the data itself says about the set's consistency, by name (`I1` to `I4`).
    pub invariants: BTreeMap<String, Invariant>,
}

/// The set before this one, tied by its manifest's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its id.
    pub set: SetId,
    /// Hex SHA-256 of its `manifest.json` as stored.
    pub sha256: String,
}

/// One pair of the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// The database that had to be complete.
    pub before: String,
    /// The one that was begun after it.
    pub after: String,
}

/// One dump of the set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    /// Its name in the configuration.
    pub name: String,
    /// What is in it.
    pub role: Role,
    /// The database's own name.
    pub database: String,
    /// `pg_dump`.
    pub driver: String,
    /// The server's version as it says it (`15.18`).
    pub server_version: String,
    /// The client's version (`15.18`).
    pub pg_dump_version: String,
    /// True where the server is a standby.
    pub standby: bool,
    /// When the database's turn began.
    #[serde(with = "micros")]
    pub started_at: Timestamp,
    /// When its snapshot was taken.
    #[serde(with = "micros")]
    pub snapshot_at: Timestamp,
    /// When its dump was durable in the repository.
    #[serde(with = "micros::option")]
    pub completed_at: Option<Timestamp>,
    /// The cluster's system identifier, in decimal.
    pub system_identifier: String,
    /// The cluster's timeline.
    pub timeline: u32,
    /// The position in the write-ahead log at the snapshot (`0/1A2B3C4D`).
    pub wal_lsn: String,
    /// What the data says about itself in that snapshot; absent for roles that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Offsets>,
    /// The object in the set's folder.
    pub file: String,
    /// Its size as stored.
    pub bytes: u64,
    /// Hex SHA-256 of the stored bytes.
    pub sha256: String,
    /// What `pg_dump` wrote, in bytes.
    pub plain_bytes: u64,
    /// Whom it is sealed to; empty where it is not sealed.
    pub recipients: Vec<String>,
}

/// What a database's data says about how far it is. Numbers are ledger offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Offsets {
    /// Of a validator app.
    Validator {
        /// The highest offset of the newest migration's stores.
        validator_last_ingested: Option<i64>,
        /// The newest migration.
        migration_id: Option<i64>,
    },
    /// Of a participant.
    Participant {
        /// The ledger's end.
        ledger_end: Option<i64>,
        /// Up to where it has been pruned.
        pruned_up_to: Option<i64>,
    },
}

/// What the data says about one condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// Whether it holds.
    pub result: Outcome,
    /// The numbers or names that say so, and for `unknown` what would tell.
    pub reason: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// The data does not tell.
    Unknown,
}

/// Times as RFC 3339 in UTC with six digits of fraction.
pub mod micros {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// The instant as text.
    #[must_use]
    pub fn text(at: Timestamp) -> String {
        format!("{at:.6}")
    }

    /// See [`text`].
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    /// Any RFC 3339 instant.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| D::Error::custom("not a time"))
    }

    /// The same for a time that may be missing.
    pub mod option {
        use jiff::Timestamp;
        use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

        /// See [`super::text`].
        #[expect(clippy::ref_option, reason = "serde's signature")]
        pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// See [`super::deserialize`].
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(|_| D::Error::custom("not a time"))).transpose()
        }
    }
}
