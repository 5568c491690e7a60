//! A node that has one credential on its machine, a service account's token: every other secret lies in Vault.

use std::sync::Arc;

use serde_json::json;

use super::memory::{LONG, assert_clean, file_keys};
use super::{Planted, assert_silent, tells};
use crate::backup::faults::{children, hold, wait_for_the_dump_to_wait};
use crate::support::backup::below;
use crate::support::memory::scan_for;
use crate::support::openbao::OpenBao;
use crate::support::wait_for;

/// What a planted node kept in files lies in an OpenBao of its own now, which trusts the pod.
fn in_a_cluster(seed: u64, contracts: u32) -> Planted {
    let mut planted = Planted::new(seed, contracts);
    let node = &mut planted.node;
    let name = node.name().to_owned();
    let mut bao = OpenBao::dev();
    let token = bao.kubernetes_auth(&name, &[&name], "validator", "idkeep");
    let token_file = node.idkeep().secret_file("service-account", token.as_bytes());
    planted.secrets.retain(|(name, _)| name != "vault token");
    planted.secrets.push(("service account's token".into(), token.into_bytes()));
    planted.secrets.push(("client secret".into(), node.scenario.issuer.client_secret.clone().into_bytes()));
    let files = ["client-secret", "signing-key"].map(|name| (name, node.idkeep().path(name)));
    let files = files.into_iter().chain([("password", node.cluster.secret_file())]);
    for (field, file) in files {
        let secret = std::fs::read_to_string(&file).unwrap();
        bao.kv_put(&format!("idkeep/{field}"), json!({"it": secret}));
        let from = format!("{{file: {file:?}}}");
        let to = format!("{{vault: {{store: vault, path: secret/data/idkeep/{field}, field: it}}}}");
        let lines = node.databases.iter_mut().chain(&mut node.repository).chain([&mut node.scenario.config.auth]);
        let found = lines.filter(|line| line.contains(&from)).map(|line| *line = line.replace(&from, &to)).count();
        assert!(found > 0, "{field} is not referred to");
        std::fs::remove_file(&file).unwrap();
    }
    for name in ["vault-token", "secret-id", "signing-key.pub"] {
        std::fs::remove_file(node.idkeep().path(name)).unwrap();
    }
    node.scenario.config.vault_auth = format!("{{kubernetes: {{role: {name}, token_file: {token_file:?}}}}}");
    node.scenario.bao = Arc::new(bao);
    node.configure();
    let policy = node.idkeep().expect(0, &["policy", "vault"]).stdout;
    node.scenario.bao.policy(&name, &policy);
    planted
}

/// The paths that were read by whoever is not root, sorted.
fn read(planted: &Planted) -> Vec<String> {
    let audited = planted.node.scenario.bao.audited().into_iter();
    let mut read: Vec<String> =
        audited.filter_map(|(done, path)| (done == "read" && path.contains("/data/")).then_some(path)).collect();
    read.sort();
    read.dedup();
    read
}

#[test]
fn one_service_account_is_the_only_credential_of_the_machine() {
    let planted = in_a_cluster(375, 200);
    let node = &planted.node;
    let tokens = node.scenario.bao.tokens();
    let logins = || {
        let audited = node.scenario.bao.audited();
        audited.iter().filter(|(_, path)| path == "auth/kubernetes/login").count()
    };
    for (count, arguments) in [&["check", "--live"][..], &["sync"], &["backup"], &["list"]].iter().enumerate() {
        let outcome = node.idkeep().expect(0, arguments);
        assert_silent("what is said", outcome.output().as_bytes(), &planted.secrets);
        assert_eq!((logins(), node.scenario.bao.tokens()), (count + 1, tokens), "one login, given back: {arguments:?}");
    }
    let paths = ["client-secret", "password", "signing-key"].map(|name| format!("secret/data/idkeep/{name}"));
    assert_eq!(read(&planted), paths);
    assert_eq!(node.whole().len(), 1);
    node.scenario.assert_stored(&node.scenario.dump);
    let account = node.idkeep().path("service-account");
    for file in below(node.idkeep().folder()).iter().filter(|file| **file != account) {
        assert_silent(&file.display().to_string(), &std::fs::read(file).unwrap(), &planted.secrets);
    }
}

#[test]
fn what_comes_from_vault_for_a_backup_is_shown_to_nobody_and_gone_afterwards() {
    let mut planted = in_a_cluster(376, 12_000);
    let lock = hold(&planted.node);
    let mut run = planted.node.idkeep().spawn_blocked(&["-o", "json", "--log-level", "trace", "backup"]);
    wait_for_the_dump_to_wait(&planted.node);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        for name in ["cmdline", "environ"] {
            let Ok(bytes) = std::fs::read(format!("/proc/{pid}/{name}")) else { continue };
            assert_silent(&format!("{name} of {pid}"), &bytes, &planted.secrets);
        }
    }
    // The control: the children have the password, and nobody else any more.
    let children = [children(run.pid(), "pg_dump"), children(run.pid(), "psql")].concat();
    assert_eq!(children.len(), 2, "one dumps, one holds the snapshot");
    for pid in children {
        let handed_over = std::fs::read(format!("/proc/{pid}/fd/3")).unwrap();
        assert!(tells(&handed_over, &planted.secrets, "password, escaped"));
    }
    let used = |name: &str| name.starts_with("password") || name.starts_with("signing key");
    let used: Vec<_> = planted.secrets.iter().filter(|(name, _)| used(name)).cloned().collect();
    assert_clean(run.pid(), &used);
    drop(lock);
    run.wait_to_print();
    for file in below(&planted.node.folder()).iter().filter(|file| file.extension().is_some_and(|end| end == "age")) {
        planted.secrets.extend(file_keys(&planted.node.key, &std::fs::read(file).unwrap()));
    }
    assert_clean(run.pid(), &planted.secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_silent("the log", outcome.stderr.as_bytes(), &planted.secrets);
    assert_silent("the report", outcome.stdout.as_bytes(), &planted.secrets);
}

/// The control of the scans above: they find the one credential that there is while the server hangs.
#[test]
fn the_service_account_is_in_memory_while_the_server_hangs_and_gone_afterwards() {
    let planted = in_a_cluster(377, 200);
    let node = &planted.node;
    let account: Vec<_> = planted.secrets.iter().filter(|(name, _)| name.starts_with("service")).cloned().collect();
    node.scenario.bao.pause();
    let mut run = node.idkeep().spawn_blocked(&["-o", "json", "backup"]);
    wait_for("the service account's token in memory", LONG, || {
        (!scan_for(run.pid(), &account).is_empty()).then_some(())
    });
    node.scenario.bao.resume();
    run.wait_to_print();
    assert_clean(run.pid(), &planted.secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
}
