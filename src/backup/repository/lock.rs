//! A node's lock: one run at a time writes its sets.
//!
//! In a cloud it is a row of generations, `NODE/lock/00000001.json` and on: whoever creates the next one holds it. A
//! holder keeps writing its own, and one that stays unwritten for a whole `lock_expiry`, as measured by whoever looks,
//! is taken over; no two clocks are compared. In a folder it is a lock of the operating system, gone with its process.

mod record;

use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, SetOnce};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Error, Object, Place, Repository};
use crate::error::chain;
use record::Record;

/// Signs of life within one expiry.
const BEATS: u32 = 4;
/// The largest record that is read.
const CAP: usize = 16 << 10;

/// A node's lock, held. Dropped without `release`, a cloud's is free after `lock_expiry`.
pub struct Lock {
    repository: Rc<Repository>,
    node: String,
    way: Way,
}

enum Way {
    Cloud { own: Rc<Own>, beating: JoinSet<()> },
    Folder { key: String, file: File },
}

/// Our own generation.
struct Own {
    repository: Rc<Repository>,
    node: String,
    generation: u64,
    record: RefCell<Record>,
    lost: SetOnce<()>,
    stop: Notify,
}

impl Lock {
    /// Takes the lock, or says who holds it. Must be called inside a `LocalSet`.
    pub async fn take(repository: &Rc<Repository>, node: &str) -> Result<Self, Error> {
        let way = match &repository.place {
            Place::Folder(folder) => {
                let key = format!("{node}/.lock");
                let locked = folder.lock(&key, Record::new().bytes()).await.map_err(repository.io("locking", node))?;
                let Some(file) = locked else {
                    let found = folder.read(&key, CAP).await.ok().flatten().unwrap_or_default();
                    return Err(held(repository, node, Record::parse(&found).as_ref()));
                };
                Way::Folder { key, file }
            }
            Place::Cloud(_) => {
                let own = Rc::new(Own::take(repository, node).await?);
                let mut beating = JoinSet::new();
                beating.spawn_local(Rc::clone(&own).beat());
                Way::Cloud { own, beating }
            }
        };
        Ok(Self { repository: Rc::clone(repository), node: node.to_owned(), way })
    }

    /// Who holds it, as a cloud's lock says; none where it is free, or in a folder, where only trying would tell.
    pub async fn holder(repository: &Repository, node: &str) -> Result<Option<String>, Error> {
        if matches!(repository.place, Place::Folder(_)) {
            return Ok(None);
        }
        let Some((newest, _)) = generations(repository, node).await?.pop() else { return Ok(None) };
        let record = read(repository, node, newest).await?;
        Ok(record.filter(|record| !record.is_released()).map(|record| record.to_string()))
    }

    /// Waits until the lock is found to be another's.
    pub async fn lost(&self) {
        match &self.way {
            Way::Cloud { own, .. } => {
                own.lost.wait().await;
            }
            Way::Folder { .. } => std::future::pending().await,
        }
    }

    /// Looks whether the lock is still ours.
    pub async fn is_ours(&self) -> Result<bool, Error> {
        match &self.way {
            Way::Cloud { own, .. } => own.is_ours().await,
            Way::Folder { key, file } => match &self.repository.place {
                Place::Folder(folder) => folder.is_still(key, file).map_err(self.repository.io("locking", &self.node)),
                Place::Cloud(_) => Ok(false),
            },
        }
    }

    /// What to say where it is not.
    #[must_use]
    pub fn lost_error(&self) -> Error {
        Error::Lost { repository: self.repository.name().to_owned(), node: self.node.clone() }
    }

    /// Gives it back.
    pub async fn release(self) {
        if let Way::Cloud { own, mut beating } = self.way {
            own.stop.notify_one();
            // A sign of life that is still on its way would undo what follows.
            beating.join_next().await;
            if let Err(error) = own.release().await {
                let (repository, error) = (self.repository.name(), chain(&error));
                tracing::warn!(
                    repository,
                    node = self.node,
                    error,
                    "the lock is not given back, and free when it expires"
                );
            }
        }
    }
}

impl Own {
    async fn take(repository: &Rc<Repository>, node: &str) -> Result<Self, Error> {
        let generation = next_generation(repository, node).await?;
        let record = Record::new();
        let key = key(node, generation);
        if !repository.create(&key, record.bytes()).await? {
            return Err(held(repository, node, read(repository, node, generation).await?.as_ref()));
        }
        // A server that ignores the condition would have let us in beside another.
        if repository.create(&key, record.after().bytes()).await? {
            let _ = repository.remove(&key).await;
            return Err(Error::NoConditionalPuts { repository: repository.name().to_owned() });
        }
        let own = Self {
            repository: Rc::clone(repository),
            node: node.to_owned(),
            generation,
            record: RefCell::new(record),
            lost: SetOnce::new(),
            stop: Notify::new(),
        };
        // The first sign of life: who may not give it would be taken for dead. And who looked long ago may have created
        // a generation that others had, gave back and removed.
        if own.beat_once().await? {
            return Ok(own);
        }
        let newer = own.newer().await?.unwrap_or(generation);
        let _ = own.write_released().await;
        Err(held(repository, node, read(repository, node, newer).await?.as_ref()))
    }

    /// Gives a sign of life, again and again, until the lock is another's or given back.
    async fn beat(self: Rc<Self>) {
        let expiry = self.repository.lock_expiry;
        let mut ticks = interval((expiry / BEATS).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                () = self.stop.notified() => return,
                _ = ticks.tick() => {}
            }
            let result = timeout(expiry / 2, self.beat_once()).await;
            let (repository, node) = (self.repository.name(), self.node.as_str());
            match result {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => {
                    tracing::error!(repository, node, "another run has taken over the lock");
                    let _ = self.lost.set(());
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(repository, node, error = chain(&error), "no sign of life could be given");
                }
                Err(_) => tracing::warn!(repository, node, "a sign of life took too long"),
            }
        }
    }

    async fn beat_once(&self) -> Result<bool, Error> {
        if self.newer().await?.is_some() {
            return Ok(false);
        }
        let next = self.record.borrow().after();
        self.repository.replace(&key(&self.node, self.generation), next.bytes()).await?;
        *self.record.borrow_mut() = next;
        Ok(true)
    }

    async fn is_ours(&self) -> Result<bool, Error> {
        if self.lost.get().is_some() || self.newer().await?.is_some() {
            return Ok(false);
        }
        let found = read(&self.repository, &self.node, self.generation).await?;
        Ok(found.is_some_and(|found| found.is_of(&self.record.borrow())))
    }

    /// A generation after ours, or ours where it is gone.
    async fn newer(&self) -> Result<Option<u64>, Error> {
        let found = generations(&self.repository, &self.node).await?;
        let newest = found.last().map_or(u64::MAX, |(generation, _)| *generation);
        Ok((newest != self.generation).then_some(newest))
    }

    async fn write_released(&self) -> Result<(), Error> {
        let record = self.record.borrow().released();
        self.repository.replace(&key(&self.node, self.generation), record.bytes()).await
    }

    async fn release(&self) -> Result<(), Error> {
        if !self.is_ours().await? {
            return Ok(());
        }
        self.write_released().await?;
        for (generation, _) in generations(&self.repository, &self.node).await? {
            if generation < self.generation {
                match self.repository.remove(&key(&self.node, generation)).await {
                    // A writer that may not remove leaves them: only the newest one counts.
                    Err(Error::Denied { .. }) => break,
                    result => result?,
                }
            }
        }
        Ok(())
    }
}

/// The generation after the newest one, once that is given back or has shown no sign of life for a whole expiry.
async fn next_generation(repository: &Repository, node: &str) -> Result<u64, Error> {
    let expiry = repository.lock_expiry;
    let mut watched: Option<(u64, Option<String>, Instant)> = None;
    loop {
        let Some((newest, object)) = generations(repository, node).await?.pop() else { return Ok(1) };
        let seen_at = Instant::now();
        let record = read(repository, node, newest).await?;
        if record.as_ref().is_some_and(Record::is_released) {
            return after(repository, node, newest);
        }
        let since = match &watched {
            None => seen_at,
            Some((generation, e_tag, since)) if *generation == newest && *e_tag == object.e_tag => *since,
            Some(_) => return Err(held(repository, node, record.as_ref())),
        };
        let silence = seen_at.duration_since(since);
        if silence >= expiry {
            let holder = record.as_ref().map(Record::to_string).unwrap_or_default();
            let (name, seconds) = (repository.name(), expiry.as_secs());
            tracing::warn!(
                repository = name,
                node,
                holder,
                seconds,
                "the lock's holder gives no sign of life: taken over"
            );
            return after(repository, node, newest);
        }
        if watched.is_none() {
            let holder = record.as_ref().map(Record::to_string).unwrap_or_default();
            tracing::info!(
                repository = repository.name(),
                node,
                holder,
                "the lock is held: looking for a sign of life"
            );
        }
        watched = Some((newest, object.e_tag, since));
        sleep((expiry / BEATS).min(expiry.checked_sub(silence).unwrap_or_default())).await;
    }
}

/// The next one. No run ever gets to the last there is, but whoever may write to the bucket may plant it.
fn after(repository: &Repository, node: &str, generation: u64) -> Result<u64, Error> {
    generation.checked_add(1).ok_or_else(|| Error::Misconfigured {
        doing: repository.doing("locking", &key(node, generation)),
        why: "it is the last lock that can be named, which no run ever takes: somebody else has put it there",
        fix: "remove the objects in the node's folder `lock` while no backup runs (none of them is one), and find out who may write there",
    })
}

/// Every generation there is, the newest last.
async fn generations(repository: &Repository, node: &str) -> Result<Vec<(u64, Object)>, Error> {
    let objects = repository.list(&format!("{node}/lock")).await?;
    let numbered = objects.into_iter().filter_map(|object| {
        let generation: u64 = object.name.strip_suffix(".json")?.parse().ok()?;
        // Only what we would have named so is ours.
        (object.name == file(generation)).then_some((generation, object))
    });
    let mut numbered: Vec<_> = numbered.collect();
    // Names of more than eight digits do not sort by their number.
    numbered.sort_unstable_by_key(|(generation, _)| *generation);
    Ok(numbered)
}

async fn read(repository: &Repository, node: &str, generation: u64) -> Result<Option<Record>, Error> {
    match repository.read(&key(node, generation), CAP).await {
        Ok(bytes) => Ok(bytes.and_then(|bytes| Record::parse(&bytes))),
        // Nothing that a run wrote: it is waited for like any that cannot be read.
        Err(Error::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Eight digits, and more where that is not enough.
fn file(generation: u64) -> String {
    format!("{generation:08}.json")
}

fn key(node: &str, generation: u64) -> String {
    format!("{node}/lock/{}", file(generation))
}

fn held(repository: &Repository, node: &str, record: Option<&Record>) -> Error {
    let holder = record.map(|record| format!(" ({record})")).unwrap_or_default();
    Error::Held { repository: repository.name().to_owned(), node: node.to_owned(), holder }
}
