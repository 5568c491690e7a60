//! The facts in the sibling secret: which of its versions tells about the identities' current one.
//!
//! Each writer adds facts after its data and none takes any away, so a slower writer's facts may come after those of
//! the version that won: what counts is what they describe, not which are the newest.

use std::collections::BTreeMap;

use super::client::{Client, Read};
use super::sibling;
use crate::retry::Deadline;
use crate::store::Facts;
use crate::store::cloud::{Error, Reason};

/// Older versions of the facts that are looked into where the newest do not describe the current one.
const BACK: usize = 8;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The facts about the current version, else the newest that can be read.
    pub(super) facts: Option<Facts>,
    /// Whose identities the newest facts that name somebody tell of.
    pub(super) participant: Option<String>,
}

/// As they are written.
pub(super) fn to_bytes(facts: &Facts) -> Vec<u8> {
    serde_json::to_vec(&facts.to_map()).unwrap_or_default()
}

fn parse(read: &Read) -> Option<Facts> {
    let Read::Bytes(bytes) = read else { return None };
    Facts::from_map(&serde_json::from_slice::<BTreeMap<String, String>>(bytes).ok()?)
}

/// The newest version of the facts, whatever its state.
pub(super) async fn newest(client: &Client, secret: &str, deadline: Deadline) -> Result<Read, Error> {
    client.facts(secret, "latest", deadline).await
}

/// The facts that count, from the newest ones on.
pub(super) async fn known(
    client: &Client,
    secret: &str,
    newest: &Read,
    current: Option<u64>,
    deadline: Deadline,
) -> Result<Known, Error> {
    if matches!(newest, Read::Nothing) {
        return Ok(Known::default());
    }
    let mut read: Vec<Facts> = parse(newest).into_iter().collect();
    let current = current.map(|number| number.to_string());
    let describes = |facts: &Facts| current.as_deref().is_none_or(|current| facts.stored_version == current);
    if !read.iter().any(describes) {
        let is_read = !read.is_empty();
        let versions = match client.versions(&sibling(secret), deadline).await {
            Ok(versions) => versions.unwrap_or_default(),
            // Without the right to list them, the newest have to do.
            Err(Error { reason: Reason::Denied(_), .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let readable = versions.iter().filter(|version| version.is_enabled).skip(usize::from(is_read));
        for version in readable.take(BACK) {
            let older = client.facts(secret, &version.number.to_string(), deadline).await?;
            read.extend(parse(&older));
            if read.last().is_some_and(describes) {
                break;
            }
        }
    }
    let participant = read.iter().map(|facts| &facts.participant_id).find(|id| !id.is_empty()).cloned();
    let describing = read.iter().position(describes).unwrap_or(0);
    let facts = (!read.is_empty()).then(|| read.swap_remove(describing));
    Ok(Known { facts, participant })
}
