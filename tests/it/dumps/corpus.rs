//! The fuzzer's corpus: small synthetic dumps and key pairs, made here, over which the parser also runs in each test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idkeep::config::NamespaceKey;
use idkeep::identity::KeyProof;

use super::parser::judge;
use crate::support::dump::{Dump, Field, Format, Key, Purpose, SoftwareKey, Spec};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/dump")
}

/// A dump whose topology is short, so that the fuzzer's changes hit what matters.
fn small(mut dump: Dump) -> Dump {
    dump.snapshot.truncate(10);
    dump
}

fn good() -> Vec<(&'static str, Dump)> {
    let fresh = Dump::fresh(1);
    let alone = |spec, format| {
        let mut dump = Dump::with_namespace(1, spec, format);
        dump.keys.truncate(1);
        dump
    };
    let mut rsa = fresh.clone();
    rsa.keys[2] = SoftwareKey::new(1, Purpose::Encryption, Spec::Rsa2048, Format::Pkcs8).into();
    let unnamed = (0..3).fold(fresh.clone(), |dump, place| dump.name(place, Field::Null));
    vec![
        ("fresh", fresh),
        ("older", Dump::older(1, "acme-")),
        ("rotated", Dump::fresh(1).rotated(1, 2)),
        ("unnamed", unnamed.version_field(Field::Absent)),
        ("kms", Dump::kms(1)),
        ("mixed", Dump::mixed(1)),
        ("rsa", rsa),
        ("raw-ed25519", alone(Spec::Ed25519, Format::Raw)),
        ("der-p256", alone(Spec::P256, Format::Der)),
        ("pkcs8-p384", alone(Spec::P384, Format::Pkcs8)),
        ("raw-secp256k1", alone(Spec::Secp256k1, Format::Raw)),
        ("unknown-spec", alone(Spec::Unknown, Format::Pkcs8)),
    ]
}

fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let fresh = small(Dump::fresh(1));
    let json = fresh.json();
    let text = String::from_utf8(json.clone()).unwrap();
    vec![
        ("empty", Vec::new()),
        ("html", b"<!doctype html><title>Canton wallet</title>".to_vec()),
        ("cut", json[..json.len() / 2].to_vec()),
        ("trailing", [&json[..], b"}"].concat()),
        ("twice-id", text.replacen('{', "{\"\\u0069d\":\"\",", 1).into_bytes()),
        ("list", format!("[{text}]").into_bytes()),
        ("no-keys", Dump { keys: Vec::new(), ..fresh.clone() }.json()),
        ("no-snapshot", Dump { snapshot: Vec::new(), ..fresh.clone() }.json()),
        ("flipped", fresh.clone().flip_a_bit(0).json()),
        ("another", fresh.clone().with_key_of(&Dump::fresh(2)).json()),
        ("both", text.replacen("{\"keyPair\"", "{\"type\":\"signing\",\"keyId\":\"k\",\"keyPair\"", 1).into_bytes()),
        ("control", fresh.clone().name(0, "a\nb").json()),
        ("no-padding", text.replacen("=\"", "\"", 1).into_bytes()),
        ("public-of-another", {
            let other = SoftwareKey::new(2, Purpose::Namespace, Spec::Ed25519, Format::Raw).public;
            small(Dump::older(1, "")).change(0, |key| key.public = other).json()
        }),
    ]
}

/// Bare key pairs: the fuzzer also wraps its bytes in a dump.
fn pairs() -> Vec<(&'static str, Vec<u8>)> {
    let fresh = Dump::fresh(1);
    let p384 = SoftwareKey::new(1, Purpose::Signing, Spec::P384, Format::Pkcs8).with_public();
    vec![
        ("ed25519", fresh.software(0).key_pair()),
        ("p256-encryption", fresh.software(2).key_pair()),
        ("p384-with-public", p384.key_pair()),
        ("secp256k1-raw", SoftwareKey::new(1, Purpose::Signing, Spec::Secp256k1, Format::Raw).key_pair()),
        ("rsa", SoftwareKey::new(1, Purpose::Encryption, Spec::Rsa2048, Format::Der).key_pair()),
        ("long-length", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ]
}

fn made() -> BTreeMap<String, Vec<u8>> {
    let good = good().into_iter().map(|(name, dump)| (format!("good-{name}"), small(dump).json()));
    let bad = bad().into_iter().map(|(name, bytes)| (format!("bad-{name}"), bytes));
    let pairs = pairs().into_iter().map(|(name, bytes)| (format!("pair-{name}"), bytes));
    good.chain(bad).chain(pairs).collect()
}

fn stored() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

/// With `IDKEEP_WRITE_CORPUS=1` in the environment, writes them first.
#[test]
fn the_corpus_is_what_is_made_here_and_what_the_fuzzer_found() {
    if std::env::var_os("IDKEEP_WRITE_CORPUS").is_some() {
        for (name, bytes) in made() {
            std::fs::write(folder().join(name), bytes).unwrap();
        }
    }
    let stored = stored();
    for (name, bytes) in made() {
        assert!(stored.get(&name) == Some(&bytes), "{name} is not the one that is made here");
    }
    for name in stored.keys() {
        assert!(name.starts_with("found-") || made().contains_key(name), "where does {name} come from?");
    }
    assert!(stored.values().map(Vec::len).sum::<usize>() < 100 << 10);
}

#[test]
fn the_parser_takes_the_good_ones_of_the_corpus_and_no_other() {
    for (name, bytes) in stored() {
        let judged = judge(&bytes, NamespaceKey::InDump);
        assert_eq!(judged.is_ok(), name.starts_with("good-"), "{name}: {judged:?}");
    }
}

#[test]
fn the_good_ones_of_the_corpus_are_proven_where_that_can_be() {
    for (name, dump) in good() {
        let about = judge(&small(dump.clone()).json(), NamespaceKey::InDump).unwrap();
        let is_kms = matches!(&dump.keys[0], Key::Kms { .. });
        let expected = match name {
            "unknown-spec" => KeyProof::Unproven,
            _ if is_kms => KeyProof::Kms,
            _ => KeyProof::Proven,
        };
        assert_eq!(about.key_proof, expected, "{name}");
    }
}
