//! The tags of a version: the facts, who wrote it after which, and what others have put there.

use std::collections::BTreeMap;

use crate::error::Fault;
use crate::store::Facts;
use crate::store::cloud::Reason;

/// Azure: so many tags, and so many characters of a name or a value.
const MOST: usize = 15;
const LONGEST: usize = 512;

/// `<16 hex digits of this write alone> after <the version before>`: tags that somebody copies to a version of his own
/// are known by it, and versions of the same second get their order.
const WRITE: &str = "idkeep_write";

/// The one fact that is not written, since Azure names a version only when it is there: that the tags lie on it says it.
const STORED_VERSION: &str = "idkeep_stored_version";

/// Tells `az` how to decode the value that it lies on.
const ENCODING: &str = "file-encoding";

pub(super) type Tags = BTreeMap<String, String>;

/// The tags of a new version, and how many of others' had no room beside ours: they stay on the version before.
pub(super) fn of_new(
    facts: &Facts,
    before: Option<&str>,
    beside: &[(String, String)],
) -> Result<(Tags, usize), Reason> {
    let mut tags = of_facts(facts);
    let write = format!("{:016x} after {}", fastrand::u64(..), before.unwrap_or("nothing"));
    tags.insert(WRITE.into(), write);
    let room = MOST.saturating_sub(tags.len());
    let others: Vec<_> = beside.iter().filter(|(name, _)| name != WRITE && name != ENCODING).collect();
    tags.extend(others.iter().take(room).map(|(name, value)| (name.clone(), value.clone())));
    fitting(tags).map(|tags| (tags, others.len().saturating_sub(room)))
}

/// The tags of a version whose facts are written anew.
pub(super) fn of_refreshed(facts: &Facts, beside: &[(String, String)]) -> Result<Tags, Reason> {
    let mut tags: Tags = beside.iter().cloned().collect();
    tags.extend(of_facts(facts));
    fitting(tags)
}

/// Everything but the facts.
pub(super) fn beside(tags: &Tags) -> Vec<(String, String)> {
    tags.iter().filter(|(name, _)| !Facts::is_key(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The write that made the tags, and the version that it followed; none where they are not ours.
pub(super) fn write(tags: &Tags) -> Option<(&str, &str)> {
    tags.get(WRITE)?.split_once(" after ")
}

fn of_facts(facts: &Facts) -> Tags {
    let mut tags = facts.to_map();
    tags.remove(STORED_VERSION);
    tags
}

fn fitting(tags: Tags) -> Result<Tags, Reason> {
    if tags.len() <= MOST && tags.values().all(|value| value.chars().count() <= LONGEST) {
        return Ok(tags);
    }
    Err(Reason::InTheWay {
        why: "the facts do not fit into its tags",
        fix: "a version takes 15 tags of up to 512 characters: shorten `party_hint` and `network`, or take tags of \
              others off the current version",
        fault: Fault::Config,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            digest: "sha256:00".into(),
            dump_version: Some("1".into()),
            captured_at: "2026-11-22T22:00:00Z".parse().ok(),
            party_hint: Some("p".into()),
            network: Some("n".into()),
            checked_at: "2026-11-22T22:00:00Z".parse().ok(),
            sealed_to: Some("s".into()),
            ..Facts::default()
        }
    }

    fn others(count: usize) -> Vec<(String, String)> {
        (0..count).map(|number| (format!("other-{number}"), "x".into())).collect()
    }

    #[test]
    fn others_are_carried_over_as_far_as_there_is_room() {
        for (count, left_out) in [(0, 0), (4, 0), (5, 1), (15, 11)] {
            let (tags, left) = of_new(&facts(), None, &others(count)).unwrap();
            assert_eq!((tags.len(), left), (11 + count - left_out, left_out));
            assert!(!tags.contains_key(STORED_VERSION));
            assert_eq!(Facts::from_map(&tags).unwrap().digest, "sha256:00");
        }
    }

    #[test]
    fn a_write_is_known_by_its_own_tag_and_takes_over_none_of_the_older_value() {
        let of = |before| of_new(&facts(), before, &[(WRITE.into(), "old".into()), (ENCODING.into(), "hex".into())]);
        let (first, second) = (of(None).unwrap().0, of(Some("v1")).unwrap().0);
        assert_eq!(write(&first).unwrap().1, "nothing");
        assert_eq!(write(&second).unwrap().1, "v1");
        assert_ne!(write(&first).unwrap().0, write(&second).unwrap().0);
        assert!(!second.contains_key(ENCODING));
        // But the same version keeps what lies on it.
        let again = of_refreshed(&facts(), &beside(&first)).unwrap();
        assert_eq!(again, first);
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_sent() {
        assert!(of_new(&Facts { party_hint: Some("ä".repeat(512)), ..facts() }, None, &[]).is_ok());
        assert!(of_new(&Facts { party_hint: Some("p".repeat(513)), ..facts() }, None, &[]).is_err());
        assert!(of_refreshed(&facts(), &others(6)).is_err());
    }
}
