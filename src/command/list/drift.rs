//! Drift: stores of one node that do not hold the same identity.

use jiff::Timestamp;
use serde::Serialize;

use crate::store::Head;

/// How what a store holds compares with the other stores of the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// The identity that was captured last.
    Current,
    /// Another one.
    Behind,
    /// A version of which no facts tell what it is, or one that is deleted or damaged.
    Unknown,
    /// Nothing.
    Empty,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Unknown => "unknown",
            Self::Empty => "empty",
        }
    }
}

/// What is known of the version that a restorer would get: its digest, and when it was captured (whole seconds, so
/// with when it was written).
fn holds(head: &Head) -> Option<(&str, (Option<Timestamp>, Timestamp))> {
    let current = head.current.as_ref().filter(|current| current.is_alive)?;
    let facts = head.described()?;
    Some((facts.digest.as_str(), (facts.captured_at, current.created_at)))
}

/// The state of each store, in their order; of a store that did not answer, none.
pub(super) fn states(heads: &[Option<Head>]) -> Vec<Option<State>> {
    let newest = heads.iter().flatten().filter_map(holds).max_by_key(|(_, at)| *at);
    let state = |head: &Head| match (holds(head), newest) {
        (Some((digest, _)), Some((newest, _))) if digest == newest => State::Current,
        (Some(_), _) => State::Behind,
        (None, _) if head.current.is_none() => State::Empty,
        (None, _) => State::Unknown,
    };
    heads.iter().map(|head| head.as_ref().map(state)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Current, Facts, Version};

    /// Version 3 is current, and the facts describe `described`.
    fn head(digest: &str, captured_at: i64, described: &str) -> Head {
        let now = Timestamp::UNIX_EPOCH;
        let current = Current { version: Version("3".into()), created_at: now, is_alive: true };
        let facts = Facts {
            digest: digest.into(),
            captured_at: Timestamp::from_second(captured_at).ok(),
            stored_version: described.into(),
            ..Facts::default()
        };
        Head { current: Some(current), facts: Some(facts), ..Head::default() }
    }

    #[test]
    fn stores_of_one_digest_are_current_whenever_each_captured_it() {
        let states = states(&[Some(head("a", 1, "3")), Some(head("a", 2, "3"))]);
        assert_eq!(states, [Some(State::Current), Some(State::Current)]);
    }

    #[test]
    fn the_digest_that_was_captured_last_is_the_current_one() {
        let states = states(&[Some(head("old", 1, "3")), None, Some(head("new", 2, "3"))]);
        assert_eq!(states, [Some(State::Behind), None, Some(State::Current)]);
    }

    #[test]
    fn what_no_facts_describe_or_what_is_gone_tells_nothing() {
        let mut dead = head("new", 9, "3");
        dead.current.as_mut().unwrap().is_alive = false;
        let states = states(&[head("new", 9, "2"), dead, Head::default(), head("old", 1, "3")].map(Some));
        let expected = [State::Unknown, State::Unknown, State::Empty, State::Current].map(Some);
        assert_eq!(states, expected);
    }
}
