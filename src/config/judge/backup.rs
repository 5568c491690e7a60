//! Rules of a node's backups: its databases, their order, and whom their dumps are sealed to.

use std::collections::BTreeSet;

use super::super::document::Findings;
use super::super::{AgeRecipient, Backup, Config, Credentials, Encryption, Name, Node, Period};
use super::{judge_period, judge_recipients, known, pg_dump};
use crate::backup::plan::Plan;

/// A node's backups.
pub(super) fn judge(config: &Config, backup: &Backup, path: &str, findings: &mut Findings) {
    if !config.repositories.contains_key(&backup.repository) {
        let message = format!("there is no repository `{}`", backup.repository);
        let fix = known(config.repositories.keys(), "repositories");
        findings.mistake(&format!("{path}.repository"), message, fix);
    }
    judge_sealing(backup, path, findings);
    judge_keeping(backup, path, findings);
    let databases = format!("{path}.databases");
    if backup.databases.is_empty() {
        findings.mistake(&databases, "no database is named", "list the validator app's and the participant's");
    }
    for (index, database) in backup.databases.iter().enumerate() {
        let path = format!("{databases}[{index}]");
        pg_dump::judge(config, database, &format!("{path}.pg_dump"), findings);
    }
    // What stands in the place of a mistake has no order to judge.
    let is_whole = !findings.is_replaced_below(&databases);
    if let Err(mistake) = Plan::of(&backup.databases)
        && is_whole
    {
        findings.mistake(&format!("{path}.{}", mistake.path()), mistake.to_string(), mistake.fix());
    }
}

/// True where one of the node's databases gets its credentials from this store's server.
pub(super) fn uses(node: &Node, store: &Name) -> bool {
    let databases = node.backup.iter().flat_map(|backup| &backup.databases);
    databases
        .filter_map(|database| database.pg_dump.credentials.as_ref())
        .any(|Credentials::Vault { store: named, .. }| named == store)
}

fn judge_sealing(backup: &Backup, path: &str, findings: &mut Findings) {
    let recipients = format!("{path}.recipients");
    judge_recipients(&backup.recipients, &recipients, findings);
    if findings.is_replaced(&format!("{path}.encryption")) {
        return;
    }
    let encryption = format!("{path}.encryption");
    let distinct = backup.recipients.iter().map(AgeRecipient::as_str).collect::<BTreeSet<_>>().len();
    match (backup.encryption, distinct) {
        (Encryption::Age, 0) => findings.mistake(
            &recipients,
            "no age recipient is named, and the participant's database holds the node's private keys",
            "add `recipients: [age1…]`, of keys that are kept elsewhere",
        ),
        (Encryption::Age, 1) => findings.warning(
            &recipients,
            "all depends on one key: if it is lost, so is every set",
            "add a second recipient, whose key is kept in another place",
        ),
        (Encryption::Age, _) => {}
        (Encryption::None, 0) => findings.warning(
            &encryption,
            "NOTHING IS SEALED: the participant's database holds the node's private keys, and whoever reads the \
             repository, or a copy of it, owns the node's party for ever",
            "take this line out and add `recipients`",
        ),
        (Encryption::None, _) => findings.mistake(
            &encryption,
            "`recipients` stand here, and `encryption: none` seals to nobody",
            "take this line out",
        ),
    }
}

fn judge_keeping(backup: &Backup, path: &str, findings: &mut Findings) {
    judge_period(backup.yield_after, Period::seconds(1), &format!("{path}.yield_after"), findings);
    let pruning = format!("{path}.pruning_retention");
    match backup.pruning_retention {
        Some(retention) => judge_period(retention, Period::seconds(1), &pruning, findings),
        None => findings.warning(
            &pruning,
            "it is not known how far back the participant prunes, so no set is kept for bridging a gap",
            "add the participant's `retention` (of its pruning schedule), also where it does not prune yet",
        ),
    }
    let keep = backup.retention;
    if keep.keep_daily == 0 && keep.keep_weekly == 0 {
        findings.warning(
            &format!("{path}.retention"),
            format!(
                "only the newest {} sets are kept, so what is noticed later than that is in all of them",
                keep.keep_last
            ),
            "add `keep_daily` or `keep_weekly`",
        );
    }
}
