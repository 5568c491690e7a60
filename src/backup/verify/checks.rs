//! The checks: pure functions of a manifest and of what was found beside it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Check, contents};
use crate::backup::archive::Contents;
use crate::backup::invariants::evidence;
use crate::backup::manifest::{Dump, Manifest, Offsets, Outcome};
use crate::config::{Encryption, Period};

/// Sequencers prune what is older: from before then nothing can catch up (domain, "Restore").
const HORIZON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What became of one object.
#[derive(Debug)]
pub struct Found {
    /// Its size, in bytes.
    pub bytes: u64,
    /// Hex SHA-256.
    pub sha256: String,
    /// What is inside, where a key was there to look.
    pub contents: Option<Result<Contents, contents::Error>>,
}

/// What is known about the manifest's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// By one of the configured signers.
    Trusted,
    /// Signers are configured, and none of them signed it: why.
    Refused(String),
    /// Nobody is configured to be trusted.
    Unjudged,
}

/// What is known about the set that the manifest names before itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Previous {
    /// There with this digest.
    There(String),
    /// Not there.
    Gone,
}

/// Whose sets the node's folder holds, as its `node.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belongs {
    /// This participant's.
    To(String),
    /// There is no such file.
    Nobody,
    /// The file is not what idkeep writes.
    Unreadable,
}

/// When the sets before and after were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbours {
    /// The snapshot of the set before; `None` for the first.
    pub older: Option<Timestamp>,
    /// The snapshot of the set after; `None` for the newest.
    pub newer: Option<Timestamp>,
}

/// What a manifest is judged by, beside itself.
#[derive(Debug)]
pub struct Beside<'b> {
    /// Who signed it.
    pub signature: &'b Signature,
    /// The set that it names before itself.
    pub previous: &'b Previous,
    /// Whose folder it is in.
    pub belongs: &'b Belongs,
    /// The sets around it.
    pub neighbours: Neighbours,
    /// Whether what is taken is sealed, as the configuration says.
    pub encryption: Encryption,
    /// The participant's pruning `retention`.
    pub pruning_retention: Option<Period>,
}

/// Judges a manifest that could be read.
#[must_use]
pub fn judge(manifest: &Manifest, beside: &Beside<'_>, now: Timestamp) -> Vec<Check> {
    let neighbours = beside.neighbours;
    let mut checks = vec![Check::pass("manifest", "it can be read, and is that of this set")];
    checks.extend(signed(beside.signature));
    checks.extend(owned(manifest, beside.belongs));
    checks.push(chain(manifest, beside.previous, neighbours));
    checks.push(match manifest.check_order() {
        Ok(()) => Check::pass("order", format!("each was complete before what follows it: {}", names(manifest))),
        Err(error) => Check::fail("order", error.to_string(), "do not restore this set"),
    });
    checks.extend(invariants(manifest));
    let snapshot = manifest.databases.iter().map(|dump| dump.snapshot_at).min();
    if let Some(snapshot) = snapshot {
        checks.push(age(snapshot, now));
        checks.extend(beside.pruning_retention.map(|retention| gap(snapshot, neighbours, retention, now)));
    }
    let in_clear = manifest.databases.iter().filter(|dump| dump.recipients.is_empty());
    checks.extend(in_clear.map(|dump| unsealed(dump, beside.encryption)));
    checks.extend(
        manifest
            .remarks
            .iter()
            .map(|remark| Check::warn("remark", remark.clone(), "know it before you restore this set")),
    );
    checks
}

/// Judges one object of the set.
#[must_use]
pub fn object(dump: &Dump, found: Option<&Found>) -> Vec<Check> {
    const DAMAGED: &str = "restore from another set, and find out who or what changed the object";
    let name = format!("object:{}", dump.name);
    let Some(found) = found else {
        return vec![Check::fail(name, format!("{} is not there", dump.file), DAMAGED)];
    };
    let object = if found.bytes != dump.bytes {
        Check::fail(name, format!("{} bytes, and not {}", found.bytes, dump.bytes), DAMAGED)
    } else if found.sha256 != dump.sha256 {
        Check::fail(name, "its SHA-256 is another than the manifest's", DAMAGED)
    } else {
        Check::pass(name, format!("{} bytes, SHA-256 as in the manifest", found.bytes))
    };
    let inside = found.contents.as_ref().map(|contents| inside(dump, contents));
    std::iter::once(object).chain(inside).collect()
}

fn inside(dump: &Dump, contents: &Result<Contents, contents::Error>) -> Check {
    let name = format!("contents:{}", dump.name);
    match contents {
        Ok(contents) if contents.bytes != dump.plain_bytes => Check::fail(
            name,
            format!("the archive has {} bytes, and not {}", contents.bytes, dump.plain_bytes),
            "restore from another set",
        ),
        Ok(contents) => Check::pass(
            name,
            format!("walked to its end: {} entries, {} with data", contents.entries, contents.entries_with_data),
        ),
        Err(contents::Error::OtherKey) => Check::unknown(
            name,
            "sealed to other keys than this one",
            format!("a key of one of its recipients: {}", dump.recipients.join(", ")),
        ),
        Err(error) => Check::fail(name, crate::error::chain(error), "restore from another set"),
    }
}

fn signed(signature: &Signature) -> Option<Check> {
    match signature {
        Signature::Trusted => Some(Check::pass("signature", "by one of the configured signers")),
        Signature::Refused(why) => {
            let resolve = "do not restore this set unless you know who wrote it";
            Some(Check::fail("signature", format!("none of the configured signers signed it: {why}"), resolve))
        }
        Signature::Unjudged => None,
    }
}

fn owned(manifest: &Manifest, belongs: &Belongs) -> Option<Check> {
    const NAME: &str = "participant";
    let participant = manifest.participant_id.as_ref()?;
    Some(match belongs {
        Belongs::To(owner) if owner == participant => Check::pass(NAME, "the one that node.json names, too"),
        Belongs::To(owner) => Check::fail(
            NAME,
            format!("it is a set of {participant}, and node.json says that this folder holds those of {owner}"),
            "find out which of the two was changed, or brought here, before you restore it",
        ),
        Belongs::Nobody => Check::warn(
            NAME,
            "there is no node.json that says whose sets this folder holds",
            "if this is a copy of a repository, copy that file too; else find out who removed it",
        ),
        Belongs::Unreadable => Check::unknown(
            NAME,
            "node.json is not what idkeep writes",
            "the file as it was written with the first set: an older version of the object, or a copy",
        ),
    })
}

fn chain(manifest: &Manifest, previous: &Previous, neighbours: Neighbours) -> Check {
    match (&manifest.previous, previous) {
        (None, _) if neighbours.older.is_some() => Check::warn(
            "chain",
            "it names no set before it, but there is one",
            "find out who wrote it: what idkeep takes names the set before",
        ),
        (None, _) => Check::pass("chain", "the first set of its chain"),
        (Some(named), Previous::Gone) => {
            Check::pass("chain", format!("set {} before it is gone, as after `expire`", named.set))
        }
        (Some(named), Previous::There(sha256)) if *sha256 == named.sha256 => {
            Check::pass("chain", format!("set {} before it is the one that it names", named.set))
        }
        (Some(named), Previous::There(_)) => Check::fail(
            "chain",
            format!("the manifest of set {} before it is another than when this set was taken", named.set),
            "somebody replaced one of the two: find out which, and restore neither before",
        ),
    }
}

/// A set that was not sealed here is not one that was taken here.
fn unsealed(dump: &Dump, encryption: Encryption) -> Check {
    let name = format!("encryption:{}", dump.name);
    match encryption {
        Encryption::Age => Check::fail(
            name,
            "the manifest says that it is not sealed, and what is taken here is",
            "do not restore it unless you know that it was taken before `recipients` were configured; then remove it \
             soon: whoever reads the repository reads the database",
        ),
        Encryption::None => Check::warn(
            name,
            "stored in clear: whoever reads the repository reads the database",
            "configure `recipients`",
        ),
    }
}

fn names(manifest: &Manifest) -> String {
    let names: Vec<&str> = manifest.databases.iter().map(|dump| dump.name.as_str()).collect();
    names.join(", ")
}

/// The recorded results; what the manifest's own numbers contradict fails.
fn invariants(manifest: &Manifest) -> Vec<Check> {
    const INCONSISTENT: &str = "do not restore this set: it comes up green and is wrong";
    let checks = ["I1", "I2", "I3", "I4"].into_iter().map(|name| {
        let contradiction = match name {
            "I1" => contradicts(manifest, |offset, end, _| end.is_some_and(|end| offset > end)),
            "I2" => contradicts(manifest, |offset, _, pruned| pruned.is_some_and(|pruned| offset < pruned)),
            _ => None,
        };
        if let Some(numbers) = contradiction {
            return Check::fail(name, format!("the manifest's own numbers break it: {numbers}"), INCONSISTENT);
        }
        match manifest.invariants.get(name) {
            Some(invariant) if name == "I1" && invariant.result == Outcome::Pass && !is_told(manifest) => Check::fail(
                name,
                "the manifest says that it holds, without the numbers that would show it",
                INCONSISTENT,
            ),
            None => Check::unknown(name, "the manifest does not say", evidence(name)),
            Some(invariant) => match invariant.result {
                Outcome::Pass => Check::pass(name, &invariant.reason),
                Outcome::Fail => Check::fail(name, &invariant.reason, INCONSISTENT),
                Outcome::Unknown => Check::unknown(name, &invariant.reason, evidence(name)),
            },
        }
    });
    checks.collect()
}

/// Whether every app and participant records the number that I1 is judged by, and there is one of each.
fn is_told(manifest: &Manifest) -> bool {
    let (mut apps, mut participants) = (0, 0);
    for dump in &manifest.databases {
        match dump.offsets {
            Some(Offsets::Validator { validator_last_ingested: Some(_), .. }) => apps += 1,
            Some(Offsets::Participant { ledger_end: Some(_), .. }) => participants += 1,
            Some(_) => return false,
            None => {}
        }
    }
    apps > 0 && participants > 0
}

/// The first pair of app and participant whose numbers are broken so.
fn contradicts(manifest: &Manifest, is_broken: impl Fn(i64, Option<i64>, Option<i64>) -> bool) -> Option<String> {
    for app in &manifest.databases {
        let Some(Offsets::Validator { validator_last_ingested: Some(offset), .. }) = app.offsets else { continue };
        for participant in &manifest.databases {
            let Some(Offsets::Participant { ledger_end, pruned_up_to }) = participant.offsets else { continue };
            if is_broken(offset, ledger_end, pruned_up_to) {
                let number = |number: Option<i64>| number.map_or_else(|| "none".into(), |number| number.to_string());
                return Some(format!(
                    "{} {offset}, {} ledger end {}, pruned up to {}",
                    app.name,
                    participant.name,
                    number(ledger_end),
                    number(pruned_up_to)
                ));
            }
        }
    }
    None
}

fn age(snapshot: Timestamp, now: Timestamp) -> Check {
    let age = now.duration_since(snapshot);
    if age <= HORIZON {
        return Check::pass("age", format!("{} old, within 30 days", span(age)));
    }
    Check::warn(
        "age",
        format!("{} old: after 30 days sequencers have pruned what it would have to catch up with", span(age)),
        "it is good for history and for its keys only; a newer set is needed to bring a node back",
    )
}

fn gap(snapshot: Timestamp, neighbours: Neighbours, retention: Period, now: Timestamp) -> Check {
    let before = neighbours.older.map(|older| snapshot.duration_since(older));
    let after = neighbours.newer.unwrap_or(now).duration_since(snapshot);
    let widest = before.unwrap_or(SignedDuration::ZERO).max(after);
    if Duration::try_from(widest).unwrap_or_default() < retention.0 {
        return Check::pass(
            "gap",
            format!("{} to the next set, under the pruning retention of {retention}", span(widest)),
        );
    }
    let side = if before.is_some_and(|before| before >= after) {
        "the set before it"
    } else if neighbours.newer.is_some() {
        "the set after it"
    } else {
        "now"
    };
    Check::warn(
        "gap",
        format!(
            "{} to {side}, and the participant keeps {retention}: what it pruned in between is in no set",
            span(widest)
        ),
        "take sets more often than the participant prunes",
    )
}

/// Days and hours, or minutes: enough to judge by.
fn span(span: SignedDuration) -> String {
    let minutes = span.as_secs().max(0) / 60;
    match (minutes / 1440, minutes / 60 % 24) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {} min", minutes % 60),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests;
