//! Answers that are no usable dump: exit code 65, and the store is as it was.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};

use crate::support::age::AgeKey;
use crate::support::dump::{Dump, Field, Format, Key, Purpose, SoftwareKey, Spec};
use crate::support::scenario::Scenario;
use crate::support::validator::Answer;

/// One bad dump: what it is, its bytes, and what the error has to say about it.
type Bad = (String, Vec<u8>, &'static str);

fn bad(what: &str, json: impl Into<Vec<u8>>, says: &'static str) -> Bad {
    (what.to_owned(), json.into(), says)
}

/// Every one of them is refused, on the first sync as well as after a good one, and nothing of it is said aloud.
fn are_refused(bad: &[Bad]) {
    assert!(!bad.is_empty());
    let scenario = Scenario::new(1);
    for (what, json, says) in bad {
        is_refused(&scenario, what, json, says);
        assert_eq!(scenario.bao.kv_metadata(&scenario.path()), None, "{what}: something was made on the first sync");
    }
    scenario.validator.dump(&scenario.dump.json());
    assert_eq!(scenario.sync(0).store(), "written");
    let stored = scenario.bao.kv_metadata(&scenario.path());
    for (what, json, says) in bad {
        is_refused(&scenario, what, json, says);
        assert_eq!(scenario.bao.kv_metadata(&scenario.path()), stored, "{what}: the store was touched");
    }
    scenario.assert_stored(&scenario.dump);
    scenario.validator.dump(&scenario.dump.json());
    assert_eq!(scenario.sync(0).store(), "unchanged");
}

fn is_refused(scenario: &Scenario, what: &str, json: &[u8], says: &str) {
    scenario.validator.dump(json);
    let outcome = scenario.idkeep.run(&["-o", "json", "sync", "--accept-new-identity"]);
    assert_eq!(outcome.code, 65, "{what}: {outcome}");
    let report = outcome.json();
    let error = report["nodes"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains(says), "{what}: {error}");
    assert!(outcome.stderr.contains(says) && outcome.stderr.contains("hint: "), "{what}: {outcome}");
    // No field of the dump that could be a key, not even a part of it.
    for window in json.windows(24).filter(|window| window.iter().all(|byte| is_base64(*byte))) {
        let text = std::str::from_utf8(window).unwrap();
        assert!(!outcome.output().contains(text) || is_public(text), "{what}: said {text}: {outcome}");
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// Parts of a fingerprint may be said.
fn is_public(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

/// The dump as text, for changes that a [`Dump`] cannot express.
fn text(dump: &Dump) -> String {
    String::from_utf8(dump.json()).unwrap()
}

/// The usual dump with one piece of its text replaced, which has to be there.
fn replaced(from: &str, to: &str) -> String {
    let text = text(&Dump::fresh(1));
    assert!(text.contains(from), "{from} is not in the dump");
    text.replacen(from, to, 1)
}

fn key_pair(place: usize) -> String {
    STANDARD.encode(Dump::fresh(1).software(place).key_pair())
}

#[test]
fn what_is_not_json_is_refused() {
    let good = text(&Dump::fresh(1));
    let mut not_utf8 = good.clone().into_bytes();
    not_utf8[9] = 0xff;
    are_refused(&[
        bad("nothing", "", "ends too early"),
        bad("a word", "OK", "it is not JSON"),
        bad("a login page", "<!doctype html><title>Canton wallet</title>", "it is not JSON"),
        bad("a byte order mark", format!("\u{feff}{good}"), "it is not JSON"),
        bad("half of it", &good[..good.len() / 2], "ends too early"),
        bad("all but the last byte", &good[..good.len() - 1], "ends too early"),
        bad("one brace too many", format!("{good}}}"), "something follows it"),
        bad("the dump twice", format!("{good}\n{good}"), "something follows it"),
        bad("a null byte after it", format!("{good}\0"), "something follows it"),
        bad("a comment", format!("/* */{good}"), "it is not JSON"),
        bad("single quotes", good.replace('"', "'"), "it is not valid JSON"),
        bad("no comma", good.replacen(",\"keys\"", "\"keys\"", 1), "it is not valid JSON"),
        bad("not UTF-8", not_utf8, "it is not valid JSON"),
        bad("a lone surrogate", good.replacen("\"namespace\"", "\"\\ud800\"", 1), "it is not valid JSON"),
        bad("a bare control character", good.replacen("namespace", "name\tspace", 1), "it is not valid JSON"),
    ]);
}

#[test]
fn an_answer_that_is_not_a_dump_at_all_is_refused_with_its_content_type() {
    let scenario = Scenario::new(1);
    scenario.validator.script([Answer::Html, Answer::Html, Answer::Html]);
    let outcome = scenario.sync(65).outcome;
    assert!(!outcome.output().contains("Canton wallet"), "{outcome}");
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn json_of_another_shape_is_refused() {
    let dump = Dump::fresh(1);
    let id = format!("\"id\":\"{}\"", dump.id);
    let (first, snapshot) = (key_pair(0), STANDARD.encode(&dump.snapshot));
    // serde would read a struct from an array too.
    let as_array = format!("[\"{}\",[{{\"keyPair\":\"{first}\"}}],\"{snapshot}\",\"0.7.5\"]", dump.id);
    let key_as_array =
        format!("{{{id},\"keys\":[[\"{first}\",null,null,\"namespace\"]],\"authorizedStoreSnapshot\":\"{snapshot}\"}}");
    are_refused(&[
        bad("null", "null", "wrong type"),
        bad("a number", "1", "wrong type"),
        bad("a text", "\"dump\"", "wrong type"),
        bad("an empty list", "[]", "wrong type"),
        bad("an empty object", "{}", "a field is missing"),
        bad("an error", "{\"error\":\"An unexpected error occurred.\"}", "a field is missing"),
        bad("a dump as a list", as_array, "wrong type"),
        bad("a key as a list", key_as_array, "wrong type"),
        bad("no id", replaced(&format!("{id},"), ""), "a field is missing"),
        bad("no keys", replaced("\"keys\":", "\"key\":"), "a field is missing"),
        bad("no snapshot", replaced("authorizedStoreSnapshot", "snapshot"), "a field is missing"),
        bad("a null id", replaced(&id, "\"id\":null"), "wrong type"),
        bad("a number as id", replaced(&id, "\"id\":7"), "wrong type"),
        bad("null keys", format!("{{{id},\"keys\":null,\"authorizedStoreSnapshot\":\"{snapshot}\"}}"), "wrong type"),
        bad(
            "keys as an object",
            format!("{{{id},\"keys\":{{}},\"authorizedStoreSnapshot\":\"{snapshot}\"}}"),
            "wrong type",
        ),
        bad("a null key", replaced("\"keys\":[{", "\"keys\":[null,{"), "wrong type"),
        bad("a text as key", replaced("\"keys\":[{", "\"keys\":[\"k\",{"), "wrong type"),
        bad("a number as name", replaced("\"name\":\"signing\"", "\"name\":5"), "wrong type"),
        bad("a number as version", replaced("\"version\":\"0.7.5\"", "\"version\":0.7"), "wrong type"),
        bad("a list as snapshot", replaced(&format!("\"{snapshot}\""), &format!("[\"{snapshot}\"]")), "wrong type"),
        bad("a list as key pair", replaced(&format!("\"{first}\""), &format!("[\"{first}\"]")), "wrong type"),
        bad("a dump inside another object", format!("{{\"dump\":{}}}", text(&dump)), "a field is missing"),
        bad("a dump inside a list", format!("[{}]", text(&dump)), "wrong type"),
    ]);
}

#[test]
fn a_field_that_stands_there_twice_is_refused() {
    let dump = Dump::fresh(1);
    let (text, first) = (text(&dump), key_pair(0));
    let with = |field: &str| text.replacen('{', &format!("{{{field},"), 1);
    let in_key = |field: &str| text.replacen("\"keys\":[{", &format!("\"keys\":[{{{field},"), 1);
    let twice = "stands there twice";
    are_refused(&[
        bad("two ids", with(&format!("\"id\":\"{}\"", dump.id)), twice),
        bad("two ids, one of them escaped", with(&format!("\"\\u0069d\":\"{}\"", dump.id)), twice),
        bad("two lists of keys", with("\"keys\":[]"), twice),
        bad("two snapshots", with("\"authorizedStoreSnapshot\":\"AAAA\""), twice),
        bad("two versions", with("\"version\":null"), twice),
        bad("two key pairs", in_key(&format!("\"keyPair\":\"{first}\"")), twice),
        bad("two names", in_key("\"name\":null"), twice),
        bad("two types", in_key("\"type\":\"signing\",\"type\":\"signing\""), twice),
        bad("two key ids", in_key("\"keyId\":\"a\",\"keyId\":\"a\""), twice),
    ]);
}

#[test]
fn an_id_that_is_no_participants_id_is_refused() {
    let dump = Dump::fresh(1);
    let namespace = dump.namespace().to_owned();
    let with = |what: &str, id: String| bad(what, Dump { id, ..dump.clone() }.json(), "`id` is not a participant's id");
    are_refused(&[
        with("empty", String::new()),
        with("without its prefix", format!("test-validator-1::{namespace}")),
        with("of a mediator", format!("MED::test-validator-1::{namespace}")),
        with("in lower case", format!("par::test-validator-1::{namespace}")),
        with("without an identifier", format!("PAR::{namespace}")),
        with("with an empty identifier", format!("PAR::::{namespace}")),
        with("with four parts", format!("PAR::a::b::{namespace}")),
        with("without a namespace", "PAR::test-validator-1::".to_owned()),
        with("with another multihash", format!("PAR::test-validator-1::1320{}", &namespace[4..])),
        with("with a short namespace", format!("PAR::test-validator-1::{}", &namespace[..67])),
        with("with a long namespace", format!("PAR::test-validator-1::{namespace}0")),
        with("with an upper-case namespace", format!("PAR::test-validator-1::{}", namespace.to_uppercase())),
        with("with a slash", format!("PAR::a/b::{namespace}")),
        with("with a newline", format!("PAR::a\nb::{namespace}")),
        with("with a space before it", format!(" {}", dump.id)),
        with("with a newline after it", format!("{}\n", dump.id)),
        with("with a long identifier", format!("PAR::{}::{namespace}", "a".repeat(186))),
    ]);
}

#[test]
fn base64_that_is_not_strict_is_refused() {
    // A snapshot of 3n+1 bytes has two `=` and four spare bits, one that needs `+` and `/` shows the alphabet.
    let mut dump = Dump::fresh(1);
    dump.snapshot = [&[0xfb, 0xff, 0xbf].repeat(50), &[1_u8][..]].concat();
    let snapshot = STANDARD.encode(&dump.snapshot);
    assert!(snapshot.ends_with("AQ==") && snapshot.contains("+/+/"));
    let first = key_pair(0);
    let first_bytes = Dump::fresh(1).software(0).key_pair();
    let variants = |encoded: &str, bytes: &[u8]| {
        let mut spare = encoded.trim_end_matches('=').to_owned();
        let last = spare.pop().unwrap();
        spare.push(char::from(last as u8 + 1));
        let mut variants = vec![
            ("a space after it", format!("{encoded} ")),
            ("a space before it", format!(" {encoded}")),
            ("a line break in it", format!("{}\\r\\n{}", &encoded[..76], &encoded[76..])),
            ("a character that is none of its own", format!("{}*{}", &encoded[..8], &encoded[9..])),
            ("an end in the middle", format!("{}===={}", &encoded[..8], &encoded[8..])),
            ("too much padding", format!("{encoded}====")),
            ("a character too few", encoded[1..].to_owned()),
        ];
        if encoded.ends_with('=') {
            let padding = "=".repeat(encoded.len() - encoded.trim_end_matches('=').len());
            variants.push(("no padding", STANDARD_NO_PAD.encode(bytes)));
            variants.push(("spare bits that are not zero", format!("{spare}{padding}")));
        }
        if encoded.contains(['+', '/']) {
            variants.push(("the alphabet of addresses", URL_SAFE.encode(bytes)));
        }
        variants
    };
    let good = text(&dump);
    let mut all = Vec::new();
    for (what, variant) in variants(&snapshot, &dump.snapshot) {
        assert_ne!(variant, snapshot);
        let json = good.replacen(&snapshot, &variant, 1);
        all.push(bad(&format!("a snapshot with {what}"), json, "`authorizedStoreSnapshot` is not base64"));
    }
    assert_eq!(all.len(), 10, "the snapshot shows every variant");
    for (what, variant) in variants(&first, &first_bytes) {
        let json = good.replacen(&first, &variant, 1);
        all.push(bad(&format!("a key pair with {what}"), json, "key 1 of the dump (`namespace`) is not base64"));
    }
    are_refused(&all);
}

#[test]
fn a_dump_without_keys_or_without_topology_is_refused() {
    let dump = Dump::fresh(1);
    let without_snapshot = Dump { snapshot: Vec::new(), ..dump.clone() };
    let without_keys = Dump { keys: Vec::new(), ..dump };
    are_refused(&[
        bad("no keys", without_keys.json(), "it has no keys"),
        bad("no topology", without_snapshot.json(), "`authorizedStoreSnapshot` is empty"),
    ]);
}

#[test]
fn a_key_that_is_neither_or_both_is_refused() {
    let first = key_pair(0);
    let pair = format!("\"keyPair\":\"{first}\"");
    let with = |what: &str, fields: &str| {
        bad(what, replaced(&pair, fields), "key 1 of the dump (`namespace`) is neither a key pair nor a KMS key")
    };
    are_refused(&[
        with("neither", "\"comment\":\"\""),
        with("both", &format!("{pair},\"type\":\"signing\",\"keyId\":\"k\"")),
        with("a key pair with a type", &format!("{pair},\"type\":\"signing\"")),
        with("a key pair with a key id", &format!("{pair},\"keyId\":\"k\"")),
        with("a KMS key without its type", "\"keyId\":\"k\""),
        with("a KMS key without its id", "\"type\":\"signing\""),
        with("a KMS key with an empty id", "\"type\":\"signing\",\"keyId\":\"\""),
        with("a KMS key of an odd type", "\"type\":\"Signing\",\"keyId\":\"k\""),
        with("a KMS key with a line break in its id", "\"type\":\"signing\",\"keyId\":\"a\\nb\""),
        with("nulls only", "\"keyPair\":null,\"type\":null,\"keyId\":null"),
    ]);
}

#[test]
fn a_name_with_control_characters_is_refused() {
    let with = |what: &str, name: &str| {
        bad(what, Dump::fresh(1).name(1, name).json(), "key 2 of the dump (with an odd name) has control characters")
    };
    are_refused(&[
        with("a line break", "signing\nkey x software 00"),
        with("a null", "signing\0"),
        with("an escape", "\u{1b}[31msigning"),
        with("a delete", "signing\u{7f}"),
        with("a C1 control", "signing\u{85}"),
    ]);
}

#[test]
fn a_version_that_is_none_is_refused() {
    let with =
        |what: &str, version: &str| bad(what, Dump::fresh(1).version(version).json(), "`version` is not a version");
    are_refused(&[
        with("an escape", "0.7.5\u{1b}[2J"),
        with("a line break", "0.7.5\n0.7.6"),
        with("more than any version has", &"7".repeat(65)),
    ]);
}

#[test]
fn nothing_that_a_dump_says_reaches_the_terminal_as_a_command() {
    let id = "arn:\u{1b}]0;owned\u{7}".to_owned();
    let scenario = Scenario::of(Dump::fresh(1).key(Key::Kms { purpose: "signing", id, name: Field::Absent }));
    let refused = scenario.sync(65).outcome;
    assert!(!refused.output().contains(['\u{1b}', '\u{7}']), "{refused}");
    let renamed = Dump::fresh(1).flip_a_bit(0).name(0, "\u{1b}[31mnamespace");
    scenario.validator.dump(&renamed.json());
    let refused = scenario.sync(65).outcome;
    assert!(!refused.output().contains('\u{1b}'), "{refused}");
}

#[test]
fn a_key_pair_that_is_no_message_is_refused() {
    let whole = Dump::fresh(1).software(0).key_pair();
    let with = |what: &str, bytes: &[u8]| {
        let json = replaced(&key_pair(0), &STANDARD.encode(bytes));
        bad(what, json, "key 1 of the dump (`namespace`) does not decode as a key pair")
    };
    are_refused(&[
        with("nothing", b""),
        with("text", b"not a message at all"),
        with("half of it", &whole[..whole.len() / 2]),
        with("all but its version's last byte", &whole[..whole.len() - 1]),
        with("something after it", &[&whole[..], &[0]].concat()),
        with("a length beyond its end", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        with("a length beyond all memory", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        with("only a version", &[0x10, 30]),
        with("an empty pair", &[0x0a, 0x00, 0x10, 30]),
    ]);
}

const KINDS: [(Purpose, Spec, &[Format]); 6] = [
    (Purpose::Namespace, Spec::Ed25519, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Namespace, Spec::P256, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Namespace, Spec::P384, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Namespace, Spec::Secp256k1, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Encryption, Spec::P256, &[Format::Raw, Format::Der, Format::Pkcs8]),
    (Purpose::Encryption, Spec::Rsa2048, &[Format::Der, Format::Pkcs8]),
];

/// A dump that has such a key, and the key's place.
fn with_key(purpose: Purpose, spec: Spec, format: Format) -> (Dump, usize) {
    if purpose == Purpose::Namespace {
        return (Dump::with_namespace(1, spec, format), 0);
    }
    let mut dump = Dump::fresh(1);
    dump.keys[2] = SoftwareKey::new(1, purpose, spec, format).named("encryption".into()).into();
    (dump, 2)
}

#[test]
fn one_flipped_bit_of_any_private_key_is_refused() {
    let mut all = Vec::new();
    for (purpose, spec, formats) in KINDS {
        for format in formats {
            let (dump, place) = with_key(purpose, spec, *format);
            let json = dump.flip_a_bit(place).json();
            let says = if place == 0 { "key 1 of the dump (`namespace`)" } else { "key 3 of the dump (`encryption`)" };
            all.push(bad(&format!("{purpose:?} {spec:?} {format:?}"), json, says));
        }
    }
    all.push(bad("the signing key", Dump::fresh(1).flip_a_bit(1).json(), "key 2 of the dump (`signing`)"));
    all.push(bad("an older dump's", Dump::older(1, "acme-").flip_a_bit(0).json(), "(`acme-namespace`)"));
    are_refused(&all);
}

#[test]
fn a_dump_without_the_key_of_its_namespace_is_refused() {
    let dump = Dump::fresh(1);
    let other = Dump::fresh(2);
    let no_namespace = "does not hold the key of its own namespace";
    let mut without = dump.clone();
    without.keys.remove(0);
    let mut renamed = without.clone();
    renamed = renamed.name(0, "namespace");
    let mut encryption_only = Dump::kms(1);
    encryption_only.keys.remove(0);
    are_refused(&[
        bad("another node's key", dump.clone().with_key_of(&other).json(), no_namespace),
        bad("another node's id", Dump { id: other.id.clone(), ..dump.clone() }.json(), no_namespace),
        bad("no namespace key", without.json(), no_namespace),
        bad("another key under its name", renamed.json(), no_namespace),
        bad("a delegated key", Dump::offline_root(1).json(), no_namespace),
        bad("a KMS without it", encryption_only.json(), no_namespace),
    ]);
}

#[test]
fn a_key_that_says_it_is_another_is_refused() {
    let dump = Dump::fresh(1);
    let other = SoftwareKey::new(2, Purpose::Namespace, Spec::Ed25519, Format::Pkcs8);
    let differs = "its fingerprint differs from its id";
    let changed = |place: usize, change: &dyn Fn(&mut SoftwareKey)| dump.clone().change(place, change).json();
    let with_public = |change: &dyn Fn(&mut SoftwareKey)| {
        let change = |key: &mut SoftwareKey| {
            key.with_public = true;
            change(key);
        };
        Dump::older(1, "").change(0, change).json()
    };
    are_refused(&[
        bad("the namespace key under another id", changed(0, &|key| key.id.clone_from(&other.id)), differs),
        bad("another key under the namespace's id", changed(0, &|key| key.private.clone_from(&other.private)), differs),
        bad("the signing key under the namespace's id", changed(1, &|key| key.id = dump.namespace().into()), differs),
        bad("an id in upper case", changed(0, &|key| key.id = key.id.to_uppercase()), "does not decode"),
        bad("no id", changed(0, &|key| key.id.clear()), "does not decode"),
        bad("another spec", changed(0, &|key| key.spec = Spec::P256), "no private key of its kind"),
        bad("another format", changed(0, &|key| key.format = Format::Raw), "no private key of its kind"),
        bad("no private key", changed(0, &|key| key.private.clear()), "no private key of its kind"),
        bad("a byte too many", changed(0, &|key| key.private.push(0)), "no private key of its kind"),
        bad(
            "the public key of another",
            with_public(&|key| key.public.clone_from(&other.public)),
            "has the public key of another one",
        ),
        bad("an empty public key", with_public(&|key| key.public.clear()), "has the public key of another one"),
    ]);
}

#[test]
fn a_dump_of_more_than_a_mebibyte_is_refused() {
    let largest = Dump::fresh(1).padded_to(1 << 20);
    let mut json = largest.json();
    assert!(json.len() > 1 << 20, "{}", json.len());
    are_refused(&[bad("a little more", json.clone(), "larger than")]);
    // The same limit to the byte: white space around JSON counts.
    let mut scenario = Scenario::of(Dump::fresh(1));
    scenario.identity("deadline: 30s");
    json = scenario.dump.json();
    json.resize(1 << 20, b' ');
    scenario.validator.dump(&json);
    // A node may give so much, though not every store has room for it.
    let synced = scenario.sync_with(65, &["--dry-run"]);
    assert_eq!(synced.node["bytes"], 1 << 20);
    assert!(synced.stderr().contains("bytes too large for this store"), "{}", synced.outcome);
    let (key, folder) = (AgeKey::new(), scenario.idkeep.path("kept"));
    scenario.config.more_stores = format!("  dr:\n    file: {{path: {folder:?}, recipients: [{}]}}\n", key.recipient);
    scenario.config.stores = "[dr]".into();
    scenario.configure();
    assert_eq!(scenario.sync_with(0, &["--dry-run"]).node["bytes"], 1 << 20);
    json.push(b' ');
    scenario.validator.dump(&json);
    assert!(scenario.sync_with(65, &["--dry-run"]).stderr().contains("larger than 1048576 bytes"));
}

#[test]
fn an_endless_answer_is_cut_off_at_the_limit() {
    let scenario = Scenario::new(1);
    scenario.validator.always(Answer::Oversize);
    let outcome = scenario.sync(65).outcome;
    assert!(outcome.stderr.contains("larger than 1048576 bytes"), "{outcome}");
    assert_eq!(scenario.versions(), 0);
}
