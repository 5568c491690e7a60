//! Synthetic identity dumps in the shape of a Splice validator's, made from a seed; every key of them is worthless.
//!
//! Written from the description of the format alone, and on purpose without idkeep's own code: a second opinion.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

use super::keys;

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
    Kms {
        purpose: &'static str,
        id: String,
        name: Field,
    },
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

/// A whole dump, open to any change before [`Dump::json`] writes it down.
#[derive(Clone, Debug)]
pub struct Dump {
    pub id: String,
    pub keys: Vec<Key>,
    pub snapshot: Vec<u8>,
    pub version: Field,
}

impl Dump {
    /// A fresh node's: Ed25519 namespace and signing keys, a P-256 encryption key, 2.2 KB.
    pub fn fresh(seed: u64) -> Self {
        Self::prefixed(seed, "")
    }

    /// An older node's, whose key names have a prefix such as `acme-`.
    pub fn prefixed(seed: u64, prefix: &str) -> Self {
        let name = |rest| Field::Is(format!("{prefix}{rest}"));
        let namespace = SoftwareKey::new(seed, Purpose::Namespace, Spec::Ed25519, Format::Pkcs8)
            .named(name("namespace"));
        let signing = SoftwareKey::new(seed, Purpose::Signing, Spec::Ed25519, Format::Pkcs8)
            .named(name("signing"));
        let encryption = SoftwareKey::new(seed, Purpose::Encryption, Spec::P256, Format::Pkcs8)
            .named(name("encryption"));
        Self::of(
            seed,
            &namespace.fingerprint(),
            vec![namespace.into(), signing.into(), encryption.into()],
        )
    }

    /// Of a node whose namespace key has this spec and format.
    pub fn with_namespace(seed: u64, spec: Spec, format: Format) -> Self {
        let mut dump = Self::fresh(seed);
        let key =
            SoftwareKey::new(seed, Purpose::Namespace, spec, format).named("namespace".into());
        dump.id = participant_id(seed, &key.fingerprint());
        dump.keys[0] = key.into();
        dump
    }

    /// Of a node whose keys are all in a KMS.
    pub fn kms(seed: u64) -> Self {
        let key = |purpose, name: &str| Key::Kms {
            purpose,
            id: format!("arn:aws:kms:eu-west-1:000000000000:key/{seed}-{name}"),
            name: name.into(),
        };
        let namespace = fingerprint(&bytes(seed, "a key in the KMS", 32));
        let keys = vec![
            key("signing", "namespace"),
            key("signing", "signing"),
            key("encryption", "encryption"),
        ];
        Self::of(seed, &namespace, keys)
    }

    /// Of a node with a software namespace and signing key, but an encryption key in a KMS.
    pub fn mixed(seed: u64) -> Self {
        let mut dump = Self::fresh(seed);
        dump.keys[2] = Self::kms(seed).keys.remove(2);
        dump
    }

    /// Of a node that keeps its root namespace key offline: the dump has a delegated key in its place.
    pub fn offline_root(seed: u64) -> Self {
        let mut dump = Self::fresh(seed);
        dump.id = participant_id(seed, &fingerprint(&bytes(seed, "a key in a safe", 32)));
        dump
    }

    /// Any keys under the namespace with that fingerprint.
    pub fn of(seed: u64, namespace: &str, keys: Vec<Key>) -> Self {
        let snapshot = bytes(seed, "snapshot", 939);
        Self {
            id: participant_id(seed, namespace),
            keys,
            snapshot,
            version: "0.7.5".into(),
        }
    }

    /// The namespace's fingerprint: the last part of the id.
    pub fn namespace(&self) -> &str {
        self.id.rsplit("::").next().unwrap()
    }

    pub fn version(mut self, version: impl Into<Field>) -> Self {
        self.version = version.into();
        self
    }

    pub fn version_field(mut self, version: Field) -> Self {
        self.version = version;
        self
    }

    /// Adds `count` more signing keys, as rotation leaves them.
    pub fn rotated(mut self, seed: u64, count: u64) -> Self {
        for number in 0..count {
            let key = SoftwareKey::new(
                seed ^ (number + 1) << 32,
                Purpose::Signing,
                Spec::Ed25519,
                Format::Pkcs8,
            );
            self.keys.push(
                key.named(format!("signing-{number}").as_str().into())
                    .into(),
            );
        }
        self
    }

    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Sets the name of the key at that place.
    pub fn name(mut self, place: usize, new: impl Into<Field>) -> Self {
        match &mut self.keys[place] {
            Key::Software(key) => key.name = new.into(),
            Key::Kms { name, .. } => *name = new.into(),
        }
        self
    }

    /// Changes the software key at that place.
    pub fn change(mut self, place: usize, change: impl FnOnce(&mut SoftwareKey)) -> Self {
        change(self.software_mut(place));
        self
    }

    /// Flips one bit of the private key itself at that place; id and format stay.
    pub fn flip_a_bit(self, place: usize) -> Self {
        self.change(place, |key| {
            // The secret's own middle byte, wherever the encoding put it.
            let secret = key.secrets[0].clone();
            let at = key
                .private
                .windows(secret.len())
                .position(|window| window == secret)
                .unwrap();
            key.private[at + secret.len() / 2] ^= 0x10;
        })
    }

    /// The same keys in another order.
    pub fn shuffled(mut self) -> Self {
        self.keys.rotate_left(1);
        self.keys.swap(0, 1);
        self
    }

    /// Replaces the namespace key by another node's, and keeps the id.
    pub fn with_key_of(mut self, other: &Dump) -> Self {
        self.keys[0] = other.keys[0].clone();
        self
    }

    /// A larger snapshot, so that the whole dump has at least so many bytes.
    pub fn padded_to(mut self, size: usize) -> Self {
        let missing = size.saturating_sub(self.json().len());
        let more = bytes(0, "padding", missing.div_ceil(4) * 3);
        self.snapshot.extend(more);
        self
    }

    /// The dump's bytes: compact, fields in Splice's order.
    pub fn json(&self) -> Vec<u8> {
        let mut json = format!("{{\"id\":{},\"keys\":[", quoted(&self.id));
        for (number, key) in self.keys.iter().enumerate() {
            json.push_str(if number == 0 { "" } else { "," });
            json.push_str(&key.json());
        }
        json.push_str(&format!(
            "],\"authorizedStoreSnapshot\":\"{}\"",
            STANDARD.encode(&self.snapshot)
        ));
        json.push_str(&self.version.json("version"));
        json.push('}');
        json.into_bytes()
    }

    /// Every secret of every software key, named, to look for where none may be: the bare secrets and, since they
    /// are as good, the private keys as written.
    pub fn secrets(&self) -> Vec<(String, Vec<u8>)> {
        let mut secrets = Vec::new();
        for (number, key) in self.keys.iter().enumerate() {
            let Key::Software(key) = key else { continue };
            let name = format!("key {number} ({:?} {:?})", key.purpose, key.spec);
            secrets.extend(
                key.secrets
                    .iter()
                    .map(|secret| (name.clone(), secret.clone())),
            );
            if !key.secrets.contains(&key.private) {
                secrets.push((format!("{name} as written"), key.private.clone()));
            }
        }
        secrets
    }

    /// `sha256:<hex>` over the semantic form.
    pub fn digest(&self) -> String {
        digest_of(&self.json())
    }

    pub fn software(&self, place: usize) -> &SoftwareKey {
        let Key::Software(key) = &self.keys[place] else {
            panic!("key {place} is in a KMS")
        };
        key
    }

    fn software_mut(&mut self, place: usize) -> &mut SoftwareKey {
        let Key::Software(key) = &mut self.keys[place] else {
            panic!("key {place} is in a KMS")
        };
        key
    }
}

/// The semantic digest of any dump's bytes, worked out from the JSON alone.
pub fn digest_of(json: &[u8]) -> String {
    let dump: serde_json::Value = serde_json::from_slice(json).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let hash =
        |value: &serde_json::Value| hex(&Sha256::digest(STANDARD.decode(text(value)).unwrap()));
    let line = |key: &serde_json::Value| match key.get("keyPair") {
        Some(pair) => format!("key {} software {}\n", text(&key["name"]), hash(pair)),
        None => format!(
            "key {} kms {} {}\n",
            text(&key["name"]),
            text(&key["type"]),
            text(&key["keyId"])
        ),
    };
    let mut lines: Vec<String> = dump["keys"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    let form = format!(
        "idkeep/identity/v1\n{}\n{}snapshot {}\n",
        text(&dump["id"]),
        lines.concat(),
        hash(&dump["authorizedStoreSnapshot"])
    );
    format!("sha256:{}", hex(&Sha256::digest(form)))
}

impl SoftwareKey {
    /// A key made from the seed. Ed25519, P-256, P-384 and secp256k1 may be [`Format::Raw`]; RSA may not.
    pub fn new(seed: u64, purpose: Purpose, spec: Spec, format: Format) -> Self {
        let material = Material::new(seed, purpose, spec);
        let private = if format == Format::Raw {
            material.raw.clone()
        } else {
            material.pkcs8
        };
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
        let (pair_field, spec_field) = if self.purpose == Purpose::Encryption {
            (2, 5)
        } else {
            (1, 6)
        };
        let mut private = Vec::new();
        field_bytes(&mut private, 1, self.id.as_bytes());
        field_number(&mut private, 2, self.format as u64);
        field_bytes(&mut private, 3, &self.private);
        self.write_usage(&mut private);
        field_number(&mut private, spec_field, self.spec_number());
        let mut pair = Vec::new();
        if self.with_public {
            let mut public = Vec::new();
            field_number(
                &mut public,
                2,
                if self.spec == Spec::Ed25519 { 3 } else { 4 },
            );
            field_bytes(&mut public, 3, &self.public);
            self.write_usage(&mut public);
            field_number(&mut public, spec_field, self.spec_number());
            field_bytes(&mut pair, 1, &public);
        }
        field_bytes(&mut pair, 2, &private);
        let mut one_of = Vec::new();
        field_bytes(&mut one_of, pair_field, &pair);
        let mut message = Vec::new();
        field_bytes(&mut message, 1, &one_of);
        field_number(&mut message, 2, 30);
        message
    }

    /// `usage` is a packed repeated enum: 1 namespace; 3, 4 and 5 what a signing key does.
    fn write_usage(&self, message: &mut Vec<u8>) {
        match self.purpose {
            Purpose::Namespace => field_bytes(message, 5, &[1]),
            Purpose::Signing => field_bytes(message, 5, &[3, 4, 5]),
            Purpose::Encryption => (),
        }
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
    fn json(&self) -> String {
        match self {
            Self::Software(key) => {
                format!(
                    "{{\"keyPair\":\"{}\"{}}}",
                    STANDARD.encode(key.key_pair()),
                    key.name.json("name")
                )
            }
            Self::Kms { purpose, id, name } => {
                format!(
                    "{{\"type\":\"{purpose}\",\"keyId\":{}{}}}",
                    quoted(id),
                    name.json("name")
                )
            }
        }
    }
}

impl Field {
    fn json(&self, field: &str) -> String {
        match self {
            Self::Is(text) => format!(",\"{field}\":{}", quoted(text)),
            Self::Null => format!(",\"{field}\":null"),
            Self::Absent => String::new(),
        }
    }
}

/// A private key in all its encodings, and its public half.
struct Material {
    raw: Vec<u8>,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
    secrets: Vec<Vec<u8>>,
}

/// The elliptic curves' crates offer the same names but share no trait that would say all this.
macro_rules! curve {
    ($curve:ident, $scalar:expr) => {{
        let key = $curve::SecretKey::from_slice(&$scalar).unwrap();
        Material {
            raw: $scalar.clone(),
            pkcs8: key.to_pkcs8_der().unwrap().as_bytes().to_vec(),
            public: key
                .public_key()
                .to_public_key_der()
                .unwrap()
                .as_bytes()
                .to_vec(),
            secrets: vec![$scalar],
        }
    }};
}

impl Material {
    fn new(seed: u64, purpose: Purpose, spec: Spec) -> Self {
        let label = format!("{purpose:?} {spec:?}");
        match spec {
            Spec::Ed25519 | Spec::Unknown => Self::ed25519(bytes(seed, &label, 32)),

            Spec::P256 => curve!(p256, scalar(seed, &label, 32)),
            Spec::P384 => curve!(p384, scalar(seed, &label, 48)),
            Spec::Secp256k1 => curve!(k256, scalar(seed, &label, 32)),
            Spec::Rsa2048 => Self::rsa(),
        }
    }

    fn ed25519(secret: Vec<u8>) -> Self {
        let key = SigningKey::from_bytes(secret.as_slice().try_into().unwrap());
        // RFC 8410, version 1: no public key inside.
        let pkcs8 = [
            b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".as_slice(),
            &secret,
        ]
        .concat();
        Self {
            raw: secret.clone(),
            pkcs8,
            public: key.verifying_key().to_bytes().to_vec(),
            secrets: vec![secret],
        }
    }

    /// One fixed key, whatever the seed: making one takes long.
    fn rsa() -> Self {
        let pkcs8 = keys::der(keys::SYNTHETIC_ENCRYPTION);
        let pair = rcgen::KeyPair::from_pem(&keys::pem(keys::SYNTHETIC_ENCRYPTION)).unwrap();
        let public = der_of_pem(&pair.public_key_pem());
        // PKCS #1: version, n, e, d, p, q, …: the first large one is public, the next three are not.
        let numbers = rsa_numbers(&pkcs8);
        Self {
            raw: numbers[1].clone(),
            pkcs8,
            public,
            secrets: numbers[1..4].to_vec(),
        }
    }
}

/// The large numbers in the PKCS #8 of an RSA key, in order (n, d, p, q, dp, dq, qi) and without leading zeros.
pub fn rsa_numbers(mut der: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while der.len() > 4 {
        let (tag, header, length) = match der[1] {
            0x82 => (der[0], 4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
            0x81 => (der[0], 3, usize::from(der[2])),
            short => (der[0], 2, usize::from(short)),
        };
        // Into sequences and the octet string that holds PKCS #1, past everything else.
        let inside = matches!(tag, 0x30 | 0x04) && length > 100;
        if tag == 0x02 && length >= 100 {
            let number = &der[header..header + length];
            found.push(number.strip_prefix(&[0]).unwrap_or(number).to_vec());
        }
        der = &der[if inside { header } else { header + length }..];
    }
    found
}

fn der_of_pem(pem: &str) -> Vec<u8> {
    STANDARD
        .decode(
            pem.lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
        )
        .unwrap()
}

fn participant_id(seed: u64, namespace: &str) -> String {
    format!("PAR::test-validator-{seed}::{namespace}")
}

/// Canton's fingerprint of a public key: a multihash of SHA-256 with purpose 12.
pub fn fingerprint(public: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update([0, 0, 0, 12])
        .chain_update(public)
        .finalize();
    format!("1220{}", hex(&digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many bytes as wanted, always the same for one seed and label.
fn bytes(seed: u64, label: &str, count: usize) -> Vec<u8> {
    let block = |number: u64| {
        Sha256::new()
            .chain_update(seed.to_be_bytes())
            .chain_update(number.to_be_bytes())
            .chain_update(label)
            .finalize()
    };
    let mut all: Vec<u8> = (0..count.div_ceil(32) as u64).flat_map(block).collect();
    all.truncate(count);
    all
}

/// Never zero and below the order of each of the curves.
fn scalar(seed: u64, label: &str, count: usize) -> Vec<u8> {
    let mut scalar = bytes(seed, label, count);
    scalar[0] = scalar[0] & 0x7f | 0x01;
    scalar
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Protobuf: a length-delimited field.
fn field_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(message, number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Protobuf: a number or enum field.
fn field_number(message: &mut Vec<u8>, number: u64, value: u64) {
    varint(message, number << 3);
    varint(message, value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
