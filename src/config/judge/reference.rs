//! Rules of references to secrets in Vault: whose server, which path.

use super::super::document::Findings;
use super::super::{Config, Name, Reference, SecretRef, Store, VaultRef, VaultStore};
use super::known;

/// All references.
pub(super) fn judge(config: &Config, findings: &mut Findings) {
    for (path, reference) in config.references() {
        let Reference::Secret(SecretRef::Vault(reference)) = reference else { continue };
        if findings.is_replaced(&path) {
            continue;
        }
        let path = format!("{path}.vault");
        if path.starts_with("stores.") {
            findings.mistake(
                &path,
                "a login's own secret cannot lie in Vault: it is what Vault is read with",
                "use `{file: PATH}`, or log in by `kubernetes` or `cert`",
            );
            continue;
        }
        judge_store(config, &reference.store, &path, findings);
        judge_path(&reference.path, "MOUNT/data/PATH", "secret/data/canton/oauth", &path, findings);
        if let Some(Store::Vault(vault)) = config.stores.get(&reference.store) {
            judge_kv(config, reference, vault, &format!("{path}.path"), findings);
        }
    }
}

/// The store has to be a server that keeps secrets of others.
pub(super) fn judge_store(config: &Config, store: &Name, path: &str, findings: &mut Findings) {
    let path = format!("{path}.store");
    match config.stores.get(store) {
        Some(Store::Vault(_)) => {}
        None => {
            let message = format!("there is no store `{store}`");
            findings.mistake(&path, message, known(config.stores.keys(), "stores"));
        }
        Some(_) if findings.is_replaced(&format!("stores.{store}")) => {}
        Some(_) => {
            findings.mistake(&path, format!("`{store}` is no `vault` store"), "name one that is");
        }
    }
}

/// A path of the API, as policies have it too: nothing in it may mean more than itself there.
pub(super) fn judge_path(text: &str, form: &str, example: &str, path: &str, findings: &mut Findings) {
    let is_odd = |c: char| c.is_control() || matches!(c, '?' | '#' | '*' | '+' | '"' | '\\');
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(is_odd);
    if text.starts_with("v1/") || !text.split('/').all(is_part) {
        let message = format!("a path reads `{form}`, without `v1/` and without `/` at its ends");
        findings.mistake(&format!("{path}.path"), message, format!("for example `{example}`"));
    }
}

/// In the mount that keeps identities, which is of KV version 2.
fn judge_kv(config: &Config, reference: &VaultRef, vault: &VaultStore, path: &str, findings: &mut Findings) {
    let users = config.nodes.iter().filter(|(_, node)| node.identity.stores.contains(&reference.store));
    let mount = vault.mount.trim_matches('/');
    for (name, node) in users {
        let Some(below) = reference.path.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/')) else { return };
        let Some(secret) = below.strip_prefix("data/") else {
            let message = format!("`{mount}` is a KV engine of version 2, whose secrets are read at `{mount}/data/…`");
            let kinds = ["metadata/", "subkeys/"];
            let bare = kinds.iter().find_map(|kind| below.strip_prefix(kind)).unwrap_or(below);
            findings.mistake(path, message, format!("write `{mount}/data/{bare}`"));
            return;
        };
        let own = vault.path.fill(name.as_str(), node.network.as_deref().unwrap_or_default());
        if secret == own.trim_matches('/') {
            let message = format!("the identities of `{name}` lie there, and the agent must not be able to read them");
            findings.mistake(path, message, "keep other secrets elsewhere");
        }
    }
}
