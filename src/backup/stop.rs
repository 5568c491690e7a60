//! The wish to end: what a signal sets, and what every wait of a run listens to.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep_until};

use super::Error;
use crate::sync::told_to_end;

/// How long after it was told to end a run may still do what: whoever told it kills it after 25 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// What one dump has begun is gone, here and at the server.
    DumpEnded,
    /// What was all but whole is whole, or is given up.
    RunEnded,
    /// What the repository has of it is gone.
    Cleared,
    /// The lock and borrowed credentials are given back.
    Tidied,
    /// Logins are given back.
    Left,
}

impl Until {
    const fn after(self) -> Duration {
        Duration::from_secs(match self {
            Self::DumpEnded => 7,
            Self::RunEnded => 10,
            Self::Cleared => 14,
            Self::Tidied => 17,
            Self::Left => 20,
        })
    }
}

/// Set once, by the first SIGTERM or SIGINT.
#[derive(Debug, Clone, Default)]
pub struct Stop(Rc<SetOnce<Instant>>);

impl Stop {
    /// Listens from now on. Needs a `LocalSet` around it.
    #[must_use]
    pub fn on_signals() -> Self {
        let stop = Self::default();
        let set = stop.clone();
        tokio::task::spawn_local(async move {
            told_to_end().await;
            tracing::warn!("told to end: giving up what is under way");
            set.tell();
        });
        stop
    }

    /// True once somebody wants the run to end.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.0.initialized()
    }

    /// Wishes it.
    pub fn tell(&self) {
        let _ = self.0.set(Instant::now());
    }

    /// Returns once somebody wants the run to end.
    pub async fn told(&self) {
        self.0.wait().await;
    }

    /// Does this to its end, unless the run was told to end and its time for it is over: then nothing.
    pub async fn within<T>(&self, until: Until, work: impl Future<Output = T>) -> Option<T> {
        let is_over = async {
            let told_at = *self.0.wait().await;
            sleep_until(told_at + until.after()).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = is_over => None,
        }
    }

    /// The work's result, unless the run is told to end before. What is dropped then must need no more than that.
    pub async fn or<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        tokio::select! {
            // Nothing is begun after that.
            biased;
            () = self.told() => Err(Error::Interrupted),
            result = work => Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Stop {
        let stop = Stop::default();
        stop.0.set(Instant::now()).unwrap();
        stop
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_has_its_own_end_and_all_are_over_in_time() {
        let (stop, at) = (told(), Instant::now());
        let steps = [Until::DumpEnded, Until::RunEnded, Until::Cleared, Until::Tidied, Until::Left];
        for until in steps {
            assert_eq!(stop.within(until, std::future::pending::<()>()).await, None);
            assert!(
                at.elapsed() >= until.after() && at.elapsed() < until.after() + Duration::from_millis(5),
                "{until:?}"
            );
        }
        assert!(steps.is_sorted() && at.elapsed() < Duration::from_secs(25));
        assert_eq!(stop.within(Until::DumpEnded, async { 7 }).await, Some(7), "what is done is done");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_once_it_was_told_and_nothing_is_cut_short_before() {
        let begun = std::cell::Cell::new(false);
        let work = async {
            begun.set(true);
            Ok::<_, Error>(())
        };
        assert!(matches!(told().or(work).await, Err(Error::Interrupted)));
        assert!(!begun.get());
        let long = async { tokio::time::sleep(Duration::from_hours(1)).await };
        assert_eq!(Stop::default().within(Until::DumpEnded, long).await, Some(()));
    }
}
