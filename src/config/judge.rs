//! What a configuration of the right shape can still have wrong: rules between its parts.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{self, Findings, Place};
use super::{
    Address, AgeRecipient, ClientAuth, Config, FileStore, Identity, Name, NamespaceKey, Node, Oauth2, Proxy, Require,
    SecretRef, Store, Tls, VaultAuth, VaultStore, schema, shape,
};
use crate::config::Auth;

const ALLOW: &str = "use https://, or write `allow_http: true` beside it";

/// Reads and judges a configuration; see [`super::inspect`].
pub(super) fn inspect(file: &Path, text: &str) -> (Option<Config>, Findings) {
    let mut findings = Findings::new(file);
    let document = match document::parse(text) {
        Ok(document) => document,
        Err((place, message)) => {
            findings.mistake_at(place, "", message, "the file is not valid YAML");
            return (None, findings);
        }
    };
    if !matches!(document.value, document::Value::Map(_)) {
        let message = if matches!(document.value, document::Value::Null) {
            "the file is empty"
        } else {
            "the file is not a mapping"
        };
        findings.mistake_at(Place { line: 1, column: 1 }, "", message, "start with `nodes:` and `stores:`");
        return (None, findings);
    }
    let json = shape::check(&document, &schema(), &mut findings);
    let config = match serde_json::from_value::<Config>(json) {
        Ok(config) => config,
        Err(error) => {
            // The shape check is as strict as serde, so this is not expected; never accept what serde refuses.
            findings.mistake("", format!("not a configuration: {error}"), "");
            return (None, findings);
        }
    };
    judge(&config, &mut findings);
    findings.sort();
    (Some(config), findings)
}

fn judge(config: &Config, findings: &mut Findings) {
    // A node with a mistake in its name is left out, and named.
    if config.nodes.is_empty() && !findings.mistakes.iter().any(|known| known.path.starts_with("nodes.")) {
        findings.mistake("nodes", "no node is configured", "add one under `nodes:`");
    }
    for (name, node) in &config.nodes {
        judge_node(config, node, &format!("nodes.{name}"), findings);
    }
    for (name, store) in &config.stores {
        let path = format!("stores.{name}");
        match store {
            Store::Vault(vault) => judge_vault(vault, &format!("{path}.vault"), findings),
            Store::File(file) => judge_recipients(&file.recipients, &format!("{path}.file.recipients"), findings),
        }
        if !config.nodes.values().any(|node| node.identity.stores.contains(name)) {
            findings.warning(&path, "no node uses this store", "name it under a node's `stores`, or take it out");
        }
    }
    judge_places(config, findings);
}

fn judge_node(config: &Config, node: &Node, path: &str, findings: &mut Findings) {
    for (field, value) in [("network", &node.network), ("party_hint", &node.party_hint)] {
        if value.is_none() {
            let message = format!("`{field}` is not set, so it is not recorded beside the dump");
            let fix = if field == "party_hint" { "add it: recovery needs it" } else { "add it" };
            findings.warning(&format!("{path}.{field}"), message, fix);
        }
    }
    if let Some(network) = &node.network
        && (matches!(network.as_str(), "." | "..") || network.contains('/'))
    {
        findings.mistake(
            &format!("{path}.network"),
            "a network's name has no `/`, and is not `.` or `..`",
            "rename it",
        );
    }
    let identity = &node.identity;
    let path = format!("{path}.identity");
    judge_address(&identity.endpoint, identity.allow_http, &format!("{path}.endpoint"), findings);
    judge_tls(&identity.tls, &format!("{path}.tls"), findings);
    if !identity.endpoint.url().path().trim_end_matches('/').ends_with("/api/validator") {
        findings.warning(
            &format!("{path}.endpoint"),
            "the validator app's API usually ends in `/api/validator`",
            "check the address",
        );
    }
    judge_times(identity, &path, findings);
    judge_stores(config, identity, &path, findings);
    judge_recipients(&identity.recipients, &format!("{path}.recipients"), findings);
    match &identity.auth {
        Auth::Oauth2(oauth2) => judge_oauth2(oauth2, &format!("{path}.auth.oauth2"), findings),
        Auth::UnsafeHs256(_) => findings.warning(
            &format!("{path}.auth.unsafe_hs256"),
            "whoever knows this shared secret can read the node's keys",
            "give the node an OpenID provider before it holds anything of value",
        ),
        Auth::Token(_) => {}
    }
    if identity.participant.is_none() {
        findings.warning(
            &format!("{path}.participant"),
            "the first sync trusts whichever node answers",
            "add `participant: PAR::…`, as `idkeep sync --dry-run` shows it",
        );
    }
    if identity.namespace_key == NamespaceKey::Offline {
        findings.warning(
            &format!("{path}.namespace_key"),
            "a dump is stored without proof that it holds the root namespace key",
            "keep that key as carefully as these identities",
        );
    }
}

fn judge_times(identity: &Identity, path: &str, findings: &mut Findings) {
    for (field, period) in [("timeout", identity.timeout), ("deadline", identity.deadline)] {
        if period.0.is_zero() {
            findings.mistake(
                &format!("{path}.{field}"),
                format!("`{field}` must be longer than nothing"),
                "for example `30s`",
            );
        }
    }
    if identity.timeout > identity.deadline {
        findings.warning(
            &format!("{path}.timeout"),
            "`timeout` (one answer) is longer than `deadline` (the whole pass)",
            "make `deadline` the longer one, so that a retry fits in",
        );
    }
}

fn judge_stores(config: &Config, identity: &Identity, path: &str, findings: &mut Findings) {
    if identity.stores.is_empty() {
        findings.mistake(&format!("{path}.stores"), "no store is named", "name at least one of those under `stores:`");
    }
    for (index, name) in identity.stores.iter().enumerate() {
        let path = format!("{path}.stores[{index}]");
        match config.stores.get(name) {
            None => {
                let known: Vec<&str> = config.stores.keys().map(Name::as_str).collect();
                let fix = if known.is_empty() {
                    "add it under `stores:`".into()
                } else {
                    format!("known: {}", known.join(", "))
                };
                findings.mistake(&path, format!("there is no store `{name}`"), fix);
            }
            Some(Store::File(FileStore { recipients, .. }))
                if recipients.is_empty()
                    && identity.recipients.is_empty()
                    && !findings.is_replaced(&format!("stores.{name}")) =>
            {
                findings.mistake(
                    &path,
                    format!("the file store `{name}` has no age recipient, and this node neither"),
                    format!("add `recipients` under `stores.{name}.file`"),
                );
            }
            Some(_) => {}
        }
        if identity.stores[..index].contains(name) {
            findings.mistake(&path, format!("the store `{name}` is named twice"), "take one out");
        }
    }
    if let Require::AtLeast(number) = identity.require
        && number > identity.stores.len()
        && !identity.stores.is_empty()
    {
        let message = format!("{number} stores are required, but {} named", identity.stores.len());
        findings.mistake(&format!("{path}.require"), message, "lower it, or name more stores");
    }
}

fn judge_recipients(recipients: &[AgeRecipient], path: &str, findings: &mut Findings) {
    for (index, recipient) in recipients.iter().enumerate() {
        if recipient.as_str() == AgeRecipient::EXAMPLE {
            findings.warning(
                &format!("{path}[{index}]"),
                "this is the recipient of the examples, whose private half nobody has: what is sealed to it is lost",
                "make one of your own: `age-keygen -o KEYFILE`",
            );
        }
    }
}

fn judge_oauth2(oauth2: &Oauth2, path: &str, findings: &mut Findings) {
    if oauth2.issuer.is_none() && oauth2.token_url.is_none() {
        findings.mistake(path, "neither `issuer` nor `token_url` is set", "add `issuer: https://…`");
    }
    for (field, address) in [("issuer", &oauth2.issuer), ("token_url", &oauth2.token_url)] {
        if let Some(address) = address {
            judge_address(address, oauth2.allow_http, &format!("{path}.{field}"), findings);
        }
    }
    judge_tls(&oauth2.tls, &format!("{path}.tls"), findings);
    let secret = oauth2.client_secret.is_some();
    let key = oauth2.private_key.is_some();
    let cert = oauth2.tls.client_cert_file.is_some();
    let needs = |field: &str, way: &str, findings: &mut Findings| {
        findings.mistake(
            &format!("{path}.{field}"),
            format!("client authentication `{way}` needs `{field}`"),
            "add it",
        );
    };
    match oauth2.client_auth {
        Some(ClientAuth::Basic) if !secret => needs("client_secret", "basic", findings),
        Some(ClientAuth::Post) if !secret => needs("client_secret", "post", findings),
        Some(ClientAuth::PrivateKeyJwt) if !key => needs("private_key", "private_key_jwt", findings),
        Some(ClientAuth::Tls) if !cert => needs("tls.client_cert_file", "tls", findings),
        None if !secret && !key && !cert => findings.mistake(
            &format!("{path}.client_secret"),
            "the client has nothing to authenticate with",
            "add `client_secret`, `private_key` or `tls.client_cert_file`",
        ),
        _ => {}
    }
    for name in oauth2.extra_params.keys() {
        let path = format!("{path}.extra_params.{name}");
        match name.as_str() {
            "client_secret" | "client_assertion" | "password" | "refresh_token" => {
                let fix = "take it out, and change the secret: it has been in a file; idkeep sends `client_secret` and `private_key` itself";
                findings.mistake(&path, "a secret is never written in the file", fix);
            }
            "grant_type" | "client_id" | "client_assertion_type" => {
                findings.mistake(&path, "idkeep sends this field itself", "take it out");
            }
            _ => {}
        }
    }
    if oauth2.assertion_audience == super::AssertionAudience::Issuer && oauth2.issuer.is_none() {
        findings.mistake(
            &format!("{path}.assertion_audience"),
            "`issuer` is not set",
            "add it, or use `token_endpoint`",
        );
    }
}

fn judge_vault(vault: &VaultStore, path: &str, findings: &mut Findings) {
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

fn judge_address(address: &Address, allow_http: bool, path: &str, findings: &mut Findings) {
    if address.is_plain() && !allow_http {
        findings.mistake(path, "this address is not encrypted (`http://`)", ALLOW);
    } else if address.is_plain() && !address.is_loopback() {
        findings.warning(path, "keys or tokens cross the network in clear (`http://`)", "use https://");
    }
}

fn judge_tls(tls: &Tls, path: &str, findings: &mut Findings) {
    let (missing, present) = match (&tls.client_cert_file, &tls.client_key_file) {
        (Some(_), None) => ("client_key_file", "client_cert_file"),
        (None, Some(_)) => ("client_cert_file", "client_key_file"),
        _ => return,
    };
    findings.mistake(&format!("{path}.{missing}"), format!("`{present}` needs `{missing}`"), "add it");
}

/// Two nodes must not share a place in a store: each would take the other for a changed identity.
fn judge_places(config: &Config, findings: &mut Findings) {
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

impl Config {
    /// Every address of the configuration with the path of keys to it, its TLS files and its proxy.
    #[must_use]
    pub fn addresses(&self) -> Vec<(String, &Address, &Tls, Option<&Proxy>)> {
        let mut addresses = Vec::new();
        for (name, node) in &self.nodes {
            let identity = &node.identity;
            let path = format!("nodes.{name}.identity");
            addresses.push((format!("{path}.endpoint"), &identity.endpoint, &identity.tls, identity.proxy.as_ref()));
            if let Auth::Oauth2(oauth2) = &identity.auth {
                for (field, address) in [("issuer", &oauth2.issuer), ("token_url", &oauth2.token_url)] {
                    if let Some(address) = address {
                        addresses.push((
                            format!("{path}.auth.oauth2.{field}"),
                            address,
                            &oauth2.tls,
                            oauth2.proxy.as_ref(),
                        ));
                    }
                }
            }
        }
        for (name, store) in &self.stores {
            if let Store::Vault(vault) = store {
                addresses.push((
                    format!("stores.{name}.vault.address"),
                    &vault.address,
                    &vault.tls,
                    vault.proxy.as_ref(),
                ));
            }
        }
        addresses
    }
}

/// A file or secret outside the configuration that it refers to.
#[derive(Debug)]
pub enum Reference<'a> {
    /// A secret.
    Secret(&'a SecretRef),
    /// A file that others must not be able to read.
    PrivateFile(&'a Path),
    /// A file that is guarded by other means: certificates, service-account tokens.
    GuardedFile(&'a Path),
}

impl Config {
    /// Everything outside the file that it refers to, with the path of keys to each reference.
    #[must_use]
    pub fn references(&self) -> Vec<(String, Reference<'_>)> {
        let mut all = Vec::new();
        for (name, node) in &self.nodes {
            let path = format!("nodes.{name}.identity");
            tls_references(&node.identity.tls, &format!("{path}.tls"), &mut all);
            match &node.identity.auth {
                Auth::Oauth2(oauth2) => {
                    let path = format!("{path}.auth.oauth2");
                    for (field, reference) in
                        [("client_secret", &oauth2.client_secret), ("private_key", &oauth2.private_key)]
                    {
                        all.extend(
                            reference.iter().map(|reference| (format!("{path}.{field}"), Reference::Secret(reference))),
                        );
                    }
                    tls_references(&oauth2.tls, &format!("{path}.tls"), &mut all);
                }
                Auth::UnsafeHs256(unsafe_hs256) => {
                    all.push((format!("{path}.auth.unsafe_hs256.secret"), Reference::Secret(&unsafe_hs256.secret)));
                }
                Auth::Token(reference) => all.push((format!("{path}.auth.token"), Reference::Secret(reference))),
            }
        }
        for (name, store) in &self.stores {
            let Store::Vault(vault) = store else { continue };
            let path = format!("stores.{name}.vault");
            tls_references(&vault.tls, &format!("{path}.tls"), &mut all);
            match &vault.auth {
                VaultAuth::Kubernetes { token_file, .. } => {
                    all.push((format!("{path}.auth.kubernetes.token_file"), Reference::GuardedFile(token_file)));
                }
                VaultAuth::Approle { secret_id, .. } => {
                    all.push((format!("{path}.auth.approle.secret_id"), Reference::Secret(secret_id)));
                }
                VaultAuth::Jwt { token, .. } => all.push((format!("{path}.auth.jwt.token"), Reference::Secret(token))),
                VaultAuth::Cert { .. } => {}
                VaultAuth::Token(reference) => all.push((format!("{path}.auth.token"), Reference::Secret(reference))),
            }
        }
        all
    }
}

fn tls_references<'a>(tls: &'a Tls, path: &str, all: &mut Vec<(String, Reference<'a>)>) {
    let guarded = [("ca_file", &tls.ca_file), ("client_cert_file", &tls.client_cert_file)];
    for (field, file) in guarded {
        all.extend(file.iter().map(|file| (format!("{path}.{field}"), Reference::GuardedFile(file))));
    }
    all.extend(
        tls.client_key_file.iter().map(|file| (format!("{path}.client_key_file"), Reference::PrivateFile(file))),
    );
}
