//! What is due when, for each node and task. Pure: instants and draws are passed in, nothing is started here.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Config, Name, Timing};
use crate::error::Fault;

/// What the daemon does for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// One pass: token, identities, stores.
    Identities,
    /// One set.
    Backup,
    /// The newest set is checked.
    Verify,
    /// Sets go that retention does not keep.
    Expire,
}

impl Task {
    /// Its key under `schedule`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Backup => "backups",
            Self::Verify => "verify",
            Self::Expire => "expire",
        }
    }

    fn of(key: &str) -> Option<Self> {
        [Self::Identities, Self::Backup, Self::Verify, Self::Expire].into_iter().find(|task| task.as_str() == key)
    }
}

/// One task of one node.
pub type Job = (Task, Name);

/// How a job came out, as far as its next time depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Done, or failed in a way that waiting does not help: the next tick is the next try.
    Settled,
    /// It may work soon: tried again inside the interval.
    Transient,
    /// It was not due: this is when it was last done, as the stores or the repository tell.
    NotDue(Timestamp),
    /// There is nothing yet that it could be done to.
    NoSet,
}

impl Ended {
    /// What a failure means for the next try.
    #[must_use]
    pub fn from(fault: Option<Fault>) -> Self {
        if fault == Some(Fault::Transient) { Self::Transient } else { Self::Settled }
    }
}

/// Everything that is to be done, and when.
#[derive(Debug, Default)]
pub struct Agenda {
    jobs: BTreeMap<Job, Entry>,
}

#[derive(Debug)]
struct Entry {
    timing: Timing,
    /// [`Timing::longest`], which goes through years of a cron.
    longest: Duration,
    due_at: Timestamp,
    /// Since when it runs.
    running_since: Option<Timestamp>,
    /// When it was last begun, or done as its traces tell.
    last_at: Option<Timestamp>,
    /// Whether what runs is for nothing any more.
    is_void: bool,
    /// Whether it found nothing that it could be done to.
    waits_for_a_set: bool,
    /// Failures in a row.
    failures: u32,
    /// Whether it has to be found out first when it was last done.
    is_unknown: bool,
}

/// The first pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_secs(30);

/// From one node's first start to the next node's: nobody is met by all at once.
const SPREAD: Duration = Duration::from_millis(200);

impl Agenda {
    /// The agenda of this configuration from `now` on. What an earlier one knew of the same jobs is kept: a reload
    /// neither forgets a run nor starts one, but another timing counts from the last run on.
    #[must_use]
    pub fn new(config: &Config, now: Timestamp, mut earlier: Self) -> Self {
        let mut jobs = BTreeMap::new();
        for (task, timing) in config.schedule.tasks() {
            let Some(task) = Task::of(task) else { continue };
            let nodes: Vec<&Name> = config
                .nodes
                .iter()
                .filter(|(_, node)| task == Task::Identities || node.backup.is_some())
                .map(|(name, _)| name)
                .collect();
            let longest = timing.longest();
            let gap = gap(longest, nodes.len());
            for (at, name) in (0_u32..).zip(nodes) {
                let job = (task, name.clone());
                let entry = match earlier.jobs.remove(&job) {
                    Some(known) => known.timed(&timing, now),
                    None => Entry::new(&timing, longest, later(now, gap.saturating_mul(at))),
                };
                jobs.insert(job, entry);
            }
        }
        Self { jobs }
    }

    /// Takes what is due, the longest overdue first; each with whether it is to be found out first whether it is due.
    /// What was taken is not due again before it has ended.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<(Job, bool)> {
        let due = self.jobs.iter().filter(|(job, entry)| entry.is_due(now) && !self.waits(job));
        // Of what is due at once the tasks keep their order: a set is taken before it is verified.
        let mut due: Vec<_> = due.map(|(job, entry)| (job.0, entry.due_at, job.clone())).collect();
        due.sort_unstable();
        let take = |(_, _, job): (Task, Timestamp, Job)| {
            let entry = self.jobs.get_mut(&job)?;
            entry.running_since = Some(now);
            Some((job, entry.is_unknown))
        };
        due.into_iter().filter_map(take).collect()
    }

    /// When something is due next, of what does not run.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let ready = self.jobs.iter().filter(|(job, entry)| entry.running_since.is_none() && !self.waits(job));
        ready.map(|(_, entry)| entry.due_at).min()
    }

    /// True while another job of the node was never done or looked at: verified is what was taken then, and nothing
    /// expires before that.
    fn waits(&self, (task, node): &Job) -> bool {
        let is_open = |task| self.jobs.get(&(task, node.clone())).is_some_and(|entry| entry.is_unknown);
        match task {
            Task::Identities | Task::Backup => false,
            Task::Verify => is_open(Task::Backup),
            Task::Expire => is_open(Task::Backup) || is_open(Task::Verify),
        }
    }

    /// Every job, with when it is due; nothing while it runs.
    pub fn due(&self) -> impl Iterator<Item = (&Job, Option<Timestamp>)> {
        self.jobs.iter().map(|(job, entry)| (job, entry.running_since.is_none().then_some(entry.due_at)))
    }

    /// When this job is due; nothing while it runs.
    #[must_use]
    pub fn due_at(&self, job: &Job) -> Option<Timestamp> {
        self.jobs.get(job).filter(|entry| entry.running_since.is_none()).map(|entry| entry.due_at)
    }

    /// Notes how a job ended and when it is due again. `draw` (0 to 1) decides jitter and pause.
    pub fn ended(&mut self, job: &Job, ended: Ended, now: Timestamp, draw: f64) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        let started_at = entry.running_since.take().unwrap_or(now);
        if std::mem::take(&mut entry.is_void) {
            return;
        }
        let last_at = if let Ended::NotDue(last) = ended { last.min(now) } else { started_at };
        let next_at = next(&entry.timing, last_at, draw);
        entry.last_at = Some(last_at);
        entry.due_at = match ended {
            Ended::NotDue(_) | Ended::NoSet | Ended::Settled => next_at,
            Ended::Transient => next_at.min(later(now, pause(entry.failures, draw))),
        };
        // What was missed meanwhile runs once, now.
        entry.due_at = entry.due_at.max(now);
        entry.failures = if ended == Ended::Transient { entry.failures.saturating_add(1) } else { 0 };
        entry.is_unknown = false;
        entry.waits_for_a_set = ended == Ended::NoSet;
    }

    /// Lets a job that found no set look again.
    pub fn look_again(&mut self, job: &Job, now: Timestamp) {
        let waits = |entry: &&mut Entry| entry.waits_for_a_set && entry.running_since.is_none();
        if let Some(entry) = self.jobs.get_mut(job).filter(waits) {
            (entry.due_at, entry.is_unknown) = (now, true);
        }
    }

    /// What runs under this name was begun for a node that is gone: once it has ended, this one begins.
    pub fn waits_for_another(&mut self, job: &Job) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.is_void = true;
        }
    }

    /// Lets all that is done for a node be done anew: its configuration is another.
    pub fn begin_anew(&mut self, node: &Name, now: Timestamp) {
        for ((task, _), entry) in self.jobs.iter_mut().filter(|((_, name), _)| name == node) {
            // What stands in the stores says nothing about another source.
            entry.is_unknown = *task != Task::Identities;
            entry.due_at = now;
            entry.is_void = entry.running_since.is_some();
        }
    }
}

impl Entry {
    /// A job of which nothing is known yet.
    fn new(timing: &Timing, longest: Duration, due_at: Timestamp) -> Self {
        Self {
            timing: timing.clone(),
            longest,
            due_at,
            running_since: None,
            last_at: None,
            is_void: false,
            waits_for_a_set: false,
            failures: 0,
            is_unknown: true,
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        // Later than the timing ever puts it: the clock was set back, and nothing waits for that hour to come again.
        let is_out_of_reach = self.due_at > later(now, self.longest);
        self.running_since.is_none() && (self.due_at <= now || is_out_of_reach)
    }

    /// The same with this timing. One that failed is still tried again when it would have been.
    fn timed(mut self, timing: &Timing, now: Timestamp) -> Self {
        if self.timing != *timing {
            (self.timing, self.longest) = (timing.clone(), timing.longest());
            let next_at = self.last_at.map_or(self.due_at, |last| next(timing, last, 0.0).max(now));
            self.due_at = if self.failures > 0 { next_at.min(self.due_at) } else { next_at };
        }
        self
    }
}

/// How far apart the first starts of this many nodes are: all within a tenth of the interval.
fn gap(longest: Duration, nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
    (longest / 10 / nodes).min(SPREAD)
}

/// When a job whose last run began at `last` is due: `draw` is the part of the jitter that is added.
#[must_use]
pub fn next(timing: &Timing, last: Timestamp, draw: f64) -> Timestamp {
    let jitter = timing.jitter.map(|period| period.0).unwrap_or_default().mul_f64(draw.clamp(0.0, 1.0));
    let tick = match (&timing.every, &timing.cron) {
        (Some(every), _) => later(last, every.0),
        (None, Some(cron)) => cron.after(last).unwrap_or(Timestamp::MAX),
        (None, None) => Timestamp::MAX,
    };
    later(tick, jitter)
}

/// Full jitter over a ceiling that doubles.
fn pause(failures: u32, draw: f64) -> Duration {
    let ceiling = PAUSE.saturating_mul(1 << failures.min(12));
    ceiling.mul_f64(draw.clamp(0.0, 1.0)).max(PAUSE / 10)
}

fn later(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Period;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn every(seconds: u64, jitter: u64) -> Timing {
        Timing { every: Some(Period::seconds(seconds)), cron: None, jitter: Some(Period::seconds(jitter)) }
    }

    fn name(name: &str) -> Name {
        serde_json::from_value(name.into()).unwrap()
    }

    fn agenda(timing: &Timing, nodes: &[&str]) -> Agenda {
        let entry = |due_at| Entry::new(timing, timing.longest(), due_at);
        let jobs = nodes.iter().map(|node| ((Task::Identities, name(node)), entry(at(0))));
        Agenda { jobs: jobs.collect() }
    }

    fn job() -> Job {
        (Task::Identities, name("a"))
    }

    #[test]
    fn what_runs_is_not_due_again_before_it_has_ended() {
        let mut agenda = agenda(&every(60, 0), &["a"]);
        assert_eq!(agenda.take_due(at(0)), [(job(), true)]);
        assert_eq!(agenda.take_due(at(1000)), []);
        assert_eq!(agenda.next_at(), None);
        agenda.ended(&job(), Ended::Settled, at(1000), 0.0);
        // Sixteen ticks were missed: one run makes up for them.
        assert_eq!(agenda.take_due(at(1000)), [(job(), false)]);
        agenda.ended(&job(), Ended::Settled, at(1001), 0.0);
        assert_eq!(agenda.take_due(at(1059)), []);
        assert_eq!(agenda.take_due(at(1060)), [(job(), false)]);
    }

    #[test]
    fn what_was_done_lately_is_due_an_interval_after_that() {
        let mut agenda = agenda(&every(600, 0), &["a"]);
        agenda.take_due(at(0));
        agenda.ended(&job(), Ended::NotDue(at(-400)), at(0), 0.0);
        assert_eq!(agenda.due_at(&job()), Some(at(200)));
        // A clock that was ahead does not put it off for longer than an interval.
        agenda.take_due(at(200));
        agenda.ended(&job(), Ended::NotDue(at(90_000)), at(200), 0.0);
        assert_eq!(agenda.due_at(&job()), Some(at(800)));
    }

    #[test]
    fn at_first_a_set_is_taken_then_verified_and_only_then_does_anything_expire() {
        let tasks = [Task::Expire, Task::Verify, Task::Backup];
        let jobs = tasks.map(|task| {
            let entry = agenda(&every(60, 0), &["a"]).jobs.remove(&job()).unwrap();
            ((task, name("a")), entry)
        });
        let mut agenda = Agenda { jobs: jobs.into() };
        for task in [Task::Backup, Task::Verify, Task::Expire] {
            assert_eq!(agenda.next_at(), Some(at(0)));
            assert_eq!(agenda.take_due(at(1)), [((task, name("a")), true)]);
            assert_ne!(agenda.next_at(), Some(at(0)), "what waits wakes nobody");
            agenda.ended(&(task, name("a")), Ended::Settled, at(1), 0.0);
        }
        // From then on each has its own turn: one that is always late keeps no other from its own.
        assert_eq!(agenda.take_due(at(61)).len(), 3);
    }

    #[test]
    fn only_what_found_no_set_looks_again_once_there_may_be_one() {
        let mut agenda = agenda(&every(600, 0), &["a"]);
        agenda.take_due(at(0));
        agenda.ended(&job(), Ended::Settled, at(1), 0.0);
        agenda.look_again(&job(), at(2));
        assert_eq!(agenda.due_at(&job()), Some(at(600)), "it has its own turn");
        agenda.take_due(at(600));
        agenda.ended(&job(), Ended::NoSet, at(601), 0.0);
        assert_eq!(agenda.due_at(&job()), Some(at(1200)));
        agenda.look_again(&job(), at(700));
        assert_eq!(agenda.take_due(at(700)), [(job(), true)]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_everything_due() {
        let mut agenda = agenda(&every(600, 60), &["a"]);
        agenda.take_due(at(0));
        agenda.ended(&job(), Ended::Settled, at(1), 1.0);
        assert_eq!(agenda.take_due(at(0)), [], "it is due in an interval and its jitter");
        assert_eq!(agenda.take_due(at(-3600)), [(job(), false)]);
        agenda.ended(&job(), Ended::Settled, at(-3599), 0.0);
        assert_eq!(agenda.due_at(&job()), Some(at(-3000)));
    }

    #[test]
    fn another_timing_counts_from_the_last_run_on() {
        let mut agenda = agenda(&every(3600, 0), &["a"]);
        agenda.take_due(at(0));
        agenda.ended(&job(), Ended::Settled, at(1), 0.0);
        let entry = agenda.jobs.remove(&job()).unwrap();
        let entry = entry.timed(&every(3600, 0), at(10));
        assert_eq!(entry.due_at, at(3600));
        let entry = entry.timed(&every(60, 0), at(10));
        assert_eq!(entry.due_at, at(60));
        // It would have been due already: now, and not in the past.
        let entry = entry.timed(&every(5, 0), at(10));
        assert_eq!(entry.due_at, at(10));
        let failed = Entry { failures: 1, due_at: at(40), ..entry };
        assert_eq!(failed.timed(&every(3600, 0), at(10)).due_at, at(40));
    }

    #[test]
    fn a_cron_tick_is_the_next_one_after_the_last_start() {
        let timing = Timing { every: None, cron: Some("0 * * * *".parse().unwrap()), jitter: None };
        // 1,800,000,000 is a full hour.
        assert_eq!(next(&timing, at(0), 1.0), at(3600));
        assert_eq!(next(&timing, at(3599), 1.0), at(3600));
        let jittered = Timing { jitter: Some(Period::seconds(60)), ..timing };
        assert_eq!(next(&jittered, at(0), 0.5), at(3630));
    }

    proptest! {
        #[test]
        fn a_failure_is_tried_again_within_the_interval_and_pauses_grow(
            interval in 1_u64..100_000, jitter in 0_u64..1000, failures in 0_usize..40, draw in 0.0..1.0_f64,
        ) {
            let mut agenda = agenda(&every(interval, jitter), &["a"]);
            let mut now = at(0);
            for failure in 0..=failures {
                prop_assert_eq!(agenda.take_due(now).len(), 1);
                agenda.ended(&job(), Ended::Transient, now, draw);
                let due_at = agenda.due_at(&job()).unwrap();
                let waited = Duration::try_from(due_at.duration_since(now)).unwrap();
                prop_assert!(waited <= Duration::from_secs(interval + jitter));
                prop_assert!(waited <= pause(u32::try_from(failure).unwrap(), 1.0));
                prop_assert!(waited >= Duration::from_secs(interval).min(PAUSE / 10));
                now = due_at;
            }
        }

        #[test]
        fn the_next_time_is_an_interval_later_and_never_more_than_the_jitter_after_that(
            interval in 1_u64..1_000_000, jitter in 0_u64..10_000, draw in 0.0..1.0_f64,
        ) {
            let next = next(&every(interval, jitter), at(0), draw);
            prop_assert!(next >= later(at(0), Duration::from_secs(interval)));
            prop_assert!(next <= later(at(0), Duration::from_secs(interval + jitter)));
        }

        #[test]
        fn however_many_nodes_there_are_all_begin_within_a_tenth_of_the_interval(interval in 1_u64..100_000, nodes in 1_usize..5000) {
            let gap = gap(Duration::from_secs(interval), nodes);
            let last = gap.saturating_mul(u32::try_from(nodes - 1).unwrap());
            prop_assert!(last <= Duration::from_secs(interval) / 10);
        }
    }
}
