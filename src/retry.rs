//! Retries with full jitter, under the deadline of the whole pass.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Failure, Fault, chain};

const BASE: Duration = Duration::from_millis(200);
const SLOW_BASE: Duration = Duration::from_secs(2);
const CAP: Duration = Duration::from_secs(10);

/// The instant after which a pass does not start anything new.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline this far from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        // A configured span may be centuries: far enough is as good.
        Self(Instant::now() + span.min(Duration::from_hours(365 * 24)))
    }

    /// What is left of it.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Runs `attempt` until it succeeds, fails for good, or the deadline leaves no room for another try.
///
/// A wait that the other side asks for (`Retry-After`) is kept; one that outlasts the deadline ends the retries at once.
pub async fn retry<T, E: Failure>(
    deadline: Deadline,
    what: &'static str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut tries = 0;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let wait = wait(tries, &error);
        if error.fault() != Fault::Transient || wait >= deadline.remaining() {
            return Err(error);
        }
        tries += 1;
        let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(what, tries, delay_ms, error = chain(&error), "trying again");
        tokio::time::sleep(wait).await;
    }
}

/// Full jitter: anything up to a ceiling that doubles.
fn wait(tries: u32, error: &impl Failure) -> Duration {
    let base = if error.is_slow() { SLOW_BASE } else { BASE };
    let ceiling = base.saturating_mul(1 << tries.min(10)).min(CAP);
    let jitter = ceiling.mul_f64(fastrand::f64());
    // A floor, so that a burst of small draws does not hammer a server that is starting.
    let backoff = jitter.max(base / 4);
    backoff.max(error.retry_after().unwrap_or_default())
}
