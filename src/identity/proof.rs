//! Proof that a key is what it says: its public half follows from the private one, and the public
//! half's fingerprint is its id.
//!
//! Message layouts: Canton `crypto/v30/crypto.proto`; fingerprints: Splice `Signing.scala`, `HashPurpose.scala`.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};
use serde::Serialize;

use super::Fingerprint;
use super::protobuf::{Field, Fields};
use crate::config::NamespaceKey;

/// Where the private keys of a dump are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// All in the dump.
    Software,
    /// All in a key management service.
    Kms,
    /// Some here, some there.
    Mixed,
}

/// What is known about the key of the participant's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyProof {
    /// It is in the dump: derived from the private key and compared.
    Proven,
    /// It is kept elsewhere, says the configuration.
    Offline,
    /// It is named as a key of a key management service.
    Kms,
    /// Its spec or format is not known to us.
    Unproven,
}

macro_rules! words {
    ($name:ident: $($variant:ident = $word:literal),+) => {
        impl $name {
            /// The word that stores and reports use.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}
words!(KeyKind: Software = "software", Kms = "kms", Mixed = "mixed");
words!(KeyProof: Proven = "proven", Offline = "offline", Kms = "kms", Unproven = "unproven");

/// What one key of the dump turned out to be.
pub(super) enum Proof {
    /// A private key whose public half has this fingerprint, which is its id.
    Proven { fingerprint: Fingerprint, is_signing: bool },
    /// A private key of a spec or format not known to us, with the id that it claims.
    Unknown(String),
    /// A reference to a key management service.
    Kms { is_signing: bool },
}

impl Proof {
    pub(super) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// What is wrong with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Neither a key pair nor a KMS key, or both.
    NotAKey,
    /// The name has control characters.
    ControlCharacters,
    /// `keyPair` is not strict base64.
    NotBase64,
    /// `keyPair` is not the message it has to be.
    NotAMessage,
    /// The private key's bytes are no key of its spec and format.
    NotAPrivateKey,
    /// The public half's fingerprint is not the key's id.
    AnotherId,
    /// The public half that stands beside it is not its own.
    AnotherPublicKey,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAKey => "is neither a key pair nor a KMS key",
            Self::ControlCharacters => "has control characters in its name",
            Self::NotBase64 => "is not base64",
            Self::NotAMessage => "does not decode as a key pair",
            Self::NotAPrivateKey => "holds bytes that are no private key of its kind",
            Self::AnotherId => "is not the key it says: its fingerprint differs from its id",
            Self::AnotherPublicKey => "has the public key of another one",
        })
    }
}

impl KeyKind {
    pub(super) fn of<'p>(proofs: impl Iterator<Item = &'p Proof>) -> Self {
        let (kms, software): (Vec<_>, Vec<_>) = proofs.partition(|proof| matches!(proof, Proof::Kms { .. }));
        match (kms.is_empty(), software.is_empty()) {
            (true, _) => Self::Software,
            (false, true) => Self::Kms,
            (false, false) => Self::Mixed,
        }
    }
}

/// What the keys (name and proof) say about the namespace's key; `None` if it is not there and should be.
pub(super) fn of_namespace(keys: &[(&str, Proof)], namespace: &str, expected: NamespaceKey) -> Option<KeyProof> {
    let is_namespace_name = |name: &str| name == "namespace" || name.ends_with("-namespace");
    if keys
        .iter()
        .any(|(_, proof)| matches!(proof, Proof::Proven { fingerprint, is_signing: true } if fingerprint == namespace))
    {
        Some(KeyProof::Proven)
    } else if expected == NamespaceKey::Offline {
        Some(KeyProof::Offline)
    } else if keys
        .iter()
        .any(|(name, proof)| matches!(proof, Proof::Kms { is_signing: true }) && is_namespace_name(name))
    {
        Some(KeyProof::Kms)
    } else if keys.iter().any(|(_, proof)| matches!(proof, Proof::Unknown(id) if id == namespace)) {
        Some(KeyProof::Unproven)
    } else {
        None
    }
}

/// What a private or public key message says about itself.
struct KeyMessage<'a> {
    id: &'a [u8],
    format: u64,
    key: &'a [u8],
    spec: u64,
}

/// A field that stands twice is read in one way by us and may be merged by Canton: then it proves nothing.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Problem> {
    if slot.replace(value).is_some() { Err(Problem::NotAMessage) } else { Ok(()) }
}

/// The version of `CryptoKeyPair` that this module knows.
const KNOWN_VERSION: u64 = 30;

/// Decodes a `keyPair`, derives its public half and compares fingerprints.
pub(super) fn of_key_pair(bytes: &[u8]) -> Result<Proof, Problem> {
    // UntypedVersionedMessage { data = 1, version = 2 }
    let (mut data, mut version) = (None, None);
    for field in Fields::new(bytes) {
        match field.ok_or(Problem::NotAMessage)? {
            (1, Field::Bytes(bytes)) => once(&mut data, bytes)?,
            (2, Field::Varint(number)) => once(&mut version, number)?,
            _ => {}
        }
    }
    let proof = of_message(data.ok_or(Problem::NotAMessage)?);
    match proof {
        // A later version may be laid out otherwise; if it is not, its proof is as good, and so is its failure.
        Err(Problem::NotAMessage) if version > Some(KNOWN_VERSION) => Ok(Proof::Unknown(String::new())),
        proof => proof,
    }
}

fn of_message(data: &[u8]) -> Result<Proof, Problem> {
    // CryptoKeyPair { oneof: signing_key_pair = 1 | encryption_key_pair = 2 }
    let mut pair = None;
    for field in Fields::new(data) {
        match field.ok_or(Problem::NotAMessage)? {
            (number @ (1 | 2), Field::Bytes(bytes)) => once(&mut pair, (number == 1, bytes))?,
            _ => return Err(Problem::NotAMessage),
        }
    }
    let (is_signing, pair) = pair.ok_or(Problem::NotAMessage)?;
    let (mut public, mut private) = (None, None);
    for field in Fields::new(pair) {
        match field.ok_or(Problem::NotAMessage)? {
            (1, Field::Bytes(bytes)) => once(&mut public, bytes)?,
            (2, Field::Bytes(bytes)) => once(&mut private, bytes)?,
            _ => {}
        }
    }
    let private = KeyMessage::read(private.ok_or(Problem::NotAMessage)?, if is_signing { 6 } else { 5 })?;
    prove(&private, public, is_signing)
}

impl<'a> KeyMessage<'a> {
    /// `{ id = 1, format = 2, private_key = 3, key_spec = <spec_field> }`; the rest is of no concern here.
    fn read(bytes: &'a [u8], spec_field: u64) -> Result<Self, Problem> {
        let (mut id, mut format, mut key, mut spec) = (None, None, None, None);
        for field in Fields::new(bytes) {
            match field.ok_or(Problem::NotAMessage)? {
                (1, Field::Bytes(bytes)) => once(&mut id, bytes)?,
                (2, Field::Varint(number)) => once(&mut format, number)?,
                (3, Field::Bytes(bytes)) => once(&mut key, bytes)?,
                (number, Field::Varint(value)) if number == spec_field => once(&mut spec, value)?,
                _ => {}
            }
        }
        Ok(Self {
            id: id.unwrap_or_default(),
            format: format.unwrap_or_default(),
            key: key.unwrap_or_default(),
            spec: spec.unwrap_or_default(),
        })
    }
}

fn prove(private: &KeyMessage<'_>, public: Option<&[u8]>, is_signing: bool) -> Result<Proof, Problem> {
    let id = std::str::from_utf8(private.id)
        .ok()
        .filter(|id| Fingerprint::parse(id).is_some())
        .ok_or(Problem::NotAMessage)?;
    let algorithm = match (is_signing, private.spec) {
        (true, 1) => Algorithm::Ed25519,
        (true, 2) | (false, 1) => Algorithm::P256,
        (true, 3) => Algorithm::P384,
        (true, 4) => Algorithm::Secp256k1,
        (false, 2) => Algorithm::Rsa,
        _ => return Ok(Proof::Unknown(id.to_owned())),
    };
    let format = match private.format {
        3 if algorithm != Algorithm::Rsa => Format::Raw,
        2 | 5 => Format::Pkcs8,
        _ => return Ok(Proof::Unknown(id.to_owned())),
    };
    let derived = algorithm.public_key(format, private.key).ok_or(Problem::NotAPrivateKey)?;
    let fingerprint = Fingerprint::of(&derived);
    if fingerprint != *id {
        return Err(Problem::AnotherId);
    }
    // Older dumps carry the public half too: { format = 2, public_key = 3 }.
    if let Some(public) = public {
        let public = KeyMessage::read(public, u64::MAX)?;
        if !algorithm.is_same_public_key(public.key, &derived) {
            return Err(Problem::AnotherPublicKey);
        }
    }
    Ok(Proof::Proven { fingerprint, is_signing })
}

#[derive(Clone, Copy, PartialEq)]
enum Algorithm {
    Ed25519,
    P256,
    P384,
    Secp256k1,
    Rsa,
}

/// How the private key's bytes are written. Format 2 of older dumps ("DER") is PKCS #8 for a private key.
#[derive(Clone, Copy)]
enum Format {
    Raw,
    Pkcs8,
}

impl Algorithm {
    /// The bytes that the fingerprint is made of: raw for Ed25519, `SubjectPublicKeyInfo` DER for every other.
    fn public_key(self, format: Format, private: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519 => {
                let key = match format {
                    Format::Raw => ed25519_dalek::SigningKey::from_bytes(private.try_into().ok()?),
                    Format::Pkcs8 => ed25519_dalek::SigningKey::from_pkcs8_der(private).ok()?,
                };
                Some(key.verifying_key().as_bytes().to_vec())
            }
            Self::P256 => {
                let key = match format {
                    Format::Raw => p256::SecretKey::from_slice(private).ok()?,
                    Format::Pkcs8 => p256::SecretKey::from_pkcs8_der(private).ok()?,
                };
                spki(&key.public_key())
            }
            Self::P384 => {
                let key = match format {
                    Format::Raw => p384::SecretKey::from_slice(private).ok()?,
                    Format::Pkcs8 => p384::SecretKey::from_pkcs8_der(private).ok()?,
                };
                spki(&key.public_key())
            }
            Self::Secp256k1 => {
                let key = match format {
                    Format::Raw => k256::SecretKey::from_slice(private).ok()?,
                    Format::Pkcs8 => k256::SecretKey::from_pkcs8_der(private).ok()?,
                };
                spki(&key.public_key())
            }
            Self::Rsa => {
                let key = aws_lc_rs::rsa::KeyPair::from_pkcs8(private).ok()?;
                let der: PublicKeyX509Der<'_> = aws_lc_rs::signature::KeyPair::public_key(&key).as_der().ok()?;
                Some(der.as_ref().to_vec())
            }
        }
    }

    /// An Ed25519 public key may stand beside its private one raw or in a `SubjectPublicKeyInfo`, whose last 32 bytes it is.
    fn is_same_public_key(self, written: &[u8], derived: &[u8]) -> bool {
        written == derived || (self == Self::Ed25519 && written.len() == 44 && written.ends_with(derived))
    }
}

fn spki(key: &impl EncodePublicKey) -> Option<Vec<u8>> {
    Some(key.to_public_key_der().ok()?.into_vec())
}
