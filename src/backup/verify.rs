//! Verification: what was found of a set, judged check by check. Pure; [`super::examine`] does the reading.

mod checks;
pub mod contents;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::set::SetId;
pub use checks::{Belongs, Beside, Found, Neighbours, Previous, Signature, judge, object};

/// The name of this form of record.
pub const SCHEMA: &str = "idkeep/verification/v1";

/// One check of a set, or of one of its dumps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name: `order`, `I1`, `object:participant`.
    pub check: String,
    /// How it went.
    pub result: Grade,
    /// What was seen.
    pub reason: String,
    /// What evidence would resolve an `unknown`, or what to do about a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<String>,
}

/// How a check went; the last is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Pass,
    /// Usable, but somebody should know.
    Warn,
    /// Not decided by what is there.
    Unknown,
    /// Not as it should be.
    Fail,
}

impl Grade {
    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        }
    }
}

impl Check {
    fn new(check: impl Into<String>, result: Grade, reason: impl Into<String>) -> Self {
        Self { check: check.into(), result, reason: reason.into(), resolve: None }
    }

    fn pass(check: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, Grade::Pass, reason)
    }

    fn warn(check: impl Into<String>, reason: impl Into<String>, resolve: &str) -> Self {
        Self { resolve: Some(resolve.into()), ..Self::new(check, Grade::Warn, reason) }
    }

    fn unknown(check: impl Into<String>, reason: impl Into<String>, resolve: impl Into<String>) -> Self {
        Self { resolve: Some(resolve.into()), ..Self::new(check, Grade::Unknown, reason) }
    }

    pub(super) fn fail(check: impl Into<String>, reason: impl Into<String>, resolve: &str) -> Self {
        Self { resolve: Some(resolve.into()), ..Self::new(check, Grade::Fail, reason) }
    }
}

/// All checks of one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetReport {
    /// The node's name.
    pub node: String,
    /// The set.
    pub set: SetId,
    /// The worst result.
    pub result: Grade,
    /// Every check.
    pub checks: Vec<Check>,
}

impl SetReport {
    /// The report of these checks.
    #[must_use]
    pub fn of(node: &str, set: SetId, checks: Vec<Check>) -> Self {
        let result = checks.iter().map(|check| check.result).max().unwrap_or(Grade::Unknown);
        Self { node: node.to_owned(), set, result, checks }
    }

    /// The checks that went so.
    pub fn with(&self, grade: Grade) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.result == grade)
    }
}

/// `verify-<time>.json`: the record of a verification, beside the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// The node's name.
    pub node: String,
    /// The set.
    pub set: SetId,
    /// When it was verified.
    pub verified_at: Timestamp,
    /// Hex SHA-256 of the manifest that was verified.
    pub manifest_sha256: String,
    /// The worst result.
    pub result: Grade,
    /// Whether a key looked inside.
    pub with_key: bool,
    /// Every check.
    pub checks: Vec<Check>,
}

impl Record {
    /// The name of a file for that second; sorts by time.
    #[must_use]
    pub fn file(at: SetId) -> String {
        format!("verify-{at}.json")
    }

    /// The record that a file of this name holds, if it is one about this very manifest. One under another time than
    /// its own is none: an older one that is copied would have the last word.
    #[must_use]
    pub fn about(bytes: &[u8], file: &str, node: &str, set: SetId, manifest_sha256: &str) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        let is_in_place = record.node == node && record.set == set && record.manifest_sha256 == manifest_sha256;
        let is_in_time = Self::file(SetId::at(record.verified_at)) == file;
        (record.schema == SCHEMA && is_in_place && is_in_time).then_some(record)
    }

    /// When the manifest was found to be without a failure; `None` where it was not.
    #[must_use]
    pub fn passed_at(&self) -> Option<Timestamp> {
        (self.result != Grade::Fail).then_some(self.verified_at)
    }
}
