//! No plaintext stays behind: not in memory, not in a file, not in any word that is said.

use serde_json::json;

use crate::support::dump::{Dump, Format, Purpose, SoftwareKey, Spec};
use crate::support::memory::{forms, scan_for};
use crate::support::scenario::Scenario;
use crate::support::server::Gate;
use crate::support::validator::Answer;

type Secrets = Vec<(String, Vec<u8>)>;

/// A dump with a key of every kind that is known.
fn every_kind() -> Dump {
    let mut dump = Dump::fresh(77);
    let signing = [
        (Spec::Ed25519, Format::Pkcs8),
        (Spec::P256, Format::Pkcs8),
        (Spec::P256, Format::Raw),
        (Spec::P384, Format::Pkcs8),
        (Spec::P384, Format::Raw),
        (Spec::Secp256k1, Format::Pkcs8),
        (Spec::Secp256k1, Format::Raw),
    ];
    for (number, (spec, format)) in signing.into_iter().enumerate() {
        dump = dump.key(SoftwareKey::new(700 + number as u64, Purpose::Signing, spec, format));
    }
    dump.key(SoftwareKey::new(790, Purpose::Encryption, Spec::Rsa2048, Format::Pkcs8))
}

/// A scenario in which every secret is known to the test: a canary as the store's token, too.
fn with_canaries(dump: Dump) -> (Scenario, Secrets) {
    let mut scenario = Scenario::alone(dump);
    let vault_token = format!("canary-vault-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let node = scenario.node.clone();
    scenario.bao.must("POST", "auth/token/create", json!({"id": vault_token, "policies": [node], "ttl": "1h"}));
    scenario.idkeep.secret_file("vault-token", vault_token.as_bytes());
    scenario.config.vault_auth = format!("{{token: {{file: {:?}}}}}", scenario.idkeep.path("vault-token"));
    scenario.configure();
    let mut secrets = scenario.dump.secrets();
    secrets.push(("client secret".into(), scenario.issuer.client_secret.clone().into_bytes()));
    secrets.push(("vault token".into(), vault_token.into_bytes()));
    (scenario, secrets)
}

/// The access token that the node was shown.
fn access_token(scenario: &Scenario) -> (String, Vec<u8>) {
    let shown = scenario.validator.identity_requests();
    let bearer = shown.last().unwrap().header("authorization").unwrap().to_owned();
    ("access token".into(), bearer.strip_prefix("Bearer ").unwrap().as_bytes().to_vec())
}

/// Nothing of these in the memory of the process, which waits to print its report.
fn assert_clean(pid: u32, secrets: &Secrets) {
    let hits = scan_for(pid, secrets);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
}

#[test]
fn nothing_is_left_in_memory_after_success() {
    let (scenario, mut secrets) = with_canaries(every_kind());
    let run = scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    secrets.push(access_token(&scenario));
    assert_clean(run.pid(), &secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(outcome.json()["nodes"][0]["stores"][0]["outcome"], "written");
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn nothing_is_left_in_memory_after_a_dump_that_does_not_parse() {
    let mut broken = every_kind().json();
    broken.truncate(broken.len() - 1);
    let (scenario, mut secrets) = with_canaries(every_kind());
    scenario.validator.dump(&broken);
    let run = scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    secrets.push(access_token(&scenario));
    assert_clean(run.pid(), &secrets);
    assert_eq!(run.release().code, 65);
}

#[test]
fn nothing_is_left_in_memory_after_a_key_that_is_not_what_it_says() {
    let (scenario, secrets) = with_canaries(every_kind().flip_a_bit(5));
    let run = scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    assert_clean(run.pid(), &secrets);
    assert_eq!(run.release().code, 65);
}

/// The positive control: while the store hangs the key must be found, and by the same scan; after the
/// store has failed it must be gone.
#[test]
fn the_key_is_in_memory_while_the_store_hangs_and_gone_after_it_failed() {
    let (mut scenario, mut secrets) = with_canaries(every_kind());
    scenario.identity("deadline: 4s");
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let run = scenario.idkeep.spawn(&["-o", "json", "--log-level", "debug", "sync"]);
    // The store has been looked at before the node answers; from then on it hangs.
    run.wait_for_stderr("store looked at");
    scenario.bao.pause();
    gate.open();
    run.wait_for_stderr("identities judged");
    secrets.push(access_token(&scenario));
    let hits = scan_for(run.pid(), &secrets);
    for (name, _) in &secrets {
        if name != "client secret" && !name.ends_with("as written") {
            assert!(hits.iter().any(|hit| hit.needle.starts_with(name.as_str())), "{name} should be found: {hits:#?}");
        }
    }
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    scenario.bao.resume();

    // The same again, up to the report: everything is gone.
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let bao = scenario.bao;
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]));
        scenario.validator.server().wait_for_requests(2);
        bao.pause();
        gate.open();
        running.join().unwrap()
    });
    secrets.push(access_token(&scenario));
    assert_clean(run.pid(), &secrets);
    assert_eq!(run.release().code, 75);
    bao.resume();
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn nothing_secret_is_said_at_trace_nor_shown_to_other_processes() {
    for code in [0, 65, 75, 77] {
        let (mut scenario, mut secrets) = with_canaries(every_kind());
        scenario.identity("deadline: 1s");
        match code {
            65 => scenario.validator.always(Answer::Dump(scenario.dump.clone().flip_a_bit(0).json())),
            75 => scenario.validator.always(Answer::status(500)),
            77 => scenario.validator.always(Answer::status(403)),
            _ => {}
        }
        for format in ["text", "json"] {
            let gate = Gate::closed();
            scenario.validator.script([Answer::Held(gate.clone())]);
            let run = scenario.idkeep.spawn(&["--log-level", "trace", "--log-format", format, "sync"]);
            scenario.validator.server().wait_for_requests(1);
            let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", run.pid())).unwrap();
            let outside = [read("cmdline"), read("environ")].concat();
            gate.open();
            let outcome = run.wait();
            secrets.push(access_token(&scenario));
            let said = [outside, outcome.stdout.clone().into_bytes(), outcome.stderr.clone().into_bytes()].concat();
            assert_silent(&said, &secrets);
            assert!(!outcome.stderr.is_empty(), "a run at trace says something");
        }
    }
}

/// None of the secrets in any form in these bytes.
fn assert_silent(said: &[u8], secrets: &Secrets) {
    for (name, needle) in secrets.iter().flat_map(|(name, secret)| forms(name, secret)) {
        let is_said = said.windows(needle.len()).any(|window| window == needle);
        assert!(!is_said, "{name} is in what was said:\n{}", String::from_utf8_lossy(said));
    }
}
