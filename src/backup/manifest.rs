//! The manifest: what a set is made of, and the evidence that it is ordered and consistent. It holds no secret.

pub mod micros;
mod order;
mod read;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::set::SetId;
use crate::config::Role;

/// The name of this form of manifest.
pub const SCHEMA: &str = "idkeep/backup-set/v1";

/// The largest manifest that is read.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Why something is not a manifest, or not one of an ordered set. Names are quoted, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_BYTES`].
    #[error("a manifest is not larger than 1 MiB")]
    TooLarge,
    /// Not JSON, or not of this form.
    #[error("not a manifest: line {line}, column {column}")]
    Syntax { line: usize, column: usize },
    /// Another form than ours.
    #[error("not of the form `{SCHEMA}`")]
    Schema,
    /// A text that is not what its field holds.
    #[error("`{0}` is not what it should be")]
    Field(&'static str),
    /// No databases.
    #[error("a set without databases")]
    Empty,
    /// Two dumps share a name or a file.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// The order names a database that is not there, or one before itself.
    #[error("the order says `{before}` before `{after}`, which cannot be")]
    Edge { before: String, after: String },
    /// A dump whose own times are not in order.
    #[error("`{0}`: begun, snapshot and completion are not in this order")]
    Times(String),
    /// A dump that is not durable.
    #[error("`{0}` was never completed")]
    Unfinished(String),
    /// A dump that was begun too early.
    #[error("`{after}` was begun before `{before}` was complete")]
    Early { before: String, after: String },
}

/// A set's manifest: `manifest.json`, or `rejected.json` of a set that is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// `idkeep/backup-set/v1`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The node's name.
    #[schemars(extend("pattern" = "^[a-z0-9-]{1,63}$"))]
    pub node: String,
    /// The set's id: its start.
    #[schemars(with = "String", extend("pattern" = "^[0-9]{8}T[0-9]{6}Z$"))]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Previous {
    /// Its id.
    #[schemars(with = "String", extend("pattern" = "^[0-9]{8}T[0-9]{6}Z$"))]
    pub set: SetId,
    /// Hex SHA-256 of its `manifest.json` as stored.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// One pair of the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// The database that had to be complete.
    pub before: String,
    /// The one that was begun after it.
    pub after: String,
}

/// One dump of the set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dump {
    /// Its name in the configuration.
    #[schemars(extend("pattern" = "^[a-z0-9-]{1,63}$"))]
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
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: Timestamp,
    /// When its snapshot was taken.
    #[serde(with = "micros")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub snapshot_at: Timestamp,
    /// When its dump was durable in the repository.
    #[serde(with = "micros::option")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
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
    #[schemars(extend("pattern" = "^[a-z0-9-]{1,63}\\.[a-z0-9.]{1,63}$"))]
    pub file: String,
    /// Its size as stored.
    pub bytes: u64,
    /// Hex SHA-256 of the stored bytes.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// What `pg_dump` wrote, in bytes.
    pub plain_bytes: u64,
    /// Whom it is sealed to; empty where it is not sealed.
    pub recipients: Vec<String>,
}

/// What a database's data says about how far it is. Numbers are ledger offsets; each may be null but has to be there,
/// or one kind could pass for the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Offsets {
    /// Of a validator app.
    Validator {
        /// The highest offset of the newest migration's stores.
        #[serde(deserialize_with = "nullable")]
        validator_last_ingested: Option<i64>,
        /// The newest migration.
        #[serde(deserialize_with = "nullable")]
        migration_id: Option<i64>,
    },
    /// Of a participant.
    Participant {
        /// The ledger's end.
        #[serde(deserialize_with = "nullable")]
        ledger_end: Option<i64>,
        /// Up to where it has been pruned.
        #[serde(deserialize_with = "nullable")]
        pruned_up_to: Option<i64>,
    },
}

/// What the data says about one condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invariant {
    /// Whether it holds.
    pub result: Outcome,
    /// The numbers or names that say so, and for `unknown` what would tell.
    pub reason: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// The data does not tell.
    Unknown,
}

impl Outcome {
    /// The word that manifests and reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

impl Manifest {
    /// As it is stored: JSON for people, with a newline at its end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers alone: there is nothing that JSON could not hold.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// The JSON Schema of a manifest as it is written.
#[must_use]
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Manifest>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".into(), "https://idkeep.dev/schema/backup-set/v1".into());
        object.insert("title".into(), "idkeep backup set".into());
    }
    schema
}

/// `null` or a number, but not nothing.
fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Option::deserialize(deserializer)
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A manifest whose databases are still to come.
    pub(in super::super) fn manifest() -> Manifest {
        Manifest {
            schema: SCHEMA.into(),
            node: "validator-1".into(),
            set: "20261122T220000Z".parse().unwrap(),
            network: Some("mainnet".into()),
            participant_id: Some(format!("PAR::acme::1220{}", "ab".repeat(32))),
            idkeep_version: "0.1.0".into(),
            splice_version: Some("0.7.5".into()),
            remarks: Vec::new(),
            previous: Some(Previous { set: "20261122T190000Z".parse().unwrap(), sha256: "0f".repeat(32) }),
            databases: Vec::new(),
            order: vec![Edge { before: "validator".into(), after: "participant".into() }],
            invariants: ["I1", "I2", "I3", "I4"]
                .map(|name| (name.into(), Invariant { result: Outcome::Pass, reason: "as it should be".into() }))
                .into(),
        }
    }

    /// A dump as it is when its time has come; the participant's is a minute after the others'.
    pub(in super::super) fn dump(name: &str, role: Role) -> Dump {
        let minute = if role == Role::Participant { 2 } else { 1 };
        let time = |second: u32| at(&format!("2026-11-22T22:{minute:02}:{second:02}.000001Z"));
        Dump {
            name: name.into(),
            role,
            database: name.into(),
            driver: "pg_dump".into(),
            server_version: "15.18".into(),
            pg_dump_version: "15.18".into(),
            standby: false,
            started_at: time(0),
            snapshot_at: time(1),
            completed_at: Some(time(30)),
            system_identifier: "7580000000000000001".into(),
            timeline: 1,
            wal_lsn: "0/1A2B3C4D".into(),
            offsets: match role {
                Role::Validator => {
                    Some(Offsets::Validator { validator_last_ingested: Some(66), migration_id: Some(4) })
                }
                Role::Participant => Some(Offsets::Participant { ledger_end: Some(70), pruned_up_to: None }),
                _ => None,
            },
            file: format!("{name}.dump.zst.age"),
            bytes: 1234,
            sha256: "ab".repeat(32),
            plain_bytes: 5678,
            recipients: vec!["age1leh563e45d9hha0ug776am2wr983wh8ymxmxdn7uxj229w9085us4w482h".into()],
        }
    }

    #[test]
    fn times_have_six_digits_and_numbers_are_numbers() {
        let mut set = manifest();
        set.databases = vec![dump("validator", Role::Validator), dump("participant", Role::Participant)];
        let json: serde_json::Value = serde_json::from_slice(&set.to_bytes()).unwrap();
        assert_eq!(json["databases"][0]["snapshot_at"], "2026-11-22T22:01:01.000001Z");
        assert_eq!(json["databases"][0]["offsets"]["validator_last_ingested"], 66);
        assert_eq!(json["databases"][1]["offsets"], serde_json::json!({"ledger_end": 70, "pruned_up_to": null}));
        assert_eq!(json["databases"][1]["system_identifier"], "7580000000000000001");
        assert!(set.to_bytes().ends_with(b"}\n"));
    }

    #[test]
    fn the_published_schema_is_that_of_the_type() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifest.schema.json");
        let published: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(published, schema(), "write this to docs/manifest.schema.json:\n{:#}", schema());
    }
}
