//! What the service says about a secret without its value: tags, versions, state.

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::primitives::DateTime;
use aws_sdk_secretsmanager::types::SecretVersionsListEntry;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::tags::{self, Tags};
use crate::store::{Current, Head, Version};

/// The label of the version that everybody reads.
pub(super) const CURRENT: &str = "AWSCURRENT";

/// A secret that is there.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) tags: Tags,
    versions: Vec<Listed>,
    pub(super) kms_key_id: Option<String>,
    pub(super) is_rotated: bool,
}

#[derive(Debug)]
struct Listed {
    id: String,
    created_at: Timestamp,
    is_current: bool,
}

impl Seen {
    pub(super) fn new(described: &DescribeSecretOutput, listed: &[SecretVersionsListEntry]) -> Self {
        let tags = described.tags().iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())));
        let versions = listed.iter().filter_map(|entry| {
            Some(Listed {
                id: entry.version_id()?.to_owned(),
                created_at: entry.created_date().and_then(timestamp).unwrap_or_default(),
                is_current: entry.version_stages().iter().any(|stage| stage == CURRENT),
            })
        });
        Self {
            tags: tags.collect(),
            versions: versions.collect(),
            kms_key_id: described.kms_key_id().map(str::to_owned),
            is_rotated: described.rotation_enabled() == Some(true),
        }
    }

    /// The version that everybody reads.
    pub(super) fn current(&self) -> Option<&str> {
        self.versions.iter().find(|version| version.is_current).map(|version| version.id.as_str())
    }

    pub(super) fn head(&self, now: Timestamp) -> Head {
        let current = self.versions.iter().find(|version| version.is_current).map(|version| Current {
            version: Version(version.id.clone()),
            created_at: version.created_at,
            is_alive: true,
        });
        let former = tags::former(&self.tags).into_iter().next();
        Head {
            current,
            facts: tags::facts(&self.tags),
            older_participant: former.map(|former| former.participant_id).filter(|id| !id.is_empty()),
            created_at: self.versions.iter().map(|version| version.created_at).collect(),
            now,
            beside: self
                .tags
                .iter()
                .filter(|(key, _)| !tags::is_ours(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        }
    }

    /// The id of the version that follows the current one with this digest: whoever writes the same after the same
    /// gets the same id, so that however many writers and tries make one version.
    ///
    /// A version of that name which is there, but not current, was taken back by somebody: then another one follows.
    pub(super) fn next(&self, digest: &str) -> String {
        let previous = self.current().unwrap_or_default();
        let is_taken = |id: &String| self.versions.iter().any(|version| version.id == *id);
        let mut ids = (0_u32..).map(|number| token(digest, previous, number));
        ids.find(|id| !is_taken(id)).unwrap_or_default()
    }
}

/// AWS makes the `ClientRequestToken` of a put the id of its version: 32 to 64 characters, of the form of a UUID.
fn token(digest: &str, previous: &str, number: u32) -> String {
    let hash = Sha256::digest(format!("idkeep/aws/v1\n{digest}\n{previous}\n{number}\n"));
    let hex = base16ct::lower::encode_string(&hash[..16]);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn timestamp(date: &DateTime) -> Option<Timestamp> {
    Timestamp::new(date.secs(), i32::try_from(date.subsec_nanos()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ids: &[(&str, bool)]) -> Seen {
        let versions = ids.iter().map(|(id, is_current)| Listed {
            id: (*id).to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            is_current: *is_current,
        });
        Seen { versions: versions.collect(), ..Seen::default() }
    }

    #[test]
    fn the_same_after_the_same_is_the_same_version() {
        assert_eq!(seen(&[]).next("a"), seen(&[]).next("a"));
        let first = seen(&[]).next("a");
        let second = seen(&[(&first, true)]).next("b");
        // Back to the first one: another version, although its value was there before.
        let third = seen(&[(&first, false), (&second, true)]).next("a");
        assert!(first != second && second != third && first != third);
        assert!(first.len() == 36 && first.split('-').map(str::len).eq([8, 4, 4, 4, 12]), "{first}");
    }

    #[test]
    fn a_version_that_was_taken_back_is_followed_by_another() {
        let first = "0";
        let taken_back = seen(&[(first, true)]).next("a");
        let again = seen(&[(first, true), (&taken_back, false)]).next("a");
        assert_ne!(again, taken_back);
    }
}
