//! A lease: credentials that are kept alive beside everything else, from before the first dump to after the last.
//!
//! They are asked for by a task of their own: who stops waiting for the answer does not lose what it brings.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::postgres::Login;
use super::postgres::credentials::{Credentials, Error};
use crate::retry::Deadline;
use crate::store::vault::Vault;

/// Credentials in use, with the task that asks for them and renews them.
pub(super) struct Lease {
    path: String,
    state: Rc<State>,
    login: RefCell<Option<oneshot::Receiver<Result<Login, Error>>>>,
    keeping: RefCell<Option<JoinHandle<Option<Credentials>>>>,
}

#[derive(Default)]
struct State {
    is_over: Notify,
    is_broken: Notify,
    error: RefCell<Option<Error>>,
}

impl Lease {
    /// Borrows credentials, and keeps them from then on. Needs a `LocalSet` around it.
    pub(super) fn take(vault: Rc<Vault>, path: &str, last: Option<Duration>, deadline: Deadline) -> Self {
        let state = Rc::<State>::default();
        let (giving, login) = oneshot::channel();
        let keeping = tokio::task::spawn_local(keep(vault, path.to_owned(), last, deadline, giving, Rc::clone(&state)));
        Self { path: path.to_owned(), state, login: RefCell::new(Some(login)), keeping: RefCell::new(Some(keeping)) }
    }

    /// The credentials, once they are there; to be asked for once.
    pub(super) async fn login(&self) -> Result<Login, Error> {
        let login = self.login.borrow_mut().take();
        let ended = || Error::Ended { path: self.path.clone() };
        match login {
            Some(login) => login.await.unwrap_or_else(|_| Err(ended())),
            None => Err(ended()),
        }
    }

    /// Returns when the credentials could not be kept.
    pub(super) async fn broken(&self) -> Option<Error> {
        self.state.is_broken.notified().await;
        self.state.error.borrow_mut().take()
    }

    /// Has them revoked, also where they are still on their way.
    pub(super) async fn revoke(&self) {
        self.state.is_over.notify_one();
        let keeping = self.keeping.borrow_mut().take();
        if let Some(keeping) = keeping
            && let Ok(Some(credentials)) = keeping.await
        {
            credentials.give_back().await;
        }
    }
}

impl Drop for Lease {
    /// Whoever forgets to revoke them, as in a panic, does not keep them alive for ever.
    fn drop(&mut self) {
        self.state.is_over.notify_one();
    }
}

async fn keep(
    vault: Rc<Vault>,
    path: String,
    last: Option<Duration>,
    deadline: Deadline,
    giving: oneshot::Sender<Result<Login, Error>>,
    state: Rc<State>,
) -> Option<Credentials> {
    let mut credentials = match Credentials::borrow(vault, &path, last, deadline).await {
        Ok((credentials, login)) => {
            // Nobody may be there any more to hear it.
            let _ = giving.send(Ok(login));
            credentials
        }
        Err(error) => {
            let _ = giving.send(Err(error));
            return None;
        }
    };
    tokio::select! {
        error = credentials.keep() => {
            *state.error.borrow_mut() = Some(error);
            state.is_broken.notify_one();
        }
        () = state.is_over.notified() => {}
    }
    Some(credentials)
}
