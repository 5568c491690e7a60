//! The daemon: every task of every node at its time, for months, with one truth about how fresh all of it is.
//!
//! ```text
//! Agenda ─▶ Lanes ─▶ Work (in a World) ─▶ Status ─▶ /readyz, /metrics, /status, heartbeat
//! (what is  (how many  one job: a pass,     (what is
//!  due)      at once)   a set, …             known)
//! ```
//!
//! There is no state of its own on disk: what was done is asked of the stores and of the repository. A world is
//! replaced as a whole, by a reload or when a certificate changes, and closed once nobody works in it any more.

pub mod agenda;
pub mod bounds;
pub mod heartbeat;
mod lanes;
pub mod metrics;
pub mod serve;
pub mod sets;
pub mod status;
mod work;
mod world;

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::sync::RwLock;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tracing::Instrument as _;

use agenda::{Agenda, Ended, Job, Task};
use bounds::Bounds;
use lanes::Lanes;
use serve::{Shared, read};
use status::Status;
use work::{Work, tell};
use world::{Current, World, same_node};

use crate::backup::stop::{Stop, Until};
use crate::config::{self, Config};
use crate::error::Failed;
use crate::receipt::NodeReceipt;
use crate::sync::TO_FINISH;

/// The longest sleep: a clock that is set, or a machine that was suspended, is noticed within it.
const NAP: Duration = Duration::from_secs(30);

/// The daemon at work.
pub struct Agent {
    path: PathBuf,
    bounds: Bounds,
    current: Current,
    /// Worlds that were replaced while somebody works in them.
    retired: Vec<Rc<World>>,
    agenda: Agenda,
    lanes: Rc<Lanes>,
    shared: Shared,
    writing: Rc<RwLock<()>>,
    stop: Stop,
    /// What may be broken off once nothing is being written.
    passes: JoinSet<Ended>,
    /// What ends by itself when it is told to.
    backups: JoinSet<Ended>,
    closing: JoinSet<()>,
    beating: JoinSet<()>,
    jobs: HashMap<Id, Job>,
}

impl Agent {
    /// The daemon of this configuration, which was read from `path`. Nothing is begun yet.
    #[must_use]
    pub fn new(path: PathBuf, config: Config, bounds: Bounds) -> Self {
        let now = Timestamp::now();
        let mut status = Status::new(now);
        status.configure(&config);
        let agenda = Agenda::new(&config, now, Agenda::default());
        Self {
            path,
            bounds,
            current: Current::new(World::new(Rc::new(config))),
            retired: Vec::new(),
            agenda,
            lanes: Rc::default(),
            shared: Shared::new(status.into()),
            writing: Rc::default(),
            stop: Stop::default(),
            passes: JoinSet::new(),
            backups: JoinSet::new(),
            closing: JoinSet::new(),
            beating: JoinSet::new(),
            jobs: HashMap::new(),
        }
    }

    /// What is known, for whoever answers.
    #[must_use]
    pub fn shared(&self) -> Shared {
        Shared::clone(&self.shared)
    }

    /// Works until the process is told to end. Needs a `LocalSet` around it.
    pub async fn run(mut self, mut hangups: Signal, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        self.show_due();
        loop {
            self.begin_due();
            let nap = self.nap();
            tokio::select! {
                biased;
                () = &mut ended => break,
                _ = hangups.recv() => self.reload(),
                Some(joined) = self.passes.join_next_with_id() => self.ended(&joined),
                Some(joined) = self.backups.join_next_with_id() => self.ended(&joined),
                Some(_) = self.closing.join_next() => {}
                Some(_) = self.beating.join_next() => self.tidy(),
                () = tokio::time::sleep(nap) => {}
            }
        }
        match self.jobs.len() {
            0 => tracing::info!("told to end"),
            jobs => tracing::warn!(jobs, "told to end: giving up what is under way"),
        }
        self.end().await;
        tracing::info!("ended");
    }

    fn nap(&self) -> Duration {
        let Some(next_at) = self.agenda.next_at() else { return NAP };
        Duration::try_from(next_at.duration_since(Timestamp::now())).unwrap_or_default().min(NAP)
    }

    fn begin_due(&mut self) {
        let due = self.agenda.take_due(Timestamp::now());
        let world = self.current.world();
        if !due.is_empty() && world.is_outdated() {
            tracing::info!("a certificate or a file of credentials was replaced: connecting and logging in anew");
            self.replace(Rc::clone(&world.config));
        }
        drop(world);
        for (job, is_unknown) in due {
            // One that a reload took away and another brought back may still be at it, in a world that is gone.
            if self.jobs.values().any(|running| *running == job) {
                self.agenda.waits_for_another(&job);
                continue;
            }
            let work = Work {
                current: self.current.clone(),
                shared: self.shared(),
                writing: Rc::clone(&self.writing),
                stop: self.stop.clone(),
                job: job.clone(),
                is_unknown,
            };
            let lanes = Rc::clone(&self.lanes);
            // Every line of the log says whose job it belongs to.
            let span = tracing::error_span!("job", task = job.0.as_str(), node = job.1.as_str());
            let task = async move { lanes.run(work).await }.instrument(span);
            let running = if job.0 == Task::Backup { &mut self.backups } else { &mut self.passes };
            let id = running.spawn_local(task).id();
            read(&self.shared).is_due(&job, None);
            self.jobs.insert(id, job);
        }
    }

    fn ended(&mut self, joined: &Result<(Id, Ended), JoinError>) {
        let (id, ended) = match joined {
            Ok((id, ended)) => (*id, Some(*ended)),
            Err(error) => (error.id(), None),
        };
        let Some(job) = self.jobs.remove(&id) else { return };
        let now = Timestamp::now();
        // A panic is that job's failure, and nobody else's.
        let ended = ended.unwrap_or_else(|| {
            self.broken(&job, now);
            Ended::Settled
        });
        self.agenda.ended(&job, ended, now, fastrand::f64());
        if job.0 == Task::Backup && ended == Ended::Settled {
            // The first set there is may be due for its verification.
            self.agenda.look_again(&(Task::Verify, job.1.clone()), now);
        }
        let due_at = self.agenda.due_at(&job);
        if let (Ended::Transient, Some(at), (task, node)) = (ended, due_at, &job) {
            tracing::info!(node = node.as_str(), task = task.as_str(), at = at.to_string(), "tried again then");
        }
        read(&self.shared).is_due(&job, due_at);
        // Identities that are stored and sets that are taken can each be the last that was missing.
        self.beat(now);
        self.tidy();
    }

    /// Lets go of what nobody uses at this moment.
    fn tidy(&mut self) {
        self.close_retired();
        if self.jobs.is_empty() && self.beating.is_empty() {
            self.current.world().pass.rest();
            crate::secret::scrub_stack();
        }
    }

    /// Calls the heartbeat where all is well, beside everything else: one that hangs keeps nobody waiting.
    fn beat(&mut self, now: Timestamp) {
        let (world, shared) = (self.current.world(), self.shared());
        if world.config.heartbeat.is_none() || !self.beating.is_empty() || !read(&self.shared).takes_a_beat(now) {
            return;
        }
        self.beating.spawn_local(async move { heartbeat::tell(&world, &shared).await });
    }

    fn broken(&self, (task, node): &Job, now: Timestamp) {
        let (node, failed) = (node.as_str(), Failed::bug());
        tell(node, None, "this task broke off", &failed);
        let mut status = read(&self.shared);
        match task {
            Task::Identities => status.synced(&NodeReceipt::failed(node, failed, 0), now),
            Task::Backup => status.backed_up(node, "failed", Some(&failed), now),
            Task::Verify => status.verified(node, "failed"),
            Task::Expire => status.expired(node, "failed"),
        }
    }

    /// Reads the configuration again. One that is wrong, or that asks for more than the process may any more, changes
    /// nothing.
    fn reload(&mut self) {
        let now = Timestamp::now();
        let hint = "`idkeep check` says more; put it right, and reload again";
        let loaded = config::load(&self.path);
        let loaded = loaded.map_err(|error| Failed { hint: Some(hint.to_owned()), ..Failed::from(&error) });
        match loaded.and_then(|config| self.bounds.judge(&config).map(|()| config)) {
            Ok(config) => {
                self.take_over(config, now);
                read(&self.shared).reloaded(true, now);
            }
            Err(failed) => {
                refused(&failed);
                read(&self.shared).reloaded(false, now);
            }
        }
    }

    fn take_over(&mut self, config: Config, now: Timestamp) {
        let nodes = config.nodes.len();
        let before = self.current.world();
        // Whoever reloads every minute is not to use up the issuer's tokens.
        if serde_json::to_value(&config).ok() == serde_json::to_value(&*before.config).ok() && !before.is_outdated() {
            tracing::info!(nodes, "configuration read again: nothing has changed");
            return;
        }
        self.agenda = Agenda::new(&config, now, std::mem::take(&mut self.agenda));
        read(&self.shared).configure(&config);
        for node in config.nodes.keys().filter(|node| !same_node(&config, &before.config, node)) {
            read(&self.shared).forget(node.as_str());
            self.agenda.begin_anew(node, now);
        }
        drop(before);
        self.replace(Rc::new(config));
        self.show_due();
        tracing::info!(nodes, "configuration read again");
    }

    fn show_due(&self) {
        let mut status = read(&self.shared);
        for (job, at) in self.agenda.due() {
            status.is_due(job, at);
        }
    }

    fn replace(&mut self, config: Rc<Config>) {
        let retired = self.current.replace(config);
        self.retired.push(retired);
        self.close_retired();
    }

    /// Gives back the logins of worlds in which nobody works any more.
    fn close_retired(&mut self) {
        for world in self.retired.extract_if(.., |world| Rc::strong_count(world) == 1) {
            self.closing.spawn_local(async move { world.pass.close().await });
        }
    }

    /// Ends what is under way: a version that is being written gets its facts, a set is whole or gone.
    async fn end(mut self) {
        self.stop.tell();
        self.beating.abort_all();
        let stop = self.stop.clone();
        let passes = async {
            let _ = timeout(TO_FINISH, self.writing.write()).await;
            self.passes.shutdown().await;
        };
        let backups = async {
            let ended = async { while self.backups.join_next().await.is_some() {} };
            let _ = stop.within(Until::Tidied, ended).await;
            self.backups.shutdown().await;
        };
        let logins = async {
            tokio::join!(passes, backups);
            let closed = async { while self.closing.join_next().await.is_some() {} };
            let current = self.current.world();
            let worlds = self.retired.iter().chain([&current]);
            tokio::join!(closed, join_all(worlds.map(|world| world.pass.close())));
        };
        if stop.within(Until::Left, logins).await.is_none() {
            tracing::warn!("not every login could be given back in time: they live until they run out");
        }
        crate::secret::scrub_stack();
    }
}

/// A configuration that is not taken over: each of its mistakes is a line.
fn refused(Failed { message, hint, .. }: &Failed) {
    let mut hint = hint.as_ref();
    for error in message.lines() {
        let hint = hint.take();
        tracing::error!(error, hint, "the configuration was not read again: the one before stays in force");
    }
}
