//! Neither keys nor tokens stay behind where the SDK's buffers held them.

use std::time::Duration;

use super::{AGENT, Gcp};
use crate::support::dump::{Dump, Format, Purpose, SoftwareKey, Spec};
use crate::support::memory::{forms, scan_for};
use crate::support::server::Gate;
use crate::support::wait_for;

type Secrets = Vec<(String, Vec<u8>)>;

fn with_canaries() -> (Gcp, Secrets) {
    let dump = Dump::fresh(77)
        .key(SoftwareKey::new(701, Purpose::Signing, Spec::P256, Format::Pkcs8))
        .key(SoftwareKey::new(790, Purpose::Encryption, Spec::Rsa2048, Format::Pkcs8));
    let gcp = Gcp::new(dump);
    let mut secrets = gcp.scenario.dump.secrets();
    secrets.push(("token of Google".into(), gcp.google.state.iam.lock().unwrap().token(AGENT).into_bytes()));
    secrets.push(("client secret".into(), gcp.scenario.issuer.client_secret.clone().into_bytes()));
    (gcp, secrets)
}

fn assert_clean(pid: u32, secrets: &Secrets) {
    let hits = scan_for(pid, secrets);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
}

#[test]
fn nothing_is_left_in_memory_after_success() {
    let (gcp, secrets) = with_canaries();
    let run = gcp.scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "--log-level", "trace", "sync"]);
    assert_clean(run.pid(), &secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(outcome.json()["nodes"][0]["stores"][0]["outcome"], "written");
    assert_eq!(gcp.stored(), [gcp.scenario.dump.json()]);
}

/// The positive control: while Google does not answer, the keys and the token must be found, and by the same scan; once
/// it has answered they must be gone.
#[test]
fn keys_and_token_are_in_memory_while_google_hangs_and_gone_once_it_answers() {
    let (gcp, secrets) = with_canaries();
    let gate = Gate::closed();
    gcp.google.trouble(|trouble| trouble.hold_adds = Some(gate.clone()));
    let mut run = gcp.scenario.idkeep.spawn_blocked(&["-o", "json", "sync"]);
    wait_for("the version to be sent", Duration::from_secs(60), || {
        (!gcp.google.calls(":addVersion").is_empty()).then_some(())
    });
    let hits = scan_for(run.pid(), &secrets);
    for (name, _) in &secrets {
        if name != "client secret" && !name.ends_with("as written") {
            assert!(hits.iter().any(|hit| hit.needle.starts_with(name.as_str())), "{name} should be found: {hits:#?}");
        }
    }
    gate.open();
    run.wait_to_print();
    assert_clean(run.pid(), &secrets);
    assert_eq!(run.release().code, 0);
}

#[test]
fn nothing_is_left_in_memory_after_google_refused_or_was_lost() {
    for code in [75, 77] {
        let (mut gcp, secrets) = with_canaries();
        gcp.scenario.identity("deadline: 2s");
        match code {
            77 => gcp.google.trouble(|trouble| (trouble.refuse_adds, trouble.status) = (1000, 403)),
            _ => gcp.google.trouble(|trouble| trouble.lose_adds = 1000),
        }
        let run = gcp.scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
        assert_clean(run.pid(), &secrets);
        assert_eq!(run.release().code, code);
    }
}

#[test]
fn nothing_secret_is_said_at_trace() {
    for code in [0, 77] {
        let (gcp, secrets) = with_canaries();
        if code == 77 {
            gcp.google.trouble(|trouble| (trouble.refuse_adds, trouble.status) = (1000, 403));
        }
        let outcome = gcp.scenario.idkeep.expect(code, &["--log-level", "trace", "sync"]);
        let said = outcome.output().into_bytes();
        for (name, needle) in secrets.iter().flat_map(|(name, secret)| forms(name, secret)) {
            assert!(!said.windows(needle.len()).any(|window| window == needle), "{name} was said:\n{outcome}");
        }
        // What the SDK's libraries have to say is theirs alone.
        assert!(!outcome.stderr.contains("google_cloud") && !outcome.stderr.contains("reqwest"), "{outcome}");
    }
}
