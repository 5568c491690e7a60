//! The metadata of a Secret: whose it is, our facts, and what of them counts.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value};

use crate::log::printable;
use crate::store::cloud::Reason;
use crate::store::{Current, Facts, Head, Version, facts, history};

/// The key of the data: what the Splice chart's `participantIdentitiesDumpImport` reads.
pub(super) const CONTENT: &str = "content";

/// Who says so in `managedFields`: the owner of the data and of the facts about it.
pub(super) const OWNER: &str = "idkeep";

/// The owner of what is refreshed without the data, which an apply of the other would take away.
pub(super) const NOTES: &str = "idkeep-notes";

/// The owner of a Secret's bare existence.
pub(super) const CLAIM: &str = "idkeep-claim";

/// The label that says whose a Secret is.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Facts that are refreshed, and the version for which they were.
const NOTED: [&str; 3] = ["idkeep_checked_at", "idkeep_party_hint", "idkeep_network"];
const NOTED_VERSION: &str = "idkeep_noted_version";

/// When the last versions were written, for the limit of changes per day.
const WRITTEN_AT: &str = "idkeep_written_at";

/// More times than this are not kept.
const MAX_TIMES: usize = 1000;

/// Room for a line of history: annotations have 256 KiB in all.
const MAX_LINE: usize = 1024;

/// Lines of history: one for each participant that was ever accepted, and the newest others.
const MAX_LINES: usize = 64;

/// What an apply has to name so that it fails once anything has changed. No annotation has such a name.
const UID: &str = "/uid";
const RESOURCE_VERSION: &str = "/resourceVersion";

/// Nothing there.
pub(super) fn absent(now: Timestamp) -> Head {
    Head { now, ..Head::default() }
}

/// What the Secret holds; refused where somebody else has a part in it.
pub(super) fn head(metadata: ObjectMeta, now: Timestamp) -> Result<Head, Reason> {
    judge_owners(&metadata).map_err(Reason::Foreign)?;
    let managed = metadata.managed_fields.unwrap_or_default();
    let holds_content = managed.iter().any(|entry| fields(entry, &["f:data"]).any(|field| field == "f:content"));
    let annotations = metadata.annotations.unwrap_or_default();
    let facts = facts_of(&annotations);
    let created_at = times(&annotations);
    let current = match &facts {
        Some(facts) if is_whole(facts) => Some(Current {
            version: Version(facts.stored_version.clone()),
            created_at: created_at.last().copied().unwrap_or_default(),
            is_alive: holds_content,
        }),
        _ if holds_content => {
            let lost = "its `idkeep_…` annotations are not whole, so it is not known whose identities it holds, and \
                        they would be lost";
            return Err(Reason::Foreign(lost.into()));
        }
        _ => None,
    };
    let mut beside: Vec<(String, String)> = vec![
        (UID.into(), metadata.uid.unwrap_or_default()),
        (RESOURCE_VERSION.into(), metadata.resource_version.unwrap_or_default()),
    ];
    let older_participant = history::newest_participant(&annotations);
    beside.extend(annotations.into_iter().filter(|(key, _)| history::number(key).is_some()));
    Ok(Head { current, facts, older_participant, created_at, now, beside })
}

/// Refuses a Secret that somebody else owns, or has written anything into that we write: it holds one version, so
/// what we replace is gone.
fn judge_owners(metadata: &ObjectMeta) -> Result<(), String> {
    if metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted, and a finalizer still holds it".into());
    }
    if metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) {
        return Err("another object owns it (`ownerReferences`) and takes it along when it goes".into());
    }
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    if let Some(other) = label.filter(|name| *name != OWNER) {
        return Err(format!("its label `{MANAGED_BY}` names {}", named(other)));
    }
    let entries = metadata.managed_fields.as_deref().unwrap_or_default();
    if entries.is_empty() {
        return Err("its `managedFields` are gone, so nobody knows who wrote what is in it".into());
    }
    for entry in entries.iter().filter(|entry| !is_ours(entry)) {
        let manager = named(entry.manager.as_deref().unwrap_or_default());
        if fields(entry, &["f:data"]).chain(fields(entry, &["f:stringData"])).next().is_some() {
            return Err(format!("its data was written by the field manager {manager}, and would be lost"));
        }
        if fields(entry, &["f:metadata", "f:annotations"]).any(|field| field[2..].starts_with(facts::PREFIX)) {
            return Err(format!("its `idkeep_…` annotations were changed by the field manager {manager}"));
        }
    }
    Ok(())
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    let is_apply = entry.operation.as_deref() == Some("Apply");
    is_apply && [OWNER, NOTES, CLAIM].contains(&entry.manager.as_deref().unwrap_or_default())
}

/// The names (`f:content`) of the fields that an entry owns below this path.
fn fields<'a>(entry: &'a ManagedFieldsEntry, path: &[&str]) -> impl Iterator<Item = &'a str> {
    let mut at = entry.fields_v1.as_ref().map(|fields| &fields.0);
    for step in path {
        at = at.and_then(|value| value.get(step));
    }
    let keys = at.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    keys.map(String::as_str).filter(|key| key.starts_with("f:"))
}

/// A name that others chose, as far as it is one.
fn named(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let is_harmless = !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain);
    if is_harmless { format!("`{}`", printable(name)) } else { "somebody else".into() }
}

fn is_whole(facts: &Facts) -> bool {
    let is_number = facts.stored_version.parse::<u64>().is_ok();
    is_number && !facts.digest.is_empty() && !facts.participant_id.is_empty()
}

/// The facts; what was noted for another version is none.
fn facts_of(annotations: &BTreeMap<String, String>) -> Option<Facts> {
    let mut map = annotations.clone();
    if map.get(NOTED_VERSION) != map.get("idkeep_stored_version") {
        map.retain(|key, _| !NOTED.contains(&key.as_str()));
    }
    Facts::from_map(&map)
}

fn times(annotations: &BTreeMap<String, String>) -> Vec<Timestamp> {
    let list = annotations.get(WRITTEN_AT).map(String::as_str).unwrap_or_default();
    list.split(',').filter_map(|time| time.parse().ok()).collect()
}

/// The number of the version after this one.
pub(super) fn next_version(head: &Head) -> u64 {
    let stored = head.facts.as_ref().and_then(|facts| facts.stored_version.parse().ok());
    let older = head.beside.iter().filter_map(|(key, _)| history::number(key));
    older.chain(stored).max().unwrap_or(0_u64).saturating_add(1)
}

/// Whether there is a Secret, with data or without.
pub(super) fn is_there(head: &Head) -> bool {
    head.beside.iter().any(|(key, _)| key == UID)
}

/// What the owner writes beside a new version: everything but what is refreshed without it.
pub(super) fn owned(head: &Head, facts: &Facts) -> BTreeMap<String, String> {
    let day = SignedDuration::from_hours(24);
    let recent = head.created_at.iter().copied().filter(|at| head.now.duration_since(*at) < day);
    let mut written: Vec<Timestamp> = recent.chain([head.now]).collect();
    written.drain(..written.len().saturating_sub(MAX_TIMES));
    let written: Vec<String> = written.into_iter().map(facts::rfc3339).collect();
    let past = head.beside.iter().filter(|(key, _)| history::number(key).is_some()).cloned().collect();
    let mut annotations: BTreeMap<_, _> =
        history::extended(past, head.facts.as_ref(), facts, MAX_LINE, MAX_LINES).into_iter().collect();
    annotations.extend(facts.to_map().into_iter().filter(|(key, _)| !NOTED.contains(&key.as_str())));
    annotations.insert(WRITTEN_AT.into(), written.join(","));
    annotations
}

/// What is refreshed.
pub(super) fn noted(facts: &Facts) -> BTreeMap<String, String> {
    let mut notes: BTreeMap<_, _> =
        facts.to_map().into_iter().filter(|(key, _)| NOTED.contains(&key.as_str())).collect();
    notes.insert(NOTED_VERSION.into(), facts.stored_version.clone());
    notes
}

/// What an apply names of the Secret that was looked at: it fails once that one has changed or is another.
pub(super) fn seen(head: &Head) -> [(&'static str, String); 2] {
    let of = |name: &str| head.beside.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    [("uid", of(UID).unwrap_or_default()), ("resourceVersion", of(RESOURCE_VERSION).unwrap_or_default())]
}
