//! One mistake and many: each is named where it stands, with what to do about it.

use super::{GOOD, check, place, with};
use crate::support::idkeep::Idkeep;

/// The one mistake that replacing the text makes, at the place of `at`.
fn is_named(from: &str, to: &str, at: &str, says: &str) {
    let yaml = with(from, to);
    let mistake = check(&yaml, &["--offline"]).mistake();
    assert!(mistake.starts_with(&format!("{} ", place(&yaml, at))), "{mistake}, not at {}", place(&yaml, at));
    assert!(mistake.contains(says), "{mistake} does not say {says}");
}

#[test]
fn a_good_configuration_has_neither_mistakes_nor_warnings() {
    let checked = check(GOOD, &["--offline"]);
    assert_eq!(checked.mistakes(), [""; 0]);
    assert_eq!(checked.warnings(), [""; 0]);
}

#[test]
fn many_mistakes_in_one_file_are_all_named_in_its_order_each_with_its_place_and_fix() {
    let yaml = "\
nodes:
  One:
    networks: 7
  two:
    network: 7
    network: devnet
    identity:
      endpoint: http://node.acme.example/api/validator
      endpiont: https://node.acme.example
      timeout: 5
      deadline: 1 minute
      auth:
        oauth2:
          issuer: issuer.acme.example
          client_secret: hunter2
          client_auth: private_key_jwt
          basic_encoding: base64
          allow_http: 'no'
      stores: [vault, valut, vault]
      require: 4
      recipients: [age1nonsense]
      participant: acme
      max_changes_per_day: 0
stores:
  vault:
    vault:
      address: https://vault.acme.example
      auth: {kubernetes: {role: a}, token: {env: T}}
  folder:
    file: {path: /var/../x}
process:
  lock_memory: always
  swap: false
";
    let checked = check(yaml, &["--offline"]);
    let expected = [
        ("One:", "nodes.One: a name is 1 to 63 of a-z, 0-9 and `-`; rename it"),
        ("networks: 7", "nodes.One.networks: this key is not known; did you mean `network`?"),
        ("networks: 7", "nodes.One.identity: `identity` is missing; add it"),
        ("7\n    network: d", "nodes.two.network: expected a text; put it in quotes"),
        ("network: devnet", "nodes.two.network: this key stands here twice; take one out"),
        (
            "endpoint: http",
            "nodes.two.identity.endpoint: this address is not encrypted (`http://`); use https://, or write `allow_http: true` beside it",
        ),
        ("endpiont", "nodes.two.identity.endpiont: this key is not known; did you mean `endpoint`?"),
        ("5\n      deadline", "nodes.two.identity.timeout: expected a text; add a unit, for example `30s`"),
        (
            "1 minute",
            "nodes.two.identity.deadline: a period is a whole number with a unit: `500ms`, `30s`, `10m`, `4h`, `30d`; ",
        ),
        ("issuer: issuer", "nodes.two.identity.auth.oauth2.client_id: `client_id` is missing; add it"),
        (
            "issuer.acme",
            "nodes.two.identity.auth.oauth2.issuer: not an address: it reads `https://host[:port][/path]`; ",
        ),
        (
            "hunter2",
            "nodes.two.identity.auth.oauth2.client_secret: a secret is never written in the file; replace it by a reference",
        ),
        ("base64", "nodes.two.identity.auth.oauth2.basic_encoding: expected `rfc6749` or `raw`; "),
        ("'no'", "nodes.two.identity.auth.oauth2.allow_http: expected `true` or `false`; "),
        (
            "oauth2:",
            "nodes.two.identity.auth.oauth2.private_key: client authentication `private_key_jwt` needs `private_key`; add it",
        ),
        ("valut", "nodes.two.identity.stores[1]: there is no store `valut`; known: folder, vault"),
        ("vault]", "nodes.two.identity.stores[2]: the store `vault` is named twice; take one out"),
        ("require", "nodes.two.identity.require: 4 stores are required, but 3 named; lower it, or name more stores"),
        ("age1nonsense", "nodes.two.identity.recipients[0]: not an age recipient: it reads `age1…`"),
        (
            "acme\n      max",
            "nodes.two.identity.participant: a participant's id reads `PAR::<identifier>::1220<64 hex digits>`; ",
        ),
        ("0\nstores", "nodes.two.identity.max_changes_per_day: must be from 1 to 4294967295; "),
        ("address: https://vault", "stores.vault.vault.path: `path` is missing; add it"),
        (
            "{kubernetes",
            "stores.vault.vault.auth: only one may stand here; keep exactly one of `kubernetes`, `approle`, `jwt`, `cert`, `token`",
        ),
        ("/var/../x", "stores.folder.file.path: `.` and `..` are not allowed in a path; "),
        ("always", "process.lock_memory: expected `required` or `try` or `off`; "),
        ("swap", "process.swap: this key is not known; known here: lock_memory"),
    ];
    let mistakes = checked.mistakes();
    for (at, says) in expected {
        // What a judgement between parts finds is placed at the key, what a shape is wrong in at the value.
        let at = place(yaml, at);
        let named = mistakes
            .iter()
            .any(|mistake| mistake.split_once(' ').is_some_and(|(place, rest)| place == at && rest.starts_with(says)));
        assert!(named, "{at} {says}\n{}", mistakes.join("\n"));
    }
    assert_eq!(mistakes.len(), expected.len(), "{}", mistakes.join("\n"));
    let places: Vec<(u64, u64)> = checked.json["mistakes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mistake| (mistake["line"].as_u64().unwrap(), mistake["column"].as_u64().unwrap()))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(!checked.outcome.output().contains("hunter2"));
}

#[test]
fn as_text_every_mistake_is_a_line_that_editors_can_follow() {
    let yaml = with("network: devnet", "netwrok: devnet").replace("basic", "post office");
    let idkeep = Idkeep::configured(&yaml);
    let outcome = idkeep.expect(78, &["check", "--offline"]);
    let file = idkeep.path("idkeep.yaml").display().to_string();
    let first = format!("{file}:3:5: mistake: nodes.one.netwrok: this key is not known; did you mean `network`?");
    let second = format!(
        "{file}:12:24: mistake: nodes.one.identity.auth.oauth2.client_auth: expected `basic` or `post` or `private_key_jwt` or `tls`"
    );
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..2], [first, second], "{outcome}");
    // A command that needs the configuration says the same on stderr.
    let sync = idkeep.expect(78, &["sync"]);
    assert!(sync.stderr.contains("the configuration has 2 mistakes") && sync.stderr.contains(lines[0]), "{sync}");
    assert_eq!(sync.stdout, "");
}

#[test]
fn a_file_that_is_not_there_or_not_readable_as_one_is_a_configuration_mistake() {
    let idkeep = Idkeep::new();
    for command in [&["check"][..], &["sync"], &["policy", "vault"]] {
        let missing = idkeep.expect(78, &[command, &["--config", "/nowhere/idkeep.yaml"]].concat());
        assert!(missing.stderr.contains("/nowhere/idkeep.yaml"), "{missing}");
        assert!(missing.stderr.contains("hint: name the file with --config or IDKEEP_CONFIG"), "{missing}");
    }
    let folder = idkeep.folder().to_str().unwrap();
    idkeep.expect(78, &["check", "--config", folder]);
    idkeep.file("binary.yaml", b"nodes: \xff\xfe");
    idkeep.expect(78, &["check", "--config", "binary.yaml"]);
    // The usual place, where the tests have none.
    assert!(idkeep.expect(78, &["sync"]).stderr.contains("/etc/idkeep/idkeep.yaml"));
}

#[test]
fn a_file_without_a_node_is_a_mistake() {
    for (yaml, says) in [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("---\n", "the file is empty"),
        ("- nodes\n", "the file is not a mapping"),
        ("nodes\n", "the file is not a mapping"),
        ("{}\n", "`nodes` is missing"),
        ("nodes: {}\n", "no node is configured"),
        ("nodes:\n", "expected a mapping"),
        ("nodes: []\n", "expected a mapping"),
    ] {
        let mistake = check(yaml, &["--offline"]).mistake();
        assert!(mistake.starts_with("1:") && mistake.contains(says), "{yaml:?}: {mistake}");
    }
}

#[test]
fn what_is_not_yaml_is_named_with_its_place() {
    for (yaml, at, says) in [
        ("nodes:\n  a: b: c\n", "2:7", "mapping values are not allowed"),
        ("nodes: {a: 1\n", "1:8", "unclosed bracket"),
        ("nodes:\n\ta: 1\n", "2:2", ""),
        ("nodes: *unknown\n", "1:8", "unknown anchor"),
        ("nodes: {}\n---\nnodes: {}\n", "3:1", "a second document begins here"),
    ] {
        let mistake = check(yaml, &["--offline"]).mistake();
        assert!(mistake.starts_with(&format!("{at} ")) && mistake.contains(says), "{yaml:?}: {mistake}");
        assert!(!mistake.contains(" at line ") && !mistake.contains("from_str"), "{mistake}");
    }
}

#[test]
fn a_key_that_is_not_known_is_named_with_the_one_that_was_meant() {
    is_named("party_hint:", "party_hnt:", "party_hnt", "did you mean `party_hint`?");
    is_named("      stores: [", "      backup: {}\n      stores: [", "backup", "known here: allow_http, auth,");
    is_named(
        "    file: {path",
        "    flie: {path",
        "flie",
        "`flie` is not known here; use one of `vault`, `gcp`, `aws`, `azure`, `kubernetes`, `file`",
    );
    is_named("role: idkeep,", "role: idkeep, rolle: x,", "rolle", "did you mean `role`?");
    is_named(
        "nodes:\n",
        "alerts: {}\nnodes:\n",
        "alerts",
        "this key is not known; known here: heartbeat, nodes, process, repositories, schedule, server, stores",
    );
}

#[test]
fn a_key_that_stands_there_twice_is_named_at_its_second_place() {
    is_named("    party_hint", "    network: testnet\n    party_hint", "network: testnet", "stands here twice");
    is_named("    file: {path", "    file: {}\n    file: {path", "file: {path", "stands here twice");
    is_named("stores:\n  vault", "nodes: {}\nstores:\n  vault", "nodes: {}", "stands here twice");
    is_named("  folder:\n", "  vault: {}\n  folder:\n", "vault: {}", "stands here twice");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_what_is_expected() {
    is_named("stores: [vault, folder]", "stores: vault", "vault\n      rec", "expected a list");
    is_named("network: devnet", "network: [devnet]", "[devnet]", "expected a text");
    is_named("network: devnet", "network: 12", "12", "expected a text; put it in quotes");
    is_named("network: devnet", "network: 1.5", "1.5", "expected a text; put it in quotes");
    is_named("network: devnet", "network: true", "true", "expected a text; put it in quotes");
    is_named("client_id: idkeep", "client_id: 12345", "12345", "expected a text; put it in quotes");
    is_named("client_id: idkeep", "client_id: ''", "''", "must not be empty");
    is_named("client_id: idkeep", "client_id: \"a\\nb\"", "\"a\\n", "control characters");
    is_named("client_id: idkeep", "client_id:", ":\n          client_secret", "expected a text");
    is_named("      stores:", "      allow_http: 1\n      stores:", "1\n      stores", "expected `true` or `false`");
    is_named("      stores:", "      max_changes_per_day: many\n      stores:", "many", "expected a whole number");
    is_named("      stores:", "      max_changes_per_day: -1\n      stores:", "-1\n      stores", "must be from 1 to");
    is_named(
        "      stores:",
        "      max_changes_per_day: 4294967296\n      stores:",
        "4294967296",
        "must be from 1 to",
    );
    is_named("      stores:", "      require: some\n      stores:", "some", "expected `all`, `any` or a number from 1");
    is_named(
        "      stores:",
        "      require: 0\n      stores:",
        "0\n      stores",
        "expected `all`, `any` or a number from 1",
    );
    is_named("      stores:", "      namespace_key: safe\n      stores:", "safe", "expected `in_dump` or `offline`");
    is_named("network: devnet", &format!("network: {}", "n".repeat(129)), "nnn", "longer than 128 bytes");
    is_named("party_hint: acme-1", &format!("party_hint: {}", "n".repeat(186)), "nnn", "longer than 185 bytes");
}

#[test]
fn a_period_is_a_number_with_a_unit() {
    for wrong in ["30", "1.5h", "-1s", "'30'", "s", "1w", "99999999999999999999d", "5 s"] {
        let line = format!("      timeout: {wrong}\n      stores:");
        let checked = check(&with("      stores:", &line), &["--offline"]);
        assert!(checked.mistake().contains("identity.timeout: "), "{wrong}");
    }
    is_named("      stores:", "      deadline: 0s\n      stores:", "deadline: 0s", "must be longer than nothing");
    is_named("      stores:", "      timeout: 0ms\n      stores:", "timeout: 0ms", "must be longer than nothing");
    for right in ["500ms", "30s", "1m"] {
        let line = format!("      timeout: {right}\n      stores:");
        assert_eq!(check(&with("      stores:", &line), &["--offline"]).mistakes(), [""; 0], "{right}");
    }
    let longer = check(&with("      stores:", "      timeout: 2m\n      stores:"), &["--offline"]);
    assert!(longer.warnings()[0].contains("is longer than `deadline`"), "{:?}", longer.warnings());
}

#[test]
fn names_have_a_shape() {
    let long = "a".repeat(64);
    for wrong in ["One", "one_1", "ein.s", "a b", "ä", &long] {
        let yaml = with("  one:", &format!("  {wrong}:"));
        let mistake = check(&yaml, &["--offline"]).mistake();
        assert!(mistake.starts_with("2:3 ") && mistake.contains("a name is 1 to 63 of"), "{mistake}");
    }
    let longest = with("  one:", &format!("  {}:", "a".repeat(63)));
    assert_eq!(check(&longest, &["--offline"]).mistakes(), [""; 0]);
}

#[test]
fn addresses_are_encrypted_unless_the_file_allows_otherwise() {
    let node = "https://node.acme.example";
    is_named(node, "http://node.acme.example", "endpoint: http", "`allow_http: true`");
    is_named("https://issuer", "http://issuer", "issuer: http", "`allow_http: true`");
    is_named("https://vault", "http://vault", "address: http", "`allow_http: true`");
    is_named(node, "ftp://node.acme.example", "ftp://", "an address starts with `https://`");
    is_named(node, "node.acme.example", "node.acme", "not an address");
    is_named("/api/validator\n", "/api/validator?x=1\n", "https://node", "an address has no `?` or `#` part");
    // Allowed for one address is not allowed for another.
    let yaml = with(node, "http://node.acme.example").replace("https://issuer", "http://issuer");
    let yaml = yaml.replace("      auth:\n", "      allow_http: true\n      auth:\n");
    assert!(check(&yaml, &["--offline"]).mistake().contains("auth.oauth2.issuer"));
}

#[test]
fn a_store_that_is_not_there_or_named_in_vain_is_found() {
    is_named("[vault, folder]", "[vault, foldr]", "foldr", "there is no store `foldr`; known: folder, vault");
    is_named("[vault, folder]", "[]", "stores: []", "no store is named");
    is_named("[vault, folder]", "[vault, vault]", "vault]", "named twice");
    is_named(
        "      recipients: [age1u4z5lfm345nhsfxpdm9pps2dfya4ppn8s53ptq07g88dzmux5scqg8nnw6]\n",
        "",
        "folder]",
        "has no age recipient",
    );
    is_named("      stores:", "      require: 3\n      stores:", "require", "3 stores are required, but 2 named");
    let unused = check(&with("[vault, folder]", "[vault]"), &["--offline"]);
    assert!(unused.warnings()[0].contains("no node uses this store"), "{:?}", unused.warnings());
}

#[test]
fn two_nodes_may_not_share_a_place() {
    let nodes = GOOD.find("stores:\n  vault").unwrap();
    let one = &GOOD["nodes:\n".len()..nodes];
    let two = format!("nodes:\n{one}{}{}", one.replace("  one:", "  two:"), &GOOD[nodes..]);
    assert_eq!(check(&two, &["--offline"]).mistakes(), [""; 0]);
    let shared = two.replace("canton/{node}/identities", "canton/{network}/identities");
    let mistake = check(&shared, &["--offline"]).mistake();
    let at = place(&shared, "path: canton");
    assert_eq!(
        mistake,
        format!(
            "{at} stores.vault.vault.path: the nodes `one` and `two` would share one place in this store; put `{{node}}` into it"
        )
    );
    // Another network is another place, and another store on the same server is not.
    let mut apart = shared.clone();
    apart.replace_range(
        shared.rfind("network: devnet").unwrap()..shared.rfind("network: devnet").unwrap() + 15,
        "network: tstnet",
    );
    assert_eq!(check(&apart, &["--offline"]).mistakes(), [""; 0]);
    let vault = shared[shared.find("  vault:\n").unwrap()..shared.find("  folder:").unwrap()].to_owned();
    let second = shared.rfind("[vault, folder]").unwrap();
    let mut two_stores = format!("{shared}{}", vault.replacen("  vault:", "  other:", 1));
    two_stores.replace_range(second..second + 15, "[other, folder]");
    assert!(check(&two_stores, &["--offline"]).mistake().contains("would share one place"));
    // A folder of the `file` store is a node's own, whatever the template.
    assert!(!shared.contains("/var/lib/idkeep/{node}"));
    let unset = with("    network: devnet\n", "").replace("{node}", "{network}/{node}");
    assert!(
        check(&unset, &["--offline"])
            .mistake()
            .contains("nodes.one.network: `network` is not set, but stores.vault.vault.path needs it")
    );
}

#[test]
fn client_authentication_needs_what_it_is_made_with() {
    let secret = "          client_secret: {file: /nowhere/client-secret}\n          client_auth: basic\n";
    let oauth2 = "oauth2:";
    is_named(secret, "", oauth2, "the client has nothing to authenticate with");
    is_named(secret, "          client_auth: basic\n", oauth2, "client authentication `basic` needs `client_secret`");
    is_named(secret, "          client_auth: post\n", oauth2, "client authentication `post` needs `client_secret`");
    is_named("basic", "private_key_jwt", oauth2, "client authentication `private_key_jwt` needs `private_key`");
    is_named("basic", "tls", oauth2, "client authentication `tls` needs `tls.client_cert_file`");
    is_named(
        "          client_id",
        "          tls: {client_cert_file: c}\n          client_id",
        "tls:",
        "`client_cert_file` needs `client_key_file`",
    );
    is_named(
        "          client_id",
        "          tls: {client_key_file: c}\n          client_id",
        "tls:",
        "`client_key_file` needs `client_cert_file`",
    );
    is_named("          issuer: https://issuer.acme.example/\n", "", oauth2, "neither `issuer` nor `token_url` is set");
    is_named(
        "issuer: https://issuer.acme.example/",
        "token_url: https://issuer.acme.example/token\n          assertion_audience: issuer",
        "assertion_audience",
        "`issuer` is not set",
    );
    is_named(
        "{kubernetes: {role: idkeep, token_file: /nowhere/token}}",
        "{cert: {}}",
        "cert",
        "logging in by certificate needs one",
    );
    is_named("      stores:", "      auth: {}\n      stores:", "auth: {}", "stands here twice");
    is_named("{kubernetes: {role: idkeep, token_file: /nowhere/token}}", "{}", "{}", "this is empty");
}

#[test]
fn form_fields_that_idkeep_sends_itself_are_refused() {
    for name in ["grant_type", "client_id", "client_assertion_type"] {
        let params = format!("          extra_params: {{{name}: x, fine: z}}\n          client_id");
        is_named("          client_id", &params, name, "idkeep sends this field itself");
    }
}

#[test]
fn a_mistake_is_not_followed_by_others_about_what_stands_in_its_place() {
    // Without `--offline`: what a mistake is replaced by is never looked for.
    for (from, to) in [
        ("file: {path: /var/lib/idkeep}", "folder: {path: /var/lib/idkeep}"),
        ("kubernetes: {role: idkeep, token_file: /nowhere/token}", "kubernets: {role: idkeep}"),
        ("kubernetes: {role: idkeep, token_file: /nowhere/token}", "token: {file: 12}"),
        ("kubernetes: {role: idkeep, token_file: /nowhere/token}", "token: hunter2"),
        ("https://node.acme.example/api/validator", "node"),
    ] {
        let yaml = with(from, to).replace("{file: /nowhere/client-secret}", "{file: /proc/self/status}");
        let yaml = yaml.replace(", token_file: /nowhere/token", ", token_file: /proc/self/status");
        let yaml = yaml.replace("/proc/self/status}\n", "/dev/null}\n");
        let checked = check(&yaml, &["--offline"]);
        assert_eq!(checked.mistakes().len(), 1, "{to}: {}", checked.outcome);
        let online = check(&yaml, &[]);
        let made_up =
            online.mistakes().iter().any(|mistake| mistake.contains("/run/secrets") || mistake.contains("placeholder"));
        assert!(!made_up, "{to}: {}", online.outcome);
        assert!(!online.outcome.output().contains("host.example"), "{to}: {}", online.outcome);
    }
}

#[test]
fn a_bare_key_is_as_good_as_none_where_it_may_be_left_out() {
    for key in ["network", "party_hint"] {
        let value = if key == "network" { "devnet" } else { "acme-1" };
        let checked = check(&with(&format!("{key}: {value}"), &format!("{key}:")), &["--offline"]);
        assert!(checked.warnings()[0].contains(&format!("`{key}` is not set")), "{:?}", checked.warnings());
    }
}

#[test]
fn what_is_unwise_is_a_warning_and_no_mistake() {
    for (from, to, says) in [
        (
            "      participant: PAR::acme-1::1220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
            "",
            "the first sync trusts whichever node answers",
        ),
        ("/api/validator", "/validator", "usually ends in `/api/validator`"),
        ("      stores:", "      namespace_key: offline\n      stores:", "without proof"),
        ("kubernetes: {role: idkeep, token_file: /nowhere/token}", "token: {env: T}", "neither renewed nor revoked"),
        (
            "age1u4z5lfm345nhsfxpdm9pps2dfya4ppn8s53ptq07g88dzmux5scqg8nnw6",
            "age1leh563e45d9hha0ug776am2wr983wh8ymxmxdn7uxj229w9085us4w482h",
            "whose private half nobody has",
        ),
    ] {
        let checked = check(&with(from, to), &["--offline"]);
        assert_eq!(checked.mistakes(), [""; 0]);
        let warnings = checked.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(says), "{warnings:?}");
    }
}
