//! The facts in the sibling secret: which of its versions tells about the identities' current one.
//!
//! Each writer adds facts after its data and none takes any away, so a slower writer's facts may come after those of
//! the version that won: what counts is what they describe, not which are the newest. And Google promises of a version
//! by its number alone that it is seen once it is there, of lists and of `latest` that they are right within hours:
//! <https://docs.cloud.google.com/secret-manager/docs/reference/consistency>.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::client::{Client, Read};
use super::sibling;
use crate::retry::Deadline;
use crate::store::Facts;
use crate::store::cloud::{Error, Reason};

/// Versions that are looked for beyond the one that is called the latest.
const AHEAD: u64 = 8;

/// Older versions that are looked into where the newest do not describe the current one.
const BACK: usize = 8;

/// So long after they were fetched, identities may be missing in the list of versions.
const LAG: SignedDuration = SignedDuration::from_hours(1);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The facts about the current version, else the newest that can be read.
    pub(super) facts: Option<Facts>,
    /// Whose identities the newest facts that name somebody tell of.
    pub(super) participant: Option<String>,
    /// The newest version that any facts describe, and when its identities were fetched.
    newest: Option<(u64, Timestamp)>,
}

/// As they are written.
pub(super) fn to_bytes(facts: &Facts) -> Vec<u8> {
    serde_json::to_vec(&facts.to_map()).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Option<Facts> {
    Facts::from_map(&serde_json::from_slice::<BTreeMap<String, String>>(bytes).ok()?)
}

/// The version of the facts that Google calls the latest, whatever its state.
pub(super) async fn latest(client: &Client, secret: &str, deadline: Deadline) -> Result<Read, Error> {
    client.facts(secret, "latest", deadline).await
}

/// The facts that count, from the latest ones on.
pub(super) async fn known(
    client: &Client,
    secret: &str,
    latest: Read,
    current: Option<u64>,
    deadline: Deadline,
) -> Result<Known, Error> {
    if matches!(latest, Read::Nothing) {
        return Ok(Known::default());
    }
    // Newest first.
    let mut read: Vec<Facts> = Vec::new();
    let mut seen = None;
    if let Read::Bytes(number, bytes) = latest {
        read.extend(parse(&bytes));
        seen = Some(number);
        for number in number + 1..=number + AHEAD {
            match client.facts(secret, &number.to_string(), deadline).await? {
                Read::Bytes(_, bytes) => parse(&bytes).into_iter().for_each(|facts| read.insert(0, facts)),
                Read::Unreadable => {}
                Read::Nothing => break,
            }
        }
    }
    let current = current.map(|number| number.to_string());
    let describes = |facts: &Facts| current.as_deref().is_none_or(|current| facts.stored_version == current);
    if !read.iter().any(describes) {
        for number in older(client, secret, seen, deadline).await? {
            let Read::Bytes(_, bytes) = client.facts(secret, &number.to_string(), deadline).await? else { continue };
            read.extend(parse(&bytes));
            if read.last().is_some_and(describes) {
                break;
            }
        }
    }
    let participant = read.iter().map(|facts| &facts.participant_id).find(|id| !id.is_empty()).cloned();
    let describing = read.iter().position(describes).unwrap_or(0);
    let newest = read.iter().filter_map(|facts| Some((facts.stored_version.parse().ok()?, facts.captured_at?))).max();
    let facts = (!read.is_empty()).then(|| read.swap_remove(describing));
    Ok(Known { facts, participant, newest })
}

/// Versions that may be readable, older than what was seen.
async fn older(client: &Client, secret: &str, seen: Option<u64>, deadline: Deadline) -> Result<Vec<u64>, Error> {
    let versions = match client.versions(&sibling(secret), deadline).await {
        Ok(versions) => versions.unwrap_or_default(),
        // Without the right to list them, the newest have to do.
        Err(Error { reason: Reason::Denied(_), .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let is_older = |number: &u64| seen.is_none_or(|seen| *number < seen);
    let enabled = versions.iter().filter(|version| version.is_enabled).map(|version| version.number);
    Ok(enabled.filter(is_older).take(BACK).collect())
}

impl Known {
    /// True where somebody has lately written a version that the list, which ends with this one, does not show yet.
    pub(super) fn is_ahead_of(&self, current: Option<u64>, now: Timestamp) -> bool {
        let is_recent = |at: Timestamp| now.duration_since(at) < LAG;
        self.newest.is_some_and(|(version, at)| version > current.unwrap_or(0) && is_recent(at))
    }
}
