//! How much is done at once: many passes, one backup, and whoever is slow does not stand in the others' way.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};

use super::agenda::{Ended, Task};
use super::work::Work;
use crate::config::Name;

/// Passes at the same time.
const PASSES: usize = 32;

/// The same for nodes whose last pass failed or took long: they wait for each other, and for nobody else.
const SLOW_PASSES: usize = 8;

/// A pass that takes longer is slow.
const SLOW: Duration = Duration::from_secs(10);

/// The lanes that work goes through. Whoever waits longest is next.
pub struct Lanes {
    passes: Semaphore,
    slow_passes: Semaphore,
    slow: RefCell<BTreeSet<Name>>,
    /// What a backup needs of memory does not add up.
    backups: Semaphore,
    checks: Semaphore,
    /// A node's backup, verification and expiry follow each other.
    nodes: RefCell<BTreeMap<Name, Rc<Mutex<()>>>>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            passes: Semaphore::new(PASSES),
            slow_passes: Semaphore::new(SLOW_PASSES),
            slow: RefCell::default(),
            backups: Semaphore::new(1),
            checks: Semaphore::new(1),
            nodes: RefCell::default(),
        }
    }
}

impl Lanes {
    /// Does it when there is room.
    pub async fn run(&self, work: Work) -> Ended {
        let (task, node) = work.job.clone();
        if task == Task::Identities {
            return self.pass(work, node).await;
        }
        let own = Rc::clone(self.nodes.borrow_mut().entry(node).or_default());
        let _own = own.lock().await;
        let lane = if task == Task::Backup { &self.backups } else { &self.checks };
        let _slot = lane.acquire().await;
        Box::pin(work.run()).await
    }

    async fn pass(&self, work: Work, node: Name) -> Ended {
        let is_slow = self.slow.borrow().contains(&node);
        let _slot = if is_slow { &self.slow_passes } else { &self.passes }.acquire().await;
        let started = Instant::now();
        let ended = Box::pin(work.run()).await;
        if ended == Ended::Transient || started.elapsed() > SLOW {
            self.slow.borrow_mut().insert(node);
        } else {
            self.slow.borrow_mut().remove(&node);
        }
        ended
    }
}
