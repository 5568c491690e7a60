//! The versions of a secret as the vault lists them, without their values: which is current, and which facts count.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::tags::{self, Tags};
use crate::store::{Current, Facts, Head, Version};

/// One version, without its value.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// Its name, 32 hex digits.
    pub version: String,
    /// By the vault's clock, in whole seconds.
    pub created_at: Timestamp,
    /// Enabled, and neither expired nor not yet valid.
    pub is_alive: bool,
    /// The vault looks after it itself, for a certificate.
    pub is_managed: bool,
    /// Whoever may purge can remove it for good before its time; `None` where the vault does not say.
    pub is_purgeable: Option<bool>,
    /// What stands beside it.
    pub tags: Tags,
}

/// Hops that are followed inside one second.
const MOST_HOPS: usize = 64;

/// What the list says. A version's facts lie on it and were written with it, so the version that they describe is known.
pub(super) fn head(mut listed: Vec<Listed>, now: Timestamp) -> Head {
    sort(&mut listed);
    let copies = copies(&listed);
    let own = |one: &Listed| {
        let is_ours = tags::write(&one.tags).is_some() && !copies.contains(&one.version);
        let facts = is_ours.then(|| Facts::from_map(&one.tags)).flatten()?;
        Some(facts.of_version(&one.version))
    };
    let created_at = listed.iter().map(|one| one.created_at).collect();
    let Some(newest) = listed.first() else { return Head { now, ..Head::default() } };
    let mut described = listed.iter().filter_map(own);
    let mut facts = described.next();
    let older_participant = described.map(|facts| facts.participant_id).find(|id| !id.is_empty());
    // Made within one second by writers who did not know of each other: which one is read is not known.
    let rivals = listed.iter().skip(1).take_while(|one| rank(one, &listed) == rank(newest, &listed));
    let holds = |facts: Option<Facts>| facts.map(|facts| (facts.digest, facts.sealed_to, facts.participant_id));
    for rival in rivals {
        if holds(own(rival)) != holds(own(newest)) {
            facts = facts.map(|facts| facts.of_version(&rival.version));
        }
    }
    let current =
        Current { version: Version(newest.version.clone()), created_at: newest.created_at, is_alive: newest.is_alive };
    Head { current: Some(current), facts, older_participant, created_at, now, beside: tags::beside(&newest.tags) }
}

/// Newest first.
fn sort(listed: &mut Vec<Listed>) {
    let mut ranked: Vec<_> = listed.iter().map(|one| (rank(one, listed), one.version.clone(), one.clone())).collect();
    ranked.sort_by(|left, right| (right.0, &right.1).cmp(&(left.0, &left.1)));
    *listed = ranked.into_iter().map(|(_, _, one)| one).collect();
}

/// When it was made, and after how many others of that very second.
fn rank(one: &Listed, listed: &[Listed]) -> (Timestamp, usize) {
    let same: BTreeMap<&str, &Listed> = listed
        .iter()
        .filter(|other| other.created_at == one.created_at)
        .map(|other| (other.version.as_str(), other))
        .collect();
    let mut at = one;
    let mut hops = 0;
    while hops < MOST_HOPS
        && let Some(before) = tags::write(&at.tags).and_then(|(_, before)| same.get(before))
    {
        at = before;
        hops += 1;
    }
    (one.created_at, hops)
}

/// Versions whose tags were copied from an older one: they say nothing about the value that they lie on now.
fn copies(newest_first: &[Listed]) -> BTreeSet<String> {
    let mut writes = BTreeSet::new();
    let oldest_first = newest_first.iter().rev();
    let copies = oldest_first.filter(|one| tags::write(&one.tags).is_some_and(|(write, _)| !writes.insert(write)));
    copies.map(|one| one.version.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn listed(version: &str, age: i64, tags: &[(&str, &str)]) -> Listed {
        Listed {
            version: version.into(),
            created_at: Timestamp::from_second(NOW - age).unwrap(),
            is_alive: true,
            is_managed: false,
            is_purgeable: None,
            tags: tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }

    fn ours(version: &str, age: i64, digest: &str, write: &str) -> Listed {
        listed(
            version,
            age,
            &[("idkeep_digest", digest), ("idkeep_participant_id", "PAR::a"), ("idkeep_write", write), ("team", "x")],
        )
    }

    fn read(listed: Vec<Listed>) -> (String, String, String) {
        let head = head(listed, Timestamp::from_second(NOW).unwrap());
        let facts = head.facts.unwrap_or_default();
        (head.current.unwrap().version.0, facts.stored_version, facts.digest)
    }

    fn is(version: &str, stored: &str, digest: &str) -> (String, String, String) {
        (version.into(), stored.into(), digest.into())
    }

    #[test]
    fn the_newest_is_current_whatever_the_order_of_the_list() {
        let versions = [ours("a", 9, "d1", "1 after nothing"), ours("b", 5, "d2", "2 after a"), listed("c", 20, &[])];
        assert_eq!(read(versions.to_vec()), is("b", "b", "d2"));
        assert_eq!(read(versions.into_iter().rev().collect()), is("b", "b", "d2"));
        assert!(head(Vec::new(), Timestamp::UNIX_EPOCH).current.is_none());
    }

    #[test]
    fn versions_of_one_second_are_ordered_by_what_they_followed() {
        let versions = [
            ours("f", 5, "d1", "1 after nothing"),
            ours("a", 5, "d2", "2 after f"),
            ours("c", 5, "d3", "3 after a"),
            ours("z", 9, "d0", "0 after nothing"),
        ];
        assert_eq!(read(versions.to_vec()), is("c", "c", "d3"));
        assert_eq!(read(versions.into_iter().rev().collect()), is("c", "c", "d3"));
        // Whoever writes nonsense into them does not keep us busy.
        let round = [ours("a", 5, "d", "1 after b"), ours("b", 5, "d", "2 after a")];
        assert_eq!(read(round.to_vec()).2, "d");
    }

    #[test]
    fn rivals_of_one_second_count_only_if_they_hold_the_same() {
        let same = [ours("a", 5, "d", "1 after nothing"), ours("b", 5, "d", "2 after nothing")];
        assert_eq!(read(same.to_vec()), is("b", "b", "d"));
        let different = [ours("a", 5, "d1", "1 after nothing"), ours("b", 5, "d2", "2 after nothing")];
        assert_eq!(read(different.to_vec()), is("b", "a", "d2"), "the facts must not describe what is current");
        let foreign = [ours("b", 5, "d1", "1 after nothing"), listed("a", 5, &[])];
        assert_eq!(read(foreign.to_vec()), is("b", "a", "d1"));
        let foreign = [ours("a", 5, "d1", "1 after nothing"), listed("b", 5, &[])];
        assert_eq!(read(foreign.to_vec()), is("b", "a", "d1"));
    }

    #[test]
    fn what_others_wrote_over_ours_is_not_described() {
        let foreign = [ours("a", 9, "d1", "1 after nothing"), listed("b", 5, &[("team", "x")])];
        assert_eq!(read(foreign.to_vec()), is("b", "a", "d1"));
        // Nor with our tags copied onto it, or invented.
        let copied = [ours("a", 9, "d1", "1 after nothing"), ours("b", 5, "d1", "1 after nothing")];
        assert_eq!(read(copied.to_vec()), is("b", "a", "d1"));
        let invented = [listed("b", 5, &[("idkeep_digest", "d1")])];
        assert_eq!(read(invented.to_vec()), is("b", "", ""));
    }

    #[test]
    fn the_newest_older_participant_is_remembered() {
        let mut old = ours("a", 9, "d1", "1 after nothing");
        old.tags.insert("idkeep_participant_id".into(), "PAR::old".into());
        let head = head(vec![old, ours("b", 5, "d2", "2 after a")], Timestamp::from_second(NOW).unwrap());
        assert_eq!(head.participant(), Some("PAR::a"));
        assert_eq!(head.older_participant.as_deref(), Some("PAR::old"));
        assert_eq!(head.created_at.len(), 2);
        assert_eq!(head.beside, [("idkeep_write".into(), "2 after a".into()), ("team".into(), "x".into())]);
    }
}
