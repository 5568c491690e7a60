//! What is known of every node: one truth for `/readyz`, `/status`, `/metrics` and the heartbeat. Nothing secret.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::agenda::{Job, Task};
use super::sets::{Newest, Sets};
use crate::config::Config;
use crate::error::{Failed, Fault};
use crate::receipt::NodeReceipt;
use crate::store::Facts;

/// Everything that is known.
#[derive(Debug, Default, Serialize)]
pub struct Status {
    /// This idkeep.
    pub version: &'static str,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// Each node by its name.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// Each scheduled task with the longest stretch between two starts, in seconds.
    pub schedule: BTreeMap<&'static str, f64>,
    /// How the configuration was last read again.
    pub reload: Reload,
    /// Calls of the heartbeat, by outcome.
    pub heartbeats: Counts,
    /// Nodes whose identities were stored since the last heartbeat.
    #[serde(skip)]
    stored_since_beat: BTreeSet<String>,
}

/// How often something came out how.
pub type Counts = BTreeMap<&'static str, u64>;

/// How the configuration was last read again.
#[derive(Debug, Default, Serialize)]
pub struct Reload {
    /// By outcome.
    pub total: Counts,
    /// False where the one in force is not the one in the file.
    pub is_current: bool,
    /// When.
    pub at: Option<Timestamp>,
}

/// What is known of one node.
#[derive(Debug, Default, Serialize)]
pub struct NodeStatus {
    /// Its identities.
    pub identities: IdentityStatus,
    /// Its sets, where it has backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<BackupStatus>,
    /// When each task is due, where it does not run.
    pub due: BTreeMap<&'static str, Timestamp>,
}

/// What is known of a node's identities.
#[derive(Debug, Default, Serialize)]
pub struct IdentityStatus {
    /// When they were last known to be stored.
    pub last_success_at: Option<Timestamp>,
    /// How the last pass came out.
    pub last: Option<Last>,
    /// Whose they are.
    pub participant_id: Option<String>,
    /// Digest over the semantic form.
    pub digest: Option<String>,
    /// `software`, `kms` or `mixed`.
    pub key_kind: Option<String>,
    /// What is known about the namespace's key.
    pub key_proof: Option<String>,
    /// Size of the dump.
    pub bytes: Option<usize>,
    /// How long the last pass took, in milliseconds.
    pub elapsed_ms: Option<u64>,
    /// Each store.
    pub stores: BTreeMap<String, StoreStatus>,
    /// Passes by outcome.
    pub total: Counts,
    /// Passes that ended with identities that are not to be stored.
    pub refused: u64,
}

/// What is known of one store of a node.
#[derive(Debug, Default, Serialize)]
pub struct StoreStatus {
    /// How the last pass came out there.
    pub outcome: Option<&'static str>,
    /// The part of what the store takes that the identities fill.
    pub fill_ratio: Option<f64>,
    /// By outcome.
    pub total: Counts,
}

/// What is known of a node's sets.
#[derive(Debug, Default, Serialize)]
pub struct BackupStatus {
    /// What the repository holds.
    pub sets: Option<Sets>,
    /// How the last run came out.
    pub last: Option<Last>,
    /// Runs by outcome.
    pub total: Counts,
    /// Verifications by result.
    pub verified: Counts,
    /// Expiries by outcome.
    pub expired: Counts,
    /// The age at which the newest set is too old, in seconds, where sets are taken here.
    pub objective_seconds: Option<f64>,
    /// The participant's pruning retention, in seconds.
    pub pruning_retention_seconds: Option<f64>,
}

/// How something came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Last {
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub outcome: &'static str,
    /// In a word, where it failed. The log has the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

impl Last {
    fn new(outcome: &'static str, failed: Option<&Failed>, at: Timestamp) -> Self {
        Self { at, outcome, reason: failed.map(|failed| failed.fault.in_words()) }
    }
}

impl Status {
    /// What is known at the start: nothing.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let reload = Reload { is_current: true, ..Reload::default() };
        Self { version: env!("CARGO_PKG_VERSION"), started_at: Some(now), reload, ..Self::default() }
    }

    /// Takes over a configuration: new nodes come in, nodes that are gone go, the counts of the others go on.
    pub fn configure(&mut self, config: &Config) {
        self.nodes.retain(|name, _| config.nodes.keys().any(|known| known.as_str() == name));
        self.stored_since_beat.retain(|name| self.nodes.contains_key(name));
        self.schedule = config.schedule.tasks().map(|(task, timing)| (task, timing.longest().as_secs_f64())).collect();
        for (name, node) in &config.nodes {
            let status = self.nodes.entry(name.to_string()).or_default();
            status.due.clear();
            let stores = &node.identity.stores;
            status.identities.stores.retain(|name, _| stores.iter().any(|known| known.as_str() == name));
            let objective = config.schedule.backups.as_ref().map(|timing| timing.objective.0.as_secs_f64());
            status.backups = node.backup.as_ref().map(|backup| BackupStatus {
                objective_seconds: objective,
                pruning_retention_seconds: backup.pruning_retention.map(|period| period.0.as_secs_f64()),
                ..status.backups.take().unwrap_or_default()
            });
        }
    }

    /// Forgets what was known of a node whose configuration is another: only the counts go on.
    pub fn forget(&mut self, node: &str) {
        self.stored_since_beat.remove(node);
        let Some(node) = self.node(node) else { return };
        let known = std::mem::take(&mut node.identities);
        node.identities.total = known.total;
        node.identities.refused = known.refused;
        let counts = known
            .stores
            .into_iter()
            .map(|(name, store)| (name, StoreStatus { total: store.total, ..StoreStatus::default() }));
        node.identities.stores = counts.collect();
        if let Some(backups) = &mut node.backups {
            (backups.sets, backups.last) = (None, None);
        }
    }

    fn node(&mut self, node: &str) -> Option<&mut NodeStatus> {
        // One that a reload has taken away meanwhile is not brought back.
        self.nodes.get_mut(node)
    }

    /// One pass over a node.
    pub fn synced(&mut self, receipt: &NodeReceipt, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(&receipt.node) else { return };
        let status = &mut node.identities;
        let outcome = outcome(receipt);
        let failed = receipt.failed.as_ref();
        *status.total.entry(outcome).or_default() += 1;
        // Also where another store's failure is graver, or the others are enough.
        let mut failures = receipt.stores.iter().filter_map(|store| store.failed.as_ref()).chain(failed);
        status.refused += u64::from(failures.any(|failed| failed.fault == Fault::Identity));
        status.last = Some(Last::new(outcome, failed, now));
        status.elapsed_ms = Some(receipt.elapsed_ms);
        for store in &receipt.stores {
            let known = status.stores.entry(store.store.clone()).or_default();
            *known.total.entry(store.outcome).or_default() += 1;
            known.outcome = Some(store.outcome);
            known.fill_ratio = store.fill_ratio.or(known.fill_ratio);
        }
        if failed.is_none() {
            status.last_success_at = Some(now);
            let about = &receipt.about;
            status.participant_id.clone_from(&about.participant_id);
            status.digest.clone_from(&about.digest);
            status.key_kind = about.key_kind.map(str::to_owned);
            status.key_proof = about.key_proof.map(str::to_owned);
            status.bytes = about.bytes;
            self.stored_since_beat.insert(receipt.node.clone());
        } else {
            self.stored_since_beat.remove(&receipt.node);
        }
    }

    /// A node's identities are stored, as the facts in its stores say; nothing was fetched.
    pub fn known_stored(&mut self, node: &str, facts: &Facts, checked_at: Timestamp) {
        let Some(node) = self.node(node) else { return };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let status = &mut node.identities;
        status.last_success_at = Some(checked_at);
        status.participant_id = text(&facts.participant_id);
        status.digest = text(&facts.digest);
        status.key_kind = text(&facts.key_kind);
        status.key_proof = text(&facts.key_proof);
    }

    /// A backup of a node.
    pub fn backed_up(&mut self, node: &str, outcome: &'static str, failed: Option<&Failed>, now: Timestamp) {
        let Some(backups) = self.backups(node) else { return };
        *backups.total.entry(outcome).or_default() += 1;
        backups.last = Some(Last::new(outcome, failed, now));
    }

    /// A verification of a node's newest set.
    pub fn verified(&mut self, node: &str, outcome: &'static str) {
        let Some(backups) = self.backups(node) else { return };
        *backups.verified.entry(outcome).or_default() += 1;
    }

    /// An expiry of a node's sets.
    pub fn expired(&mut self, node: &str, outcome: &'static str) {
        let Some(backups) = self.backups(node) else { return };
        *backups.expired.entry(outcome).or_default() += 1;
    }

    /// What a node's repository holds.
    pub fn seen(&mut self, node: &str, sets: Sets) {
        let Some(backups) = self.backups(node) else { return };
        backups.sets = Some(sets);
    }

    fn backups(&mut self, node: &str) -> Option<&mut BackupStatus> {
        self.node(node)?.backups.as_mut()
    }

    /// When a job is due again; nothing while it runs.
    pub fn is_due(&mut self, (task, node): &Job, at: Option<Timestamp>) {
        let Some(node) = self.nodes.get_mut(node.as_str()) else { return };
        match at {
            Some(at) => node.due.insert(task.as_str(), at),
            None => node.due.remove(task.as_str()),
        };
    }

    /// Why these nodes are not ready, each in a line; empty where they are. `None` where there is no such node.
    #[must_use]
    pub fn unready(&self, node: Option<&str>, now: Timestamp) -> Option<Vec<String>> {
        if node.is_some_and(|node| !self.nodes.contains_key(node)) {
            return None;
        }
        let chosen = self.nodes.iter().filter(|(name, _)| node.is_none_or(|node| node == name.as_str()));
        let interval = self.schedule.get(Task::Identities.as_str()).copied();
        let lines = chosen.filter_map(|(name, node)| {
            node.identities.unready(interval, now).map(|reason| format!("{name}: {reason}"))
        });
        Some(lines.collect())
    }

    /// True once every node was stored anew since the last heartbeat, and all is well. A heartbeat follows.
    pub fn takes_a_beat(&mut self, now: Timestamp) -> bool {
        let is_full = self.stored_since_beat.len() == self.nodes.len() && !self.nodes.is_empty();
        let is_well = is_full
            && self.unready(None, now).is_some_and(|reasons| reasons.is_empty())
            && self.nodes.values().filter_map(|node| node.backups.as_ref()).all(|backups| backups.is_fresh(now));
        if is_well {
            self.stored_since_beat.clear();
        }
        is_well
    }

    /// Counts a call of the heartbeat.
    pub fn beat(&mut self, outcome: &'static str) {
        *self.heartbeats.entry(outcome).or_default() += 1;
    }

    /// Notes how the configuration was read again.
    pub fn reloaded(&mut self, is_current: bool, now: Timestamp) {
        *self.reload.total.entry(if is_current { "done" } else { "failed" }).or_default() += 1;
        (self.reload.is_current, self.reload.at) = (is_current, Some(now));
    }
}

impl IdentityStatus {
    fn unready(&self, interval: Option<f64>, now: Timestamp) -> Option<String> {
        let Some(interval) = interval else { return Some("its identities are not scheduled here".into()) };
        let since = |at: Timestamp| format!("last stored at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"));
        if let Some(Last { reason: Some(reason), .. }) = self.last {
            let stored = self.last_success_at.map_or_else(|| "not stored yet".to_owned(), since);
            return Some(format!("the last sync failed: {reason}; {stored}"));
        }
        let Some(stored_at) = self.last_success_at else { return Some("not stored yet".into()) };
        let is_stale = seconds(stored_at, now) > 3.0 * interval;
        is_stale.then(|| format!("stale: {}, which is over 3 intervals ago", since(stored_at)))
    }
}

impl BackupStatus {
    /// The newest set, where there is one.
    #[must_use]
    pub fn newest(&self) -> Option<&Newest> {
        self.sets.as_ref()?.newest.as_ref()
    }

    /// True unless sets are taken here and the newest is too old.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let Some(objective) = self.objective_seconds else { return true };
        // One of an hour that is still to come tells nothing.
        self.newest().is_some_and(|newest| {
            seconds(newest.snapshot_at, now) <= objective && seconds(now, newest.snapshot_at) <= 3600.0
        })
    }
}

/// Seconds from one instant to another, never less than none.
#[must_use]
pub fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    Duration::try_from(to.duration_since(from)).unwrap_or_default().as_secs_f64()
}

/// A pass in a word: what its stores did, at the most.
fn outcome(receipt: &NodeReceipt) -> &'static str {
    if receipt.failed.is_some() {
        return "failed";
    }
    let has = |outcome: &str| receipt.stores.iter().any(|store| store.outcome == outcome);
    ["repaired", "written"].into_iter().find(|outcome| has(outcome)).unwrap_or("unchanged")
}
