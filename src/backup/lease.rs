//! A lease: credentials that are kept alive beside everything else, from before the first dump to after the last.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::postgres::Login;
use super::postgres::credentials::{Credentials, Error};
use crate::retry::Deadline;
use crate::store::vault::Vault;

/// Credentials in use, with the task that renews them.
pub(super) struct Lease {
    state: Rc<State>,
    keeping: JoinHandle<Credentials>,
}

#[derive(Default)]
struct State {
    is_over: Notify,
    is_broken: Notify,
    error: RefCell<Option<Error>>,
}

impl Lease {
    /// Borrows credentials, and keeps them from now on. Needs a `LocalSet` around it.
    pub(super) async fn take(
        vault: Rc<Vault>,
        path: &str,
        last: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(Self, Login), Error> {
        let (mut credentials, login) = Credentials::borrow(vault, path, last, deadline).await?;
        let state = Rc::<State>::default();
        let shared = Rc::clone(&state);
        let keeping = tokio::task::spawn_local(async move {
            tokio::select! {
                error = credentials.keep() => {
                    *shared.error.borrow_mut() = Some(error);
                    shared.is_broken.notify_one();
                }
                () = shared.is_over.notified() => {}
            }
            credentials
        });
        Ok((Self { state, keeping }, login))
    }

    /// Returns when the credentials could not be kept.
    pub(super) async fn broken(&self) -> Option<Error> {
        self.state.is_broken.notified().await;
        self.state.error.borrow_mut().take()
    }

    /// Has them revoked.
    pub(super) async fn revoke(self) {
        self.state.is_over.notify_one();
        if let Ok(credentials) = self.keeping.await {
            credentials.give_back().await;
        }
    }
}
