//! One job, done: what is called for each task, and what the status learns from it.

use std::rc::Rc;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::RwLock;

use super::agenda::{Ended, Job, Task};
use super::serve::{Shared, read};
use super::sets::Sets;
use super::status::Status;
use super::world::{Current, World};
use crate::backup::stop::Stop;
use crate::backup::{self, expire, receipt};
use crate::command::verify::newest;
use crate::error::{Failed, Fault};
use crate::http::Http;
use crate::receipt::NodeReceipt;
use crate::retry::Deadline;
use crate::secret;
use crate::store::Facts;
use crate::store::judge::Accept;
use crate::sync::{Options, Subject, node_pass};

/// From this part of its interval on, a run is too long: nothing would be left for a second try.
const TOO_LONG: f64 = 0.8;

/// One job with what it needs.
pub struct Work {
    /// Where it is done: in the world of the moment that it begins, however long it has waited.
    pub current: Current,
    /// What is known, and told.
    pub shared: Shared,
    /// Held while something is written that must not be half.
    pub writing: Rc<RwLock<()>>,
    /// Ends backups.
    pub stop: Stop,
    /// The task and its node.
    pub job: Job,
    /// Whether it has to be found out first if it is due.
    pub is_unknown: bool,
}

impl Work {
    /// Why it is not due, where that has to be found out.
    pub async fn not_due(&self) -> Option<Ended> {
        let (task, node) = &self.job;
        let world = self.current.world();
        let (subject, _) = world.subject(node).filter(|_| self.is_unknown)?;
        let not_due = self.last_done(&world, *task, subject).await?;
        let (node, task) = (node.as_str(), task.as_str());
        if let Ended::NotDue(last) = not_due {
            tracing::info!(node, task, last = last.to_string(), "not due yet");
        } else {
            tracing::info!(node, task, "there is no set yet: nothing to do");
        }
        Some(not_due)
    }

    /// Does it.
    pub async fn run(&self) -> Ended {
        let (task, node) = &self.job;
        let world = self.current.world();
        // It may have been taken out while this waited.
        let Some((subject, http)) = world.subject(node).filter(|_| world.timing(*task).is_some()) else {
            return Ended::Settled;
        };
        let failed = match task {
            Task::Identities => self.sync(&world, subject, http).await,
            Task::Backup => self.back_up(&world, subject, http).await,
            Task::Verify => self.verify(&world, subject).await,
            Task::Expire => self.expire(&world, subject).await,
        };
        // What functions that have returned left on the stack.
        secret::scrub_stack();
        Ended::from(failed.map(|failed| failed.fault))
    }

    /// What is known, unless the configuration of this node is another by now: that tells nothing about this one.
    fn known(&self, world: &World) -> Option<MutexGuard<'_, Status>> {
        let current = self.current.world();
        current.has_the_same(&self.job.1, world).then(|| read(&self.shared))
    }

    /// When the task was last done, where that is less than an interval ago: told by what it left behind.
    async fn last_done(&self, world: &World, task: Task, subject: &Subject) -> Option<Ended> {
        let last = match task {
            Task::Identities => self.last_stored(world, subject).await?,
            Task::Backup => self.look(world, subject).await?.newest?.snapshot_at,
            Task::Verify => {
                let sets = self.look(world, subject).await?;
                // A backup makes it look again.
                if sets.newest.is_none() {
                    return Some(Ended::NoSet);
                }
                sets.verified_at?
            }
            // It leaves nothing behind.
            Task::Expire => return None,
        };
        // What is still to come was not written by a clock like ours.
        let is_recent = last <= soon() && super::agenda::next(&world.timing(task)?, last, 0.0) > Timestamp::now();
        is_recent.then_some(Ended::NotDue(last))
    }

    /// When all of a node's stores last held its identities; nothing if one of them cannot say so.
    async fn last_stored(&self, world: &World, subject: &Subject) -> Option<Timestamp> {
        let deadline = Deadline::after(subject.config.identity.deadline.0);
        let mut oldest: Option<(Timestamp, Facts)> = None;
        for store in &subject.stores {
            let head = store.head(subject.place(), deadline).await.ok()?;
            let is_alive = head.current.as_ref().is_some_and(|current| current.is_alive);
            let facts = head.described().filter(|_| is_alive)?;
            // A time that is still to come was not written by a clock like ours.
            let checked_at = facts.checked_at.filter(|at| *at <= soon())?;
            let is_ours =
                subject.config.identity.participant.as_ref().is_none_or(|id| id.as_str() == facts.participant_id);
            // A configuration that has learnt something since is to be written.
            let is_sealed_so = facts.sealed_to == subject.rules(&**store, Accept::Stored).sealed_to;
            if !is_ours || !is_sealed_so || oldest.as_ref().is_some_and(|(_, known)| known.digest != facts.digest) {
                return None;
            }
            if oldest.as_ref().is_none_or(|(at, _)| checked_at < *at) {
                oldest = Some((checked_at, facts.clone()));
            }
        }
        let (checked_at, facts) = oldest?;
        // However long ago that is: its age is what counts.
        if let Some(mut status) = self.known(world) {
            status.known_stored(subject.name.as_str(), &facts, checked_at);
        }
        Some(checked_at)
    }

    async fn sync(&self, world: &World, subject: &Subject, http: &Http) -> Option<Failed> {
        let node = subject.name.as_str();
        tracing::debug!(node, "sync begun");
        let options = Options { wait: None, dry_run: false, accept: Accept::Stored };
        let receipt = node_pass(http, subject, &options, &self.writing).await;
        self.synced(world, &receipt);
        receipt.failed
    }

    fn synced(&self, world: &World, receipt: &NodeReceipt) {
        let node = receipt.node.as_str();
        if let Some(mut status) = self.known(world) {
            status.synced(receipt, Timestamp::now());
        }
        let Some(failed) = &receipt.failed else {
            tracing::info!(node, elapsed_ms = receipt.elapsed_ms, "identities are stored");
            return;
        };
        let mut is_told = false;
        for store in &receipt.stores {
            let Some(failed) = &store.failed else { continue };
            tell(node, Some(&store.store), "this store did not take the identities", failed);
            is_told = true;
        }
        if !is_told {
            tell(node, None, "the identities are not stored", failed);
        }
    }

    async fn back_up(&self, world: &World, subject: &Subject, http: &Http) -> Option<Failed> {
        let node = subject.name.as_str();
        let started = Instant::now();
        tracing::info!(node, "backup begun");
        let taken = backup::take_one(&world.config, subject, http, world.pass.secrets(), &self.stop).await;
        let receipt = match taken {
            Ok(manifest) => receipt::NodeReceipt::published(&manifest),
            Err(error) => receipt::NodeReceipt::failed(node, &error),
        };
        if let Some(mut status) = self.known(world) {
            status.backed_up(node, receipt.outcome, receipt.failed.as_ref(), Timestamp::now());
        }
        match &receipt.failed {
            None => published(world, node, &receipt, started.elapsed()),
            Some(failed) => tell(node, None, "there is no new backup set", failed),
        }
        if !self.stop.is_told() {
            self.look(world, subject).await;
        }
        receipt.failed
    }

    async fn verify(&self, world: &World, subject: &Subject) -> Option<Failed> {
        let node = subject.name.as_str();
        let newest = newest(&world.config, subject, world.pass.secrets()).await;
        let (outcome, failed) = match newest {
            Ok((set, failed)) => {
                tracing::info!(node, set = set.set.to_string(), result = set.result.as_str(), "backup set verified");
                // The log has the names of the checks alone.
                let hint = Some(format!("`idkeep verify {node}` prints each check with its evidence"));
                (set.result.as_str(), failed.map(|failed| Failed { hint, ..failed }))
            }
            Err(failed) => ("failed", Some(failed)),
        };
        if let Some(failed) = &failed {
            let is_open = failed.fault == Fault::Undecided;
            let what = if is_open {
                "the newest backup set is not wholly decided"
            } else {
                "the newest backup set is not verified"
            };
            tell(node, None, what, failed);
        }
        if let Some(mut status) = self.known(world) {
            status.verified(node, outcome);
        }
        self.look(world, subject).await;
        failed
    }

    async fn expire(&self, world: &World, subject: &Subject) -> Option<Failed> {
        let node = subject.name.as_str();
        let backup = subject.config.backup.as_ref()?;
        let options = expire::Options { dry_run: false, yes: false };
        let failed = match backup::repository_of(&world.config, subject)? {
            Err(error) => Some(Failed::from(&error)),
            Ok(repository) => {
                let signers = backup::signers(&world.config, subject);
                let configured = expire::Configured { backup, signers };
                let receipt = expire::run(&repository, node, configured, options, Timestamp::now()).await;
                let removed = receipt.sets.iter().filter(|set| set.outcome == "removed").count();
                tracing::info!(node, removed, kept = receipt.sets.len() - removed, "retention applied");
                receipt.failed
            }
        };
        if let Some(failed) = &failed {
            tell(node, None, "retention is not applied", failed);
        }
        if let Some(mut status) = self.known(world) {
            status.expired(node, if failed.is_some() { "failed" } else { "done" });
        }
        self.look(world, subject).await;
        failed
    }

    /// What the repository holds now; what cannot be seen leaves what was known.
    async fn look(&self, world: &World, subject: &Subject) -> Option<Sets> {
        let node = subject.name.as_str();
        match Sets::look(world, subject).await? {
            Ok(sets) => {
                if let Some(mut status) = self.known(world) {
                    status.seen(node, sets.clone());
                }
                Some(sets)
            }
            Err(failed) => {
                tell(node, None, "the repository cannot be seen", &failed);
                None
            }
        }
    }
}

fn published(world: &World, node: &str, receipt: &receipt::NodeReceipt, took: Duration) {
    let set = receipt.set.map(|set| set.to_string());
    tracing::info!(node, set, elapsed_s = took.as_secs(), "backup set published");
    let interval = world.timing(Task::Backup).map(|timing| timing.longest()).unwrap_or_default();
    if took > interval.mul_f64(TOO_LONG) {
        let (took, interval) = (took.as_secs(), interval.as_secs());
        tracing::warn!(node, took, interval, "a backup takes over 80 % of its interval: no second try fits in");
    }
}

/// A little ahead of now: clocks differ.
fn soon() -> Timestamp {
    Timestamp::now().saturating_add(SignedDuration::from_mins(5)).unwrap_or(Timestamp::MAX)
}

/// A failure as the operator reads it: what, why, what to do. What may pass by itself, or is open,
/// is a warning.
pub fn tell(node: &str, store: Option<&str>, what: &'static str, failed: &Failed) {
    let Failed { fault, message: error, hint } = failed;
    let exit_code = fault.exit_code();
    if matches!(fault, Fault::Transient | Fault::Undecided) {
        tracing::warn!(node, store, error, hint, exit_code, "{what}");
    } else {
        tracing::error!(node, store, error, hint, exit_code, "{what}");
    }
}
