//! The backup path: one ordered, sealed set of a node's databases, and the evidence that it is consistent.
//!
//! ```text
//! Plan ─▶ Turn: Session (snapshot, facts) ─▶ Dump ─▶ Stream (zstd, age) ─▶ Upload::commit ─▶ Manifest::push ─▶ publish
//! (order)        judged before a byte        pg_dump    parts               durable          order checked    (no manifest,
//!                                                                                                              no set)
//! ```
//!
//! The databases come one by one, each durable before the next is begun. [`verify`] reads sets again, [`retention`]
//! says which may go.

pub mod archive;
pub mod catalog;
pub mod clock;
mod error;
pub mod examine;
pub mod expire;
pub mod facts;
pub mod invariants;
mod lease;
pub mod manifest;
pub mod plan;
pub mod postgres;
pub mod progress;
pub mod receipt;
pub mod repository;
pub mod retention;
mod run;
pub mod set;
pub mod sign;
pub mod stop;
pub mod stream;
mod turn;
pub mod verify;

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::task::LocalSet;
use tracing::Instrument as _;

pub use error::Error;
use receipt::{NodeReceipt, Report};
pub use run::{Owner, Run, can_sign};

use crate::config::{Config, Name, SecretRef, Signer};
use crate::error::Failed;
use crate::http::Http;
use crate::secret::{self, Secrets};
use crate::sync::{Pass, Subject};

/// Takes one set of each of these nodes, one node after the other: what a run needs of memory does not add up.
pub async fn take(config: &Config, nodes: &[Name]) -> Report {
    LocalSet::new().run_until(Box::pin(all(config, nodes))).await
}

async fn all(config: &Config, nodes: &[Name]) -> Report {
    let stop = stop::Stop::on_signals();
    let pass = Pass::new(config, nodes);
    let mut receipts = Vec::new();
    for (subject, http) in pass.subjects() {
        let started = Instant::now();
        let span = tracing::error_span!("backup", node = subject.name.as_str());
        let run = Box::pin(take_one(config, subject, http, pass.secrets(), &stop));
        let run = AssertUnwindSafe(run).catch_unwind().instrument(span);
        let mut receipt = match run.await {
            Ok(Ok(manifest)) => NodeReceipt::published(&manifest),
            Ok(Err(error)) => NodeReceipt::failed(subject.name.as_str(), &error),
            Err(_) => NodeReceipt::ended(subject.name.as_str(), Failed::bug()),
        };
        receipt.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        receipts.push(receipt);
    }
    if stop.within(stop::Until::Left, pass.close()).await.is_none() {
        tracing::warn!("not every login could be given back in time: they live until they run out");
    }
    secret::scrub_stack();
    Report { nodes: receipts }
}

/// Takes one set of this node, and listens to this wish to end.
pub async fn take_one(
    config: &Config,
    subject: &Subject,
    http: &Http,
    secrets: &Rc<Secrets>,
    stop: &stop::Stop,
) -> Result<manifest::Manifest, Error> {
    let (Some(backup), Some(repository)) = (&subject.config.backup, repository_of(config, subject)) else {
        return Err(Error::Unconfigured);
    };
    let run = Run {
        name: &subject.name,
        node: &subject.config,
        backup,
        repository: repository?,
        sign: sign(config, subject),
        signers: signers(config, subject),
        subject,
        http,
        secrets: Rc::clone(secrets),
        stop: stop.clone(),
        clock: clock::Clock::start(),
        known: invariants::Known::default(),
        owner: None,
        leases: RefCell::default(),
        is_uncertain: Cell::new(false),
    };
    Box::pin(run.take()).await
}

/// The repository of a node's sets; `None` where the node has no backups.
pub fn repository_of(
    config: &Config,
    subject: &Subject,
) -> Option<Result<Rc<repository::Repository>, repository::Error>> {
    let name = &subject.config.backup.as_ref()?.repository;
    let repository = config.repositories.get(name)?;
    Some(repository::Repository::open(name.as_str(), repository).map(Rc::new))
}

/// Whose manifests are believed in a node's repository; everybody's where none is named.
#[must_use]
pub fn signers<'c>(config: &'c Config, subject: &Subject) -> &'c [Signer] {
    let repository = subject.config.backup.as_ref().and_then(|backup| config.repositories.get(&backup.repository));
    repository.map_or(&[], |repository| &repository.signers)
}

/// The key that signs in a node's repository, where there is one.
#[must_use]
pub fn sign<'c>(config: &'c Config, subject: &Subject) -> Option<&'c SecretRef> {
    config.repositories.get(&subject.config.backup.as_ref()?.repository)?.sign.as_ref()
}
