//! Who holds a lock, as the lock's own file says it.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// No two holders have the same.
    holder: String,
    host: String,
    pid: u32,
    taken_at: Timestamp,
    /// Counts the signs of life, so that each changes the file.
    beat: u64,
    released: bool,
}

impl Record {
    /// Of this process, from now on.
    pub fn new() -> Self {
        // Not from `/proc`, of which a sandbox may show processes alone.
        let host = rustix::system::uname();
        Self {
            holder: format!("{:032x}", fastrand::u128(..)),
            host: plain(&host.nodename().to_string_lossy()),
            pid: std::process::id(),
            taken_at: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
            beat: 0,
            released: false,
        }
    }

    /// Nothing where it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The next sign of life.
    pub fn after(&self) -> Self {
        Self { beat: self.beat + 1, ..self.clone() }
    }

    pub fn released(&self) -> Self {
        Self { released: true, ..self.after() }
    }

    pub const fn is_released(&self) -> bool {
        self.released
    }

    /// Whether it is held by the same holder, however many signs of life ago.
    pub fn is_of(&self, other: &Self) -> bool {
        self.holder == other.holder && !self.released
    }
}

/// A host's name and nothing else: whoever may write the file does not write our messages.
fn plain(host: &str) -> String {
    host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).take(64).collect()
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}, since {}", self.pid, plain(&self.host), self.taken_at)
    }
}
