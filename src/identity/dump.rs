//! The dump's JSON: parsed by borrowing, and judged.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base16ct::lower::encode_string as hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::proof::{self, KeyKind, Proof};
use super::{About, Digest, ParticipantId};
use crate::config::NamespaceKey;
use crate::error::{Failure, Fault};
use crate::log::printable;

/// Why an answer is not a usable dump. Holds nothing of it but names, places and fingerprints.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Larger than 1 MiB.
    #[error("the dump is larger than 1 MiB")]
    TooLarge,
    /// Not JSON of the right shape.
    #[error("the answer is not an identities dump: {what} at line {line} column {column}")]
    NotADump { what: &'static str, line: usize, column: usize },
    /// A field is not what it has to be.
    #[error("the answer is not an identities dump: {0}")]
    Field(&'static str),
    /// A key is not what it has to be.
    #[error("key {position} of the dump ({name}) {problem}")]
    Key { position: usize, name: String, problem: proof::Problem },
    /// The namespace's key is not there.
    #[error("the dump does not hold the key of its own namespace {namespace}")]
    NoNamespaceKey { namespace: String },
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        Fault::Identity
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoNamespaceKey { .. } => {
                "if the root namespace key is kept elsewhere, say `namespace_key: offline`; else this dump cannot recover the node".into()
            }
            Self::NotADump { .. } | Self::Field(_) => {
                "nothing was stored; does the endpoint lead to the validator app, not to a login page or another service?".into()
            }
            Self::TooLarge | Self::Key { .. } => "nothing was stored; fetch again, and if it stays so, the node's keys are damaged: keep every older version".into(),
        })
    }
}

#[derive(serde::Deserialize)]
struct Dump<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    keys: Vec<Object<Key<'a>>>,
    #[serde(borrow, rename = "authorizedStoreSnapshot")]
    snapshot: Text<'a>,
    #[serde(borrow, default)]
    version: Option<Text<'a>>,
}

#[derive(serde::Deserialize)]
struct Key<'a> {
    #[serde(borrow, default, rename = "keyPair")]
    key_pair: Option<Text<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default, rename = "keyId")]
    key_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}

/// A JSON object; serde alone would read the fields from a list too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyObject(PhantomData))
    }
}

struct AnyObject<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AnyObject<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A JSON string: a slice of the input, or a wiped copy where it has escapes.
struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(owned) = &mut self.0 {
            owned.zeroize();
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyText)
    }
}

struct AnyText;

impl<'de> Visitor<'de> for AnyText {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

/// Parses and judges the dump.
pub(super) fn judge(bytes: &[u8], namespace_key: NamespaceKey) -> Result<About, Error> {
    let Object(dump): Object<Dump<'_>> = serde_json::from_slice(bytes).map_err(|error| not_a_dump(&error))?;
    let participant_id =
        ParticipantId::parse(dump.id.as_str()).ok_or(Error::Field("`id` is not a participant's id"))?;
    if dump.keys.is_empty() {
        return Err(Error::Field("it has no keys"));
    }
    let snapshot = decode(dump.snapshot.as_str()).ok_or(Error::Field("`authorizedStoreSnapshot` is not base64"))?;
    if snapshot.is_empty() {
        return Err(Error::Field("`authorizedStoreSnapshot` is empty"));
    }
    if dump
        .version
        .as_ref()
        .is_some_and(|version| version.as_str().len() > 64 || printable(version.as_str()) != version.as_str())
    {
        return Err(Error::Field("`version` is not a version"));
    }
    let mut lines = Vec::with_capacity(dump.keys.len());
    let mut proofs = Vec::with_capacity(dump.keys.len());
    for (index, Object(key)) in dump.keys.iter().enumerate() {
        let (line, proof) = judge_key(key).map_err(|problem| Error::Key {
            position: index + 1,
            name: shown_name(key.name()),
            problem,
        })?;
        lines.push(line);
        proofs.push((key.name(), proof));
    }
    let key_proof = proof::of_namespace(&proofs, participant_id.namespace(), namespace_key)
        .ok_or_else(|| Error::NoNamespaceKey { namespace: participant_id.namespace().to_owned() })?;
    Ok(About {
        digest: Digest::of(participant_id.as_str(), lines, &snapshot),
        dump_version: dump.version.as_ref().map(|version| version.as_str().to_owned()),
        key_kind: KeyKind::of(proofs.iter().map(|(_, proof)| proof)),
        key_proof,
        keys: proofs.len(),
        bytes: bytes.len(),
        unproven: proofs.iter().filter(|(_, proof)| proof.is_unknown()).map(|(name, _)| shown_name(name)).collect(),
        participant_id,
    })
}

impl Key<'_> {
    /// The name, byte for byte; empty where it is absent or null.
    fn name(&self) -> &str {
        self.name.as_ref().map_or("", Text::as_str)
    }
}

/// The key's line in the digest, and what is proven about it.
fn judge_key(key: &Key<'_>) -> Result<(String, Proof), proof::Problem> {
    let name = key.name();
    if has_control(name) {
        return Err(proof::Problem::ControlCharacters);
    }
    match (&key.key_pair, &key.kind, &key.key_id) {
        (Some(key_pair), None, None) => {
            let decoded = decode(key_pair.as_str()).ok_or(proof::Problem::NotBase64)?;
            let line = format!("key {name} software {}", hex(&Sha256::digest(&*decoded)));
            Ok((line, proof::of_key_pair(&decoded)?))
        }
        (None, Some(kind), Some(key_id)) => {
            let (kind, key_id) = (kind.as_str(), key_id.as_str());
            if !matches!(kind, "signing" | "encryption") || key_id.is_empty() || has_control(key_id) {
                return Err(proof::Problem::NotAKey);
            }
            Ok((format!("key {name} kms {kind} {key_id}"), Proof::Kms { is_signing: kind == "signing" }))
        }
        _ => Err(proof::Problem::NotAKey),
    }
}

/// Strict base64 (RFC 4648 section 4: padded, canonical) into memory that is wiped.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A key's name as messages show it: quoted, and never long enough to be a key that slipped into the wrong field.
fn shown_name(name: &str) -> String {
    match name {
        "" => "without a name".into(),
        name if name.len() > 40 || printable(name) != name => "with an odd name".into(),
        name => format!("`{name}`"),
    }
}

/// serde's own words may quote the input, so only its kind of complaint and its place are kept.
fn not_a_dump(error: &serde_json::Error) -> Error {
    use serde_json::error::Category;
    let text = error.to_string();
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Syntax if text.starts_with("trailing characters") => "something follows it",
        Category::Syntax if error.line() == 1 && error.column() <= 1 => "it is not JSON",
        Category::Syntax => "it is not valid JSON",
        Category::Data if text.starts_with("duplicate field") => "a field stands there twice",
        Category::Data if text.starts_with("missing field") => "a field is missing",
        Category::Data | Category::Io => "a field has the wrong type",
    };
    Error::NotADump { what, line: error.line(), column: error.column() }
}
