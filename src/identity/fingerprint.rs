//! A key's fingerprint: `1220` and the SHA-256 over its public half.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Canton's hash purpose for public keys (12), big-endian, before the bytes (Splice: `HashPurpose.scala`).
const PURPOSE: [u8; 4] = [0, 0, 0, 12];

/// `1220<64 lower-case hex digits>`: a multihash of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Over the raw 32 bytes of an Ed25519 key, or the `SubjectPublicKeyInfo` DER of any other.
    #[must_use]
    pub fn of(public_key: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(PURPOSE).chain_update(public_key).finalize();
        Self(format!("1220{}", base16ct::lower::encode_string(&hash)))
    }

    /// The fingerprint, if the text is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("1220")?;
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        (digits.len() == 64 && digits.chars().all(is_hex)).then(|| Self(text.to_owned()))
    }
}

impl PartialEq<str> for Fingerprint {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
