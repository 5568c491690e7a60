//! Backups and repositories as `check` sees them: rules between their parts, and what is unwise.

use idkeep::config::AgeRecipient;

use super::secrets::{SECRET, SHAPES, is_never_said};
use super::{Checked, check, is_named_in, place, replaced};
use crate::support::idkeep::Idkeep;

/// A configuration of backups without mistakes or warnings.
const GOOD: &str = "\
nodes:
  one:
    network: devnet
    party_hint: acme-1
    identity:
      endpoint: https://node.acme.example/api/validator
      auth: {token: {file: /nowhere/token}}
      stores: [vault]
      participant: PAR::acme-1::1220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    backup:
      repository: bucket
      recipients:
        - age1wj6wz9nuezp5lak9xgjxhcyx74dwzh0mzajkdm0nzplxgr62cc0q2dhqhj
        - age1xxyghrdms0tulqly65sh220sw8r896u3qynqf740wuhd4jwn953qfjrmaa
      pruning_retention: 30d
      databases:
        - name: validator
          role: validator
          pg_dump:
            url: postgres://idkeep_backup@db.acme.example/validator?sslmode=verify-full&sslrootcert=/nowhere/ca
            password: {file: /nowhere/password}
        - name: participant
          role: participant
          after: [validator]
          pg_dump:
            url: postgres://idkeep_backup@db.acme.example/participant?sslmode=verify-full&sslrootcert=/nowhere/ca
            credentials: {vault: {store: vault, path: database/creds/idkeep-backup}}
stores:
  vault:
    vault:
      address: https://vault.acme.example:8200
      path: canton/{node}/identities
      auth: {kubernetes: {role: idkeep, token_file: /nowhere/service-account}}
repositories:
  bucket:
    url: s3://acme-canton-dr/idkeep
    sign: {file: /nowhere/signing-key}
    signers: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINJBiOrVweoQ4eTGvgo2+e3bnK9+0SezlZ2ILYtQYQ0o]
";

/// Recipients whose keys are held by hardware; the second kind is post-quantum.
const TAG: &str = "age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e";
const POST_QUANTUM: &str = include_str!("post-quantum-recipient.txt");

const URL: &str = "url: postgres://idkeep_backup@db.acme.example/validator?sslmode=verify-full&sslrootcert=/nowhere/ca";
const ASKED: &str =
    "url: postgres://idkeep_backup@db.acme.example/participant?sslmode=verify-full&sslrootcert=/nowhere/ca";
const PASSWORD: &str = "\n            password: {file: /nowhere/password}";
const CREDENTIALS: &str = "\n            credentials: {vault: {store: vault, path: database/creds/idkeep-backup}}";
const RECIPIENTS: &str = "      recipients:
        - age1wj6wz9nuezp5lak9xgjxhcyx74dwzh0mzajkdm0nzplxgr62cc0q2dhqhj
        - age1xxyghrdms0tulqly65sh220sw8r896u3qynqf740wuhd4jwn953qfjrmaa
";
const REPOSITORY: &str = "    url: s3://acme-canton-dr/idkeep\n";

/// The good configuration with pieces of its text replaced.
fn with(changes: &[(&str, &str)]) -> String {
    replaced(GOOD, changes)
}

fn checked(changes: &[(&str, &str)]) -> Checked {
    check(&with(changes), &["--offline"])
}

/// The one mistake that the changes make, at the place of `at`.
fn is_named(changes: &[(&str, &str)], at: &str, says: &str) {
    is_named_in(&with(changes), at, says);
}

/// The one warning that the changes make, and no mistake.
fn is_unwise(changes: &[(&str, &str)], path: &str, says: &str) {
    let checked = checked(changes);
    assert_eq!(checked.mistakes(), [""; 0], "{}", checked.outcome);
    let warnings = checked.warnings();
    assert!(warnings.len() == 1, "{changes:?}: {warnings:?}");
    assert!(warnings[0].contains(&format!(" {path}: ")) && warnings[0].contains(says), "{warnings:?}");
}

/// The first database's `pg_dump` replaced by this one.
fn dumped_by(pg_dump: &str) -> [(&str, &str); 2] {
    [(URL, pg_dump), (PASSWORD, "")]
}

#[test]
fn good_backups_have_neither_mistakes_nor_warnings() {
    let checked = checked(&[]);
    assert_eq!((checked.mistakes(), checked.warnings()), (vec![], vec![]), "{}", checked.outcome);
    let text = Idkeep::configured(GOOD).expect(0, &["check", "--offline"]).stdout;
    assert!(text.contains("no mistakes: 1 node, 1 store, 1 repository\n"), "{text}");
}

#[test]
fn a_repository_that_is_not_there_or_named_in_vain_is_found() {
    let other = ("repositories:\n", "repositories:\n  other:\n    url: s3://acme-other/idkeep\n");
    is_named(&[("repository: bucket", "repository: buckets")], "repository: buckets", "known: bucket");
    let unused = checked(&[other]).warnings();
    assert!(unused.iter().any(|warning| warning.contains("repositories.other: no node uses this repository")));
}

#[test]
fn every_part_of_a_backup_is_there_once() {
    for (changes, at, says) in [
        (&[("      databases:\n", "      databases: []\n      unused:\n")][..], "unused", "this key is not known"),
        (&[("role: participant", "role: ledger")], "ledger", "expected `validator` or `participant`"),
        (&[("      repository: bucket\n", "")], "repository:", "`repository` is missing"),
        (&[("30d", "0s")], "pruning_retention", "must be at least `1s`"),
        (&[("30d", "30d\n      yield_after: 999ms")], "yield_after", "must be at least `1s`"),
        (&[("30d", "30d\n      retention: {keep_last: 0}")], "0}", "must be from 1 to"),
        (&[("30d", "30d\n      retention: {keep_monthly: 1}")], "keep_monthly", "known here: keep_daily,"),
        (&[("30d", "30d\n      compression: {level: 20}")], "20}", "must be from 1 to 19"),
        (&[("30d", "30d\n      compression: {workers: 65}")], "65}", "must be from 0 to 64"),
    ] {
        let yaml = with(changes);
        let mistakes = check(&yaml, &["--offline"]).mistakes();
        let at = yaml.find(at).map_or(String::new(), |_| place(&yaml, at));
        let named = mistakes.iter().any(|mistake| mistake.starts_with(&at) && mistake.contains(says));
        assert!(named, "{changes:?}: {mistakes:?}");
    }
    let list = &GOOD[GOOD.find("      databases:\n").unwrap()..GOOD.find("stores:\n  vault").unwrap()];
    is_named(&[(list, "      databases: []\n")], "databases: []", "no database is named");
}

#[test]
fn databases_are_in_an_order_that_can_be_consistent() {
    let after = "          after: [validator]\n";
    let first = "          role: validator\n";
    let list = "      databases:\n";
    let before = |name: &str, role: &str| {
        format!("{list}        - {{name: {name}, role: {role}, pg_dump: {{url: 'postgres:///x'}}}}\n")
    };
    for (changes, path, says) in [
        (
            &[("name: participant", "name: validator")][..],
            "databases[1].name",
            "the database `validator` is there twice",
        ),
        (&[(after, "          after: [validtor]\n")], "databases[1].after[0]", "known: `validator`"),
        (&[(after, "          after: [participant]\n")], "databases[1].after[0]", "cannot come after itself"),
        (&[(after, "          after: [validator, validator]\n")], "databases[1].after[1]", "is named twice"),
        (
            &[(first, "          role: validator\n          after: [participant]\n")],
            "databases[0].after",
            "`validator`, `participant` wait for each other",
        ),
        (&[(list, &before("sv", "sv"))], "databases[2]", "`participant` has to come after `sv`: nothing here says so"),
        (
            &[(after, ""), (list, &before("first", "participant"))],
            "databases[0]",
            "`first` has to come after `validator`: here it comes before it",
        ),
        (
            &[(after, ""), (list, &before("sequencer", "sequencer")), ("role: participant", "role: cantonbft")],
            "databases[0]",
            "`sequencer` has to come after `participant`",
        ),
    ] {
        let mistake = checked(changes).mistake();
        assert!(mistake.contains(&format!(" nodes.one.backup.{path}: ")) && mistake.contains(says), "{mistake}");
    }
    // Without `after` the list is the order.
    assert_eq!(checked(&[(after, "")]).mistakes(), [""; 0]);
    let three = [(list, before("scan", "scan")), (after, "          after: [validator, scan]\n".to_owned())];
    let three: Vec<(&str, &str)> = three.iter().map(|(from, to)| (*from, to.as_str())).collect();
    assert_eq!(checked(&three).mistakes(), [""; 0]);
}

#[test]
fn dumps_are_sealed_unless_the_file_says_otherwise_aloud() {
    let post_quantum = POST_QUANTUM.trim();
    is_named(&[(RECIPIENTS, "")], "backup:", "no age recipient is named, and the participant's database holds");
    is_named(&[(RECIPIENTS, "      recipients: []\n")], "recipients", "no age recipient is named");
    let none =
        "      recipients: [age1wj6wz9nuezp5lak9xgjxhcyx74dwzh0mzajkdm0nzplxgr62cc0q2dhqhj]\n      encryption: none\n";
    is_named(&[(RECIPIENTS, none)], "encryption", "`encryption: none` seals to nobody");
    is_named(&[(RECIPIENTS, "      encryption: aes\n")], "aes", "expected `age` or `none`");
    let mixed = format!("{RECIPIENTS}        - {post_quantum}\n");
    is_named(&[(RECIPIENTS, &mixed)], post_quantum, "age does not seal to post-quantum recipients");
    // What a token holds goes with the others; what is post-quantum, with its like.
    let tagged = format!("{RECIPIENTS}        - {TAG}\n");
    assert_eq!(checked(&[(RECIPIENTS, &tagged)]).mistakes(), [""; 0]);
    let strong = format!("      recipients: [{post_quantum}]\n");
    is_unwise(&[(RECIPIENTS, &strong)], "nodes.one.backup.recipients", "all depends on one key");
    is_unwise(&[(RECIPIENTS, "      encryption: none\n")], "nodes.one.backup.encryption", "NOTHING IS SEALED");
    let twice = "age1xxyghrdms0tulqly65sh220sw8r896u3qynqf740wuhd4jwn953qfjrmaa";
    let same = [(twice, "age1wj6wz9nuezp5lak9xgjxhcyx74dwzh0mzajkdm0nzplxgr62cc0q2dhqhj")];
    is_unwise(&same, "nodes.one.backup.recipients", "all depends on one key");
    let example = [(twice, "age1leh563e45d9hha0ug776am2wr983wh8ymxmxdn7uxj229w9085us4w482h")];
    is_unwise(&example, "nodes.one.backup.recipients[1]", "whose private half nobody has");
}

#[test]
fn age_itself_refuses_what_the_configuration_calls_mixed() {
    let recipients = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<AgeRecipient>>();
    let seals = |texts: &[&str]| idkeep::seal::encryptor(&recipients(texts)).is_ok();
    let plain = "age1wj6wz9nuezp5lak9xgjxhcyx74dwzh0mzajkdm0nzplxgr62cc0q2dhqhj";
    assert!(seals(&[POST_QUANTUM.trim()]) && seals(&[plain, TAG]));
    assert!(!seals(&[POST_QUANTUM.trim(), plain]) && !seals(&[TAG, POST_QUANTUM.trim()]));
}

#[test]
fn a_connection_beyond_this_machine_is_verified_unless_the_file_says_otherwise() {
    let far = [
        "postgres://b@db/validator",
        "postgres://b@db/validator?sslmode=prefer",
        "postgres://b@db/validator?sslmode=require",
        "postgres://b@db/validator?sslmode=verify-ca&sslrootcert=/nowhere/ca",
        "postgres://b@localhost/validator?hostaddr=10.0.0.1",
        "postgres://b@/validator?host=10.0.0.1",
    ];
    for url in far {
        let url = format!("url: {url}");
        is_named(&[(URL, &url)], "url: postgres", "nothing weaker than `sslmode=verify-full`");
        let allowed = format!("{url}\n            allow_plaintext: true");
        let path = "nodes.one.backup.databases[0].pg_dump.allow_plaintext";
        is_unwise(&[(URL, &allowed)], path, "may be read on its way");
    }
    for url in [
        "postgres://b@localhost/validator",
        "postgres://b@127.0.0.1:5433/validator?sslmode=disable",
        "postgres://b@[::1]/validator",
        "postgres://b@/validator?host=/run/postgresql",
        "postgres:///validator",
        "postgres://b@db/validator?sslmode=verify-full&sslrootcert=system",
    ] {
        let checked = checked(&[(URL, &format!("url: {url}"))]);
        assert_eq!((checked.mistakes(), checked.warnings()), (vec![], vec![]), "{url}: {}", checked.outcome);
    }
    let path = "nodes.one.backup.databases[0].pg_dump.url";
    is_unwise(&[("&sslrootcert=/nowhere/ca", "")], path, "libpq trusts no authority");
    for user in ["postgres", "cnadmin"] {
        let changed = format!("//{user}@");
        is_unwise(&[("//idkeep_backup@", &changed)], path, "may change everything");
    }
}

#[test]
fn an_address_of_a_database_has_a_shape() {
    for (url, says) in [
        ("mysql://b@db/validator", "a database reads `postgres://user@host:port/database?sslmode=verify-full`"),
        ("host=db dbname=validator", "a database reads `postgres://"),
        ("postgres://b@db1,db2/validator", "one host"),
        ("postgres://b@db/validator?options=-csearch_path=x", "`options` is not allowed"),
        ("postgres://b@db/validator?application_name=x", "`application_name` is not allowed"),
        ("postgres://b@db/validator?service=x", "`service` is not allowed"),
        ("postgres://b@db/validator?sslmode=verify", "`sslmode` is one of disable, allow,"),
        ("postgres://b@db/validator?port=x", "`port` is one number"),
    ] {
        is_named(&[(URL, &format!("url: {url}"))], url, says);
    }
}

#[test]
fn a_database_is_reached_in_one_way_and_named_in_one_place() {
    let exec = "exec: [docker, exec, -i, postgres]\n            ";
    for (changes, path, says) in [
        (&[(URL, ""), (PASSWORD, "allow_plaintext: false")][..], "", "neither `url` nor `exec` is set"),
        (&dumped_by("exec: []"), "", "neither `url` nor `exec` is set"),
        (&dumped_by("exec: ['']\n            url: postgres:///v"), ".exec[0]", "must not be empty"),
        (&dumped_by("exec: docker\n            url: postgres:///v"), ".exec", "expected a list"),
        (&[(URL, &format!("{exec}url: postgres:///v"))], ".password", "(`exec`) its own programs and socket"),
        (&dumped_by(&format!("{exec}url: postgres:///v\n            binary: /bin/x")), ".binary", "no `binary`"),
        (
            &dumped_by(&format!("{exec}url: postgres:///v{CREDENTIALS}")),
            ".credentials",
            "its own programs and socket are used: no `credentials`",
        ),
        (&[(PASSWORD, &format!("{PASSWORD}{CREDENTIALS}"))], ".credentials", "`password` is set too"),
        (&dumped_by("exec: [run]"), "", "the database is not named"),
        (&[("db.acme.example/validator", "db.acme.example")], "", "the database is not named"),
        (&[(PASSWORD, "\n            database: {env: NAME, exec: [run]}")], ".database", "`url` names the database"),
        (&dumped_by("exec: [run]\n            database: {env: NAME, exec: []}"), ".database.exec", "this is empty"),
        (&dumped_by("exec: [run]\n            database: {env: A=B, exec: [x]}"), ".database.env", "not the name of"),
    ] {
        let mistake = checked(changes).mistake();
        let path = format!(" nodes.one.backup.databases[0].pg_dump{path}: ");
        assert!(mistake.contains(&path) && mistake.contains(says), "{changes:?}: {mistake}");
    }
    // A participant's name is looked for where nothing says it.
    assert_eq!(checked(&[(ASKED, "url: postgres:///"), (CREDENTIALS, "")]).mistakes(), [""; 0]);
}

#[test]
fn a_command_for_a_container_lets_bytes_through() {
    let url = "\n            url: postgres:///validator";
    for (exec, says) in [
        ("[docker, exec, postgres]", "without `-i` nothing can be asked"),
        ("[docker, exec, -it, postgres]", "a terminal (`-t`) changes the bytes"),
        ("[docker, exec, -i, -t, postgres]", "a terminal (`-t`) changes the bytes"),
        ("[podman, exec, -i, --tty, postgres]", "a terminal (`-t`) changes the bytes"),
        ("[docker, compose, exec, postgres]", "add `-T` after `exec`"),
        ("[kubectl, exec, -i, postgres-0]", "end the list with `--`"),
        ("[kubectl, exec, postgres-0, --]", "without `-i`"),
    ] {
        let mistake = checked(&dumped_by(&format!("exec: {exec}{url}"))).mistake();
        assert!(mistake.contains(says) && mistake.contains("[0].pg_dump.exec: "), "{exec}: {mistake}");
    }
    let path = "nodes.one.backup.databases[0].pg_dump.exec";
    for (exec, says) in [
        ("[docker, exec, -i, postgres]", "a container engine's socket is root on its machine"),
        ("[/usr/bin/sudo, /usr/bin/podman, exec, --interactive, -u, postgres, c]", "is root on its machine"),
        ("[docker, compose, -p, node, exec, -T, postgres]", "is root on its machine"),
        ("[kubectl, exec, -i, --stdin, -n, validator, postgres-0, -c, db, --]", "every secret of that pod"),
    ] {
        is_unwise(&dumped_by(&format!("exec: {exec}{url}")), path, says);
    }
    // A wrapper of the operator's own is none of our business.
    assert_eq!(checked(&dumped_by(&format!("exec: [/usr/local/bin/in-postgres]{url}"))).warnings(), [""; 0]);
    let asked = "exec: [run]\n            database: {env: NAME, exec: [docker, exec, participant]}";
    let changes = [(ASKED, asked), (CREDENTIALS, "")];
    is_unwise(&changes, "nodes.one.backup.databases[1].pg_dump.database.exec", "is root on its machine");
}

#[test]
fn dynamic_credentials_come_from_a_vault_store() {
    let folder = ("stores:\n  vault", "stores:\n  folder: {file: {path: /x, recipients: []}}\n  vault");
    is_named(&[("{store: vault,", "{store: valut,")], "store: valut", "there is no store `valut`; known: vault");
    let changes = [folder, ("{store: vault,", "{store: folder,"), ("[vault]", "[vault]")];
    is_named(&changes, "store: folder", "`folder` is no `vault` store");
    for path in ["v1/database/creds/x", "/database/creds/x", "database/creds/x/", "a/../b", "'a/*'"] {
        let changed = format!("path: {path}}}}}");
        is_named(&[("path: database/creds/idkeep-backup}}", &changed)], &changed, "a path reads `MOUNT/creds/ROLE`");
    }
    // A store that only makes credentials is used all the same.
    let only = "  db:\n    vault: {address: 'https://bao.acme.example', path: x, auth: {cert: {}}, \
                tls: {client_cert_file: a, client_key_file: b}}\n";
    let stores = format!("stores:\n{only}  vault");
    let used = checked(&[("stores:\n  vault", &stores), ("{store: vault,", "{store: db,")]);
    assert_eq!((used.mistakes(), used.warnings()), (vec![], vec![]), "{}", used.outcome);
}

#[test]
fn an_address_of_a_repository_has_a_shape() {
    for (url, says) in [
        ("https://acme.s3.amazonaws.com/x", "a repository reads `s3://BUCKET/PREFIX`"),
        ("acme/x", "a repository reads `s3://BUCKET/PREFIX`"),
        ("s3:///x", "a bucket or container is named"),
        ("s3://a\"b/x", "a "),
        ("s3://acme/a b", "a prefix is made of letters"),
        ("s3://acme/a//b", "a prefix is made of letters"),
        ("s3://acme/a*", "a prefix is made of letters"),
        ("s3://acme/../b", "`.`, `..` and control characters"),
        ("s3://acme:9000/x", "a server of your own goes into `endpoint`"),
        ("s3://acme/x?versionId=1", "has no port, `?` or `#`"),
        ("file://host/x", "a folder reads `file:///absolute/path`"),
        ("file:///", "a folder reads `file:///absolute/path`"),
        ("file:///a/../../etc", "`.`, `..` and control characters"),
    ] {
        let line = format!("    url: '{url}'\n");
        is_named(&[(REPOSITORY, &line)], &format!("'{url}'"), says);
    }
    for url in ["s3://acme", "s3://acme/", "gs://acme_dr/a/b=c", "az://backups/idkeep"] {
        let checked = checked(&[(REPOSITORY, &format!("    url: {url}\n"))]);
        assert_eq!((checked.mistakes(), checked.warnings()), (vec![], vec![]), "{url}: {}", checked.outcome);
    }
}

#[test]
fn a_repository_has_what_its_system_has() {
    for (line, at, says) in [
        ("endpoint: http://minio.acme.example:9000", "endpoint", "not encrypted (`http://`); use https://, or write"),
        ("region: Frankfurt am Main", "region", "a region is 1 to 63 of"),
        ("lock_expiry: 0s", "lock_expiry", "must be at least `1s`"),
        ("tls: {client_cert_file: x}", "tls", "`client_cert_file` needs `client_key_file`"),
    ] {
        let changed = format!("{REPOSITORY}    {line}\n");
        let yaml = with(&[(REPOSITORY, &changed)]);
        let mistake = check(&yaml, &["--offline"]).mistake();
        assert!(mistake.contains(&format!("repositories.bucket.{at}")) && mistake.contains(says), "{line}: {mistake}");
    }
    for line in ["endpoint: https://x.example", "tls: {ca_file: x}", "proxy: {url: 'https://p.example'}"] {
        let changed = format!("    url: file:///backups\n    {line}\n");
        let mistake = checked(&[(REPOSITORY, &changed)]).mistake();
        assert!(mistake.contains("a folder is not on the network"), "{line}: {mistake}");
    }
    for url in ["gs://acme/x", "az://acme/x", "file:///backups"] {
        let changed = format!("    url: {url}\n    region: eu-central-1\n");
        is_named(&[(REPOSITORY, &changed)], "region", "only an `s3://` repository has a region");
    }
    let own = format!("{REPOSITORY}    endpoint: http://127.0.0.1:9000\n    allow_http: true\n    region: eu-1\n");
    let checked = checked(&[(REPOSITORY, &own)]);
    assert_eq!((checked.mistakes(), checked.warnings()), (vec![], vec![]), "{}", checked.outcome);
    let path = "repositories.bucket.url";
    is_unwise(&[(REPOSITORY, "    url: file:///backups\n")], path, "this alone is no disaster recovery");
}

#[test]
fn repositories_lie_apart() {
    for (one, other, is_mistake) in [
        ("s3://acme/a", "s3://acme/a", true),
        ("s3://acme/a/b", "s3://acme/a", true),
        ("s3://acme/a/b", "s3://acme", true),
        ("file:///a/b", "file:///a", true),
        ("s3://acme/ab", "s3://acme/a", false),
        ("s3://acme/a", "gs://acme/a", false),
        ("s3://acme/a", "s3://acme2/a", false),
    ] {
        let changed = format!("    url: {one}\n");
        let second = format!("repositories:\n  zweite:\n    url: {other}\n");
        let checked = checked(&[(REPOSITORY, &changed), ("repositories:\n", &second)]);
        let named: Vec<String> = checked.mistakes();
        assert_eq!(named.len(), usize::from(is_mistake), "{one} {other}: {named:?}");
        assert!(named.iter().all(|mistake| mistake.contains("or inside it")), "{named:?}");
    }
}

#[test]
fn sets_that_nobody_has_signed_are_a_warning() {
    let sign = ("    sign: {file: /nowhere/signing-key}\n", "");
    let line = GOOD.lines().find(|line| line.contains("signers:")).unwrap().to_owned() + "\n";
    let signers = (line.as_str(), "");
    is_unwise(&[sign, signers], "repositories.bucket.sign", "can forge a set");
    is_unwise(&[sign], "repositories.bucket.sign", "nothing signs those that are taken here");
    is_unwise(&[signers], "repositories.bucket.signers", "any set is believed, signed or not");
    let example = "    signers: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBLzMR9j9kYWcXHK1bc3oi/+4Ov/kfyDi6J9/1SMLq1m]\n";
    is_unwise(&[(&line, example)], "repositories.bucket.signers[0]", "the signer of the examples");
    for (signer, says) in [
        ("ssh-rsa AAAAB3NzaC1yc2E", "a signer reads `ssh-ed25519 AAAA…`"),
        ("age1wj6wz9nuezp5lak9xgjxhcyx74dwzh0mzajkdm0nzplxgr62cc0q2dhqhj", "a signer reads `ssh-ed25519 AAAA…`"),
    ] {
        let named = format!("    signers: [{signer}] #\n");
        let at = format!("{signer}] #");
        is_named(&[(&line, &named)], &at, says);
    }
}

#[test]
fn what_is_kept_too_shortly_is_a_warning() {
    is_unwise(&[("      pruning_retention: 30d\n", "")], "nodes.one.backup.pruning_retention", "is kept for bridging");
    let few = "30d\n      retention: {keep_last: 7, keep_daily: 0, keep_weekly: 0}";
    is_unwise(&[("30d", few)], "nodes.one.backup.retention", "only the newest 7 sets are kept");
    let env = "\n            password: {env: PASSWORD}";
    is_unwise(&[(PASSWORD, env)], "nodes.one.backup.databases[0].pg_dump.password", "prefer `{file: PATH}`");
}

#[test]
fn files_that_backups_refer_to_are_looked_for() {
    let changed = "&sslcert=/nowhere/cert&sslkey=/nowhere/key&sslrootcert=/nowhere/ca";
    let tls = format!("{REPOSITORY}    tls: {{ca_file: /nowhere/s3-ca}}\n");
    let yaml = with(&[("&sslrootcert=/nowhere/ca", changed), (REPOSITORY, &tls)]);
    let mistakes = check(&yaml, &[]).mistakes().join("\n");
    let database = "nodes.one.backup.databases[0].pg_dump";
    for (path, file) in [
        (format!("{database}.password"), "password"),
        // Its first mistake is enough for one place.
        (format!("{database}.url"), "ca"),
        ("repositories.bucket.sign".into(), "signing-key"),
        ("repositories.bucket.tls.ca_file".into(), "s3-ca"),
    ] {
        assert!(mistakes.contains(&format!("{path}: reading /nowhere/{file}: No such file")), "{path}\n{mistakes}");
    }
    // Inside a container they are the container's.
    let inside = dumped_by("exec: [run]\n            url: postgres://b@/v?sslrootcert=/nowhere/inside");
    assert!(!check(&with(&inside), &[]).outcome.output().contains("/nowhere/inside"));
}

#[test]
fn the_route_to_a_repositorys_endpoint_is_printed() {
    let own = format!("{REPOSITORY}    endpoint: https://s3.acme.example\n");
    let routes = checked(&[(REPOSITORY, &own)]).json["routes"].clone();
    let paths: Vec<&str> = routes.as_array().unwrap().iter().map(|route| route["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"repositories.bucket.endpoint"), "{paths:?}");
}

#[test]
fn a_mistake_is_not_followed_by_others_about_its_placeholder() {
    for (from, to) in [
        (REPOSITORY, "    url: nonsense\n    region: eu-1\n"),
        (REPOSITORY, "    url: nonsense\n    endpoint: https://x.example\n"),
        (URL, "url: nonsense"),
        (RECIPIENTS, "      recipients: [nonsense]\n"),
        ("{vault: {store: vault, path: database/creds/idkeep-backup}}", "nonsense"),
        ("repository: bucket", "repository: Bucket"),
        ("after: [validator]", "after: [Validator]"),
        ("after: [validator]", "after: validator"),
        ("name: validator", "name: Validator"),
        ("role: validator", "role: validater"),
        ("        - name: validator\n", "        - name: validator\n          rolle: validator\n"),
    ] {
        let checked = checked(&[(from, to)]);
        assert_eq!(checked.mistakes().len(), 1, "{to}: {}", checked.outcome);
        assert!(!checked.outcome.output().contains("verify-full&sslrootcert"), "{to}: {}", checked.outcome);
    }
}

#[test]
fn a_secret_in_place_of_a_reference_is_refused_and_never_said() {
    for shape in SHAPES {
        let password = format!("\n            password: {shape}");
        let sign = format!("    sign: {shape}\n");
        for (path, from, to) in [
            ("nodes.one.backup.databases[0].pg_dump.password", PASSWORD, &password),
            ("repositories.bucket.sign", "    sign: {file: /nowhere/signing-key}\n", &sign),
        ] {
            let checked = checked(&[(from, to)]);
            assert!(checked.mistake().contains(&format!(" {path}")), "{shape}: {}", checked.outcome);
            assert!(!checked.outcome.output().contains(SECRET), "{shape}: {}", checked.outcome);
        }
    }
}

#[test]
fn a_secret_in_an_address_or_a_command_is_refused_and_never_said() {
    for (from, to, says) in [
        ("//idkeep_backup@", "//idkeep_backup:hunter2@", "take the password out, and name it in `password`"),
        ("//idkeep_backup@", "//idkeep_backup:hun@ter2:hunter2@", "take the password out"),
        ("?sslmode", "?password=hunter2&sslmode", "`password` is not allowed in the address"),
        ("?sslmode", "?sslpassword=hunter2&sslmode", "use a key without a passphrase"),
        ("?sslmode", "?hunter2&sslmode", "a database reads"),
        ("?sslmode", "?Hunter2=hunter2&sslmode", "a database reads"),
        ("?sslmode=verify-full", "?sslmode=hunter2", "`sslmode` is one of"),
        ("db.acme.example/v", "db.acme.example:hunter2/v", "`port` is one number"),
        ("s3://acme", "s3://acme:hunter2@acme", "credentials come from the cloud's own chain"),
        ("s3://acme-canton-dr", "s3://hunter2@acme", "credentials come from the cloud's own chain"),
        ("dr/idkeep", "dr/idkeep?X-Amz-Signature=hunter2", "has no port, `?` or `#`"),
        ("s3://acme", "s3:hunter2//acme", "a bucket or container is named"),
        ("signers: [ssh-ed25519 AAAA", "signers: [hunter2 AAAA", "a signer reads"),
    ] {
        let said = is_never_said(&with(&[(from, to)]), "hunter2");
        assert!(said.contains(says), "{to}: {said}");
    }
    let exec = dumped_by("exec: [env, PGPASSWORD=hunter2, docker, exec, -i, x]\n            url: postgres:///v");
    assert!(is_never_said(&with(&exec), SECRET).contains("a secret is never written in the file, nor in a command"));
    let key = "'-----BEGIN OPENSSH PRIVATE KEY-----hunter2'";
    for from in ["/nowhere/signing-key", "s3://acme-canton-dr/idkeep", "validator\n          pg_dump", "bucket\n"] {
        let end = if from.contains('\n') { &from[from.find('\n').unwrap()..] } else { "" };
        let said = is_never_said(&with(&[(from, &format!("{key}{end}"))]), SECRET);
        assert!(said.contains("a secret is never written in the file"), "{from}: {said}");
    }
}
