//! No key and no token stays behind, though the vault echoes every value it is given.

use super::Vault;
use crate::support::dump::Dump;
use crate::support::memory::{forms, scan_for};
use crate::support::server::Gate;

fn secrets(vault: &Vault) -> Vec<(String, Vec<u8>)> {
    let mut secrets = vault.scenario.dump.secrets();
    let tokens: Vec<String> = vault.azure.state().tokens.keys().cloned().collect();
    secrets.extend(tokens.into_iter().map(|token| ("token".to_owned(), token.into_bytes())));
    let assertion = std::fs::read(vault.scenario.idkeep.path("federated-token")).unwrap();
    // Its signature, which nobody else could have made.
    let signature = assertion.rsplit(|byte| *byte == b'.').next().unwrap().to_vec();
    secrets.push(("assertion".into(), signature));
    secrets
}

#[test]
fn nothing_is_left_in_memory_after_a_sync() {
    let vault = Vault::new(80);
    let run = vault.scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    assert_eq!(vault.azure.versions(&vault.secret())[0].value.as_bytes(), vault.scenario.dump.json());
    let hits = scan_for(run.pid(), &secrets(&vault));
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
    assert_eq!(run.release().code, 0);
}

/// The positive control: while the vault hangs, the key is found by the same scan.
#[test]
fn the_key_is_in_memory_while_the_vault_hangs() {
    let vault = Vault::new(81);
    let gate = Gate::closed();
    vault.azure.state().gate = Some(gate.clone());
    let run = vault.scenario.idkeep.spawn(&["-o", "json", "sync"]);
    crate::support::wait_for("the write", std::time::Duration::from_secs(60), || {
        vault.azure.server.seen().iter().any(|seen| seen.method == "PUT" && !seen.body.is_empty()).then_some(())
    });
    let hits = scan_for(run.pid(), &secrets(&vault));
    for name in ["Namespace", "token"] {
        assert!(hits.iter().any(|hit| hit.needle.contains(name)), "{name} should be found: {hits:#?}");
    }
    gate.open();
    assert_eq!(run.wait().code, 0);
}

#[test]
fn nothing_is_left_in_memory_after_a_refused_write() {
    let vault = Vault::new(82);
    vault.azure.spoil("PUT", 1, 403, "ForbiddenByRbac", &[]);
    let run = vault.scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    let hits = scan_for(run.pid(), &secrets(&vault));
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
    assert_eq!(run.release().code, 77);
}

#[test]
fn nothing_secret_is_said_at_trace() {
    for code in [0, 77] {
        let vault = Vault::without_rights(Dump::fresh(83));
        if code == 0 {
            vault.azure.grant(crate::support::azure::CLIENT, &vault.secret(), &super::WRITER);
        }
        let outcome = vault.scenario.idkeep.expect(code, &["--log-level", "trace", "sync"]);
        let said = outcome.output();
        for (name, needle) in secrets(&vault).iter().flat_map(|(name, secret)| forms(name, secret)) {
            assert!(
                !said.as_bytes().windows(needle.len()).any(|window| window == needle),
                "{name} is said:\n{outcome}"
            );
        }
        assert!(!said.contains("azure_core") && !said.contains("x-ms-"), "the SDK speaks:\n{outcome}");
    }
}
