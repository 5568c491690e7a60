//! Rules of the schedule: what each task needs to run, and what comes too often, too seldom, or for nothing.

use std::time::Duration;

use super::super::document::Findings;
use super::super::{BackupTiming, Config, Period, Store, Timing, VaultAuth};
use super::judge_period;

/// More often than this, an issuer's quota and the node are what suffers.
const HURRIED_IDENTITIES: Period = Period::seconds(60);
/// Each set is every database, whole.
const HURRIED_BACKUPS: Period = Period::seconds(600);
/// What the network asks for.
const ASKED: Period = Period(Duration::from_hours(4));
/// `expire` wants a set that was verified within this.
const VERIFIED_WITHIN: Period = Period(Duration::from_hours(7 * 24));

pub(super) fn judge(config: &Config, findings: &mut Findings) {
    let schedule = &config.schedule;
    for (task, timing) in schedule.tasks() {
        judge_timing(&timing, &format!("schedule.{task}"), findings);
    }
    judge_unwrapped(config, findings);
    if let Some(timing) = &schedule.identities {
        let message = "each pass asks the node for its keys, and may take a token from the issuer";
        judge_haste(timing, HURRIED_IDENTITIES, "schedule.identities", message, findings);
    }
    if let Some(backups) = &schedule.backups {
        let message = "each set is every database of the node, whole";
        judge_haste(&backups.timing(), HURRIED_BACKUPS, "schedule.backups", message, findings);
        judge_objective(backups, findings);
        judge_gaps(config, &backups.timing(), findings);
    }
    judge_need(config, findings);
    judge_verification(config, findings);
}

fn judge_timing(timing: &Timing, path: &str, findings: &mut Findings) {
    if findings.is_replaced_below(path) {
        return;
    }
    match (&timing.every, &timing.cron) {
        (Some(_), Some(_)) => {
            findings.mistake(
                &format!("{path}.cron"),
                "`every` stands here too, and only one of them can say when",
                "take one out",
            );
            return;
        }
        (None, None) => {
            // A key that is misspelt was named.
            let below = format!("{path}.");
            if !findings.mistakes.iter().any(|known| known.path.starts_with(&below)) {
                findings.mistake(path, "nothing says when", "add `every: 24h`, or `cron: \"30 2 * * *\"` (UTC)");
            }
            return;
        }
        (Some(every), None) => judge_period(*every, Period::seconds(1), &format!("{path}.every"), findings),
        (None, Some(_)) => {}
    }
    let stretch = Period(timing.stretch());
    if let Some(jitter) = timing.jitter
        && jitter > stretch
    {
        findings.mistake(
            &format!("{path}.jitter"),
            format!("a turn that is late by up to `{jitter}` is later than the next one, `{stretch}` on"),
            format!("make it shorter than `{stretch}`: a tenth of it spreads well"),
        );
    }
}

/// What is unwrapped once has to be kept by whoever logs in more than once.
fn judge_unwrapped(config: &Config, findings: &mut Findings) {
    if config.schedule.tasks().next().is_none() {
        return;
    }
    for (name, store) in &config.stores {
        if let Store::Vault(vault) = store
            && let VaultAuth::Approle { wrapped: true, .. } = vault.auth
        {
            findings.warning(
                &format!("stores.{name}.vault.auth.approle.wrapped"),
                "`run` keeps the secret id in memory for as long as it lives: it can be unwrapped only once, and a start \
                 anew needs a new one",
                "log in by `kubernetes` or `cert`, or let `idkeep sync` be started by a timer",
            );
        }
    }
}

fn judge_haste(timing: &Timing, least: Period, path: &str, why: &str, findings: &mut Findings) {
    let stretch = Period(timing.stretch());
    if is_sound(timing, path, findings) && stretch < least {
        let key = if timing.every.is_some() { "every" } else { "cron" };
        let message = format!("`{stretch}` from one to the next is very often: {why}");
        findings.warning(&format!("{path}.{key}"), message, format!("`{least}` or more"));
    }
}

/// An alert at the objective goes off and on where sets come just as seldom (they also take time to be made).
fn judge_objective(backups: &BackupTiming, findings: &mut Findings) {
    let (path, objective) = ("schedule.backups.objective", backups.objective);
    judge_period(objective, Period::seconds(1), path, findings);
    if objective > ASKED {
        findings.warning(path, format!("the network asks for a set every `{ASKED}`"), "lower it, and `every` with it");
    }
    let (timing, longest) = (backups.timing(), Period(backups.timing().longest()));
    if is_sound(&timing, "schedule.backups", findings) && longest >= objective {
        findings.warning(
            path,
            format!(
                "sets are up to `{longest}` apart, and the newest may be `{objective}` old: each time, just before the \
                 next one, it is too old"
            ),
            "take sets more often: `every: 3h` leaves time to try again within `objective: 4h`",
        );
    }
}

/// Between two sets the participant must not forget what the older one does not have yet.
fn judge_gaps(config: &Config, timing: &Timing, findings: &mut Findings) {
    let longest = Period(timing.longest());
    if !is_sound(timing, "schedule.backups", findings) {
        return;
    }
    for (name, node) in &config.nodes {
        let retention = node.backup.as_ref().and_then(|backup| backup.pruning_retention);
        if let Some(retention) = retention.filter(|retention| *retention <= longest) {
            findings.warning(
                &format!("nodes.{name}.backup.pruning_retention"),
                format!("sets are up to `{longest}` apart, and the participant keeps no more than `{retention}`"),
                "take sets more often (`schedule.backups`), or let the participant keep more",
            );
        }
    }
}

/// What is scheduled for no node, and the node for which nothing is.
fn judge_need(config: &Config, findings: &mut Findings) {
    let with_backup: Vec<&str> =
        config.nodes.iter().filter(|(_, node)| node.backup.is_some()).map(|(name, _)| name.as_str()).collect();
    let tasks = config.schedule.tasks().map(|(task, _)| task).filter(|task| *task != "identities");
    if with_backup.is_empty() && !is_a_node_unread(config, findings) {
        for task in tasks {
            findings.mistake(
                &format!("schedule.{task}"),
                "no node has `backup`, so there is nothing to do",
                "add `backup` to a node, or take this out",
            );
        }
    }
    if let [first, others @ ..] = &with_backup[..]
        && config.schedule.identities.is_some()
        && config.schedule.backups.is_none()
    {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        findings.warning(
            "schedule.backups",
            format!("`{first}`{more}: there is a `backup`, and the daemon takes no sets"),
            "add `backups: {every: 3h}`, unless something else runs `idkeep backup`",
        );
    }
}

fn judge_verification(config: &Config, findings: &mut Findings) {
    let schedule = &config.schedule;
    if schedule.expire.is_none() {
        return;
    }
    match &schedule.verify {
        None => findings.warning(
            "schedule.verify",
            format!(
                "`expire` removes nothing unless a set was verified in the last `{VERIFIED_WITHIN}`, and nothing verifies"
            ),
            "add `verify: {every: 24h}`, unless something else runs `idkeep verify`",
        ),
        Some(verify) if is_sound(verify, "schedule.verify", findings) && verify.longest() >= VERIFIED_WITHIN.0 => {
            findings.warning(
                "schedule.verify",
                format!("`expire` removes nothing unless a set was verified in the last `{VERIFIED_WITHIN}`"),
                "verify more often: `verify: {every: 24h}`",
            );
        }
        Some(_) => {}
    }
}

/// A node that is left out for its name, or of which a whole part could not be read, may well have `backup`.
fn is_a_node_unread(config: &Config, findings: &Findings) -> bool {
    let is_part = |path: &str| path.starts_with("nodes.") && path.matches('.').count() <= 2;
    config.nodes.is_empty() || findings.mistakes.iter().any(|known| is_part(&known.path))
}

/// The operator wrote it, and it says when.
fn is_sound(timing: &Timing, path: &str, findings: &Findings) -> bool {
    timing.every.is_some() != timing.cron.is_some() && !findings.is_replaced_below(path)
}
