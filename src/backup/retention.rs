//! Retention: which sets may go. A pure function of the sets and the time, with the reason in each verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, ISOWeekDate};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::set::SetId;
use crate::config::{self, Period};

/// A verification that is older than this proves too little to remove anything on.
const RECENT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What a set is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFacts {
    /// Its id.
    pub id: SetId,
    /// When its first snapshot was taken.
    pub snapshot_at: Timestamp,
    /// Whose databases, where known.
    pub participant_id: Option<String>,
    /// The participant's database, where there is one.
    pub participant_database: Option<String>,
    /// The newest migration in it, where known.
    pub migration_id: Option<i64>,
    /// When it last passed `verify`.
    pub verified_at: Option<Timestamp>,
}

/// What becomes of a set, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep(String),
    /// It may go.
    Remove(String),
}

impl Verdict {
    /// True for a set that stays.
    #[must_use]
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

/// The rules.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    keep: config::Retention,
    pruning_retention: Option<Duration>,
}

impl Retention {
    /// The rules of this configuration.
    #[must_use]
    pub fn new(keep: config::Retention, pruning_retention: Option<Period>) -> Self {
        Self { keep, pruning_retention: pruning_retention.map(|period| period.0) }
    }

    /// The verdict on each set, oldest first, whatever the order of `sets`.
    #[must_use]
    pub fn judge(&self, sets: &[SetFacts]) -> Vec<(SetId, Verdict)> {
        let mut sets: Vec<&SetFacts> = sets.iter().collect();
        sets.sort_by_key(|set| set.id);
        let mut kept = Kept::default();
        self.by_age(&sets, &mut kept);
        if let Some(set) = sets.iter().rev().find(|set| set.verified_at.is_some()) {
            kept.keep(set.id, "the newest verified set");
        }
        before_changes(&sets, &mut kept);
        if let Some(retention) = self.pruning_retention {
            bridges(&sets, retention, &mut kept);
        }
        sets.iter().map(|set| (set.id, kept.verdict(set.id))).collect()
    }

    fn by_age(&self, sets: &[&SetFacts], kept: &mut Kept) {
        let newest = sets.iter().rev();
        for (index, set) in newest.clone().take(count(self.keep.keep_last).max(1)).enumerate() {
            kept.keep(set.id, format!("number {} of the last {}", index + 1, self.keep.keep_last.max(1)));
        }
        let (mut days, mut weeks) = (BTreeSet::<Date>::new(), BTreeSet::<ISOWeekDate>::new());
        for set in newest {
            // Not by its id: where a clock was ahead once, ids are in the future ever since, and seconds apart.
            let date = TimeZone::UTC.to_datetime(set.snapshot_at).date();
            if days.len() < count(self.keep.keep_daily) && days.insert(date) {
                kept.keep(set.id, format!("the newest of {date}"));
            }
            let week = date.iso_week_date();
            let monday = ISOWeekDate::new(week.year(), week.week(), jiff::civil::Weekday::Monday).unwrap_or(week);
            if weeks.len() < count(self.keep.keep_weekly) && weeks.insert(monday) {
                kept.keep(set.id, format!("the newest of week {}-W{:02}", week.year(), week.week()));
            }
        }
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The sets that stay, each with the first reason that was found.
#[derive(Default)]
struct Kept(BTreeMap<SetId, String>);

impl Kept {
    fn keep(&mut self, id: SetId, reason: impl Into<String>) {
        self.0.entry(id).or_insert_with(|| reason.into());
    }

    fn verdict(&self, id: SetId) -> Verdict {
        match self.0.get(&id) {
            Some(reason) => Verdict::Keep(reason.clone()),
            None => Verdict::Remove("no rule keeps it".into()),
        }
    }
}

/// The newest set before each change that only it can bring back across: no source says when those may go.
fn before_changes(sets: &[&SetFacts], kept: &mut Kept) {
    for pair in sets.windows(2) {
        let [old, new] = pair else { continue };
        let changed = [
            ("participant id", old.participant_id != new.participant_id),
            ("participant database", old.participant_database != new.participant_database),
            ("migration", old.migration_id != new.migration_id),
        ];
        if let Some((what, _)) = changed.into_iter().find(|(_, is_changed)| *is_changed) {
            kept.keep(old.id, format!("the newest before the {what} changed"));
        }
    }
}

/// What it takes so that no gap between kept sets reaches the pruning retention, as far as the sets allow it.
fn bridges(sets: &[&SetFacts], retention: Duration, kept: &mut Kept) {
    let mut by_time: Vec<&SetFacts> = sets.to_vec();
    by_time.sort_by_key(|set| (set.snapshot_at, set.id));
    let is_kept: Vec<bool> = by_time.iter().map(|set| kept.0.contains_key(&set.id)).collect();
    let Some(mut at) = is_kept.iter().position(|is_kept| *is_kept) else { return };
    let within = |from: usize, to: usize| {
        let gap = by_time[to].snapshot_at.duration_since(by_time[from].snapshot_at);
        Duration::try_from(gap).unwrap_or_default() < retention
    };
    while let Some(next) = (at + 1..by_time.len()).find(|index| is_kept[*index]) {
        while !within(at, next) {
            // The farthest that is still near enough; where none is, the nearest: the gap is there already.
            let reachable = (at + 1..next).rev().find(|index| within(at, *index));
            let Some(step) = reachable.or_else(|| (at + 1 < next).then_some(at + 1)) else { break };
            kept.keep(by_time[step].id, format!("without it a gap would reach {}", Period(retention)));
            at = step;
        }
        at = next;
    }
}

/// Why nothing may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Of what would remain, nothing was verified lately.
    NoneVerified,
    /// More than a quarter of the sets would go.
    TooMany {
        /// Sets that would go.
        remove: usize,
        /// Sets that there are.
        of: usize,
    },
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoneVerified => {
                "run `idkeep verify` first: nothing is removed while nothing is known to be good".into()
            }
            Self::TooMany { .. } => "look at `idkeep expire --dry-run`, and say --yes if it is what you want".into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneVerified => f.write_str("no set that was verified in the last 7 days would remain"),
            Self::TooMany { remove, of } => write!(f, "{remove} of {of} sets would go, more than a quarter"),
        }
    }
}

/// Whether the removals among these verdicts may be carried out. `yes` waives the quarter, never the verification.
pub fn guard(sets: &[SetFacts], verdicts: &[(SetId, Verdict)], now: Timestamp, yes: bool) -> Result<(), Refusal> {
    let remove = verdicts.iter().filter(|(_, verdict)| !verdict.is_keep()).count();
    if remove == 0 {
        return Ok(());
    }
    let stays = |id: SetId| verdicts.iter().any(|(known, verdict)| *known == id && verdict.is_keep());
    // A record of the future proves no more than one that is too old.
    let is_recent = |at: Timestamp| now.duration_since(at).abs() <= RECENT;
    if !sets.iter().any(|set| stays(set.id) && set.verified_at.is_some_and(is_recent)) {
        return Err(Refusal::NoneVerified);
    }
    if !yes && remove * 4 > verdicts.len() {
        return Err(Refusal::TooMany { remove, of: verdicts.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_790_000_000;

    fn set(hours: i64) -> SetFacts {
        let at = Timestamp::from_second(START + hours * 3600).unwrap();
        SetFacts {
            id: SetId::at(at),
            snapshot_at: at,
            participant_id: Some("PAR::a".into()),
            participant_database: Some("participant".into()),
            migration_id: Some(3),
            verified_at: None,
        }
    }

    fn rules(keep_last: u32, keep_daily: u32, keep_weekly: u32, hours: Option<u64>) -> Retention {
        let period = hours.map(|hours| Period(Duration::from_hours(hours)));
        Retention::new(config::Retention { keep_last, keep_daily, keep_weekly }, period)
    }

    fn kept(rules: Retention, sets: &[SetFacts]) -> Vec<SetId> {
        rules.judge(sets).into_iter().filter(|(_, verdict)| verdict.is_keep()).map(|(id, _)| id).collect()
    }

    #[test]
    fn the_last_and_the_newest_of_days_and_weeks_stay() {
        let sets: Vec<SetFacts> = (0..240).step_by(3).map(set).collect();
        assert_eq!(kept(rules(4, 0, 0, None), &sets).len(), 4);
        let daily = kept(rules(1, 5, 0, None), &sets);
        assert_eq!(daily.len(), 5);
        let days: BTreeSet<String> = daily.iter().map(|id| id.to_string()[..8].to_owned()).collect();
        assert_eq!(days.len(), 5, "{daily:?}");
        assert_eq!(kept(rules(1, 0, 2, None), &sets).len(), 2);
    }

    #[test]
    fn days_are_those_of_the_snapshots_also_where_the_ids_ran_ahead() {
        let mut sets: Vec<SetFacts> = (0..240).step_by(3).map(set).collect();
        let mut id = set(24 * 3650).id;
        for set in &mut sets {
            set.id = id;
            id = id.next();
        }
        assert_eq!(kept(rules(1, 5, 0, None), &sets).len(), 5);
    }

    #[test]
    fn the_newest_verified_set_stays_however_old() {
        let mut sets: Vec<SetFacts> = (0..100).map(set).collect();
        sets[3].verified_at = Some(sets[99].snapshot_at);
        let kept = kept(rules(1, 0, 0, None), &sets);
        assert_eq!(kept, [sets[3].id, sets[99].id]);
    }

    #[test]
    fn the_newest_before_each_change_stays() {
        let mut sets: Vec<SetFacts> = (0..40).map(set).collect();
        for set in &mut sets[10..] {
            set.migration_id = Some(4);
        }
        for set in &mut sets[20..] {
            set.participant_database = Some("participant-4".into());
        }
        for set in &mut sets[30..] {
            set.participant_id = Some("PAR::b".into());
        }
        let verdicts = rules(1, 0, 0, None).judge(&sets);
        let kept: Vec<usize> = (0..40).filter(|index| verdicts[*index].1.is_keep()).collect();
        assert_eq!(kept, [9, 19, 29, 39]);
    }

    #[test]
    fn what_bridges_a_gap_of_the_pruning_retention_stays() {
        let mut sets: Vec<SetFacts> = (0..100).map(set).collect();
        sets[0].verified_at = Some(sets[0].snapshot_at);
        let kept = kept(rules(1, 0, 0, Some(10)), &sets);
        assert_eq!(kept.first(), Some(&sets[0].id));
        for pair in kept.windows(2) {
            let gap = pair[1].started_at().duration_since(pair[0].started_at());
            assert!(gap < SignedDuration::from_hours(10), "{gap:?}");
        }
        assert_eq!(kept.len(), 12, "and no more than it takes");
    }

    #[test]
    fn nothing_goes_while_nothing_is_known_to_be_good() {
        let mut sets: Vec<SetFacts> = (0..10).map(set).collect();
        let now = sets[9].snapshot_at;
        let few = rules(9, 0, 0, None).judge(&sets);
        assert_eq!(guard(&sets, &few, now, true), Err(Refusal::NoneVerified));
        sets[9].verified_at = Some(now - RECENT - SignedDuration::from_secs(1));
        assert_eq!(guard(&sets, &few, now, true), Err(Refusal::NoneVerified));
        sets[9].verified_at = Some(now - RECENT);
        assert_eq!(guard(&sets, &few, now, false), Ok(()));
        let many = rules(7, 0, 0, None).judge(&sets);
        assert_eq!(guard(&sets, &many, now, false), Err(Refusal::TooMany { remove: 3, of: 10 }));
        assert_eq!(guard(&sets, &many, now, true), Ok(()));
        sets[9].verified_at = Some(now + RECENT + SignedDuration::from_secs(1));
        assert_eq!(guard(&sets, &few, now, true), Err(Refusal::NoneVerified), "of the future");
        let none = rules(10, 0, 0, None).judge(&sets);
        assert_eq!(guard(&sets[..9], &none, now, false), Ok(()), "nothing would go");
    }

    prop_compose! {
        fn any_sets()(
            sets in proptest::collection::btree_map(0_i64..3000, (any::<bool>(), 0_i64..3, 0_u8..2), 1..80),
        ) -> Vec<SetFacts> {
            let facts = sets.into_iter().map(|(hours, (is_verified, migration, participant))| {
                let mut set = set(hours);
                set.verified_at = is_verified.then_some(set.snapshot_at);
                set.migration_id = Some(migration);
                set.participant_id = Some(format!("PAR::{participant}"));
                set
            });
            facts.collect()
        }
    }

    prop_compose! {
        fn any_rules()(last in 0_u32..10, daily in 0_u32..10, weekly in 0_u32..10, hours in proptest::option::of(1_u64..400)) -> Retention {
            rules(last, daily, weekly, hours)
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_kept_again(sets in any_sets(), rules in any_rules()) {
            let first = kept(rules, &sets);
            let left: Vec<SetFacts> = sets.into_iter().filter(|set| first.contains(&set.id)).collect();
            prop_assert_eq!(kept(rules, &left), first);
        }

        #[test]
        fn the_order_in_which_sets_are_named_does_not_matter(sets in any_sets(), rules in any_rules(), seed: u64) {
            let mut shuffled = sets.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            prop_assert_eq!(rules.judge(&shuffled), rules.judge(&sets));
        }

        #[test]
        fn the_newest_and_the_newest_verified_always_stay(sets in any_sets(), rules in any_rules()) {
            let kept = kept(rules, &sets);
            prop_assert!(kept.contains(&sets.last().unwrap().id));
            if let Some(verified) = sets.iter().rev().find(|set| set.verified_at.is_some()) {
                prop_assert!(kept.contains(&verified.id));
            }
        }

        #[test]
        fn keeping_more_never_removes_more(sets in any_sets(), last in 0_u32..10, daily in 0_u32..10, weekly in 0_u32..10) {
            let few = kept(rules(last, daily, weekly, None), &sets);
            let many = kept(rules(last + 2, daily + 2, weekly + 2, None), &sets);
            prop_assert!(few.iter().all(|id| many.contains(id)));
        }

        #[test]
        fn a_gap_between_kept_sets_is_one_that_no_set_could_have_filled(sets in any_sets(), rules in any_rules()) {
            let Some(retention) = rules.pruning_retention else { return Ok(()) };
            let kept = kept(rules, &sets);
            for pair in kept.windows(2) {
                let gap = pair[1].started_at().duration_since(pair[0].started_at());
                let is_between = |set: &&SetFacts| set.id > pair[0] && set.id < pair[1];
                if Duration::try_from(gap).unwrap() >= retention {
                    prop_assert!(sets.iter().find(is_between).is_none(), "{:?}", pair);
                }
            }
        }
    }
}
