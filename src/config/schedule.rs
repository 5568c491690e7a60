//! When the daemon does what.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cron, Period};

/// When the daemon does what. A task that is not named does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Brings the identities of each node into its stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<Timing>,
    /// Takes a set of each node that has backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<BackupTiming>,
    /// Checks the newest set of each node that has backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Timing>,
    /// Removes the sets that retention does not keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<Timing>,
}

/// When one task runs, for each node: `every` or `cron`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{"every": "24h"}]))]
pub struct Timing {
    /// From one start to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// Minute, hour, day of the month, month, day of the week; UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// Up to this much later, drawn anew each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Period>,
}

/// When sets are taken, and how old the newest may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{"every": "3h"}]))]
pub struct BackupTiming {
    /// From one start to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// Minute, hour, day of the month, month, day of the week; UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// Up to this much later, drawn anew each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Period>,
    /// How old the newest set may be: the network asks for 4 hours.
    #[serde(default = "four_hours")]
    pub objective: Period,
}

fn four_hours() -> Period {
    Period(Duration::from_hours(4))
}

impl BackupTiming {
    /// The same without the objective.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing { every: self.every, cron: self.cron.clone(), jitter: self.jitter }
    }
}

impl Timing {
    /// The longest stretch between two turns, without jitter.
    #[must_use]
    pub fn stretch(&self) -> Duration {
        self.every.map(|period| period.0).or_else(|| self.cron.as_ref().map(Cron::longest)).unwrap_or_default()
    }

    /// The longest stretch between two starts, jitter included.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.stretch() + self.jitter.map(|period| period.0).unwrap_or_default()
    }
}

impl Schedule {
    /// Each task that runs, by its key.
    pub fn tasks(&self) -> impl Iterator<Item = (&'static str, Timing)> + use<> {
        let backups = self.backups.as_ref().map(BackupTiming::timing);
        [
            ("identities", self.identities.clone()),
            ("backups", backups),
            ("verify", self.verify.clone()),
            ("expire", self.expire.clone()),
        ]
        .into_iter()
        .filter_map(|(task, timing)| Some((task, timing?)))
    }
}
