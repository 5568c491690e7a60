//! Dumps of every kind that nodes have: stored byte for byte, with facts that are true.

use serde_json::Value;

use crate::support::dump::{Dump, Field, Format, Key, Purpose, SoftwareKey, Spec, digest_of};
use crate::support::scenario::{Scenario, Synced};

/// Syncs the dump into an empty store, twice, and checks everything that has to be the same for any dump.
fn is_kept(dump: Dump, lines: &[&str]) -> (Scenario, Synced) {
    let json = dump.json();
    are_kept(dump, &json, lines)
}

/// The same for a dump that is written in another way.
fn are_kept(dump: Dump, json: &[u8], lines: &[&str]) -> (Scenario, Synced) {
    let mut scenario = Scenario::of(dump);
    for line in lines {
        scenario.identity(line);
    }
    scenario.validator.dump(json);
    let first = scenario.sync(0);
    assert_eq!(first.store(), "written", "{}", first.outcome);
    let stored = scenario.bao.kv_get(&scenario.path()).unwrap().data;
    assert_eq!(stored["content"].as_str().unwrap().as_bytes(), json);
    assert_eq!(stored["encoding"], "json");
    let facts = scenario.facts();
    assert_eq!(facts["idkeep_digest"], digest_of(json));
    assert_eq!(facts["idkeep_participant_id"], scenario.dump.id.as_str());
    assert_eq!(facts["idkeep_party_hint"], format!("acme-{}", scenario.node));
    assert_eq!(facts["idkeep_stored_version"], "1");
    let node = &first.node;
    assert_eq!(node["digest"], digest_of(json));
    assert_eq!(node["participant_id"], scenario.dump.id.as_str());
    assert_eq!(node["keys"], scenario.dump.keys.len());
    assert_eq!(node["bytes"], json.len());
    assert_eq!(node["key_kind"], facts["idkeep_key_kind"]);
    assert_eq!(node["key_proof"], facts["idkeep_key_proof"]);
    for (name, secret) in scenario.dump.secrets() {
        let found = memchr::memmem::find(first.outcome.output().as_bytes(), &secret);
        assert!(found.is_none(), "{name} was said: {}", first.outcome);
    }
    assert_eq!(scenario.sync(0).store(), "unchanged");
    (scenario, first)
}

fn kind_and_proof(scenario: &Scenario) -> (String, String) {
    let facts = scenario.facts();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&facts["idkeep_key_kind"]), text(&facts["idkeep_key_proof"]))
}

fn assert_kind_and_proof(scenario: &Scenario, kind: &str, proof: &str) {
    assert_eq!(kind_and_proof(scenario), (kind.to_owned(), proof.to_owned()));
}

#[test]
fn a_fresh_nodes_dump_is_kept() {
    let (scenario, synced) = is_kept(Dump::fresh(1), &[]);
    assert_kind_and_proof(&scenario, "software", "proven");
    assert_eq!(scenario.facts()["idkeep_dump_version"], "0.7.5");
    assert_eq!(synced.node["keys"], 3);
    assert!(!synced.stderr().contains("WARN"), "{}", synced.stderr());
}

#[test]
fn an_older_nodes_dump_with_prefixed_names_and_public_keys_is_kept() {
    let (scenario, _) = is_kept(Dump::older(1, "acme-"), &[]);
    assert_kind_and_proof(&scenario, "software", "proven");
    assert_eq!(scenario.facts()["idkeep_dump_version"], "0.3.6");
}

#[test]
fn a_rotated_nodes_dump_with_many_keys_is_kept() {
    let (scenario, synced) = is_kept(Dump::fresh(1).rotated(1, 9), &[]);
    assert_kind_and_proof(&scenario, "software", "proven");
    assert_eq!(synced.node["keys"], 12);
}

#[test]
fn a_dump_of_the_namespace_key_alone_is_kept() {
    let mut dump = Dump::fresh(1);
    dump.keys.truncate(1);
    let (scenario, _) = is_kept(dump, &[]);
    assert_kind_and_proof(&scenario, "software", "proven");
}

#[test]
fn a_dump_without_names_or_version_is_kept() {
    for field in [Field::Absent, Field::Null] {
        let mut dump = Dump::fresh(1).version_field(field.clone());
        for place in 0..3 {
            dump = dump.name(place, field.clone());
        }
        let (scenario, synced) = is_kept(dump, &[]);
        assert_kind_and_proof(&scenario, "software", "proven");
        assert!(scenario.facts().get("idkeep_dump_version").is_none());
        assert_eq!(synced.node["dump_version"], Value::Null);
    }
}

#[test]
fn a_dump_of_kms_keys_is_kept_as_not_provable() {
    let (scenario, _) = is_kept(Dump::kms(1), &[]);
    assert_kind_and_proof(&scenario, "kms", "kms");
    let (scenario, _) = is_kept(Dump::kms(1).name(0, "acme-namespace"), &[]);
    assert_kind_and_proof(&scenario, "kms", "kms");
}

#[test]
fn a_dump_of_both_kinds_of_key_is_kept() {
    let (scenario, _) = is_kept(Dump::mixed(1), &[]);
    assert_kind_and_proof(&scenario, "mixed", "proven");
    let mut dump = Dump::kms(1);
    dump.keys[1] = Dump::fresh(1).keys[1].clone();
    let (scenario, _) = is_kept(dump, &[]);
    assert_kind_and_proof(&scenario, "mixed", "kms");
}

#[test]
fn a_dump_of_a_node_with_an_offline_root_is_kept_if_the_configuration_says_so() {
    let scenario = Scenario::of(Dump::offline_root(1));
    let refused = scenario.sync(65);
    assert!(refused.stderr().contains("namespace_key: offline"), "{}", refused.stderr());
    assert_eq!(scenario.versions(), 0);
    let (scenario, _) = is_kept(Dump::offline_root(1), &["namespace_key: offline"]);
    assert_kind_and_proof(&scenario, "software", "offline");
}

#[test]
fn a_root_key_that_is_in_the_dump_is_proven_whatever_the_configuration_says() {
    let (scenario, _) = is_kept(Dump::fresh(1), &["namespace_key: offline"]);
    assert_kind_and_proof(&scenario, "software", "proven");
}

#[test]
fn a_damaged_key_is_refused_whatever_the_configuration_says() {
    let mut scenario = Scenario::of(Dump::fresh(1).flip_a_bit(0));
    scenario.identity("namespace_key: offline");
    scenario.sync(65);
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn escapes_and_odd_names_survive_byte_for_byte() {
    let json = String::from_utf8(Dump::fresh(1).json()).unwrap();
    let json = json
        .replacen("\"name\":\"namespace\"", "\"\\u006eame\":\"\\u00e9\\/\\ud83d\\ude00 namespace\"", 1)
        .replacen("\"name\":\"signing\"", "\"name\":\"señal “ü” 鍵 \\\"q\\\" \\\\\"", 1)
        .replacen("\"id\":\"PAR:", "\"id\":\"\\u0050AR:", 1)
        .replacen("\"0.7.5\"", "\"0.7.5\\u002b1\"", 1);
    assert!(json.contains("\\/") && json.contains("\\u0050"));
    let (scenario, synced) = are_kept(Dump::fresh(1), json.as_bytes(), &[]);
    assert_kind_and_proof(&scenario, "software", "proven");
    assert_eq!(synced.node["dump_version"], "0.7.5+1");
}

#[test]
fn base64_with_escaped_slashes_is_kept_as_it_is() {
    let dump = Dump::fresh(1);
    let json = String::from_utf8(dump.json()).unwrap().replace('/', "\\/");
    assert!(json.contains("\\/"));
    let (scenario, _) = are_kept(dump.clone(), json.as_bytes(), &[]);
    assert_eq!(scenario.facts()["idkeep_digest"], dump.digest());
}

#[test]
fn a_dump_with_white_space_and_fields_not_known_here_is_kept_as_it_is() {
    let dump = Dump::fresh(1);
    let value: Value = serde_json::from_slice(&dump.json()).unwrap();
    let mut json = format!("\r\n\t{}\n\n", serde_json::to_string_pretty(&value).unwrap());
    json = json.replacen('{', "{ \"later\": {\"keys\": [null, 1e40, {\"a\": []}], \"id\": 7}, \"later\": 1,", 1);
    json = json.replacen("\"name\"", "\"created\": 12, \"name\"", 1);
    let (scenario, _) = are_kept(dump.clone(), json.as_bytes(), &[]);
    assert_eq!(scenario.facts()["idkeep_digest"], dump.digest());
}

#[test]
fn a_namespace_key_of_every_spec_and_format_is_proven() {
    for spec in [Spec::Ed25519, Spec::P256, Spec::P384, Spec::Secp256k1] {
        for format in [Format::Raw, Format::Der, Format::Pkcs8] {
            let (scenario, _) = is_kept(Dump::with_namespace(1, spec, format), &[]);
            assert_eq!(kind_and_proof(&scenario), ("software".into(), "proven".into()), "{spec:?} {format:?}");
        }
    }
}

#[test]
fn an_rsa_encryption_key_is_kept() {
    for format in [Format::Der, Format::Pkcs8] {
        let mut dump = Dump::fresh(1);
        let rsa = SoftwareKey::new(1, Purpose::Encryption, Spec::Rsa2048, format);
        dump.keys[2] = rsa.named("encryption".into()).into();
        let (_, synced) = is_kept(dump, &[]);
        assert!(!synced.stderr().contains("WARN"), "{}", synced.stderr());
    }
}

#[test]
fn a_namespace_key_of_an_unknown_spec_is_kept_unproven_with_a_warning() {
    for (spec, format) in [(Spec::Unknown, Format::Pkcs8), (Spec::Ed25519, Format::Unknown)] {
        let (scenario, synced) = is_kept(Dump::with_namespace(1, spec, format), &[]);
        assert_kind_and_proof(&scenario, "software", "unproven");
        let warning = synced.stderr().lines().find(|line| line.contains("WARN")).unwrap_or_default();
        assert!(warning.contains("`namespace`") && warning.contains("not known here"), "{}", synced.stderr());
    }
}

#[test]
fn another_key_of_an_unknown_spec_is_listed_and_the_namespace_stays_proven() {
    let unknown = SoftwareKey::new(1, Purpose::Signing, Spec::Unknown, Format::Pkcs8);
    let (scenario, synced) = is_kept(Dump::fresh(1).key(unknown.named("ml-dsa-65".into())), &[]);
    assert_kind_and_proof(&scenario, "software", "proven");
    assert_eq!(synced.node["keys"], 4);
    let warning = synced.stderr().lines().find(|line| line.contains("WARN")).unwrap_or_default();
    assert!(warning.contains("`ml-dsa-65`"), "{}", synced.stderr());
}

#[test]
fn another_order_or_app_version_makes_no_new_version() {
    let dump = Dump::prefixed(1, "acme-").rotated(1, 2);
    let (scenario, _) = is_kept(dump.clone(), &[]);
    let same = [
        dump.clone().shuffled().json(),
        dump.clone().version("0.8.0").json(),
        dump.clone().version_field(Field::Null).json(),
        dump.clone().shuffled().shuffled().version_field(Field::Absent).json(),
    ];
    for json in same {
        assert_ne!(json, dump.json());
        scenario.validator.dump(&json);
        let synced = scenario.sync(0);
        assert_eq!(synced.store(), "unchanged");
        assert_eq!(synced.node["digest"], dump.digest());
    }
    assert_eq!(scenario.versions(), 1);
    scenario.assert_stored(&dump);
}

#[test]
fn a_rotated_key_or_another_topology_makes_a_new_version() {
    let dump = Dump::fresh(1);
    let (scenario, _) = is_kept(dump.clone(), &[]);
    let mut topology = dump.clone().rotated(1, 1);
    topology.snapshot.push(1);
    let changed = [dump.clone().rotated(1, 1), topology, dump.clone().name(1, "renamed"), dump];
    for (number, changed) in changed.into_iter().enumerate() {
        scenario.validator.dump(&changed.json());
        assert_eq!(scenario.sync(0).store(), "written");
        scenario.assert_stored(&changed);
        assert_eq!(scenario.versions(), number as u64 + 2);
        assert_eq!(scenario.facts()["idkeep_digest"], changed.digest());
    }
}

#[test]
fn the_largest_dump_of_older_nodes_is_kept() {
    let (_, synced) = is_kept(Dump::older(1, "acme-").padded_to(25 << 10), &[]);
    assert!(synced.node["bytes"].as_u64().unwrap() >= 25 << 10);
}

#[test]
fn a_kms_keys_place_in_the_list_does_not_matter() {
    let mut dump = Dump::kms(1);
    dump.keys.reverse();
    assert!(matches!(&dump.keys[2], Key::Kms { name, .. } if *name == "namespace".into()));
    let (scenario, _) = is_kept(dump, &[]);
    assert_kind_and_proof(&scenario, "kms", "kms");
}
