//! Why a run of a node's backup did not end in a set.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::manifest::{Invariant, Outcome};
use super::postgres::{Waiter, credentials};
use super::set::SetId;
use super::{manifest, plan, postgres, repository, sign, stream};
use crate::error::{Failure, Fault};
use crate::{seal, secret};

/// Why there is no new set. Holds no word of a server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node has no backups; the command line was checked before.
    #[error("this node has no backups configured")]
    Unconfigured,
    /// The databases cannot be ordered; the configuration was checked before.
    #[error("{0}")]
    Plan(plan::Mistake),
    /// The repository's own reason.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The database's own reason.
    #[error("{database}")]
    Database { database: String, source: postgres::Error },
    /// The credentials that were made for the dump.
    #[error("{database}")]
    Credentials { database: String, source: Box<credentials::Error> },
    /// The stream's own reason.
    #[error(transparent)]
    Stream(#[from] stream::Error),
    /// A recipient that is none.
    #[error(transparent)]
    Seal(#[from] seal::Error),
    /// The signing key cannot be read.
    #[error("reading the key that signs")]
    SignKey(#[from] secret::Error),
    /// The signing key cannot be used.
    #[error("signing")]
    Sign(#[from] sign::Error),
    /// The signing key's sets would not be believed.
    #[error("the key that signs is none of the `signers`: what it signs would not be believed")]
    NotASigner,
    /// The order is broken, whatever the plan said.
    #[error("nothing was published: {0}")]
    Order(#[from] manifest::Error),
    /// The manifest would not be read again.
    #[error("nothing was published: the manifest could not be read again: {0}")]
    Unreadable(manifest::Error),
    /// The data itself says that the set is not consistent.
    #[error("set {set} is rejected: {}", broken(invariants))]
    Rejected { set: SetId, invariants: BTreeMap<String, Invariant> },
    /// The same, and there is not even evidence of it.
    #[error("set {set} is rejected: {}; and its `rejected.json` could not be written", broken(invariants))]
    Unkept { set: SetId, invariants: BTreeMap<String, Invariant>, source: Box<repository::Error> },
    /// A standby has not yet seen what the validator refers to.
    #[error("{database}: the standby lags behind the validator app: {reason}")]
    StandbyLags { database: String, reason: String },
    /// Others wait for the locks of our dump.
    #[error("{database}: gave way, as others have waited for more than {}: {}", crate::config::Period(*after), waiting(waiters))]
    GaveWay { database: String, after: Duration, waiters: Vec<Waiter> },
    /// Nothing moves any more.
    #[error("{database}: the dump has stood still for {}", crate::config::Period(super::progress::PATIENCE))]
    Stalled { database: String },
    /// The folder belongs to another participant's sets.
    #[error("{node}/node.json says that this folder holds sets of {stored}, the database is {found}'s")]
    AnotherParticipant { node: String, stored: String, found: String },
    /// Another run took the lock over.
    #[error("the lock was lost: this run gave no sign for too long, and another one took over")]
    LockLost,
    /// A signal.
    #[error("told to end before the set was whole")]
    Interrupted,
    /// What was stored is not there.
    #[error("{file} is not in the repository as it was stored ({found})")]
    Vanished { file: String, found: String },
    /// Somebody else wrote into the set that this run takes.
    #[error("nothing was published: {file} is there already, and is not this run's")]
    Planted { file: String },
    /// The server was asked to take the manifest, and nobody knows whether it did.
    #[error("it is not known whether set {set} is published")]
    Uncertain { set: SetId, source: repository::Error },
    /// A manifest is there already.
    #[error("set {0} has a manifest already: another run wrote it")]
    Taken(SetId),
}

impl Error {
    /// A database's failure, with its name.
    pub fn of(database: &str) -> impl Fn(postgres::Error) -> Self {
        let database = database.to_owned();
        move |source| Self::Database { database: database.clone(), source }
    }
}

fn graver(one: Fault, other: Fault) -> Fault {
    if other.gravity() > one.gravity() { other } else { one }
}

fn broken(invariants: &BTreeMap<String, Invariant>) -> String {
    let broken = invariants.iter().filter(|(_, invariant)| invariant.result == Outcome::Fail);
    let broken: Vec<String> = broken.map(|(name, invariant)| format!("{name} fails: {}", invariant.reason)).collect();
    broken.join("; ")
}

fn waiting(waiters: &[Waiter]) -> String {
    let mut text = String::new();
    for waiter in waiters {
        let Waiter { pid, user, application, seconds } = waiter;
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}process {pid} (user `{user}`, `{application}`) for {seconds} s");
    }
    format!("others wait for a lock that the dump holds: {text}")
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Unconfigured | Self::Plan(_) | Self::NotASigner => Fault::Config,
            Self::Repository(error) => error.fault(),
            Self::Database { source, .. } => source.fault(),
            Self::Credentials { source, .. } => source.fault(),
            Self::Stream(error) => error.fault(),
            Self::Seal(error) => error.fault(),
            Self::SignKey(error) => error.fault(),
            Self::Sign(error) => error.fault(),
            Self::Order(_) | Self::Unreadable(_) | Self::Rejected { .. } => Fault::Inconsistent,
            Self::Unkept { source, .. } => graver(Fault::Inconsistent, source.fault()),
            Self::AnotherParticipant { .. } => Fault::Identity,
            Self::StandbyLags { .. }
            | Self::GaveWay { .. }
            | Self::Stalled { .. }
            | Self::LockLost
            | Self::Interrupted
            | Self::Vanished { .. }
            | Self::Planted { .. }
            | Self::Uncertain { .. }
            | Self::Taken(_) => Fault::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unconfigured | Self::Plan(_) => "`idkeep check` names the mistake".into(),
            Self::Repository(error) => return error.hint(),
            Self::Database { source, .. } => return source.hint(),
            Self::Credentials { source, .. } => return source.hint(),
            Self::Stream(error) => return error.hint(),
            Self::Seal(error) => return error.hint(),
            Self::SignKey(error) => return error.hint(),
            Self::Sign(error) => return error.hint(),
            Self::NotASigner => {
                "add its public half (`ssh-keygen -y -f FILE` prints it) to `signers`, beside those of older keys".into()
            }
            Self::Order(_) => "please report it: the order is checked before anything is dumped".into(),
            Self::Unreadable(_) => {
                "does a database's name hold a control character? earlier sets are untouched".into()
            }
            Self::Rejected { .. } => {
                "the set is kept as `rejected.json` and is no backup; the earlier sets are untouched: see the page \"Database backups\" of the documentation".into()
            }
            Self::Unkept { source, .. } => {
                let more = source.hint().map(|hint| format!("; of the repository: {hint}")).unwrap_or_default();
                format!("the databases do not fit together, whatever became of the evidence: see the page \"Database backups\" of the documentation{more}")
            }
            Self::StandbyLags { .. } => "dump the participant from its primary, or give the standby time".into(),
            Self::GaveWay { .. } => {
                "run it when no schema change is under way, or raise `yield_after`; the node was not held up any longer".into()
            }
            Self::AnotherParticipant { .. } => {
                "two clusters must not share a node's name; after a reset of the network use another `url` prefix, or move the node's folder away".into()
            }
            Self::Stalled { .. } => {
                "is the container frozen, or does the server's storage hang? its log, and `pg_stat_activity`, tell".into()
            }
            Self::LockLost => "is this machine suspended, or cut off from the repository? see `lock_expiry`".into(),
            Self::Interrupted => "run it again: nothing of it is left that counts".into(),
            Self::Vanished { .. } | Self::Planted { .. } => "who else writes to or cleans up this bucket?".into(),
            Self::Uncertain { .. } => {
                "`idkeep list` shows it if it is; what was stored stays until the next run, which removes it if it is not".into()
            }
            Self::Taken(_) => "does another idkeep run with this node's name?".into(),
        })
    }
}
