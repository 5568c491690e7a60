//! May this dump follow what is stored? A pure decision over the store's head.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Head, Outcome};
use crate::identity::{About, KeyProof, ParticipantId};

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
    /// Whom the new version would be sealed to, as the facts say it.
    pub sealed_to: Option<String>,
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
    /// The stored namespace key is proven, the offered one is not.
    WeakerProof { offered: &'static str, participant: String },
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
            Self::WeakerProof { offered, .. } => {
                write!(
                    f,
                    "the stored dump holds the proven key of its namespace, of the offered one's it is only known: {offered}"
                )
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
            Self::WeakerProof { participant, .. } => format!(
                "if the key has moved, run `idkeep sync --accept-new-identity={participant}` once; else this dump cannot recover the node, and somebody else may have answered"
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
    if let Some(stored) = head.participant().filter(|stored| *stored != about.participant_id.as_str()) {
        let (stored, offered) = (stored.to_owned(), about.participant_id.to_string());
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
    let is_proven = head.facts.as_ref().is_some_and(|facts| facts.key_proof == KeyProof::Proven.as_str());
    let is_weaker = matches!(about.key_proof, KeyProof::Kms | KeyProof::Unproven);
    if is_proven && is_weaker && rules.accept == Accept::Stored {
        let participant = about.participant_id.to_string();
        return Verdict::Refuse(Refusal::WeakerProof { offered: about.key_proof.as_str(), participant });
    }
    let Some(current) = &head.current else {
        return limited(head, about, rules, Outcome::Written, warning);
    };
    let age = head.now.duration_since(current.created_at);
    let version = &current.version.0;
    match &head.facts {
        _ if !current.is_alive => {
            let repair = format!("version {version} was deleted, destroyed or damaged: writing it again");
            limited(head, about, rules, Outcome::Repaired, Some(both(warning, &repair)))
        }
        None if age < FIRST_WRITER => Verdict::Wait { seconds: age.as_secs().max(0) },
        None => {
            let adopt = format!("version {version} was not written by idkeep: it is kept, the next one is ours");
            limited(head, about, rules, Outcome::Written, Some(adopt))
        }
        Some(facts) if facts.stored_version != *version && age < AT_WORK => {
            Verdict::Wait { seconds: age.as_secs().max(0) }
        }
        Some(facts) if facts.stored_version != *version => {
            let repair = format!(
                "the facts describe version {}, but {version} is current: writing it again",
                facts.stored_version
            );
            limited(head, about, rules, Outcome::Repaired, Some(both(warning, &repair)))
        }
        Some(facts) if facts.digest == about.digest.as_str() && facts.sealed_to != rules.sealed_to => {
            let reseal = format!("version {version} is sealed to other recipients than configured: writing it again");
            limited(head, about, rules, Outcome::Repaired, Some(both(warning, &reseal)))
        }
        Some(facts) if facts.digest == about.digest.as_str() => {
            Verdict::Unchanged { is_stale: facts.checked_at.is_none_or(|at| head.now.duration_since(at) > STALE) }
        }
        Some(_) => limited(head, about, rules, Outcome::Written, warning),
    }
}

fn both(first: Option<String>, second: &str) -> String {
    first.map_or_else(|| second.to_owned(), |first| format!("{first}; {second}"))
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

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::config::NamespaceKey;
    use crate::identity::Identities;
    use crate::store::{Current, Facts, Version};

    const NOW: i64 = 1_800_000_000;
    const HOUR: i64 = 3600;

    fn id(letter: char) -> String {
        format!("PAR::{letter}::1220{}", "ab".repeat(32))
    }

    /// A dump of this participant, whose digest depends on `snapshot`.
    fn about(participant: char, snapshot: &str) -> About {
        let dump = format!(
            r#"{{"id":"{}","keys":[{{"type":"signing","keyId":"k","name":"namespace"}}],"authorizedStoreSnapshot":"{snapshot}","version":"0.7.5"}}"#,
            id(participant)
        );
        Identities::parse(Zeroizing::new(dump.into_bytes()), NamespaceKey::InDump).unwrap().about().clone()
    }

    fn at(seconds_ago: i64) -> Timestamp {
        Timestamp::from_second(NOW - seconds_ago).unwrap()
    }

    fn facts(about: &About, version: &str) -> Facts {
        Facts::new(about, None, None, at(HOUR)).of_version(version)
    }

    /// Version `version` is current, so many seconds old, and these are the facts.
    fn head(version: &str, age: i64, facts: Option<Facts>) -> Head {
        let current = Current { version: Version(version.into()), created_at: at(age), is_alive: true };
        Head { current: Some(current), facts, created_at: vec![at(age)], now: at(0), ..Head::default() }
    }

    fn rules() -> Rules {
        Rules { accept: Accept::Stored, max_changes_per_day: 5, sealed_to: None }
    }

    fn accepting(accept: Accept) -> Rules {
        Rules { accept, ..rules() }
    }

    fn outcome(verdict: &Verdict) -> Option<Outcome> {
        match verdict {
            Verdict::Write { outcome, .. } => Some(*outcome),
            _ => None,
        }
    }

    fn warning(verdict: Verdict) -> String {
        match verdict {
            Verdict::Write { warning, .. } => warning.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_stored_is_written() {
        let head = Head { now: at(0), ..Head::default() };
        let verdict = judge(&head, &about('a', "AA=="), &rules());
        assert_eq!(verdict, Verdict::Write { outcome: Outcome::Written, warning: None });
    }

    #[test]
    fn the_same_digest_is_unchanged_at_any_age() {
        let same = about('a', "AA==");
        for age in [-1, 0, 4, 59, 60, HOUR, 1000 * HOUR] {
            let verdict = judge(&head("3", age, Some(facts(&same, "3"))), &same, &rules());
            assert_eq!(verdict, Verdict::Unchanged { is_stale: false }, "{age}");
        }
    }

    #[test]
    fn facts_are_stale_after_six_hours_or_without_a_date() {
        let same = about('a', "AA==");
        let judged = |checked_at| {
            let facts = Facts { checked_at, ..facts(&same, "3") };
            judge(&head("3", HOUR, Some(facts)), &same, &rules())
        };
        assert_eq!(judged(Some(at(6 * HOUR))), Verdict::Unchanged { is_stale: false });
        assert_eq!(judged(Some(at(6 * HOUR + 1))), Verdict::Unchanged { is_stale: true });
        assert_eq!(judged(None), Verdict::Unchanged { is_stale: true });
    }

    #[test]
    fn another_digest_is_written_however_young_the_stored_one_is() {
        let stored = about('a', "AA==");
        for age in [-1, 0, 59, HOUR] {
            let verdict = judge(&head("3", age, Some(facts(&stored, "3"))), &about('a', "AQ=="), &rules());
            assert_eq!(verdict, Verdict::Write { outcome: Outcome::Written, warning: None }, "{age}");
        }
    }

    #[test]
    fn facts_of_another_version_wait_for_a_minute_and_then_count_for_nothing() {
        let same = about('a', "AA==");
        // A server's `Date` may lie up to a second before the version's time.
        for age in [-1, 0, 30, 59] {
            let verdict = judge(&head("4", age, Some(facts(&same, "3"))), &same, &rules());
            assert_eq!(verdict, Verdict::Wait { seconds: age.max(0) }, "{age}");
        }
        for age in [60, HOUR] {
            let verdict = judge(&head("4", age, Some(facts(&same, "3"))), &same, &rules());
            assert_eq!(outcome(&verdict), Some(Outcome::Repaired), "{age}");
            assert_eq!(warning(verdict), "the facts describe version 3, but 4 is current: writing it again");
        }
    }

    #[test]
    fn a_version_without_facts_waits_for_five_seconds_and_is_then_adopted() {
        let new = about('a', "AA==");
        for age in [-1, 0, 4] {
            assert_eq!(judge(&head("1", age, None), &new, &rules()), Verdict::Wait { seconds: age.max(0) }, "{age}");
        }
        for age in [5, HOUR] {
            let verdict = judge(&head("1", age, None), &new, &rules());
            assert_eq!(outcome(&verdict), Some(Outcome::Written), "{age}");
            assert!(warning(verdict).contains("version 1 was not written by idkeep"));
        }
    }

    #[test]
    fn what_is_deleted_is_repaired_at_once_with_or_without_facts() {
        let same = about('a', "AA==");
        for facts in [Some(facts(&same, "3")), Some(facts(&same, "2")), None] {
            for age in [0, HOUR] {
                let mut head = head("3", age, facts.clone());
                head.current.as_mut().unwrap().is_alive = false;
                let verdict = judge(&head, &same, &rules());
                assert_eq!(outcome(&verdict), Some(Outcome::Repaired));
                assert!(warning(verdict).starts_with("version 3 was deleted, destroyed or damaged"));
            }
        }
    }

    #[test]
    fn another_participant_needs_to_be_accepted() {
        let (stored, offered) = (about('a', "AA=="), about('b', "AA=="));
        let head = head("3", HOUR, Some(facts(&stored, "3")));
        let refusal = Refusal::AnotherParticipant { stored: id('a'), offered: id('b') };
        assert_eq!(judge(&head, &offered, &rules()), Verdict::Refuse(refusal));
        let only = |letter| accepting(Accept::Only(ParticipantId::parse(&id(letter)).unwrap()));
        let refusal = Refusal::NotTheAccepted { accepted: id('c'), offered: id('b') };
        assert_eq!(judge(&head, &offered, &only('c')), Verdict::Refuse(refusal));
        assert_eq!(judge(&head, &offered, &only('b')), Verdict::Write { outcome: Outcome::Written, warning: None });
        assert!(warning(judge(&head, &offered, &accepting(Accept::Any))).contains("names no id"));
        // What is stored already needs no acceptance.
        assert_eq!(judge(&head, &stored, &only('c')), Verdict::Unchanged { is_stale: false });
    }

    #[test]
    fn another_participant_is_refused_though_the_version_is_gone_or_not_described() {
        let (stored, offered) = (about('a', "AA=="), about('b', "AA=="));
        let is_refused = |head: &Head| matches!(judge(head, &offered, &rules()), Verdict::Refuse(_));
        let mut dead = head("3", HOUR, Some(facts(&stored, "3")));
        dead.current.as_mut().unwrap().is_alive = false;
        assert!(is_refused(&dead));
        assert!(is_refused(&head("4", HOUR, Some(facts(&stored, "3")))));
        assert!(is_refused(&Head { current: None, ..head("3", HOUR, Some(facts(&stored, "3"))) }));
    }

    #[test]
    fn an_accepted_participant_is_warned_about_whatever_else_is_wrong() {
        let (stored, offered) = (about('a', "AA=="), about('b', "AA=="));
        let mut dead = head("3", HOUR, Some(facts(&stored, "3")));
        dead.current.as_mut().unwrap().is_alive = false;
        for head in [dead, head("4", HOUR, Some(facts(&stored, "3")))] {
            let warning = warning(judge(&head, &offered, &accepting(Accept::Any)));
            assert!(warning.contains("names no id") && warning.contains("writing it again"), "{warning}");
        }
    }

    #[test]
    fn the_changes_of_a_day_are_limited_for_every_kind_of_write() {
        let (stored, changed) = (about('a', "AA=="), about('a', "AQ=="));
        let day = 24 * HOUR;
        let judged = |mut head: Head, ages: &[i64], about: &About| {
            head.created_at = ages.iter().map(|age| at(*age)).collect();
            judge(&head, about, &rules())
        };
        let ours = || head("9", HOUR, Some(facts(&stored, "9")));
        let mut dead = ours();
        dead.current.as_mut().unwrap().is_alive = false;
        let full = [HOUR, HOUR, 2 * HOUR, 3 * HOUR, day - 1];
        let refusal = Verdict::Refuse(Refusal::TooManyChanges {
            count: 5,
            max: 5,
            stored: stored.digest.to_string(),
            offered: changed.digest.to_string(),
        });
        assert_eq!(judged(ours(), &full, &changed), refusal);
        assert_eq!(judged(dead, &full, &changed), refusal);
        assert_eq!(judged(head("9", HOUR, Some(facts(&stored, "8"))), &full, &changed), refusal);
        assert!(matches!(judged(head("9", HOUR, None), &full, &changed), Verdict::Refuse(_)));
        // One of them is a day old; one more is allowed. And nothing stops what is unchanged.
        assert!(outcome(&judged(ours(), &[HOUR, HOUR, 2 * HOUR, 3 * HOUR, day], &changed)).is_some());
        assert_eq!(judged(ours(), &full, &stored), Verdict::Unchanged { is_stale: false });
    }

    #[test]
    fn a_refusal_names_both_sides_and_what_to_do() {
        let refusal =
            Refusal::TooManyChanges { count: 5, max: 5, stored: "sha256:1".into(), offered: "sha256:2".into() };
        let text = refusal.to_string();
        assert!(text.contains("sha256:1") && text.contains("sha256:2") && text.contains("5 are allowed"), "{text}");
        let refusal = Refusal::AnotherParticipant { stored: id('a'), offered: id('b') };
        assert!(refusal.to_string().contains(&id('a')) && refusal.to_string().contains(&id('b')));
        assert!(refusal.hint().contains(&format!("--accept-new-identity={}", id('b'))));
    }
}
