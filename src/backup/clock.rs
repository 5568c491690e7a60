//! The clock of one run: the wall clock at its start, and from there on only time that has passed.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// One monotonic base per run: a clock that is stepped in between cannot reorder what the run did.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    at: Timestamp,
    base: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { at: Timestamp::now(), base: Instant::now() }
    }

    /// Now, never before what it said earlier.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.base.elapsed()).unwrap_or(SignedDuration::MAX);
        self.at.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}
