//! One entry of a dump's `keys`: a private key inside its protobuf messages, or a reference into a KMS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::encode::{field_bytes, field_number};
use super::fingerprint;
use super::material::Material;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Namespace,
    Signing,
    Encryption,
}

/// The kinds of key that Canton writes, and one that it may some day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spec {
    Ed25519,
    P256,
    P384,
    Secp256k1,
    Rsa2048,
    /// A spec number that nobody knows.
    Unknown,
}

/// How the private key is written inside its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 2: the legacy DER, PKCS #8 within.
    Der = 2,
    /// 3: the bare scalar or seed.
    Raw = 3,
    /// 5.
    Pkcs8 = 5,
    /// A format number that nobody knows.
    Unknown = 9,
}

/// A field that may be there, be `null`, or be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Is(String),
    Null,
    Absent,
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Is(text.to_owned())
    }
}

/// One entry of `keys`.
#[derive(Clone, Debug)]
pub enum Key {
    Software(SoftwareKey),
    Kms { purpose: &'static str, id: String, name: Field },
}

/// A key with its private half in the dump.
#[derive(Clone, Debug)]
pub struct SoftwareKey {
    pub purpose: Purpose,
    pub spec: Spec,
    pub format: Format,
    pub name: Field,
    /// The fingerprint that is written into the message as `id`.
    pub id: String,
    /// What is written as `private_key`.
    pub private: Vec<u8>,
    /// The SubjectPublicKeyInfo (the bare 32 bytes for Ed25519), from which the fingerprint follows.
    pub public: Vec<u8>,
    /// Whether the public key is written too, as older dumps do.
    pub with_public: bool,
    /// The secret itself without any encoding: the seed, the scalar, RSA's private exponent and primes.
    pub secrets: Vec<Vec<u8>>,
}

impl SoftwareKey {
    /// A key made from the seed. Ed25519, P-256, P-384 and secp256k1 may be [`Format::Raw`]; RSA may not.
    pub fn new(seed: u64, purpose: Purpose, spec: Spec, format: Format) -> Self {
        let material = Material::new(seed, purpose, spec);
        let private = if format == Format::Raw { material.raw.clone() } else { material.pkcs8 };
        let mut key = Self {
            purpose,
            spec,
            format,
            name: Field::Absent,
            id: String::new(),
            private,
            public: material.public,
            with_public: false,
            secrets: material.secrets,
        };
        key.id = key.fingerprint();
        key
    }

    pub fn named(mut self, name: Field) -> Self {
        self.name = name;
        self
    }

    pub fn with_public(mut self) -> Self {
        self.with_public = true;
        self
    }

    /// `1220` and the SHA-256 over the hash purpose and the public key.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.public)
    }

    /// The bytes inside `keyPair`.
    pub fn key_pair(&self) -> Vec<u8> {
        let mut pair = Vec::new();
        if self.with_public {
            let mut public = Vec::new();
            field_number(&mut public, 2, if self.spec == Spec::Ed25519 { 3 } else { 2 });
            field_bytes(&mut public, 3, &self.public);
            self.write_use(&mut public);
            field_bytes(&mut pair, 1, &public);
        }
        let mut private = Vec::new();
        field_bytes(&mut private, 1, self.id.as_bytes());
        field_number(&mut private, 2, self.format as u64);
        field_bytes(&mut private, 3, &self.private);
        self.write_use(&mut private);
        field_bytes(&mut pair, 2, &private);
        let mut one_of = Vec::new();
        let is_encryption = self.purpose == Purpose::Encryption;
        field_bytes(&mut one_of, if is_encryption { 2 } else { 1 }, &pair);
        let mut message = Vec::new();
        field_bytes(&mut message, 1, &one_of);
        field_number(&mut message, 2, 30);
        message
    }

    /// `usage`, a packed repeated enum, and `key_spec`. Dumps with public keys are so old that any key did anything.
    fn write_use(&self, message: &mut Vec<u8>) {
        let usage: &[u8] = match self.purpose {
            Purpose::Encryption => return field_number(message, 5, self.spec_number()),
            _ if self.with_public => &[1, 2, 3, 4],
            Purpose::Namespace => &[1],
            Purpose::Signing => &[3, 4, 5],
        };
        field_bytes(message, 5, usage);
        field_number(message, 6, self.spec_number());
    }

    fn spec_number(&self) -> u64 {
        match (self.purpose, self.spec) {
            (Purpose::Encryption, Spec::P256) => 1,
            (Purpose::Encryption, Spec::Rsa2048) => 2,
            (_, Spec::Ed25519) => 1,
            (_, Spec::P256) => 2,
            (_, Spec::P384) => 3,
            (_, Spec::Secp256k1) => 4,
            _ => 99,
        }
    }
}

impl From<SoftwareKey> for Key {
    fn from(key: SoftwareKey) -> Self {
        Self::Software(key)
    }
}

impl Key {
    pub fn json(&self) -> String {
        match self {
            Self::Software(key) => {
                format!("{{\"keyPair\":\"{}\"{}}}", STANDARD.encode(key.key_pair()), key.name.json("name"))
            }
            Self::Kms { purpose, id, name } => {
                format!("{{\"type\":\"{purpose}\",\"keyId\":{}{}}}", quoted(id), name.json("name"))
            }
        }
    }
}

impl Field {
    pub fn json(&self, field: &str) -> String {
        match self {
            Self::Is(text) => format!(",\"{field}\":{}", quoted(text)),
            Self::Null => format!(",\"{field}\":null"),
            Self::Absent => String::new(),
        }
    }
}

pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
