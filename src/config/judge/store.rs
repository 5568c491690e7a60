//! Rules of a store, and of places that two nodes might share.

pub(super) mod aws;
pub(super) mod azure;
pub(super) mod gcp;
pub(super) mod kubernetes;

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
    let mut taken: BTreeMap<Vec<String>, &Name> = BTreeMap::new();
    for (node_name, node) in &config.nodes {
        for store_name in &node.identity.stores {
            let Some(store) = config.stores.get(store_name) else { continue };
            let (field, template) = store.template();
            let path = format!("stores.{store_name}.{field}");
            if template.as_str().contains("{network}") && node.network.is_none() {
                let message = format!("`network` is not set, but {path} needs it");
                findings.mistake(&format!("nodes.{node_name}.network"), message, "add it");
            }
            let filled = template.fill(node_name.as_str(), node.network.as_deref().unwrap_or_default());
            judge_name(store, &filled, &path, findings);
            // Two stores may well be one server.
            let Some(place) = store.place(&filled) else { continue };
            if let Some(other) = taken.insert(place, node_name).filter(|other| *other != node_name) {
                let message = format!("the nodes `{other}` and `{node_name}` would share one place in this store");
                findings.mistake(&path, message, "put `{node}` into it");
            }
        }
    }
}

/// Each system has its own idea of a name.
fn judge_name(store: &Store, name: &str, path: &str, findings: &mut Findings) {
    let judged = match store {
        Store::Gcp(_) => gcp::judge_name(name),
        Store::Aws(_) => aws::judge_name(name),
        Store::Azure(_) => azure::judge_name(name),
        Store::Kubernetes(_) => kubernetes::judge_name(name),
        Store::Vault(_) | Store::File(_) => Ok(()),
    };
    if let Err(rule) = judged {
        findings.mistake(path, format!("`{name}` is no name for a secret here"), rule);
    }
}
