//! The id of a backup set: its start, in UTC, to the second.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// `20261122T220000Z`: the folder of a set, and its start. Sets sort by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetId(Timestamp);

impl SetId {
    /// The id of a set that starts now: fractions of a second are dropped.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// The next one, a second later.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(SignedDuration::from_secs(1)).unwrap_or(self.0))
    }

    /// When the set started.
    #[must_use]
    pub const fn started_at(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime(FORMAT))
    }
}

impl FromStr for SetId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = civil::DateTime::strptime(FORMAT, text).and_then(|at| TimeZone::UTC.to_timestamp(at));
        let id = parsed.map(Self);
        // Only what we would have written so is ours.
        id.ok().filter(|id| id.to_string() == text).ok_or_else(|| "a set's id reads `20261122T220000Z`".into())
    }
}

impl TryFrom<String> for SetId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SetId> for String {
    fn from(id: SetId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written_and_nothing_else_does() {
        let id: SetId = "20261122T220000Z".parse().unwrap();
        assert_eq!(id.to_string(), "20261122T220000Z");
        assert_eq!(id.started_at().to_string(), "2026-11-22T22:00:00Z");
        assert_eq!(id.next().to_string(), "20261122T220001Z");
        for text in
            ["", "2026-11-22T22:00:00Z", "20261122T220000", "20261322T220000Z", "020261122T220000Z", "node.json"]
        {
            assert!(text.parse::<SetId>().is_err(), "{text}");
        }
    }
}
