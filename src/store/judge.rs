//! May this dump follow what is stored? A pure decision over the store's head.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Head, Outcome};
use crate::identity::{About, ParticipantId};

/// A version this young whose facts are missing belongs to a writer between its two steps.
const AT_WORK: SignedDuration = SignedDuration::from_secs(60);

/// A secret without any fact of ours may be a first writer's; so young, it is given time before it is adopted.
const FIRST_WRITER: SignedDuration = SignedDuration::from_secs(5);

/// The facts' `checked_at` is written again when it is older than this.
const STALE: SignedDuration = SignedDuration::from_hours(6);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What may follow what.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whether another participant may follow the stored one.
    pub accept: Accept,
    /// The most new versions within 24 hours.
    pub max_changes_per_day: u32,
}

/// Whether another participant may follow the stored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// No.
    Stored,
    /// Any.
    Any,
    /// This one.
    Only(ParticipantId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; perhaps say that it was looked at.
    Unchanged { is_stale: bool },
    /// A new version.
    Write { outcome: Outcome, warning: Option<String> },
    /// Look again in a moment: another writer seems to be at work.
    Wait { seconds: i64 },
    /// Nothing may be written.
    Refuse(Refusal),
}

/// Why nothing may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another participant than the stored one.
    AnotherParticipant { stored: String, offered: String },
    /// Another participant than `--accept-new-identity=ID` names.
    NotTheAccepted { accepted: String, offered: String },
    /// Too many versions within a day.
    TooManyChanges { count: usize, max: u32, stored: String, offered: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherParticipant { stored, offered } => {
                write!(f, "the store holds the identity of {stored}, the node answers as {offered}")
            }
            Self::NotTheAccepted { accepted, offered } => {
                write!(f, "--accept-new-identity accepts {accepted}, the node answers as {offered}")
            }
            Self::TooManyChanges { count, max, stored, offered } => {
                write!(
                    f,
                    "{count} versions were written within 24 hours, {max} are allowed; stored {stored}, offered {offered}"
                )
            }
        }
    }
}

impl Refusal {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::AnotherParticipant { offered, .. } => format!(
                "after a reset of the network this is expected: run `idkeep sync --accept-new-identity={offered}` once; else find out who answers there"
            ),
            Self::NotTheAccepted { .. } => "find out which node answers at the endpoint".into(),
            Self::TooManyChanges { .. } => {
                "something alternates: two nodes behind one address, or somebody deletes versions; when the cause is clear, raise `max_changes_per_day`".into()
            }
        }
    }
}

/// Judges the dump against what the store says.
#[must_use]
pub fn judge(head: &Head, about: &About, rules: &Rules) -> Verdict {
    let mut warning = None;
    if let Some(facts) = &head.facts
        && facts.participant_id != about.participant_id.as_str()
    {
        let (stored, offered) = (facts.participant_id.clone(), about.participant_id.to_string());
        match &rules.accept {
            Accept::Stored => return Verdict::Refuse(Refusal::AnotherParticipant { stored, offered }),
            Accept::Only(id) if *id != about.participant_id => {
                return Verdict::Refuse(Refusal::NotTheAccepted { accepted: id.to_string(), offered });
            }
            Accept::Only(_) => {}
            Accept::Any => {
                warning = Some(format!(
                    "accepting {offered} in place of {stored}: --accept-new-identity names no id, so any would do"
                ));
            }
        }
    }
    let Some(current) = &head.current else {
        return limited(head, about, rules, Outcome::Written, warning);
    };
    let age = head.now.duration_since(current.created_at);
    let version = &current.version.0;
    match &head.facts {
        _ if !current.is_alive => {
            let repair = format!("version {version} was deleted, destroyed or damaged: writing it again");
            limited(head, about, rules, Outcome::Repaired, Some(repair))
        }
        None if age < FIRST_WRITER => Verdict::Wait { seconds: age.as_secs() },
        None => {
            let adopt = format!("version {version} was not written by idkeep: it is kept, the next one is ours");
            limited(head, about, rules, Outcome::Written, Some(adopt))
        }
        Some(facts) if facts.stored_version != *version && age < AT_WORK => Verdict::Wait { seconds: age.as_secs() },
        Some(facts) if facts.stored_version != *version => {
            let repair = format!(
                "the facts describe version {}, but {version} is current: writing it again",
                facts.stored_version
            );
            limited(head, about, rules, Outcome::Repaired, Some(repair))
        }
        Some(facts) if facts.digest == about.digest.as_str() => {
            Verdict::Unchanged { is_stale: facts.checked_at.is_none_or(|at| head.now.duration_since(at) > STALE) }
        }
        Some(_) => limited(head, about, rules, Outcome::Written, warning),
    }
}

/// A write, unless there were too many within a day: whoever can make versions can evict the good ones.
fn limited(head: &Head, about: &About, rules: &Rules, outcome: Outcome, warning: Option<String>) -> Verdict {
    let is_recent = |at: &&Timestamp| head.now.duration_since(**at) < DAY;
    let count = head.created_at.iter().filter(is_recent).count();
    if count < rules.max_changes_per_day as usize {
        return Verdict::Write { outcome, warning };
    }
    Verdict::Refuse(Refusal::TooManyChanges {
        count,
        max: rules.max_changes_per_day,
        stored: head.facts.as_ref().map_or_else(|| "no digest of ours".into(), |facts| facts.digest.clone()),
        offered: about.digest.to_string(),
    })
}
