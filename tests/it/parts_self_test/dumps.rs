//! The generated identity dumps.

use crate::support::dump::{Dump, Format, Purpose, SoftwareKey, Spec, digest_of, fingerprint};

const SPECS: [(Purpose, Spec, &[Format]); 7] = [
    (Purpose::Namespace, Spec::Ed25519, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Signing, Spec::P256, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Signing, Spec::P384, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Signing, Spec::Secp256k1, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Encryption, Spec::P256, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Encryption, Spec::Rsa2048, &[Format::Der, Format::Pkcs8]),
    (Purpose::Signing, Spec::Unknown, &[Format::Unknown]),
];

/// OpenSSL's opinion of the public half.
fn public_by_openssl(pkcs8: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, pkcs8).unwrap();
    let mut command = std::process::Command::new("openssl");
    command.args(["pkey", "-inform", "DER", "-pubout", "-outform", "DER", "-in"]).arg(file);
    command.output().unwrap().stdout
}

#[test]
fn every_keys_fingerprint_follows_from_its_private_half() {
    for (purpose, spec, formats) in SPECS {
        for format in formats {
            for seed in 0..5 {
                let key = SoftwareKey::new(seed, purpose, spec, *format);
                assert_eq!(key.id, key.fingerprint());
                let pkcs8 = SoftwareKey::new(seed, purpose, spec, Format::Pkcs8);
                let mut public = public_by_openssl(&pkcs8.private);
                if matches!(spec, Spec::Ed25519 | Spec::Unknown) {
                    public = public[public.len() - 32..].to_vec();
                }
                assert_eq!(key.id, fingerprint(&public), "{spec:?} {format:?} {seed}");
                assert!(
                    key.secrets.iter().all(|secret| { pkcs8.private.windows(secret.len()).any(|part| part == secret) })
                );
            }
        }
    }
}

#[test]
fn a_fresh_dump_has_the_size_of_a_real_one_and_is_the_same_each_time() {
    let dump = Dump::fresh(7);
    assert!((2100..2300).contains(&dump.json().len()), "{}", dump.json().len());
    assert_eq!(dump.json(), Dump::fresh(7).json());
    assert_ne!(dump.digest(), Dump::fresh(8).digest());
    assert_eq!(dump.namespace(), dump.software(0).id);
    assert_eq!(dump.secrets().len(), 6);
}

#[test]
fn an_older_dump_begins_as_published_ones_do() {
    let json: serde_json::Value = serde_json::from_slice(&Dump::older(1, "acme-").json()).unwrap();
    assert_eq!(json["keys"][0]["name"], "acme-namespace");
    // Public and private message, each raw, with all four uses and the spec; then version 30.
    let pair = json["keys"][0]["keyPair"].as_str().unwrap();
    assert!(pair.starts_with("CqUBCqIBCiwQAxog"), "{pair}");
    assert!(pair.ends_with("CoEAQIDBDABEB4="), "{pair}");
    let encryption = json["keys"][2]["keyPair"].as_str().unwrap();
    assert!(encryption.starts_with("CswCEskCCmEQAhpbMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"), "{encryption}");
    assert_eq!(encryption.len(), 452);
}

#[test]
fn the_digest_knows_neither_order_nor_version() {
    let dump = Dump::prefixed(1, "acme-").rotated(1, 2);
    assert_eq!(dump.digest(), dump.clone().shuffled().version("0.8.0").digest());
    assert_ne!(dump.json(), dump.clone().shuffled().json());
    assert_ne!(dump.digest(), dump.clone().flip_a_bit(0).digest());
    assert_ne!(dump.digest(), dump.clone().name(0, "other").digest());
    assert_eq!(
        dump.clone().name(0, crate::support::dump::Field::Null).digest(),
        dump.name(0, crate::support::dump::Field::Absent).digest()
    );
}

#[test]
fn the_digest_of_a_hand_written_dump_is_the_one_worked_out_by_hand() {
    // printf 'idkeep/identity/v1\nPAR::a::1220\nkey  kms signing k1\nkey n software <sha256 of "key">\nsnapshot <sha256 of "snap">\n' | sha256sum
    let json = br#"{"id":"PAR::a::1220","keys":[{"keyPair":"a2V5","name":"n"},{"type":"signing","keyId":"k1"}],"authorizedStoreSnapshot":"c25hcA=="}"#;
    assert_eq!(digest_of(json), "sha256:39bc9ff542e96300dd3d2139f537a23d5ffa05f27b81351c3433240bad04d8a6");
}

#[test]
fn every_kind_of_dump_is_json_with_the_right_members() {
    let dumps = [
        Dump::kms(1),
        Dump::mixed(1),
        Dump::offline_root(1),
        Dump::fresh(1).with_key_of(&Dump::fresh(2)),
        Dump::fresh(1).padded_to(900 << 10),
    ];
    for dump in dumps {
        let json: serde_json::Value = serde_json::from_slice(&dump.json()).unwrap();
        assert_eq!(json["id"], dump.id.as_str());
        assert_eq!(json["keys"].as_array().unwrap().len(), 3);
        assert_eq!(json["version"], "0.7.5");
    }
    assert!(Dump::fresh(1).padded_to(900 << 10).json().len() >= 900 << 10);
}
