//! What the configuration reaches outside itself: addresses, files and secrets.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::{
    Address, Auth, Backup, Config, DatabaseUrl, Name, Oauth2, PgDump, Proxy, Repository, SecretRef, Store, Tls,
    VaultAuth, VaultRef, VaultStore,
};

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
            let path = |field: &str| format!("stores.{name}.{field}");
            match store {
                Store::Vault(vault) => {
                    addresses.push((path("vault.address"), &vault.address, &vault.tls, vault.proxy.as_ref()));
                }
                Store::Aws(aws) => {
                    let endpoint = aws.endpoint.iter();
                    addresses.extend(endpoint.map(|url| (path("aws.endpoint"), url, &aws.tls, aws.proxy.as_ref())));
                }
                Store::Azure(azure) => {
                    addresses.push((path("azure.vault_url"), &azure.vault_url, &azure.tls, azure.proxy.as_ref()));
                }
                Store::Gcp(gcp) => {
                    let endpoint = gcp.endpoint.iter();
                    addresses.extend(endpoint.map(|url| (path("gcp.endpoint"), url, &gcp.tls, gcp.proxy.as_ref())));
                }
                Store::Kubernetes(_) | Store::File(_) => {}
            }
        }
        for (name, repository) in &self.repositories {
            if let Some(endpoint) = &repository.endpoint {
                let path = format!("repositories.{name}.endpoint");
                addresses.push((path, endpoint, &repository.tls, repository.proxy.as_ref()));
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
    PrivateFile(Cow<'a, Path>),
    /// A file that is guarded by other means: certificates, service-account tokens.
    GuardedFile(Cow<'a, Path>),
}

/// References with the path of keys to each.
type References<'a> = Vec<(String, Reference<'a>)>;

impl Config {
    /// Everything outside the file that it refers to, with the path of keys to each reference.
    #[must_use]
    pub fn references(&self) -> Vec<(String, Reference<'_>)> {
        let mut all = Vec::new();
        for (name, node) in &self.nodes {
            let path = format!("nodes.{name}.identity");
            of_tls(&node.identity.tls, &format!("{path}.tls"), &mut all);
            match &node.identity.auth {
                Auth::Oauth2(oauth2) => of_oauth2(oauth2, &format!("{path}.auth.oauth2"), &mut all),
                Auth::UnsafeHs256(unsafe_hs256) => {
                    all.push((format!("{path}.auth.unsafe_hs256.secret"), Reference::Secret(&unsafe_hs256.secret)));
                }
                Auth::Token(reference) => all.push((format!("{path}.auth.token"), Reference::Secret(reference))),
            }
            if let Some(backup) = &node.backup {
                of_backup(backup, &format!("nodes.{name}.backup"), &mut all);
            }
        }
        for (name, store) in &self.stores {
            match store {
                Store::Vault(vault) => of_vault(vault, &format!("stores.{name}.vault"), &mut all),
                Store::Aws(aws) => of_tls(&aws.tls, &format!("stores.{name}.aws.tls"), &mut all),
                Store::Azure(azure) => of_tls(&azure.tls, &format!("stores.{name}.azure.tls"), &mut all),
                Store::Gcp(gcp) => of_tls(&gcp.tls, &format!("stores.{name}.gcp.tls"), &mut all),
                Store::Kubernetes(kubernetes) => {
                    let path = format!("stores.{name}.kubernetes.kubeconfig");
                    let file = kubernetes.kubeconfig.iter();
                    all.extend(file.map(|file| (path.clone(), Reference::PrivateFile(file.into()))));
                }
                Store::File(_) => {}
            }
        }
        for (name, repository) in &self.repositories {
            of_repository(repository, &format!("repositories.{name}"), &mut all);
        }
        if let Some(heartbeat) = &self.heartbeat {
            all.push(("heartbeat.url".into(), Reference::Secret(&heartbeat.url)));
            of_tls(&heartbeat.tls, "heartbeat.tls", &mut all);
        }
        all
    }
}

impl Config {
    /// What is read from this store's server at each use: the API paths, each with the places that refer to it.
    #[must_use]
    pub fn secrets_in(&self, store: &Name) -> BTreeMap<&str, Vec<(String, &VaultRef)>> {
        let mut paths: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (place, reference) in self.references() {
            if let Reference::Secret(SecretRef::Vault(reference)) = reference
                && reference.store == *store
            {
                paths.entry(&reference.path).or_default().push((place, reference));
            }
        }
        paths
    }
}

fn of_oauth2<'a>(oauth2: &'a Oauth2, path: &str, all: &mut References<'a>) {
    for (field, reference) in [("client_secret", &oauth2.client_secret), ("private_key", &oauth2.private_key)] {
        all.extend(reference.iter().map(|reference| (format!("{path}.{field}"), Reference::Secret(reference))));
    }
    of_tls(&oauth2.tls, &format!("{path}.tls"), all);
}

fn of_backup<'a>(backup: &'a Backup, path: &str, all: &mut References<'a>) {
    for (index, database) in backup.databases.iter().enumerate() {
        let path = format!("{path}.databases[{index}].pg_dump");
        let PgDump { url, password, exec, .. } = &database.pg_dump;
        all.extend(password.iter().map(|reference| (format!("{path}.password"), Reference::Secret(reference))));
        // With `exec` the address is read inside the container, where its files are.
        if let Some(url) = url.as_ref().filter(|_| exec.is_empty()) {
            of_database(url, &format!("{path}.url"), all);
        }
    }
}

fn of_database(url: &DatabaseUrl, path: &str, all: &mut References<'_>) {
    let file = |parameter: &str| url.parameter(parameter).map(|file| Cow::Owned(file.into()));
    for parameter in ["sslrootcert", "sslcrl", "sslcert"] {
        // `system` stands for the system's authorities.
        let file = file(parameter).filter(|file| parameter != "sslrootcert" || **file != *Path::new("system"));
        all.extend(file.map(|file| (path.to_owned(), Reference::GuardedFile(file))));
    }
    all.extend(file("sslkey").map(|file| (path.to_owned(), Reference::PrivateFile(file))));
}

fn of_vault<'a>(vault: &'a VaultStore, path: &str, all: &mut References<'a>) {
    of_tls(&vault.tls, &format!("{path}.tls"), all);
    match &vault.auth {
        VaultAuth::Kubernetes { token_file, .. } => {
            all.push((format!("{path}.auth.kubernetes.token_file"), Reference::GuardedFile(token_file.into())));
        }
        VaultAuth::Approle { secret_id, .. } => {
            all.push((format!("{path}.auth.approle.secret_id"), Reference::Secret(secret_id)));
        }
        VaultAuth::Jwt { token, .. } => all.push((format!("{path}.auth.jwt.token"), Reference::Secret(token))),
        VaultAuth::Cert { .. } => {}
        VaultAuth::Token(reference) => all.push((format!("{path}.auth.token"), Reference::Secret(reference))),
    }
}

fn of_repository<'a>(repository: &'a Repository, path: &str, all: &mut References<'a>) {
    of_tls(&repository.tls, &format!("{path}.tls"), all);
    all.extend(repository.sign.iter().map(|reference| (format!("{path}.sign"), Reference::Secret(reference))));
}

fn of_tls<'a>(tls: &'a Tls, path: &str, all: &mut References<'a>) {
    let guarded = [("ca_file", &tls.ca_file), ("client_cert_file", &tls.client_cert_file)];
    for (field, file) in guarded {
        all.extend(file.iter().map(|file| (format!("{path}.{field}"), Reference::GuardedFile(file.into()))));
    }
    let key = tls.client_key_file.iter();
    all.extend(key.map(|file| (format!("{path}.client_key_file"), Reference::PrivateFile(file.into()))));
}
