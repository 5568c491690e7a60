//! Retries with full jitter, under the deadline of the whole pass.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Failure, Fault, chain};

const BASE: Duration = Duration::from_millis(200);
const SLOW_BASE: Duration = Duration::from_secs(2);
const CAP: Duration = Duration::from_secs(10);
/// Time that a try must have at the least.
const LAST_TRY: Duration = Duration::from_millis(500);

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
        let asked = error.retry_after().unwrap_or_default();
        let wait = wait(tries, error.is_slow(), fastrand::f64(), asked, deadline.remaining());
        let Some(wait) = wait.filter(|_| error.fault() == Fault::Transient) else {
            return Err(error);
        };
        tries += 1;
        let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(what, tries, delay_ms, error = chain(&error), "trying again");
        tokio::time::sleep(wait).await;
    }
}

/// Full jitter: `draw` (0 to 1) of a ceiling that doubles; nothing where no try fits in after it.
fn wait(tries: u32, is_slow: bool, draw: f64, asked: Duration, remaining: Duration) -> Option<Duration> {
    let base = if is_slow { SLOW_BASE } else { BASE };
    let ceiling = base.saturating_mul(1 << tries.min(10)).min(CAP);
    // A floor, so that a burst of small draws does not hammer a server that is starting.
    let floor = asked.max(base / 4);
    // The deadline is used up: the last try starts just before it.
    let latest = remaining.checked_sub(LAST_TRY).filter(|latest| *latest >= floor)?;
    Some(ceiling.mul_f64(draw).clamp(floor, latest))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);
    const NOTHING: Duration = Duration::ZERO;

    #[derive(Debug, thiserror::Error)]
    #[error("trouble")]
    struct Trouble {
        fault: Fault,
        retry_after: Option<Duration>,
    }

    impl Trouble {
        const BUSY: Self = Self { fault: Fault::Transient, retry_after: None };

        fn asking(wait: Duration) -> Self {
            Self { retry_after: Some(wait), ..Self::BUSY }
        }
    }

    impl Failure for Trouble {
        fn fault(&self) -> Fault {
            self.fault
        }

        fn retry_after(&self) -> Option<Duration> {
            self.retry_after
        }
    }

    /// Each try ends at once with what `answer` gives; tells how many there were, how long all took, and the end.
    async fn tries(deadline: Duration, answer: impl Fn(u32) -> Result<(), Trouble>) -> (u32, Duration, bool) {
        let started = Instant::now();
        let tries = Cell::new(0);
        let result = retry(Deadline::after(deadline), "a test", async || {
            tries.set(tries.get() + 1);
            answer(tries.get())
        });
        let is_ok = result.await.is_ok();
        (tries.get(), started.elapsed(), is_ok)
    }

    #[test]
    fn a_wait_is_drawn_from_all_of_a_ceiling_that_doubles_up_to_a_cap() {
        let ceilings = [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        for (tries, ceiling) in (0..).zip(ceilings) {
            let wait = |draw| wait(tries, false, draw, NOTHING, LONG).unwrap();
            assert_eq!(wait(0.0), Duration::from_millis(50));
            assert_eq!(wait(0.5), Duration::from_millis(ceiling / 2));
            assert_eq!(wait(1.0), Duration::from_millis(ceiling));
        }
        assert_eq!(wait(u32::MAX, false, 1.0, NOTHING, LONG), Some(CAP));
    }

    #[test]
    fn what_recovers_slowly_is_left_alone_for_longer() {
        assert_eq!(wait(0, true, 0.0, NOTHING, LONG), Some(Duration::from_millis(500)));
        assert_eq!(wait(0, true, 1.0, NOTHING, LONG), Some(Duration::from_secs(2)));
        assert_eq!(wait(9, true, 1.0, NOTHING, LONG), Some(CAP));
    }

    #[test]
    fn a_wait_that_is_asked_for_is_never_shortened() {
        let asked = Duration::from_secs(30);
        for draw in [0.0, 1.0] {
            assert_eq!(wait(0, false, draw, asked, LONG), Some(asked));
            assert_eq!(wait(0, false, draw, asked, asked + LAST_TRY), Some(asked));
            assert_eq!(wait(0, false, draw, asked, asked), None);
        }
        assert_eq!(wait(0, false, 0.0, Duration::MAX, LONG), None);
    }

    #[test]
    fn a_wait_of_our_own_is_shortened_so_that_a_last_try_fits_in() {
        let latest = Duration::from_secs(3);
        assert_eq!(wait(10, false, 1.0, NOTHING, latest + LAST_TRY), Some(latest));
        assert_eq!(wait(0, false, 1.0, NOTHING, LAST_TRY), None);
        assert_eq!(wait(0, false, 1.0, NOTHING, NOTHING), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_used_up_and_never_passed() {
        for deadline in [1, 2, 10, 60] {
            let deadline = Duration::from_secs(deadline);
            let (tries, took, is_ok) = tries(deadline, |_| Err(Trouble::BUSY)).await;
            assert!(!is_ok && tries > 1 && took <= deadline && took + LAST_TRY * 2 >= deadline, "{tries} in {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_first_success() {
        let result = tries(LONG, |number| if number == 3 { Ok(()) } else { Err(Trouble::BUSY) }).await;
        assert!(matches!(result, (3, _, true)), "{result:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_does_not_help_is_tried_once() {
        for fault in [Fault::Identity, Fault::Credentials, Fault::Config, Fault::Usage, Fault::Bug] {
            let result = tries(LONG, |_| Err(Trouble { fault, retry_after: Some(NOTHING) })).await;
            assert_eq!(result, (1, NOTHING, false));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_asked_for_is_kept_but_never_past_the_deadline() {
        let asked = Duration::from_secs(7);
        let answer = |number| if number == 2 { Ok(()) } else { Err(Trouble::asking(asked)) };
        // tokio's timer counts in milliseconds, rounded up.
        let (number, took, is_ok) = tries(LONG, answer).await;
        assert!(number == 2 && is_ok && took >= asked && took < asked + Duration::from_millis(5), "{took:?}");
        assert_eq!(tries(asked, answer).await, (1, NOTHING, false));
    }
}
