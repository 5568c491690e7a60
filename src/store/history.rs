//! What is known of versions that are no longer current: a line of JSON each, beside the facts of the current one.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Facts;
use crate::log::printable;

/// Facts of older versions are kept under this prefix and the version's number.
const PREFIX: &str = "idkeep_v";

/// Facts of this many older versions are kept, and beyond them the newest of every other participant.
pub(super) const LENGTH: usize = 10;

/// The history once `new` follows `old`: at most `room` lines of at most `max` bytes.
pub(super) fn extended(
    mut history: Vec<(String, String)>,
    old: Option<&Facts>,
    new: &Facts,
    max: usize,
    room: usize,
) -> Vec<(String, String)> {
    if let Some(old) = old.filter(|old| is_number(&old.stored_version) && old.stored_version != new.stored_version) {
        let key = format!("{PREFIX}{}", old.stored_version);
        history.retain(|(known, _)| *known != key);
        history.push((key, old.to_history(max)));
    }
    kept(history, &new.participant_id, room)
}

/// The newest of the history, and the newest entry of every other participant before it.
fn kept(mut history: Vec<(String, String)>, current: &str, room: usize) -> Vec<(String, String)> {
    history.sort_by_key(|(key, _)| std::cmp::Reverse(number(key)));
    let mut seen = vec![current.to_owned()];
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for entry in history {
        let id = participant(&entry.1);
        if seen.contains(&id) {
            rest.push(entry);
        } else {
            seen.push(id);
            first.push(entry);
        }
    }
    rest.truncate(LENGTH.saturating_sub(first.len()));
    first.into_iter().chain(rest).take(room).collect()
}

/// The version whose line stands under this key.
pub(super) fn number(key: &str) -> Option<u64> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

/// When the version that a line of history describes was captured.
pub(super) fn made_at(key: &str, line: &str) -> Option<Timestamp> {
    number(key)?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["captured_at"].as_str()?.parse().ok()
}

/// Whose identities the newest older version that is described holds.
pub(super) fn newest_participant(beside: &BTreeMap<String, String>) -> Option<String> {
    let lines = beside.iter().filter_map(|(key, line)| Some((number(key)?, participant(line))));
    lines.filter(|(_, id)| !id.is_empty()).max().map(|(_, id)| printable(&id))
}

fn participant(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    line["participant_id"].as_str().unwrap_or_default().to_owned()
}

/// Whoever may write there may have written the version, and it becomes part of a key.
fn is_number(version: &str) -> bool {
    version.parse().is_ok_and(|number: u64| number.to_string() == version)
}
