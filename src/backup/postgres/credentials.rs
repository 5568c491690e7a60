//! Credentials that Vault makes for one dump: kept alive while it runs, given back afterwards.

use std::rc::Rc;
use std::time::Duration;

use super::Login;
use crate::config::Period;
use crate::error::{Failure, Fault};
use crate::retry::Deadline;
use crate::store::vault::{self, Vault};

/// Time for one call about a lease.
const CALL: Duration = Duration::from_mins(1);

/// What calls and clocks may take of a life.
const SLACK: Duration = Duration::from_secs(5);

/// The shortest time between two renewals.
const SHORTEST: Duration = Duration::from_millis(200);

/// Credentials in use.
pub struct Credentials {
    vault: Rc<Vault>,
    path: String,
    lease: String,
    duration: Duration,
    is_renewable: bool,
}

/// Why there are no credentials, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server does not give them.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// They would end before the dump.
    #[error("credentials of `{path}` live for {} at most; twice the last run is {}", Period(*granted), Period(*needed))]
    ShortLease { path: String, granted: Duration, needed: Duration },
    /// The token would end before the dump, and they with it.
    #[error(
        "the token that holds the credentials of `{path}` lives for {} at most; twice the last run is {}",
        Period(*granted), Period(*needed)
    )]
    ShortToken { path: String, granted: Duration, needed: Duration },
    /// They could not be renewed while they were needed.
    #[error("the credentials of `{path}` ran out")]
    RanOut { path: String, source: vault::Error },
    /// They have come to the end of their life while they were needed.
    #[error("the credentials of `{path}` came to the end of their life")]
    Ended { path: String },
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Vault(error) => error.fault(),
            Self::ShortLease { .. } | Self::ShortToken { .. } => Fault::Config,
            Self::RanOut { .. } | Self::Ended { .. } => Fault::Transient,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Vault(error) => error.retry_after(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Vault(error) => return error.hint(),
            Self::ShortLease { .. } | Self::Ended { .. } => {
                "raise `max_ttl` of the database role, well beyond the longest dump".into()
            }
            Self::ShortToken { .. } => {
                "raise `token_max_ttl` of the role that idkeep logs in with, or give it a `token_period`".into()
            }
            Self::RanOut { source, .. } => return source.hint(),
        })
    }
}

impl Credentials {
    /// Asks for credentials, and makes sure that they can live for twice as long as the last run took.
    pub async fn borrow(
        vault: Rc<Vault>,
        path: &str,
        last_run: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(Self, Login), Error> {
        let needed = last_run.map(|last| last.saturating_mul(2));
        if let Some(needed) = needed
            && let Some(granted) = vault.token_life(needed, deadline).await?
            && granted + SLACK < needed
        {
            return Err(Error::ShortToken { path: path.to_owned(), granted, needed });
        }
        let lease = vault.lease(path, deadline).await?;
        let login = Login { user: lease.username, password: lease.password };
        let mut credentials = Self {
            vault,
            path: path.to_owned(),
            lease: lease.id,
            duration: lease.duration,
            is_renewable: lease.is_renewable,
        };
        match credentials.prolong(needed.unwrap_or_default(), deadline).await {
            Ok(()) => Ok((credentials, login)),
            Err(error) => {
                credentials.give_back().await;
                Err(error)
            }
        }
    }

    /// Renews whatever has to be, for as long as it is awaited: beside a dump. Returns only when that has failed.
    pub async fn keep(&mut self) -> Error {
        let mut ends_at = tokio::time::Instant::now() + self.duration;
        loop {
            let left = ends_at.saturating_duration_since(tokio::time::Instant::now());
            let lease_due = if self.is_renewable { left / 2 } else { left };
            let token_due = self.vault.token_due_in().await.map(|due| due + SHORTEST);
            tokio::time::sleep(token_due.unwrap_or(lease_due).min(lease_due).max(SHORTEST)).await;
            let left = ends_at.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Error::Ended { path: self.path.clone() };
            }
            let deadline = Deadline::after(left.min(CALL));
            let renewed = match self.vault.keep_token(deadline).await {
                Ok(()) if self.is_renewable => self.vault.renew_lease(&self.lease, self.duration, deadline).await,
                Ok(()) => continue,
                Err(error) => Err(error),
            };
            match renewed {
                Ok(granted) => ends_at = tokio::time::Instant::now() + granted,
                // A server that is away for a moment: there is time for another try.
                Err(source) if source.fault() != Fault::Credentials && left > CALL * 2 => {
                    let (path, error) = (self.path.as_str(), crate::error::chain(&source));
                    tracing::warn!(path, error, "the credentials could not be renewed yet");
                }
                Err(source) => return Error::RanOut { path: self.path.clone(), source },
            }
        }
    }

    /// Has them revoked at once. If that fails they end with their lease, and the log says so.
    pub async fn give_back(self) {
        if let Err(error) = self.vault.revoke_lease(&self.lease, Deadline::after(CALL)).await {
            let error = crate::error::chain(&error);
            tracing::warn!(path = self.path, error, "the credentials could not be revoked and live until they run out");
        }
    }

    async fn prolong(&mut self, needed: Duration, deadline: Deadline) -> Result<(), Error> {
        if self.duration >= needed {
            return Ok(());
        }
        if self.is_renewable {
            self.duration = self.vault.renew_lease(&self.lease, needed, deadline).await?;
        }
        if self.duration + SLACK < needed {
            return Err(Error::ShortLease { path: self.path.clone(), granted: self.duration, needed });
        }
        Ok(())
    }
}
