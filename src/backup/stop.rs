//! The wish to end: what a signal sets, and what every wait of a run listens to.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep_until};

use super::Error;
use crate::sync::told_to_end;

/// What tidying up may take once a run was told to end: whoever told it kills it after 30 s.
const GRACE: Duration = Duration::from_secs(20);

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
            let _ = set.0.set(Instant::now());
        });
        stop
    }

    /// Returns once somebody wants the run to end.
    pub async fn told(&self) {
        self.0.wait().await;
    }

    /// Returns once the run was told to end and has had its time to tidy up.
    pub async fn grace_is_over(&self) {
        let told_at = *self.0.wait().await;
        sleep_until(told_at + GRACE).await;
    }

    /// The work's result, unless the run is told to end before. What is dropped then must need no more than that.
    pub async fn or<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        tokio::select! {
            result = work => Ok(result?),
            () = self.told() => Err(Error::Interrupted),
        }
    }
}
