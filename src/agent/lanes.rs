//! How much is done at once: many passes, one backup, and whoever is slow does not stand in the others' way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::agenda::{Ended, Task};
use super::work::Work;
use crate::config::Name;

/// Passes at the same time.
const PASSES: usize = 32;

/// The same for nodes whose last pass failed or took long. They wait for servers nearly all the time: so many of them
/// get through a thousand nodes, each of which takes its whole deadline of a minute, within ten minutes.
const SLOW_PASSES: usize = 128;

/// A pass that takes longer is slow.
const SLOW: Duration = Duration::from_secs(10);

/// Looks into repositories at the same time: whether something is due does not wait for what is.
const LOOKS: usize = 8;

/// Time for one of them.
const TO_LOOK: Duration = Duration::from_mins(5);

/// The lanes that work goes through. Whoever waits longest is next.
pub struct Lanes {
    passes: Semaphore,
    slow_passes: Semaphore,
    slow: RefCell<BTreeSet<Name>>,
    looks: Semaphore,
    /// What a backup needs of memory does not add up.
    backups: Semaphore,
    checks: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            passes: Semaphore::new(PASSES),
            slow_passes: Semaphore::new(SLOW_PASSES),
            slow: RefCell::default(),
            looks: Semaphore::new(LOOKS),
            backups: Semaphore::new(1),
            checks: Semaphore::new(1),
        }
    }
}

impl Lanes {
    /// Does it when there is room, unless it is not due.
    pub async fn run(&self, work: Work) -> Ended {
        match work.job.0 {
            Task::Identities => self.pass(work).await,
            Task::Backup => self.turn(&self.backups, work).await,
            Task::Verify | Task::Expire => self.turn(&self.checks, work).await,
        }
    }

    async fn pass(&self, work: Work) -> Ended {
        let node = work.job.1.clone();
        let is_slow = self.slow.borrow().contains(&node);
        let _slot = if is_slow { &self.slow_passes } else { &self.passes }.acquire().await;
        let started = Instant::now();
        let ended = match work.not_due().await {
            Some(not_due) => not_due,
            None => Box::pin(work.run()).await,
        };
        if ended == Ended::Transient || started.elapsed() > SLOW {
            self.slow.borrow_mut().insert(node);
        } else {
            self.slow.borrow_mut().remove(&node);
        }
        ended
    }

    async fn turn(&self, lane: &Semaphore, work: Work) -> Ended {
        let turn = async {
            let look = self.looks.acquire().await;
            // A repository that hangs is found out by the work itself.
            let not_due = timeout(TO_LOOK, work.not_due()).await.unwrap_or_default();
            drop(look);
            match not_due {
                Some(not_due) => Err(not_due),
                None => Ok(lane.acquire().await),
            }
        };
        let _slot = tokio::select! {
            biased;
            // What waits has begun nothing, and begins nothing any more.
            () = work.stop.told() => return Ended::Settled,
            turn = turn => match turn {
                Ok(slot) => slot,
                Err(ended) => return ended,
            }
        };
        Box::pin(work.run()).await
    }
}
