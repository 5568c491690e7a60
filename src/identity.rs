//! Node identities: the dump of a participant's keys, parsed by borrowing, judged, proven, wiped.
//!
//! The bytes are never changed and never copied but into a request or a seal.

mod dump;
mod fingerprint;
mod proof;
mod protobuf;

use std::fmt;

use base16ct::lower::encode_string as hex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use dump::Error;
pub use fingerprint::Fingerprint;
pub use proof::{KeyKind, KeyProof};

use crate::config::NamespaceKey;
use crate::secret;

/// The largest dump that is accepted, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A dump that has been judged, with what is public about it.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<idkeep::identity::Identities>();
/// ```
/// ```compile_fail
/// fn needs_serialize<T: serde::Serialize>() {}
/// needs_serialize::<idkeep::identity::Identities>();
/// ```
pub struct Identities {
    bytes: Zeroizing<Vec<u8>>,
    about: About,
}

/// What is public about a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// Whose identities these are.
    pub participant_id: ParticipantId,
    /// Digest over the semantic form.
    pub digest: Digest,
    /// The validator app's version, if the dump names it.
    pub dump_version: Option<String>,
    /// Where the private keys are.
    pub key_kind: KeyKind,
    /// What is known about the namespace's key.
    pub key_proof: KeyProof,
    /// Number of keys.
    pub keys: usize,
    /// Size in bytes.
    pub bytes: usize,
    /// Names of keys whose spec or format is not known to us.
    #[serde(skip)]
    pub unproven: Vec<String>,
}

impl Identities {
    /// Judges the bytes of an answer: parses, proves, digests. What is not a dump is an error.
    pub fn parse(bytes: Zeroizing<Vec<u8>>, namespace_key: NamespaceKey) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge);
        }
        let about = dump::judge(&bytes, namespace_key);
        secret::scrub_stack();
        Ok(Self { bytes, about: about? })
    }

    /// What is public about it.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The dump, byte for byte: for sealing and for stores that take it as it is.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("about", &self.about).finish_non_exhaustive()
    }
}

/// `PAR::<identifier>::<fingerprint>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ParticipantId(String);

impl ParticipantId {
    /// The id, if the text is one. Identifiers are up to 185 of letters, digits, `-`, `_`, `:` and space
    /// (Canton's `SafeSimpleString`), without `::`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (identifier, namespace) = text.strip_prefix("PAR::")?.rsplit_once("::")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | ' ');
        let is_identifier = (1..=185).contains(&identifier.len())
            && identifier.chars().all(allowed)
            && !identifier.contains("::")
            && !identifier.ends_with(':');
        (is_identifier && Fingerprint::parse(namespace).is_some()).then(|| Self(text.to_owned()))
    }

    /// The fingerprint of the namespace's key: the last part.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.rsplit_once("::").map_or("", |(_, namespace)| namespace)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `sha256:<hex>` over the semantic form: the same whatever the order of keys or the app's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Lines `idkeep/identity/v1`, the id, the sorted keys, the snapshot, each ended by a newline.
    fn of(id: &str, mut keys: Vec<String>, snapshot: &[u8]) -> Self {
        keys.sort_unstable();
        let mut hash = Sha256::new();
        for line in ["idkeep/identity/v1", id].into_iter().chain(keys.iter().map(String::as_str)) {
            hash.update(line);
            hash.update("\n");
        }
        hash.update(format!("snapshot {}\n", hex(&Sha256::digest(snapshot))));
        Self(format!("sha256:{}", hex(&hash.finalize())))
    }

    /// The digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ParticipantId;

    #[test]
    fn an_id_has_three_parts() {
        let namespace = format!("1220{}", "ab".repeat(32));
        for identifier in ["acme-validator-1", "a", "digital asset_1:x"] {
            let text = format!("PAR::{identifier}::{namespace}");
            assert_eq!(ParticipantId::parse(&text).unwrap().namespace(), namespace);
        }
        let long = "x".repeat(186);
        for identifier in ["", "a::b", "a/b", "ä", "a\nb", "a:", &long] {
            assert!(ParticipantId::parse(&format!("PAR::{identifier}::{namespace}")).is_none(), "{identifier}");
        }
        for text in [
            "",
            "PAR::a",
            "MED::a::1220",
            &format!("PAR::a::{}", namespace.to_uppercase()),
            &format!("PAR::a::{namespace}0"),
        ] {
            assert!(ParticipantId::parse(text).is_none(), "{text}");
        }
    }
}
