//! Schedule, server and heartbeat as `check` sees them: rules between their parts, and what is unwise.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use super::secrets::{SECRET, SHAPES, is_never_said};
use super::{Checked, check, is_named_in, place, replaced};
use crate::support::age::AgeKey;
use crate::support::idkeep::Idkeep;
use crate::support::scenario::Scenario;

/// A daemon's configuration without mistakes or warnings.
const GOOD: &str = "\
nodes:
  one:
    network: devnet
    party_hint: acme-1
    identity:
      endpoint: https://node.acme.example/api/validator
      auth: &acme
        oauth2:
          issuer: https://issuer.acme.example/
          client_id: idkeep
          client_secret: {file: /nowhere/client-secret}
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
schedule:
  identities: {every: 10m, jitter: 1m}
  backups: {every: 3h, objective: 4h}
  verify: {every: 24h}
  expire: {cron: '30 2 * * *'}
server: {listen: '127.0.0.1:9464', status: loopback}
heartbeat:
  url: {file: /nowhere/heartbeat}
  timeout: 10s
";

const IDENTITIES: &str = "{every: 10m, jitter: 1m}";
const BACKUPS: &str = "{every: 3h, objective: 4h}";
const VERIFY: &str = "  verify: {every: 24h}\n";
const EXPIRE: &str = "  expire: {cron: '30 2 * * *'}\n";
const LISTEN: &str = "'127.0.0.1:9464'";

/// The good configuration with pieces of its text replaced.
fn with(changes: &[(&str, &str)]) -> String {
    replaced(GOOD, changes)
}

fn checked(changes: &[(&str, &str)]) -> Checked {
    check(&with(changes), &["--offline"])
}

/// The one mistake that the changes make, at the place of `at`, with its fix.
fn is_named(changes: &[(&str, &str)], at: &str, says: &str) {
    is_named_in(&with(changes), at, says);
}

/// The one warning that the changes make, and no mistake.
fn is_unwise(changes: &[(&str, &str)], at: &str, says: &str) {
    let yaml = with(changes);
    let checked = check(&yaml, &["--offline"]);
    assert_eq!(checked.mistakes(), [""; 0], "{}", checked.outcome);
    let warnings = checked.warnings();
    assert!(warnings.len() == 1, "{changes:?}: {warnings:?}");
    let at = place(&yaml, at);
    assert!(warnings[0].starts_with(&format!("{at} ")), "{warnings:?}, not at {at}");
    assert!(warnings[0].contains(says), "{warnings:?} does not say {says}");
}

/// Neither a mistake nor a warning.
fn is_fine(changes: &[(&str, &str)]) {
    let checked = checked(changes);
    assert_eq!((checked.mistakes(), checked.warnings()), (vec![], vec![]), "{changes:?}: {}", checked.outcome);
}

#[test]
fn a_good_schedule_has_neither_mistakes_nor_warnings() {
    is_fine(&[]);
    for timing in
        ["{every: 1m}", "{cron: '*/10 * * * *'}", "{cron: '0 * * * mon-fri', jitter: 20m}", "{every: 10m, jitter: 10m}"]
    {
        is_fine(&[(IDENTITIES, timing)]);
    }
    let whole = &GOOD[GOOD.find("schedule:\n").unwrap()..];
    is_fine(&[(whole, "")]);
    is_fine(&[(whole, "schedule:\nserver: {}\n")]);
}

#[test]
fn a_task_has_exactly_one_of_every_and_cron() {
    let both = "{every: 10m, cron: '0 * * * *'}";
    is_named(
        &[(IDENTITIES, both)],
        "cron: '0 * * * *'",
        "`every` stands here too, and only one of them can say when; take one out",
    );
    is_named(&[(IDENTITIES, "{jitter: 1m}")], "identities: {jitter", "nothing says when; add `every: 24h`, or `cron:");
    is_named(&[(BACKUPS, "{objective: 4h}")], "backups: {objective", "nothing says when");
    is_named(&[(VERIFY, "  verify: {}\n")], "verify: {}", "nothing says when");
    // A misspelt key is named, and not followed by another mistake.
    is_named(&[(IDENTITIES, "{evry: 10m}")], "evry", "this key is not known; did you mean `every`?");
}

#[test]
fn a_turn_comes_no_more_often_than_every_second_and_not_after_the_next() {
    is_named(&[(IDENTITIES, "{every: 999ms}")], "every: 999ms", "must be at least `1s`");
    is_named(&[(IDENTITIES, "{every: 0s}")], "every: 0s", "must be at least `1s`");
    is_named(
        &[(IDENTITIES, "{every: 10m, jitter: 11m}")],
        "jitter: 11m",
        "a turn that is late by up to `11m` is later than the next one, `10m` on; make it shorter than `10m`",
    );
    is_named(
        &[(IDENTITIES, "{cron: '*/15 * * * *', jitter: 1h}")],
        "jitter: 1h",
        "is later than the next one, `15m` on",
    );
}

#[test]
fn what_is_no_period_no_cron_or_no_address_to_listen_on_is_a_mistake_where_it_stands() {
    for (cron, says) in [
        (
            "* * * *",
            "five fields are wanted: minute, hour, day of the month, month, day of the week (`0 */3 * * *`), in UTC",
        ),
        ("@daily", "five fields are wanted"),
        ("60 * * * *", "`60` is not from 0 to 59"),
        ("0 0 0 * *", "`0` is not from 1 to 31"),
        ("30-10 * * * *", "`30-10` runs backwards"),
        ("*/0 * * * *", "a step of 0 leads nowhere"),
        ("0 0 31 2 *", "no such day ever comes"),
    ] {
        let timing = format!("{{cron: '{cron}'}}");
        is_named(&[(IDENTITIES, &timing)], &format!("'{cron}'"), says);
    }
    is_named(&[(IDENTITIES, "{every: 10}")], "10}", "add a unit");
    is_named(&[(IDENTITIES, "{every: 10m, jitter: fast}")], "fast", "a period is a whole number with a unit");
    for listen in ["localhost:9464", "127.0.0.1", ":9464", "'127.0.0.1:99999'"] {
        is_named(&[(LISTEN, listen)], listen, "it reads `ADDRESS:PORT`, for example `127.0.0.1:9464`");
    }
    is_named(&[("status: loopback", "status: none")], "none", "expected `loopback` or `all`");
    is_named(&[("  timeout: 10s\n", "  timeout: 0s\n")], "timeout: 0s", "must be at least `1s`");
    let tls = "  tls: {client_cert_file: /nowhere/cert}\n";
    is_named(&[("  timeout: 10s\n", tls)], "tls:", "`client_cert_file` needs `client_key_file`");
}

#[test]
fn what_comes_very_often_is_unwise() {
    is_unwise(
        &[(IDENTITIES, "{every: 59s}")],
        "every: 59s",
        "`59s` from one to the next is very often: each pass asks the node",
    );
    is_unwise(
        &[(BACKUPS, "{every: 9m}")],
        "every: 9m",
        "`9m` from one to the next is very often: each set is every database",
    );
    is_unwise(&[(BACKUPS, "{cron: '*/5 * * * *'}")], "cron: '*/5", "`5m` from one to the next is very often");
    is_fine(&[(BACKUPS, "{every: 10m}")]);
}

#[test]
fn sets_that_come_no_more_often_than_they_may_be_old_are_unwise() {
    for (backups, at, says) in [
        ("{every: 4h, objective: 4h}", "objective: 4h", "sets are up to `4h` apart, and the newest may be `4h` old"),
        ("{every: 4h}", "backups: ", "sets are up to `4h` apart"),
        ("{every: 3h, jitter: 1h}", "backups: ", "sets are up to `4h` apart"),
        ("{cron: '0 */5 * * *'}", "backups: ", "sets are up to `5h` apart, and the newest may be `4h` old"),
        (
            "{every: 30m, objective: 20m}",
            "objective: 20m",
            "sets are up to `30m` apart, and the newest may be `20m` old",
        ),
        ("{every: 3h, objective: 5h}", "objective: 5h", "the network asks for a set every `4h`; lower it"),
    ] {
        is_unwise(&[(BACKUPS, backups)], at, says);
    }
    is_fine(&[(BACKUPS, "{every: 3h, jitter: 59m}")]);
    is_fine(&[(BACKUPS, "{cron: '15 */3 * * *'}")]);
    is_named(&[(BACKUPS, "{every: 3h, objective: 0s}")], "objective: 0s", "must be at least `1s`");
}

#[test]
fn sets_that_are_further_apart_than_the_participant_remembers_are_unwise() {
    let says = "sets are up to `3h` apart, and the participant keeps no more than `3h`; take sets more often";
    is_unwise(&[("30d", "3h")], "pruning_retention", says);
    is_fine(&[("30d", "4h")]);
    // Without a schedule nothing is known of it.
    let whole = &GOOD[GOOD.find("schedule:\n").unwrap()..GOOD.find("server:").unwrap()];
    is_fine(&[("30d", "3h"), (whole, "")]);
}

/// The good configuration's `backup`, and the repository that it alone uses.
fn parts() -> [&'static str; 2] {
    let part = |from: &str, to: &str| &GOOD[GOOD.find(from).unwrap()..GOOD.find(to).unwrap()];
    [part("    backup:\n", "stores:\n  vault"), part("repositories:\n", "schedule:\n")]
}

#[test]
fn a_task_that_has_no_node_is_a_mistake() {
    let [backup, repositories] = parts();
    let none = [(backup, ""), (repositories, "")];
    let yaml = with(&none);
    let mistakes = check(&yaml, &["--offline"]).mistakes();
    let says = "no node has `backup`, so there is nothing to do; add `backup` to a node, or take this out";
    let expected = ["backups", "verify", "expire"].map(|task| {
        let at = place(&yaml, &format!("{task}: {{"));
        format!("{at} schedule.{task}: {says}")
    });
    assert_eq!(mistakes, expected);
    let backups = &GOOD[GOOD.find("  backups:").unwrap()..GOOD.find("server:").unwrap()];
    is_fine(&[none[0], none[1], (backups, "")]);
    // A misspelt `backup` is one mistake, not four.
    let misspelt = checked(&[("    backup:\n", "    backups:\n"), (repositories, "")]).mistake();
    assert!(misspelt.contains("did you mean `backup`?"), "{misspelt}");
}

#[test]
fn a_node_whose_sets_nothing_takes_is_a_warning() {
    let backups = format!("  backups: {BACKUPS}\n");
    let says = "`one`: there is a `backup`, and the daemon takes no sets; add `backups: {every: 3h}`";
    is_unwise(&[(&backups, "")], "schedule:", says);
    // A daemon that does nothing for identities may be there for expiry alone.
    let heartbeat = &GOOD[GOOD.find("heartbeat:\n").unwrap()..];
    is_fine(&[(&backups, ""), (&format!("  identities: {IDENTITIES}\n"), ""), (heartbeat, "")]);
    let [backup, _] = parts();
    let one = &GOOD["nodes:\n".len()..GOOD.find("stores:\n  vault").unwrap()];
    let two = one.replace("  one:", "  two:").replace("&acme\n", "*acme\n");
    let oauth2 = &two[two.find("        oauth2:").unwrap()..two.find("      stores:").unwrap()];
    let two = two.replace(oauth2, "");
    let end = format!("{backup}stores:\n  vault");
    let with_two = format!("{backup}{two}stores:\n  vault");
    is_unwise(&[(&end, &with_two), (&backups, "")], "schedule:", "`one` and 1 more: there is a `backup`");
}

#[test]
fn expiry_without_verification_is_a_warning() {
    let says = "`expire` removes nothing unless a set was verified in the last `7d`";
    is_unwise(&[(VERIFY, "")], "schedule:", &format!("{says}, and nothing verifies; add `verify: {{every: 24h}}`"));
    is_unwise(&[(VERIFY, "  verify: {cron: '0 0 * * sun'}\n")], "verify: {cron", &format!("{says}; verify more often"));
    is_fine(&[(VERIFY, ""), (EXPIRE, "")]);
    is_fine(&[(VERIFY, "  verify: {every: 6d}\n")]);
}

/// What a daemon unwraps it holds for as long as it lives, and the next one has nothing to unwrap.
#[test]
fn a_secret_id_that_is_unwrapped_once_is_unwise_for_a_daemon() {
    let login = "{kubernetes: {role: idkeep, token_file: /nowhere/service-account}}";
    let wrapped = "{approle: {role_id: r, secret_id: {file: /nowhere/secret-id}, wrapped: true}}";
    let says = "it can be unwrapped only once, and a start anew needs a new one; log in by `kubernetes` or `cert`";
    is_unwise(&[(login, wrapped)], "wrapped: true", says);
    is_fine(&[(login, &wrapped.replace(", wrapped: true", ""))]);
    // Where `sync` alone runs, it is unwrapped by each.
    let whole = &GOOD[GOOD.find("schedule:\n").unwrap()..GOOD.find("server:").unwrap()];
    is_fine(&[(login, wrapped), (whole, "")]);
}

#[test]
fn a_heartbeat_that_no_pass_leads_to_is_unwise() {
    let identities = format!("  identities: {IDENTITIES}\n");
    let says = "`run` calls it once all identities were stored, and they are not scheduled; add `schedule.identities`";
    is_unwise(&[(&identities, "")], "heartbeat:", says);
    let heartbeat = &GOOD[GOOD.find("heartbeat:\n").unwrap()..];
    is_fine(&[(&identities, ""), (heartbeat, "")]);
    // Without a schedule it is called by `sync`.
    let whole = &GOOD[GOOD.find("schedule:\n").unwrap()..GOOD.find("server:").unwrap()];
    is_fine(&[(whole, "")]);
}

#[test]
fn a_port_that_others_reach_is_a_warning_that_says_what_they_read() {
    for listen in ["'0.0.0.0:9464'", "'[::]:9464'", "10.0.0.1:80", "'[::ffff:10.0.0.1]:80'"] {
        let says = "names of nodes, stores and participants, and how they fare (`/metrics` and `/readyz`), though no secret; listen on";
        is_unwise(&[(LISTEN, listen)], "listen:", says);
    }
    is_unwise(
        &[(LISTEN, "'0.0.0.0:9464'"), ("status: loopback", "status: all")],
        "listen:",
        "(`/metrics`, `/readyz` and `/status`)",
    );
    for listen in ["'127.0.0.2:1'", "'[::1]:9464'", "'127.0.0.1:0'", "'[::ffff:127.0.0.1]:80'"] {
        is_fine(&[(LISTEN, listen)]);
        is_fine(&[(LISTEN, listen), ("status: loopback", "status: all")]);
    }
}

#[test]
fn the_heartbeats_address_is_a_secret() {
    for shape in SHAPES {
        let checked = checked(&[("{file: /nowhere/heartbeat}", shape)]);
        let mistake = checked.mistake();
        assert!(mistake.contains(" heartbeat.url"), "{shape}: {mistake}");
        assert!(!checked.outcome.output().contains(SECRET), "{shape}: {}", checked.outcome);
    }
    is_never_said(&with(&[("{file: /nowhere/heartbeat}", SECRET)]), SECRET);
    is_named(
        &[("{file: /nowhere/heartbeat}", "https://hc.example/ping/1")],
        "https://hc",
        "a secret is never written in the file",
    );
    is_named(&[("  url: {file: /nowhere/heartbeat}\n", "")], "timeout: 10s", "`url` is missing");
    let vault = "{vault: {store: vault, path: secret/data/canton/heartbeat, field: url}}";
    is_fine(&[("{file: /nowhere/heartbeat}", vault)]);
    is_named(
        &[("{file: /nowhere/heartbeat}", &vault.replace("store: vault", "store: valut"))],
        "store: valut",
        "there is no store `valut`; known: vault",
    );
    let missing = check(GOOD, &[]).mistakes();
    assert!(missing.iter().any(|mistake| mistake.contains("heartbeat.url: reading /nowhere/heartbeat")), "{missing:?}");
}

#[test]
fn the_live_check_reads_the_heartbeats_address_never_says_it_and_never_calls_it() {
    let (mut scenario, key) = (Scenario::new(1), AgeKey::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (kept, file) = (scenario.idkeep.path("kept"), scenario.idkeep.path("heartbeat"));
    scenario.config.stores = "[dr]".into();
    let mut live = |written: &str, line: &str, code: i32| {
        scenario.idkeep.secret_file("heartbeat", written.as_bytes());
        scenario.config.more_stores = format!(
            "  dr:\n    file: {{path: {kept:?}, recipients: [{}]}}\nheartbeat:\n  url: {{file: {file:?}}}\n{line}",
            key.recipient
        );
        scenario.configure();
        let outcome = scenario.idkeep.expect(code, &["check", "--live"]);
        assert!(!outcome.output().contains(SECRET), "{outcome}");
        outcome.stdout
    };
    let plain = format!("http://{address}/{SECRET}\n");
    let fine = "\nok: heartbeat: its address was read; it is not called here\n";
    for (written, line, code, says) in [
        (plain.as_str(), "  allow_http: true\n", 0, fine),
        (&plain.replace("http:", "https:"), "", 0, fine),
        (
            &plain,
            "",
            78,
            "\nfail: heartbeat: the heartbeat's address is not encrypted (`http://`); use https://, or write",
        ),
        (
            SECRET,
            "",
            78,
            "\nfail: heartbeat: the heartbeat's address is none; `heartbeat.url` refers to something else",
        ),
        (
            "ftp://hunter2/",
            "",
            78,
            "\nfail: heartbeat: the heartbeat's address is none of the web; it begins with `https://`\n",
        ),
    ] {
        let text = live(written, line, code);
        assert!(text.contains(says), "{written}: {text}");
        assert_eq!(listener.accept().map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "{written}");
    }
    // Had it called, it would have been seen.
    let _caller = TcpStream::connect(address).unwrap();
    assert!(listener.accept().is_ok());
}

#[test]
fn a_mistake_in_a_schedule_is_not_followed_by_others_about_what_stands_in_its_place() {
    for (from, to) in [
        (IDENTITIES, "10m"),
        (IDENTITIES, "{every: often, jitter: 30d}"),
        (BACKUPS, "{every: often, objective: 1s}"),
        (BACKUPS, "{cron: often}"),
        (BACKUPS, "{every: 3h, objective: soon}"),
        ("{listen: '127.0.0.1:9464', status: loopback}", "9464"),
    ] {
        let checked = checked(&[(from, to)]);
        assert_eq!((checked.mistakes().len(), checked.warnings()), (1, vec![]), "{to}: {}", checked.outcome);
    }
}

#[test]
fn the_tokens_of_a_month_are_said_for_each_issuer() {
    let checked = checked(&[]);
    let tokens = json!([{
        "issuer": "https://issuer.acme.example/", "nodes": 1, "at_most": 4320, "living_24h": 38, "as_cronjob": 4320
    }]);
    assert_eq!(checked.json["tokens"], tokens);
    let text = Idkeep::configured(GOOD).expect(0, &["check", "--offline"]).stdout;
    let line = "tokens: https://issuer.acme.example: 1 node: at most 4320 a month by `idkeep run` (38 where a token lives \
                for 24h), 4320 as a CronJob\n";
    assert!(text.contains(line), "{text}");

    // A second node with the same client shares its token; a third has an issuer of its own.
    let [backup, _] = parts();
    let node = |name: &str, auth: &str| {
        format!(
            "  {name}:\n    network: devnet\n    party_hint: x\n    identity:\n      endpoint: \
             https://{name}.acme.example/api/validator\n      auth: {auth}\n      stores: [vault]\n      participant: \
             PAR::x::1220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
        )
    };
    let third = "{oauth2: {token_url: 'https://other.acme.example/token', client_id: a, client_secret: {env: S}}}";
    let nodes = [node("two", "*acme"), node("three", third), node("four", "{token: {env: T}}")].concat();
    let end = format!("{backup}stores:\n  vault");
    let more = format!("{backup}{nodes}stores:\n  vault");
    let of_three = check(&with(&[(&end, &more), (IDENTITIES, "{cron: '0 * * * *'}")]), &["--offline"]);
    let tokens = json!([
        {"issuer": "https://issuer.acme.example/", "nodes": 2, "at_most": 1440, "living_24h": 38, "as_cronjob": 720},
        {"issuer": "https://other.acme.example/token", "nodes": 1, "at_most": 720, "living_24h": 38, "as_cronjob": 720},
    ]);
    assert_eq!(of_three.json["tokens"], tokens, "{}", of_three.outcome);

    // Without a schedule for identities: what a CronJob of each hour takes, which is the chart's default.
    let unscheduled = with(&[(&format!("  identities: {IDENTITIES}\n"), "")]);
    let without = check(&unscheduled, &["--offline"]);
    let tokens = json!([{
        "issuer": "https://issuer.acme.example/", "nodes": 1, "at_most": null, "living_24h": null, "as_cronjob": 720
    }]);
    assert_eq!(without.json["tokens"], tokens, "{}", without.outcome);
    let text = Idkeep::configured(&unscheduled).run(&["check", "--offline"]).stdout;
    let line =
        "tokens: https://issuer.acme.example: 1 node: 720 a month as an hourly CronJob, one for each `idkeep sync`\n";
    assert!(text.contains(line), "{text}");
}
