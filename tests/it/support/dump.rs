//! Synthetic identity dumps in the shape of a Splice validator's, made from a seed; every key of them is worthless.
//!
//! Written from the description of the format alone, and on purpose without idkeep's own code: a second opinion.

mod encode;
mod key;
mod material;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use key::quoted;
pub use key::{Field, Format, Key, Purpose, SoftwareKey, Spec};
use material::bytes;
pub use material::rsa_numbers;

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
        let namespace =
            SoftwareKey::new(seed, Purpose::Namespace, Spec::Ed25519, Format::Pkcs8).named(name("namespace"));
        let signing = SoftwareKey::new(seed, Purpose::Signing, Spec::Ed25519, Format::Pkcs8).named(name("signing"));
        let encryption =
            SoftwareKey::new(seed, Purpose::Encryption, Spec::P256, Format::Pkcs8).named(name("encryption"));
        Self::of(seed, &namespace.fingerprint(), vec![namespace.into(), signing.into(), encryption.into()])
    }

    /// As nodes of 0.3 wrote it: prefixed names, raw and DER keys, and their public halves.
    pub fn older(seed: u64, prefix: &str) -> Self {
        let mut dump = Self::prefixed(seed, prefix).version("0.3.6");
        for key in &mut dump.keys {
            let Key::Software(key) = key else { continue };
            let format = if key.spec == Spec::Ed25519 { Format::Raw } else { Format::Der };
            let older = SoftwareKey::new(seed, key.purpose, key.spec, format).with_public();
            *key = older.named(key.name.clone());
        }
        dump
    }

    /// Of a node whose namespace key has this spec and format.
    pub fn with_namespace(seed: u64, spec: Spec, format: Format) -> Self {
        let mut dump = Self::fresh(seed);
        let key = SoftwareKey::new(seed, Purpose::Namespace, spec, format).named("namespace".into());
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
        let keys = vec![key("signing", "namespace"), key("signing", "signing"), key("encryption", "encryption")];
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
        Self { id: participant_id(seed, namespace), keys, snapshot, version: "0.7.5".into() }
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
            let key = SoftwareKey::new(seed ^ (number + 1) << 32, Purpose::Signing, Spec::Ed25519, Format::Pkcs8);
            self.keys.push(key.named(format!("signing-{number}").as_str().into()).into());
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
            let at = key.private.windows(secret.len()).position(|window| window == secret).unwrap();
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
        json.push_str(&format!("],\"authorizedStoreSnapshot\":\"{}\"", STANDARD.encode(&self.snapshot)));
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
            secrets.extend(key.secrets.iter().map(|secret| (name.clone(), secret.clone())));
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
        let Key::Software(key) = &self.keys[place] else { panic!("key {place} is in a KMS") };
        key
    }

    fn software_mut(&mut self, place: usize) -> &mut SoftwareKey {
        let Key::Software(key) = &mut self.keys[place] else { panic!("key {place} is in a KMS") };
        key
    }
}

/// The semantic digest of any dump's bytes, worked out from the JSON alone.
pub fn digest_of(json: &[u8]) -> String {
    let dump: serde_json::Value = serde_json::from_slice(json).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let hash = |value: &serde_json::Value| hex(&Sha256::digest(STANDARD.decode(text(value)).unwrap()));
    let line = |key: &serde_json::Value| match key.get("keyPair") {
        Some(pair) => format!("key {} software {}\n", text(&key["name"]), hash(pair)),
        None => format!("key {} kms {} {}\n", text(&key["name"]), text(&key["type"]), text(&key["keyId"])),
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

fn participant_id(seed: u64, namespace: &str) -> String {
    format!("PAR::test-validator-{seed}::{namespace}")
}

/// Canton's fingerprint of a public key: a multihash of SHA-256 with purpose 12.
pub fn fingerprint(public: &[u8]) -> String {
    let digest = Sha256::new().chain_update([0, 0, 0, 12]).chain_update(public).finalize();
    format!("1220{}", hex(&digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
