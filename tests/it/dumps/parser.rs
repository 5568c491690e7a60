//! The parser itself, in this process, with many dumps: nothing makes it panic, and nothing forged is proven.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idkeep::config::NamespaceKey;
use idkeep::identity::{About, Error, Identities, KeyProof};
use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::support::dump::{Dump, Field, Format, Key, Purpose, SoftwareKey, Spec, digest_of};

pub fn judge(json: &[u8], namespace_key: NamespaceKey) -> Result<About, Error> {
    Identities::parse(Zeroizing::new(json.to_vec()), namespace_key).map(|identities| identities.about().clone())
}

fn software(purpose: Purpose) -> impl Strategy<Value = SoftwareKey> {
    let spec = if purpose == Purpose::Encryption {
        prop_oneof![Just(Spec::P256), Just(Spec::Rsa2048)].boxed()
    } else {
        prop_oneof![Just(Spec::Ed25519), Just(Spec::P256), Just(Spec::P384), Just(Spec::Secp256k1)].boxed()
    };
    let format = prop_oneof![Just(Format::Raw), Just(Format::Der), Just(Format::Pkcs8)];
    (any::<u64>(), spec, format, name(), any::<bool>()).prop_map(move |(seed, spec, format, name, with_public)| {
        let format = if spec == Spec::Rsa2048 && format == Format::Raw { Format::Pkcs8 } else { format };
        let key = SoftwareKey::new(seed, purpose, spec, format).named(name);
        if with_public { key.with_public() } else { key }
    })
}

/// Any name without control characters, or none.
fn name() -> impl Strategy<Value = Field> {
    prop_oneof![Just(Field::Absent), Just(Field::Null), "\\P{Cc}{0,70}".prop_map(Field::Is)]
}

fn kms() -> impl Strategy<Value = Key> {
    let purpose = prop_oneof![Just("signing"), Just("encryption")];
    (purpose, "\\P{Cc}{1,80}", name()).prop_map(|(purpose, id, name)| Key::Kms { purpose, id, name })
}

fn unknown() -> impl Strategy<Value = Key> {
    (any::<u64>(), name()).prop_map(|(seed, name)| {
        SoftwareKey::new(seed, Purpose::Signing, Spec::Unknown, Format::Pkcs8).named(name).into()
    })
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => software(Purpose::Signing).prop_map(Key::from),
        2 => software(Purpose::Encryption).prop_map(Key::from),
        2 => kms(),
        1 => unknown(),
    ]
}

/// A good dump with the key of its namespace at any place.
fn dump() -> impl Strategy<Value = Dump> {
    let version = prop_oneof![Just(Field::Absent), Just(Field::Null), "[ -~]{0,64}".prop_map(Field::Is)];
    (software(Purpose::Namespace), vec(key(), 0..6), vec(any::<u8>(), 1..200), version, any::<prop::sample::Index>())
        .prop_map(|(namespace, mut keys, snapshot, version, place)| {
            let fingerprint = namespace.fingerprint();
            keys.insert(place.index(keys.len() + 1), namespace.into());
            Dump { snapshot, version, ..Dump::of(7, &fingerprint, keys) }
        })
}

/// One change of the bytes.
#[derive(Clone, Debug)]
enum Edit {
    Flip(u8),
    Set(u8),
    Insert(u8),
    Remove,
    Cut,
    Double(usize),
}

fn edit() -> impl Strategy<Value = (prop::sample::Index, Edit)> {
    let edit = prop_oneof![
        (0..8_u8).prop_map(Edit::Flip),
        any::<u8>().prop_map(Edit::Set),
        "[{}\\[\\]\",:=A-Za-z0-9+/ ]".prop_map(|text| Edit::Set(text.as_bytes()[0])),
        any::<u8>().prop_map(Edit::Insert),
        Just(Edit::Remove),
        Just(Edit::Cut),
        (1..300_usize).prop_map(Edit::Double),
    ];
    (any::<prop::sample::Index>(), edit)
}

fn edited(json: &mut Vec<u8>, at: prop::sample::Index, edit: &Edit) {
    let at = at.index(json.len());
    match edit {
        Edit::Flip(bit) => json[at] ^= 1 << bit,
        Edit::Set(byte) => json[at] = *byte,
        Edit::Insert(byte) => json.insert(at, *byte),
        Edit::Remove => drop(json.remove(at)),
        Edit::Cut => json.truncate(at + 1),
        Edit::Double(length) => {
            let part = json[at..json.len().min(at + length)].to_vec();
            json.splice(at..at, part);
        }
    }
}

/// Whether one of the software keys of this JSON holds those bytes; worked out without the parser.
fn holds(json: &[u8], secret: &[u8]) -> bool {
    let dump: serde_json::Value = serde_json::from_slice(json).unwrap();
    let pairs = dump["keys"].as_array().unwrap().iter().filter_map(|key| key["keyPair"].as_str());
    pairs.into_iter().any(|pair| memchr::memmem::find(&STANDARD.decode(pair).unwrap(), secret).is_some())
}

/// The strategies draw names at random, and lines of the digest are sorted: two keys may well be the same.
fn rotated(mut dump: Dump, by: usize) -> Dump {
    let count = dump.keys.len();
    dump.keys.rotate_left(by % count);
    dump
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = judge(&bytes, NamespaceKey::InDump);
        let _ = judge(&bytes, NamespaceKey::Offline);
    }

    #[test]
    fn no_key_pair_makes_the_parser_panic(bytes in vec(any::<u8>(), 0..300)) {
        let mut dump = Dump::fresh(1);
        let key = SoftwareKey { private: bytes.clone(), ..dump.software(0).clone() };
        dump.keys[0] = key.into();
        prop_assert!(judge(&dump.json(), NamespaceKey::Offline).is_err());
        let json = String::from_utf8(Dump::fresh(1).json()).unwrap();
        let pair = STANDARD.encode(Dump::fresh(1).software(0).key_pair());
        let _ = judge(json.replace(&pair, &STANDARD.encode(bytes)).as_bytes(), NamespaceKey::Offline);
    }

    #[test]
    fn a_good_dump_is_proven_and_its_digest_is_that_of_the_second_opinion(dump in dump()) {
        let json = dump.json();
        let about = judge(&json, NamespaceKey::InDump).unwrap();
        prop_assert_eq!(about.digest.as_str(), digest_of(&json));
        prop_assert_eq!(about.key_proof, KeyProof::Proven);
        prop_assert_eq!(about.participant_id.as_str(), &dump.id);
        prop_assert_eq!(about.keys, dump.keys.len());
        prop_assert_eq!(about.bytes, json.len());
        let kms = dump.keys.iter().filter(|key| matches!(key, Key::Kms { .. })).count();
        // The namespace's key is software, so there is never only a KMS.
        prop_assert_eq!(about.key_kind.as_str(), if kms == 0 { "software" } else { "mixed" });
        prop_assert_eq!(judge(&json, NamespaceKey::Offline).unwrap(), about);
    }

    #[test]
    fn the_digest_knows_neither_order_nor_version_nor_white_space(dump in dump(), by in 0..7_usize) {
        let digest = judge(&dump.json(), NamespaceKey::InDump).unwrap().digest;
        let other = rotated(dump.clone(), by).version("9.9.9");
        prop_assert_eq!(&judge(&other.json(), NamespaceKey::InDump).unwrap().digest, &digest);
        let mut reversed = dump.clone().version_field(Field::Absent);
        reversed.keys.reverse();
        let value: serde_json::Value = serde_json::from_slice(&reversed.json()).unwrap();
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        prop_assert_eq!(&judge(&pretty, NamespaceKey::InDump).unwrap().digest, &digest);
    }

    #[test]
    fn the_digest_knows_every_key_name_and_the_topology(dump in dump(), place in any::<prop::sample::Index>(), added in key()) {
        let digest = judge(&dump.json(), NamespaceKey::InDump).unwrap().digest;
        let mut topology = dump.clone();
        topology.snapshot.push(0);
        let more = dump.clone().key(added);
        let renamed = dump.clone().name(place.index(dump.keys.len()), "a name that no strategy draws: \u{1f511}");
        let mut renumbered = dump.clone();
        renumbered.id = dump.id.replace("test-validator-", "other-validator-");
        for changed in [topology, more, renamed, renumbered] {
            prop_assert_ne!(&judge(&changed.json(), NamespaceKey::InDump).unwrap().digest, &digest);
        }
    }

    #[test]
    fn a_mutated_dump_that_is_still_proven_holds_the_same_key(dump in dump(), edits in vec(edit(), 1..4)) {
        let namespace = dump.namespace().to_owned();
        let secret = dump.keys.iter().find_map(|key| match key {
            Key::Software(key) if key.id == namespace => Some(key.secrets[0].clone()),
            _ => None,
        });
        let mut json = dump.json();
        for (at, edit) in &edits {
            if !json.is_empty() {
                edited(&mut json, *at, edit);
            }
        }
        let (strict, lenient) = (judge(&json, NamespaceKey::InDump), judge(&json, NamespaceKey::Offline));
        prop_assert!(lenient.is_ok() || strict.is_err());
        let Ok(about) = lenient else { return Ok(()) };
        prop_assert_eq!(about.digest.as_str(), digest_of(&json));
        if about.key_proof == KeyProof::Proven {
            prop_assert_eq!(about.participant_id.namespace(), namespace);
            prop_assert!(holds(&json, &secret.unwrap()));
        } else {
            prop_assert!(strict.map_or(true, |strict| strict.key_proof != KeyProof::Proven));
        }
    }
}

/// Flips every bit of some bytes in turn, or of every `step`th.
fn every_flip(bytes: &[u8], step: usize) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).step_by(step).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

#[test]
fn no_flipped_bit_of_a_private_key_is_accepted() {
    let kinds = [Spec::Ed25519, Spec::P256, Spec::P384, Spec::Secp256k1];
    for (spec, format) in
        kinds.into_iter().flat_map(|spec| [Format::Raw, Format::Der, Format::Pkcs8].map(|f| (spec, f)))
    {
        let mut dump = Dump::with_namespace(1, spec, format);
        dump.keys.truncate(1);
        assert_eq!(judge(&dump.json(), NamespaceKey::InDump).unwrap().key_proof, KeyProof::Proven);
        for (bit, private) in every_flip(&dump.software(0).private, 1) {
            let json = dump.clone().change(0, |key| key.private = private).json();
            let judged = judge(&json, NamespaceKey::Offline);
            assert!(judged.is_err(), "{spec:?} {format:?}: bit {bit} may be flipped");
        }
    }
}

#[test]
fn no_flipped_bit_of_an_rsa_key_is_accepted() {
    let mut dump = Dump::fresh(1);
    let key = SoftwareKey::new(1, Purpose::Encryption, Spec::Rsa2048, Format::Pkcs8);
    dump.keys[2] = key.clone().into();
    // Each check takes a while: every 13th bit, so that all bits of a byte and all numbers of the key have their turn.
    let accepted: BTreeSet<usize> = every_flip(&key.private, 13)
        .filter(|(_, private)| {
            let json = dump.clone().change(2, |key| key.private.clone_from(private)).json();
            judge(&json, NamespaceKey::InDump).is_ok()
        })
        .map(|(bit, _)| bit)
        .collect();
    assert_eq!(accepted, BTreeSet::new(), "of {} bits", key.private.len() * 8);
}

#[test]
fn a_flipped_bit_around_a_private_key_never_proves_another() {
    let dump = Dump::fresh(1);
    let (json, pair) = (String::from_utf8(dump.json()).unwrap(), dump.software(0).key_pair());
    for (bit, flipped) in every_flip(&pair, 1) {
        let json = json.replacen(&STANDARD.encode(&pair), &STANDARD.encode(flipped), 1);
        if let Ok(about) = judge(json.as_bytes(), NamespaceKey::InDump) {
            assert!(holds(json.as_bytes(), &dump.software(0).secrets[0]), "bit {bit}");
            assert_ne!(about.digest.as_str(), dump.digest(), "bit {bit}");
        }
    }
}

#[test]
fn an_error_names_places_but_nothing_of_the_dump() {
    let dump = Dump::fresh(1);
    let whole = dump.json();
    let mut errors = Vec::new();
    for end in (0..whole.len()).step_by(7) {
        errors.push(judge(&whole[..end], NamespaceKey::InDump).unwrap_err());
    }
    for at in (0..whole.len()).step_by(7) {
        let mut json = whole.clone();
        json[at] = b'"';
        errors.extend(judge(&json, NamespaceKey::InDump).err());
    }
    assert!(errors.len() > 500);
    for error in errors {
        let said = format!("{error} {error:?}");
        for window in whole.windows(16).filter(|window| window.is_ascii()) {
            let text = std::str::from_utf8(window).unwrap();
            let is_hex = text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            assert!(is_hex || !said.contains(text), "{said}");
        }
    }
}
