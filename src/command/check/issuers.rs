//! How many tokens a month the schedule takes from each issuer: many count them, and the validator shares the quota.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::successors;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{Address, Auth, Config, Oauth2, Timing};

/// What issuers bill by, near enough.
const MONTH: Duration = Duration::from_hours(30 * 24);
/// A token of a day is used for four fifths of it.
const USE_OF_A_DAY: Duration = Duration::from_mins(24 * 60 / 5 * 4);

/// Turns of a month for who has no schedule here: the chart's default.
const HOURLY: u64 = 30 * 24;

/// What one issuer is asked for. How long its tokens live, only a token says.
#[derive(Debug, Serialize)]
pub(super) struct Tokens {
    issuer: Address,
    nodes: usize,
    /// By `run`, if no token outlives the wait for the next pass; `null` where identities are not scheduled.
    at_most: Option<u64>,
    /// By `run`, where a token lives for 24 hours.
    living_24h: Option<u64>,
    /// By `sync` of all nodes as a `CronJob`, which keeps no token for the next; each hour where nothing is scheduled.
    as_cronjob: u64,
}

/// For each issuer.
pub(super) fn tokens(config: &Config) -> Vec<Tokens> {
    let scheduled = config.schedule.identities.as_ref().map(turns);
    let mut issuers: BTreeMap<&Address, Vec<&Oauth2>> = BTreeMap::new();
    for node in config.nodes.values() {
        if let Auth::Oauth2(oauth2) = &node.identity.auth
            && let Some(issuer) = oauth2.issuer.as_ref().or(oauth2.token_url.as_ref())
        {
            issuers.entry(issuer).or_default().push(oauth2);
        }
    }
    let of_issuer = |(issuer, clients): (&Address, Vec<&Oauth2>)| {
        // Nodes with the same client share its token.
        let distinct = count(clients.iter().collect::<BTreeSet<_>>().len());
        let at_most = scheduled.map(|turns| turns * count(clients.len()));
        let of_a_day = distinct * MONTH.as_secs().div_ceil(USE_OF_A_DAY.as_secs());
        let living_24h = at_most.map(|at_most| at_most.min(of_a_day));
        let as_cronjob = scheduled.unwrap_or(HOURLY) * distinct;
        Tokens { issuer: issuer.clone(), nodes: clients.len(), at_most, living_24h, as_cronjob }
    };
    issuers.into_iter().map(of_issuer).collect()
}

/// How often it is a task's turn within a month.
fn turns(timing: &Timing) -> u64 {
    let every = timing.every.map(|every| MONTH.as_millis().div_ceil(every.0.as_millis().max(1)));
    let by_cron = timing.cron.as_ref().map(|cron| {
        let start = Timestamp::UNIX_EPOCH;
        let ticks = successors(cron.after(start), |tick| cron.after(*tick));
        count(ticks.take_while(|tick| tick.duration_since(start).unsigned_abs() <= MONTH).count())
    });
    every.and_then(|turns| u64::try_from(turns).ok()).or(by_cron).unwrap_or_default()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, nodes, at_most, living_24h, as_cronjob } = self;
        let nodes = super::count(*nodes, "node", "nodes");
        write!(f, "tokens: {issuer}: {nodes}: ")?;
        match (at_most, living_24h) {
            (Some(at_most), Some(living_24h)) => write!(
                f,
                "at most {at_most} a month by `idkeep run` ({living_24h} where a token lives for 24h), {as_cronjob} as a CronJob"
            ),
            _ => write!(f, "{as_cronjob} a month as an hourly CronJob, one for each `idkeep sync`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_has_as_many_turns_as_the_schedule_says() {
        let every = |every: &str| Timing { every: Some(every.parse().unwrap()), cron: None, jitter: None };
        let cron = |cron: &str| Timing { every: None, cron: Some(cron.parse().unwrap()), jitter: None };
        for (timing, expected) in [
            (every("10m"), 4320),
            (every("1h"), 720),
            (every("7m"), 6172),
            (every("60d"), 1),
            (cron("*/10 * * * *"), 4320),
            (cron("0 * * * *"), 720),
            (cron("0 0 15 * *"), 1),
        ] {
            assert_eq!(turns(&timing), expected, "{timing:?}");
        }
    }
}
