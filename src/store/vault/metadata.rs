//! The metadata of a secret: its versions, our facts, the keys of others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::client;
use crate::store::history;
use crate::store::{Current, Facts, Head, Version};

/// Limits of `custom_metadata`: keys, and bytes of one value.
const MAX_KEYS: usize = 64;
const MAX_VALUE: usize = 512;

/// What the server says about a secret.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) current_version: u64,
    #[serde(default)]
    pub(super) max_versions: u64,
    #[serde(default)]
    pub(super) delete_version_after: String,
    #[serde(default)]
    pub(super) custom_metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    versions: BTreeMap<String, VersionInfo>,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Debug, Deserialize)]
struct VersionInfo {
    created_time: Timestamp,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl Metadata {
    pub(super) fn parse(body: &[u8], date: Option<Timestamp>) -> Option<Self> {
        let metadata: Self = client::data(body)?;
        Some(Self { now: date.unwrap_or_else(Timestamp::now), ..metadata })
    }

    pub(super) fn none(date: Option<Timestamp>) -> Self {
        Self { now: date.unwrap_or_else(Timestamp::now), ..Self::default() }
    }

    pub(super) fn deletes_by_itself(&self) -> bool {
        !matches!(self.delete_version_after.as_str(), "" | "0s")
    }

    pub(super) fn into_head(self) -> Head {
        let custom = self.custom_metadata.unwrap_or_default();
        let current = self.versions.get(&self.current_version.to_string()).map(|info| Current {
            version: Version(self.current_version.to_string()),
            created_at: info.created_time,
            is_alive: info.is_alive(self.now),
        });
        // A current version that is not listed any more has been pushed out: as good as destroyed.
        let lost = (current.is_none() && self.current_version > 0).then(|| Current {
            version: Version(self.current_version.to_string()),
            created_at: Timestamp::default(),
            is_alive: false,
        });
        // Versions that the server has pushed out still count: our own history says when they were made.
        let is_listed = |key: &str| history::number(key).is_some_and(|n| self.versions.contains_key(&n.to_string()));
        let pushed_out =
            custom.iter().filter(|(key, _)| !is_listed(key)).filter_map(|(key, line)| history::made_at(key, line));
        let listed = self.versions.values().map(|info| info.created_time);
        Head {
            current: current.or(lost),
            older_participant: history::newest_participant(&custom),
            created_at: listed.chain(pushed_out).collect(),
            facts: Facts::from_map(&custom),
            now: self.now,
            beside: custom.into_iter().filter(|(key, _)| !Facts::is_key(key)).collect(),
        }
    }
}

impl VersionInfo {
    /// A deletion time may lie ahead: `delete_version_after`.
    fn is_alive(&self, now: Timestamp) -> bool {
        // `Date` has whole seconds: what was deleted within this one is deleted.
        let is_past = |at: Timestamp| at.as_second() <= now.as_second();
        let is_deleted = !self.deletion_time.is_empty() && self.deletion_time.parse().is_ok_and(is_past);
        !self.destroyed && !is_deleted
    }
}

/// All of `custom_metadata` as it is to be written: others' keys, facts of older versions, these facts.
/// `None` where that does not fit.
pub(super) fn beside(head: &Head, facts: &Facts) -> Option<Vec<(String, String)>> {
    let new = facts.to_map();
    let is_history = |key: &str| history::number(key).is_some();
    let (past, others): (Vec<_>, Vec<_>) = head.beside.iter().cloned().partition(|(key, _)| is_history(key));
    let room = MAX_KEYS.checked_sub(new.len() + others.len())?;
    let mut all = others;
    all.extend(history::extended(past, head.facts.as_ref(), facts, MAX_VALUE, room));
    all.extend(new);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(participant: &str, version: u64) -> Facts {
        Facts {
            digest: format!("sha256:{version}"),
            participant_id: participant.to_owned(),
            party_hint: Some(format!("hint-of-{participant}")),
            stored_version: version.to_string(),
            ..Facts::default()
        }
    }

    /// What is beside the data after these versions were written one after the other.
    fn after(participants: &[&str], others: usize) -> Vec<(String, String)> {
        let mut head =
            Head { beside: (0..others).map(|i| (format!("team-{i}"), "x".into())).collect(), ..Head::default() };
        for (index, participant) in participants.iter().enumerate() {
            let all = beside(&head, &facts(participant, index as u64 + 1)).unwrap();
            let map: BTreeMap<String, String> = all.iter().cloned().collect();
            head.facts = Facts::from_map(&map);
            head.beside = all.into_iter().filter(|(key, _)| !Facts::is_key(key)).collect();
        }
        head.beside
    }

    #[test]
    fn the_facts_of_older_versions_stay() {
        let beside = after(&["old", "new"], 1);
        assert!(beside.contains(&("team-0".into(), "x".into())));
        let old = beside.iter().find(|(key, _)| key == "idkeep_v1").unwrap();
        assert!(old.1.contains("hint-of-old"), "{}", old.1);
    }

    #[test]
    fn the_hint_of_an_old_identity_survives_many_versions() {
        let mut participants = vec!["old"];
        participants.extend(std::iter::repeat_n("new", 100));
        let beside = after(&participants, 0);
        assert!(beside.iter().any(|(key, value)| key == "idkeep_v1" && value.contains("hint-of-old")));
        assert!(beside.len() <= history::LENGTH);
    }

    #[test]
    fn keys_of_others_come_first() {
        let beside_57 = after(&["a", "b", "c"], 57);
        assert_eq!(beside_57.iter().filter(|(key, _)| key.starts_with("team")).count(), 57);
        assert_eq!(beside_57.len(), 58, "there is room for one line of history");
        let full = Head { beside: (0..61).map(|i| (format!("team-{i}"), "x".into())).collect(), ..Head::default() };
        assert!(beside(&full, &facts("a", 1)).is_none());
    }
}
