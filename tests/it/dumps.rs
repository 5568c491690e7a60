//! What is a dump and what is not: every kind of either, through the real binary.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::dump::{Dump, Field, Format, Key, Purpose, SoftwareKey, Spec, digest_of};
use crate::support::scenario::Scenario;
use crate::support::validator::Answer;

/// The good dump's JSON with one change.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(&Dump::fresh(1).json()).unwrap();
    change(&mut json);
    json.to_string().into_bytes()
}

fn text(dump: &Dump) -> String {
    String::from_utf8(dump.json()).unwrap()
}

/// What is not a dump, each with a word of the message that has to name the cause.
fn bad_documents() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = text(&Dump::fresh(1));
    let key_pair = |edit: fn(&str) -> String| {
        changed(|json| {
            let old = json["keys"][0]["keyPair"].as_str().unwrap().to_owned();
            json["keys"][0]["keyPair"] = json!(edit(&old));
        })
    };
    vec![
        ("nothing", vec![], "too early"),
        ("a login page", b"<!DOCTYPE html><html><title>Log in</title></html>".to_vec(), "not JSON"),
        ("a list", b"[]".to_vec(), "wrong type"),
        ("null", b"null".to_vec(), "wrong type"),
        ("an error document", br#"{"error":"not ready"}"#.to_vec(), "a field is missing"),
        ("a cut dump", good.as_bytes()[..good.len() - 1].to_vec(), "too early"),
        ("half a dump", good.as_bytes()[..good.len() / 2].to_vec(), "too early"),
        ("two dumps", format!("{good}{good}").into_bytes(), "something follows"),
        ("something after it", format!("{good} x").into_bytes(), "something follows"),
        ("a byte order mark", format!("\u{feff}{good}").into_bytes(), "not JSON"),
        ("not UTF-8", [good.as_bytes(), b"\xff"].concat(), "something follows"),
        ("the id twice", good.replacen("{\"id\"", "{\"id\":\"PAR::x::1220\",\"id\"", 1).into_bytes(), "twice"),
        ("the keys twice", good.replacen("\"keys\":", "\"keys\":[],\"keys\":", 1).into_bytes(), "twice"),
        (
            "a key pair twice",
            good.replacen("{\"keyPair\":", "{\"keyPair\":\"AA==\",\"keyPair\":", 1).into_bytes(),
            "twice",
        ),
        ("no id", changed(|json| drop(json.as_object_mut().unwrap().remove("id"))), "missing"),
        ("no keys", changed(|json| drop(json.as_object_mut().unwrap().remove("keys"))), "missing"),
        (
            "no snapshot",
            changed(|json| drop(json.as_object_mut().unwrap().remove("authorizedStoreSnapshot"))),
            "missing",
        ),
        ("an empty list of keys", changed(|json| json["keys"] = json!([])), "no keys"),
        ("keys of null", changed(|json| json["keys"] = json!(null)), "wrong type"),
        ("a number as id", changed(|json| json["id"] = json!(1)), "wrong type"),
        ("a number as version", changed(|json| json["version"] = json!(7)), "wrong type"),
        ("a version that is none", changed(|json| json["version"] = json!("0.7.5\u{1b}[2J")), "version"),
        ("another kind of id", changed(|json| json["id"] = json!("MED::x::1220")), "participant's id"),
        ("an id without namespace", changed(|json| json["id"] = json!("PAR::x")), "participant's id"),
        (
            "an id with a newline",
            { changed(|json| json["id"] = json!(json["id"].as_str().unwrap().replace("test", "te\nst"))) },
            "participant's id",
        ),
        ("an empty snapshot", changed(|json| json["authorizedStoreSnapshot"] = json!("")), "is empty"),
        (
            "a snapshot that is not base64",
            changed(|json| json["authorizedStoreSnapshot"] = json!("!!!!")),
            "not base64",
        ),
        ("base64 without its padding", changed(|json| json["authorizedStoreSnapshot"] = json!("AAAAAA")), "not base64"),
        ("base64 with a space", key_pair(|old| format!("{} {}", &old[..8], &old[8..])), "not base64"),
        ("base64 with a newline", key_pair(|old| format!("{old}\n")), "not base64"),
        ("base64 with stray bits", changed(|json| json["authorizedStoreSnapshot"] = json!("AB==")), "not base64"),
        ("an empty key pair", key_pair(|_| String::new()), "does not decode"),
        ("a key pair of noise", key_pair(|_| STANDARD.encode(b"\xff\xff\xff\xff noise")), "does not decode"),
        ("a cut key pair", key_pair(|old| STANDARD.encode(&STANDARD.decode(old).unwrap()[..40])), "does not decode"),
        (
            "a key that is nothing",
            changed(|json| json["keys"][1] = json!({"name": "signing"})),
            "neither a key pair nor",
        ),
        (
            "a key that is both",
            changed(|json| {
                json["keys"][1]["type"] = json!("signing");
                json["keys"][1]["keyId"] = json!("arn:x");
            }),
            "neither a key pair nor",
        ),
        (
            "a KMS key of no kind",
            changed(|json| json["keys"][1] = json!({"type": "other", "keyId": "arn:x"})),
            "neither a key pair nor",
        ),
        (
            "a KMS key without id",
            changed(|json| json["keys"][1] = json!({"type": "signing", "keyId": ""})),
            "neither a key pair nor",
        ),
        (
            "a name with a control character",
            changed(|json| json["keys"][0]["name"] = json!("name\u{7}space")),
            "control characters",
        ),
        ("a number as name", changed(|json| json["keys"][0]["name"] = json!(1)), "wrong type"),
    ]
}

#[test]
fn what_is_not_a_dump_never_replaces_one() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    for (what, bytes, cause) in bad_documents() {
        scenario.validator.dump(&bytes);
        let synced = scenario.sync(65);
        assert!(synced.stderr().contains(cause), "{what}: the message should say {cause:?}\n{}", synced.stderr());
        assert!(synced.stderr().contains("hint:"), "{what}: no hint\n{}", synced.stderr());
        assert_eq!(scenario.versions(), 1, "{what} was stored");
    }
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn what_is_not_a_dump_is_not_stored_first_either() {
    let scenario = Scenario::new(1);
    for (what, bytes, _) in bad_documents() {
        scenario.validator.dump(&bytes);
        scenario.sync(65);
        assert!(scenario.bao.kv_metadata(&scenario.path()).is_none(), "{what} was stored");
    }
}

/// Every spec with every format that it can have.
fn kinds() -> Vec<(Purpose, Spec, Format)> {
    let mut kinds = Vec::new();
    for spec in [Spec::Ed25519, Spec::P256, Spec::P384, Spec::Secp256k1] {
        for format in [Format::Raw, Format::Pkcs8, Format::Der] {
            kinds.push((Purpose::Signing, spec, format));
        }
    }
    for format in [Format::Raw, Format::Pkcs8, Format::Der] {
        kinds.push((Purpose::Encryption, Spec::P256, format));
    }
    kinds.push((Purpose::Encryption, Spec::Rsa2048, Format::Pkcs8));
    kinds.push((Purpose::Encryption, Spec::Rsa2048, Format::Der));
    kinds
}

#[test]
fn one_bit_flipped_in_a_private_key_of_any_kind_is_found() {
    let scenario = Scenario::new(1);
    for (purpose, spec, format) in kinds() {
        let dump = Dump::fresh(1).key(SoftwareKey::new(9, purpose, spec, format));
        scenario.validator.dump(&dump.clone().flip_a_bit(3).json());
        let synced = scenario.sync(65);
        assert!(synced.stderr().contains("key 4 of the dump"), "{purpose:?} {spec:?} {format:?}: {}", synced.stderr());
        // The positive control: without the flip it is as good as any.
        scenario.validator.dump(&dump.json());
        let synced = scenario.sync_with(0, &["--dry-run"]);
        assert_eq!(synced.store(), "would_write", "{purpose:?} {spec:?} {format:?}");
        assert_eq!(synced.node["key_proof"], "proven");
    }
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn a_key_that_is_not_what_it_says_is_refused() {
    let other = Dump::fresh(2);
    let cases = [
        (
            "another node's namespace key",
            Dump::fresh(1).with_key_of(&other),
            "does not hold the key of its own namespace",
        ),
        ("another id", Dump::fresh(1).change(1, |key| key.id = other.software(1).id.clone()), "fingerprint differs"),
        ("an id that is none", Dump::fresh(1).change(1, |key| key.id = "1220xyz".into()), "does not decode"),
        (
            "another public key beside it",
            Dump::older(1, "acme").change(1, |key| key.public = other.software(1).public.clone()),
            "public key of another",
        ),
        ("no bytes", Dump::fresh(1).change(0, |key| key.private = Vec::new()), "no private key of its kind"),
        ("a byte too many", Dump::fresh(1).change(0, |key| key.private.push(0)), "no private key of its kind"),
        (
            "the namespace key left out",
            Dump::of(1, Dump::fresh(1).namespace(), Dump::fresh(1).keys[1..].to_vec()),
            "does not hold the key",
        ),
    ];
    let scenario = Scenario::new(1);
    for (what, dump, cause) in cases {
        scenario.validator.dump(&dump.json());
        let synced = scenario.sync(65);
        assert!(synced.stderr().contains(cause), "{what}: {}", synced.stderr());
        assert_eq!(scenario.versions(), 0, "{what} was stored");
    }
}

#[test]
fn every_good_dump_is_stored_byte_for_byte() {
    let escaped = text(&Dump::fresh(1)).replacen("\"namespace\"", "\"n\\u0061me\\/sp\\u00e9ce\"", 1);
    let pretty = serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(&Dump::fresh(1).json()).unwrap()).unwrap();
    let escaped_base64 = text(&Dump::fresh(3)).replace('/', "\\/");
    let more = text(&Dump::fresh(1)).replacen('{', "{\"newField\":{\"a\":[1]},", 1);
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("fresh", Dump::fresh(1).json(), "software", "proven"),
        ("prefixed names", Dump::prefixed(1, "acme-").json(), "software", "proven"),
        ("of an older version", Dump::older(1, "acme").json(), "software", "proven"),
        ("rotated", Dump::fresh(1).rotated(1, 5).json(), "software", "proven"),
        ("without names", Dump::fresh(1).name(0, Field::Absent).name(1, Field::Null).json(), "software", "proven"),
        ("without version", Dump::fresh(1).version_field(Field::Absent).json(), "software", "proven"),
        ("with version null", Dump::fresh(1).version_field(Field::Null).json(), "software", "proven"),
        ("in a KMS", Dump::kms(1).json(), "kms", "kms"),
        ("mixed", Dump::mixed(1).json(), "mixed", "kms"),
        ("escaped names", escaped.into_bytes(), "software", "proven"),
        ("escaped slashes", escaped_base64.into_bytes(), "software", "proven"),
        ("pretty", pretty, "software", "proven"),
        ("with a field of a later version", more.into_bytes(), "software", "proven"),
        ("large", Dump::fresh(1).padded_to(25_000).json(), "software", "proven"),
    ];
    for (what, bytes, kind, proof) in cases {
        let scenario = Scenario::new(1);
        scenario.validator.dump(&bytes);
        let synced = scenario.sync(0);
        assert_eq!(synced.store(), "written", "{what}");
        let stored = scenario.bao.kv_get(&scenario.path()).unwrap();
        assert_eq!(stored.data["content"].as_str().unwrap().as_bytes(), bytes, "{what}");
        assert_eq!(scenario.facts()["idkeep_digest"], digest_of(&bytes), "{what}");
        assert_eq!(scenario.facts()["idkeep_key_kind"], kind, "{what}");
        let facts = scenario.facts();
        assert!(facts["idkeep_key_proof"] == proof || what == "mixed", "{what}: {facts}");
        assert_eq!(synced.node["bytes"], bytes.len(), "{what}");
    }
}

#[test]
fn a_namespace_key_of_any_kind_is_proven() {
    for (purpose, spec, format) in kinds() {
        if purpose == Purpose::Encryption {
            continue;
        }
        let scenario = Scenario::of(Dump::with_namespace(1, spec, format));
        let synced = scenario.sync(0);
        assert_eq!(synced.node["key_proof"], "proven", "{spec:?} {format:?}");
        scenario.assert_stored(&scenario.dump);
    }
}

#[test]
fn a_key_of_an_unknown_kind_is_stored_and_never_called_proven() {
    for (spec, format) in [(Spec::Unknown, Format::Raw), (Spec::Ed25519, Format::Unknown)] {
        let scenario = Scenario::of(Dump::with_namespace(1, spec, format));
        let synced = scenario.sync(0);
        assert_eq!(synced.node["key_proof"], "unproven", "{spec:?} {format:?}");
        assert!(synced.stderr().contains("WARN"), "{}", synced.stderr());
        assert!(synced.stderr().contains("unproven"), "{}", synced.stderr());
        assert_eq!(scenario.facts()["idkeep_key_proof"], "unproven");
    }
}

#[test]
fn a_root_key_that_is_kept_elsewhere_has_to_be_configured() {
    let mut scenario = Scenario::of(Dump::offline_root(1));
    let synced = scenario.sync(65);
    assert!(synced.stderr().contains("namespace_key: offline"), "{}", synced.stderr());
    assert_eq!(scenario.versions(), 0);
    scenario.identity("namespace_key: offline");
    let synced = scenario.sync(0);
    assert_eq!(synced.node["key_proof"], "offline");
    assert_eq!(scenario.facts()["idkeep_key_proof"], "offline");
    // What is there is proven all the same.
    scenario.validator.dump(&Dump::offline_root(1).flip_a_bit(0).json());
    scenario.sync(65);
}

#[test]
fn order_and_version_make_no_new_version_of_the_secret() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    for same in
        [Dump::fresh(1).shuffled(), Dump::fresh(1).version("0.8.0"), Dump::fresh(1).version_field(Field::Absent)]
    {
        scenario.validator.dump(&same.json());
        let synced = scenario.sync(0);
        assert_eq!(synced.store(), "unchanged");
        assert_eq!(synced.node["digest"], scenario.dump.digest());
    }
    assert_eq!(scenario.versions(), 1);
    scenario.validator.dump(&Dump::fresh(1).rotated(1, 1).json());
    assert_eq!(scenario.sync(0).store(), "written");
    assert_eq!(scenario.versions(), 2);
}

#[test]
fn a_dump_larger_than_a_mebibyte_is_none() {
    let scenario = Scenario::new(1);
    scenario.validator.dump(&Dump::fresh(1).padded_to(1024 * 1024 + 1).json());
    scenario.sync(65);
    scenario.validator.script([Answer::Oversize]);
    scenario.sync(65);
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn another_participant_never_overwrites_the_old_one_silently() {
    let scenario = Scenario::new(1);
    scenario.sync(0);
    let other = Dump::fresh(2);
    scenario.validator.dump(&other.json());
    let refused = scenario.sync(65);
    assert!(
        refused.stderr().contains(&scenario.dump.id) && refused.stderr().contains(&other.id),
        "{}",
        refused.stderr()
    );
    assert!(refused.stderr().contains("--accept-new-identity="), "{}", refused.stderr());
    // The wrong id is not accepted, and what is no id is a mistake of the command line.
    let wrong = format!("--accept-new-identity={}", Dump::fresh(3).id);
    scenario.sync_with(65, &[&wrong]);
    scenario.idkeep.expect(64, &["sync", "--accept-new-identity=somebody"]);
    assert_eq!(scenario.versions(), 1);
    let right = format!("--accept-new-identity={}", other.id);
    assert_eq!(scenario.sync_with(0, &[&right]).store(), "written");
    scenario.assert_stored(&other);
    // The old identity's facts stay, with the hint that its recovery needs.
    let old: Value = serde_json::from_str(scenario.facts()["idkeep_v1"].as_str().unwrap()).unwrap();
    assert_eq!(old["participant_id"], scenario.dump.id.as_str());
    assert_eq!(old["party_hint"], format!("acme-{}", scenario.node));
    // Without an id anything is accepted, with a warning.
    scenario.validator.dump(&scenario.dump.json());
    let back = scenario.sync_with(0, &["--accept-new-identity"]);
    assert!(back.stderr().contains("names no id"), "{}", back.stderr());
    assert_eq!(scenario.versions(), 3);
}

#[test]
fn a_configured_participant_is_held_to_on_the_first_sync_too() {
    let mut scenario = Scenario::new(1);
    scenario.identity(&format!("participant: {:?}", Dump::fresh(2).id));
    let refused = scenario.sync(65);
    assert!(refused.stderr().contains("the configuration names"), "{}", refused.stderr());
    scenario.sync_with(65, &["--accept-new-identity"]);
    assert_eq!(scenario.versions(), 0);
    let right = format!("participant: {:?}", scenario.dump.id);
    scenario.identity(&right);
    assert_eq!(scenario.sync(0).store(), "written");
}

#[test]
fn nothing_that_a_dump_says_reaches_the_terminal_as_a_command() {
    let escape = "\u{1b}]0;owned\u{7}";
    let dump = Dump::fresh(1).key(Key::Kms { purpose: "signing", id: format!("arn:{escape}"), name: Field::Absent });
    let scenario = Scenario::of(dump);
    let refused = scenario.sync(65);
    assert!(!refused.outcome.stderr.contains('\u{1b}') && !refused.outcome.stdout.contains('\u{1b}'));
}
