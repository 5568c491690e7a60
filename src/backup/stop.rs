//! The wish to end: what a signal sets, and what every wait of a run listens to.

use std::rc::Rc;

use tokio::sync::SetOnce;

use super::Error;
use crate::sync::told_to_end;

/// Set once, by the first SIGTERM or SIGINT.
#[derive(Debug, Clone, Default)]
pub struct Stop(Rc<SetOnce<()>>);

impl Stop {
    /// Listens from now on. Needs a `LocalSet` around it.
    #[must_use]
    pub fn on_signals() -> Self {
        let stop = Self::default();
        let set = stop.clone();
        tokio::task::spawn_local(async move {
            told_to_end().await;
            tracing::warn!("told to end: giving up what is under way");
            let _ = set.0.set(());
        });
        stop
    }

    /// Returns once somebody wants the run to end.
    pub async fn told(&self) {
        self.0.wait().await;
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
