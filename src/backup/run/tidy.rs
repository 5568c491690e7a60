//! How a run leaves things: nothing stored that counts for nothing, the lock and borrowed credentials given back, and
//! all of it in time where it was told to end.

use futures_util::future;

use super::Run;
use crate::backup::Error;
use crate::backup::repository::{Lock, clear_leftovers};
use crate::backup::stop::Until;

impl Run<'_> {
    /// Tidies up after a run that ended with this failure, or with none.
    pub(super) async fn tidy(&self, lock: Lock, error: Option<&Error>) {
        let node = self.name.as_str();
        let repository = async {
            // What this run has left behind is gone before anybody else may look; what another one took over is theirs.
            if self.is_uncertain.get() {
                tracing::warn!(node, "it is not known whether the set is published: all of it stays");
            } else if error.is_some_and(|error| !matches!(error, Error::LockLost))
                && self.stop.within(Until::Cleared, self.clear(&lock)).await.is_none()
            {
                tracing::warn!(node, "what was begun stays for the next run to remove");
            }
            lock.release().await;
        };
        // Two servers, of which neither waits for the other.
        let both =
            future::join(self.stop.within(Until::Tidied, repository), self.stop.within(Until::Tidied, self.revoke()));
        let (released, revoked) = both.await;
        if released.is_none() {
            tracing::warn!(node, "the lock is not given back, and free when it expires");
        }
        if revoked.is_none() {
            tracing::warn!(
                node,
                "credentials that were made for this run are not revoked, and live until they run out"
            );
        }
    }

    pub(super) async fn clear(&self, lock: &Lock) {
        let node = self.name.as_str();
        match clear_leftovers(&self.repository, node, lock).await {
            Ok(sets) => {
                for set in sets {
                    let set = set.to_string();
                    tracing::info!(node, set, "removed what a run had left that did not end");
                }
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(node, error, "leftovers could not be removed");
            }
        }
    }

    async fn revoke(&self) {
        let leases = self.leases.take();
        future::join_all(leases.iter().map(|lease| lease.revoke())).await;
    }
}
