//! The facts that stand beside stored identities: public, and enough to know what is stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::config::AgeRecipient;
use crate::identity::About;
use crate::log::printable;

/// What a store tells about one version. Names: interface, "What a store holds".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Digest over the semantic form.
    pub digest: String,
    /// Whose identities.
    pub participant_id: String,
    /// The validator app's version.
    pub dump_version: Option<String>,
    /// When they were fetched.
    pub captured_at: Option<Timestamp>,
    /// The hint of the validator's party; recovery needs it.
    pub party_hint: Option<String>,
    /// The network.
    pub network: Option<String>,
    /// `software`, `kms` or `mixed`.
    pub key_kind: String,
    /// What is known about the namespace's key.
    pub key_proof: String,
    /// The version that these facts describe.
    pub stored_version: String,
    /// When the identity was last seen to be this one.
    pub checked_at: Option<Timestamp>,
    /// Whom it is sealed to: a short digest of the recipients, none where it is not sealed.
    pub sealed_to: Option<String>,
}

/// What all our keys start with.
pub const PREFIX: &str = "idkeep_";

impl Facts {
    /// The facts of a dump that was fetched at this time; the version is known only after the write.
    #[must_use]
    pub fn new(about: &About, network: Option<&str>, party_hint: Option<&str>, now: Timestamp) -> Self {
        Self {
            digest: about.digest.to_string(),
            participant_id: about.participant_id.to_string(),
            dump_version: about.dump_version.clone(),
            captured_at: Some(now),
            party_hint: party_hint.map(str::to_owned),
            network: network.map(str::to_owned),
            key_kind: about.key_kind.as_str().to_owned(),
            key_proof: about.key_proof.as_str().to_owned(),
            stored_version: String::new(),
            checked_at: Some(now),
            sealed_to: None,
        }
    }

    /// How facts name a set of recipients, whatever their order.
    #[must_use]
    pub fn recipients(recipients: &[AgeRecipient]) -> Option<String> {
        let mut sorted: Vec<&str> = recipients.iter().map(AgeRecipient::as_str).collect();
        sorted.sort_unstable();
        let digest = Sha256::digest(sorted.join("\n"));
        (!sorted.is_empty()).then(|| base16ct::lower::encode_string(&digest[..8]))
    }

    /// The same facts about this version.
    #[must_use]
    pub fn of_version(&self, version: &str) -> Self {
        Self { stored_version: version.to_owned(), ..self.clone() }
    }

    /// As key and value; what is not known is left out.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let time = |at: Option<Timestamp>| at.map(rfc3339);
        let pairs = [
            ("digest", Some(self.digest.clone())),
            ("participant_id", Some(self.participant_id.clone())),
            ("dump_version", self.dump_version.clone()),
            ("captured_at", time(self.captured_at)),
            ("party_hint", self.party_hint.clone()),
            ("network", self.network.clone()),
            ("key_kind", Some(self.key_kind.clone())),
            ("key_proof", Some(self.key_proof.clone())),
            ("stored_version", Some(self.stored_version.clone())),
            ("checked_at", time(self.checked_at)),
            ("sealed_to", self.sealed_to.clone()),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((format!("{PREFIX}{key}"), value?))).collect()
    }

    /// Reads them back; `None` where there is none of ours. Whoever may write there may have written them, so they
    /// are kept printable.
    #[must_use]
    pub fn from_map(map: &BTreeMap<String, String>) -> Option<Self> {
        if !map.keys().any(|key| Self::is_key(key)) {
            return None;
        }
        let get = |key: &str| map.get(&format!("{PREFIX}{key}")).map(|text| printable(text));
        let time = |key: &str| get(key)?.parse().ok();
        Some(Self {
            digest: get("digest").unwrap_or_default(),
            participant_id: get("participant_id").unwrap_or_default(),
            dump_version: get("dump_version"),
            captured_at: time("captured_at"),
            party_hint: get("party_hint"),
            network: get("network"),
            key_kind: get("key_kind").unwrap_or_default(),
            key_proof: get("key_proof").unwrap_or_default(),
            stored_version: get("stored_version").unwrap_or_default(),
            checked_at: time("checked_at"),
            sealed_to: get("sealed_to"),
        })
    }

    /// True for the keys that [`Facts::to_map`] writes.
    #[must_use]
    pub fn is_key(key: &str) -> bool {
        const KEYS: [&str; 11] = [
            "digest",
            "participant_id",
            "dump_version",
            "captured_at",
            "party_hint",
            "network",
            "key_kind",
            "key_proof",
            "stored_version",
            "checked_at",
            "sealed_to",
        ];
        key.strip_prefix(PREFIX).is_some_and(|key| KEYS.contains(&key))
    }

    /// One line of JSON for a version that is no longer current, in at most `max` bytes: what recovery needs first.
    #[must_use]
    pub fn to_history(&self, max: usize) -> String {
        let captured_at = self.captured_at.map(rfc3339).unwrap_or_default();
        let fields = [
            ("participant_id", self.participant_id.as_str()),
            ("party_hint", self.party_hint.as_deref().unwrap_or_default()),
            ("digest", &self.digest),
            ("captured_at", &captured_at),
            ("network", self.network.as_deref().unwrap_or_default()),
            ("key_kind", &self.key_kind),
            ("key_proof", &self.key_proof),
            ("dump_version", self.dump_version.as_deref().unwrap_or_default()),
        ];
        let mut line = serde_json::Map::new();
        for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            line.insert(key.to_owned(), value.into());
            if serde_json::Value::Object(line.clone()).to_string().len() > max {
                line.remove(key);
            }
        }
        serde_json::Value::Object(line).to_string()
    }
}

/// RFC 3339, UTC, whole seconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            digest: "sha256:00".into(),
            participant_id: "PAR::a::1220".into(),
            captured_at: "2026-11-22T22:00:00.5Z".parse().ok(),
            party_hint: Some("acme-1".into()),
            stored_version: "3".into(),
            ..Facts::default()
        }
    }

    #[test]
    fn facts_read_back_as_written() {
        let map = facts().to_map();
        assert!(map.keys().all(|key| Facts::is_key(key)));
        assert_eq!(map["idkeep_captured_at"], "2026-11-22T22:00:00Z");
        assert!(!map.contains_key("idkeep_network"));
        assert_eq!(Facts::from_map(&map).unwrap().to_map(), map);
        assert!(Facts::from_map(&BTreeMap::new()).is_none());
    }

    #[test]
    fn history_keeps_what_recovery_needs_within_its_room() {
        let long = Facts {
            participant_id: "p".repeat(270),
            digest: "d".repeat(71),
            network: Some("n".repeat(128)),
            ..facts()
        };
        let line = long.to_history(512);
        assert!(line.len() <= 512, "{}", line.len());
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["party_hint"], "acme-1");
        assert_eq!(json["participant_id"].as_str().unwrap().len(), 270);
    }
}
