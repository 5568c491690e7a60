//! Rules of a store, and of places that two nodes might share.

use std::collections::BTreeMap;

use super::super::document::Findings;
use super::super::{Config, Name, Store, VaultAuth, VaultStore};
use super::{judge_address, judge_tls};

pub(super) fn judge_vault(vault: &VaultStore, path: &str, findings: &mut Findings) {
    judge_address(&vault.address, vault.allow_http, &format!("{path}.address"), findings);
    judge_tls(&vault.tls, &format!("{path}.tls"), findings);
    match &vault.auth {
        VaultAuth::Cert { .. } if vault.tls.client_cert_file.is_none() => {
            findings.mistake(
                &format!("{path}.auth.cert"),
                "logging in by certificate needs one",
                "add `tls: {client_cert_file: …, client_key_file: …}` to the store",
            );
        }
        VaultAuth::Token(_) => findings.warning(
            &format!("{path}.auth.token"),
            "a ready token is neither renewed nor revoked by idkeep",
            "prefer `kubernetes`, `jwt`, `approle` or `cert`",
        ),
        _ => {}
    }
}

/// Two nodes must not share a place in a store: each would take the other for a changed identity.
pub(super) fn judge_places(config: &Config, findings: &mut Findings) {
    let mut taken: BTreeMap<[String; 4], &Name> = BTreeMap::new();
    for (node_name, node) in &config.nodes {
        for store_name in &node.identity.stores {
            let Some(store) = config.stores.get(store_name) else { continue };
            let (field, template) = match store {
                Store::Vault(vault) => ("vault.path", &vault.path),
                Store::File(file) => ("file.path", &file.path),
            };
            let path = format!("stores.{store_name}.{field}");
            if template.as_str().contains("{network}") && node.network.is_none() {
                let message = format!("`network` is not set, but {path} needs it");
                findings.mistake(&format!("nodes.{node_name}.network"), message, "add it");
            }
            // A file store gives each node a folder of its own.
            if let Store::Vault(vault) = store {
                let place = template.fill(node_name.as_str(), node.network.as_deref().unwrap_or_default());
                let namespace = vault.namespace.clone().unwrap_or_default();
                // Two stores may well be one server.
                let place = [vault.address.to_string(), namespace, vault.mount.clone(), place];
                if let Some(other) = taken.insert(place, node_name).filter(|other| *other != node_name) {
                    let message = format!("the nodes `{other}` and `{node_name}` would share one place in this store");
                    findings.mistake(&path, message, "put `{node}` into it");
                }
            }
        }
    }
}
