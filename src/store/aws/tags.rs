//! Facts as tags of the secret. A tag can be written, never taken away: an empty one stands for none.
//!
//! AWS takes 50 tags of 256 characters from a small alphabet: what is not in it is written `=XX` (UTF-8, as in
//! quoted-printable), and what is longer goes on in `….2` and `….3`, so that nothing of a fact is lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::log::printable;
use crate::store::Facts;
use crate::store::facts::{PREFIX, rfc3339};

/// Limits of AWS: tags of one secret, and characters of one value.
const MAX_TAGS: usize = 50;
const MAX_VALUE: usize = 256;

/// The most tags that one fact goes on in.
const MAX_PARTS: usize = 3;

/// Whose identities were here before: `idkeep_former_1` is the newest of them.
const FORMER: &str = "idkeep_former_";

pub(super) type Tags = BTreeMap<String, String>;

/// A participant whose identities an older version holds: what recovery needs first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Former {
    pub(super) participant_id: String,
    party_hint: String,
    version: String,
    captured_at: String,
}

/// The facts in these tags.
pub(super) fn facts(tags: &Tags) -> Option<Facts> {
    let keys = tags.keys().filter(|key| Facts::is_key(key));
    let map: BTreeMap<String, String> = keys.filter_map(|key| Some((key.clone(), whole(tags, key)?))).collect();
    Facts::from_map(&map)
}

/// Former participants, newest first.
pub(super) fn former(tags: &Tags) -> Vec<Former> {
    let lines = (1..=MAX_TAGS).map_while(|number| raw(tags, &format!("{FORMER}{number}")));
    lines.map(|line| Former::parse(&line)).collect()
}

/// True for every tag that is ours.
pub(super) fn is_ours(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The tags to write so that `before` says these facts, and still whose identities were here; `None` where the tags
/// of others leave no room.
pub(super) fn update(before: &Tags, facts: &Facts) -> Option<Tags> {
    let mut new = Tags::new();
    for (key, value) in facts.to_map() {
        put(&mut new, before, &key, &encoded(&value));
    }
    // A fact that does not hold any more.
    let gone = before.keys().filter(|key| Facts::is_key(key) && !new.contains_key(*key)).cloned().collect::<Vec<_>>();
    for key in gone {
        put(&mut new, before, &key, "");
    }
    if count(before, &new) > MAX_TAGS {
        return None;
    }
    let old = self::facts(before);
    let is_other =
        old.as_ref().is_some_and(|old| !old.participant_id.is_empty() && old.participant_id != facts.participant_id);
    if let Some(old) = old.filter(|_| is_other) {
        let mut all = former(before);
        all.retain(|known| ![&old.participant_id, &facts.participant_id].contains(&&known.participant_id));
        all.insert(0, Former::of(&old));
        remember(&mut new, before, &all);
    }
    Some(new)
}

/// A change that changes nothing: whoever may make it may write facts.
pub(super) fn no_change(before: &Tags) -> Tags {
    let key = format!("{PREFIX}stored_version");
    let value = before.get(&key).cloned().unwrap_or_default();
    Tags::from([(key, value)])
}

/// Writes as many former participants as there is room for, the newest first.
fn remember(new: &mut Tags, before: &Tags, all: &[Former]) {
    for (index, one) in all.iter().enumerate() {
        let key = format!("{FORMER}{}", index + 1);
        let mut with = new.clone();
        put(&mut with, before, &key, &one.line());
        if count(before, &with) > MAX_TAGS {
            tracing::warn!(
                participant_id = printable(&one.participant_id),
                "no tag is left to remember a former participant in"
            );
            return;
        }
        *new = with;
    }
    // Fewer than before: what is left over would be read as older ones.
    for number in all.len() + 1..=MAX_TAGS {
        let key = format!("{FORMER}{number}");
        if raw(before, &key).is_none() {
            break;
        }
        put(new, before, &key, "");
    }
}

fn count(before: &Tags, new: &Tags) -> usize {
    before.len() + new.keys().filter(|key| !before.contains_key(*key)).count()
}

fn part(key: &str, number: usize) -> String {
    if number == 1 { key.to_owned() } else { format!("{key}.{number}") }
}

/// The value under this key and, where it is longer than one tag, under those after it.
fn put(new: &mut Tags, before: &Tags, key: &str, value: &str) {
    if value.len() > MAX_VALUE * MAX_PARTS {
        tracing::warn!(key, "this fact is too long for tags: it is cut");
    }
    for number in 1..=MAX_PARTS {
        let from = (MAX_VALUE * (number - 1)).min(value.len());
        let piece = &value[from..(from + MAX_VALUE).min(value.len())];
        let key = part(key, number);
        if number == 1 || !piece.is_empty() || before.get(&key).is_some_and(|old| !old.is_empty()) {
            new.insert(key, piece.to_owned());
        }
    }
}

fn raw(tags: &Tags, key: &str) -> Option<String> {
    let parts = (1..=MAX_PARTS).map_while(|number| tags.get(&part(key, number)).filter(|piece| !piece.is_empty()));
    let whole: String = parts.map(String::as_str).collect();
    (!whole.is_empty()).then_some(whole)
}

fn whole(tags: &Tags, key: &str) -> Option<String> {
    raw(tags, key).map(|text| decoded(&text))
}

/// Letters, digits, spaces and `+ - . _ : / @` stand for themselves.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b" +-._:/@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "={byte:02X}");
        }
    }
    encoded
}

/// The same back; what was never encoded so stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let code = rest.strip_prefix('=').and_then(|rest| rest.get(..2));
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = &rest[3..];
        } else {
            bytes.extend_from_slice(next.to_string().as_bytes());
            rest = &rest[next.len_utf8()..];
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Former {
    fn of(facts: &Facts) -> Self {
        Self {
            participant_id: facts.participant_id.clone(),
            party_hint: facts.party_hint.clone().unwrap_or_default(),
            version: facts.stored_version.clone(),
            captured_at: facts.captured_at.map(rfc3339).unwrap_or_default(),
        }
    }

    /// Four words: the participant, its party hint, the version that holds it, when that was fetched. `=` for none.
    fn line(&self) -> String {
        let word = |text: &String| if text.is_empty() { "=".to_owned() } else { encoded(text).replace(' ', "=20") };
        [&self.participant_id, &self.party_hint, &self.version, &self.captured_at].map(word).join(" ")
    }

    fn parse(line: &str) -> Self {
        let mut words = line.split(' ').map(|word| if word == "=" { String::new() } else { printable(&decoded(word)) });
        let mut next = || words.next().unwrap_or_default();
        Self { participant_id: next(), party_hint: next(), version: next(), captured_at: next() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(participant: &str, version: &str) -> Facts {
        Facts {
            digest: format!("sha256:{version}"),
            participant_id: participant.into(),
            party_hint: Some(format!("hint of {participant}")),
            captured_at: "2026-11-22T22:00:00Z".parse().ok(),
            stored_version: version.into(),
            ..Facts::default()
        }
    }

    fn written(tags: &mut Tags, facts: &Facts) {
        let new = update(tags, facts).unwrap();
        for (key, value) in &new {
            assert!(key.len() <= 128 && value.len() <= MAX_VALUE, "{key}: {value}");
            assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || " +-=._:/@".contains(c)), "{key}: {value}");
        }
        tags.extend(new);
        assert!(tags.len() <= MAX_TAGS);
    }

    #[test]
    fn facts_read_back_as_written_whatever_is_in_them() {
        let long = format!("PAR::{}::1220{}", "p".repeat(185), "0".repeat(64));
        let odd = Facts {
            party_hint: Some("für 100 % = \"ä\" \u{1f512} =2".into()),
            network: Some("a,b".into()),
            ..of(&long, "v1")
        };
        let mut tags = Tags::new();
        written(&mut tags, &odd);
        assert_eq!(facts(&tags).unwrap(), odd);
        assert_eq!(tags["idkeep_participant_id.2"].len(), long.len() - MAX_VALUE);
        // What is shorter leaves nothing of what was longer.
        written(&mut tags, &of("PAR::short", "v2"));
        assert_eq!(facts(&tags).unwrap(), of("PAR::short", "v2"));
    }

    #[test]
    fn a_fact_that_does_not_hold_any_more_is_none() {
        let mut tags = Tags::from([("team".into(), "canton".into())]);
        written(&mut tags, &Facts { sealed_to: Some("0011223344556677".into()), ..of("PAR::a", "v1") });
        written(&mut tags, &of("PAR::a", "v2"));
        assert_eq!(facts(&tags).unwrap().sealed_to, None);
        assert_eq!(tags["team"], "canton");
        assert!(former(&tags).is_empty());
    }

    #[test]
    fn former_participants_stay_known_newest_first() {
        let mut tags = Tags::new();
        for (number, participant) in ["a", "b", "b", "c", "b"].into_iter().enumerate() {
            written(&mut tags, &of(participant, &format!("v{number}")));
        }
        let known = former(&tags);
        assert_eq!(known.iter().map(|one| one.participant_id.as_str()).collect::<Vec<_>>(), ["c", "a"]);
        assert_eq!(known[1].party_hint, "hint of a");
        assert_eq!([&known[0].version, &known[1].version], ["v3", "v0"]);
        assert!(tags["idkeep_former_2"].starts_with("a hint=20of=20a v0 2026-"), "{tags:?}");
    }

    #[test]
    fn tags_of_others_come_first() {
        let others = |count| (0..count).map(|number| (format!("team-{number}"), String::new())).collect::<Tags>();
        assert!(update(&others(45), &of("a", "v1")).is_none());
        let mut tags = others(41);
        for participant in ["a", "b", "c", "d"] {
            written(&mut tags, &of(participant, "v"));
        }
        // There is room for two, and the oldest of three goes.
        assert_eq!(former(&tags).iter().map(|one| one.participant_id.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    }

    #[test]
    fn what_others_wrote_is_read_as_it_is() {
        let tags =
            Tags::from([("idkeep_participant_id".into(), "=ZZ=".into()), ("idkeep_former_1".into(), "x".into())]);
        assert_eq!(facts(&tags).unwrap().participant_id, "=ZZ=");
        assert_eq!(former(&tags)[0], Former { participant_id: "x".into(), ..Former::default() });
        assert!(facts(&Tags::from([("idkeep_other".into(), "1".into())])).is_none());
        assert!(facts(&no_change(&Tags::new())).is_none());
    }
}
