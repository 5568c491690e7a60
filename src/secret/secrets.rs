//! Where the secrets of one pass are read: on this machine, or from Vault servers, each logged in to once.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use secrecy::SecretString;

use super::{Error, resolve_local};
use crate::config::{Config, Name, SecretRef, Store, VaultRef};
use crate::http::Http;
use crate::retry::Deadline;
use crate::store::Store as _;
use crate::store::vault::Vault;

/// Reads secrets at each use, and keeps none. What it holds are the servers' logins, given back by [`Secrets::close`].
#[derive(Default)]
pub struct Secrets {
    vaults: BTreeMap<Name, Rc<Vault>>,
}

impl Secrets {
    /// With every Vault server of this configuration; nothing is asked yet.
    #[must_use]
    pub fn new(config: &Config, http: &Arc<Http>) -> Self {
        let vaults = config.stores.iter().filter_map(|(name, store)| match store {
            Store::Vault(vault) => Some((name.clone(), Rc::new(Vault::new(name.as_str(), vault, Arc::clone(http))))),
            _ => None,
        });
        Self { vaults: vaults.collect() }
    }

    /// The server of this store, with its login: for identities, secrets and credentials alike.
    #[must_use]
    pub fn vault(&self, store: &Name) -> Option<Rc<Vault>> {
        self.vaults.get(store).map(Rc::clone)
    }

    /// Reads the secret as it is now, over the network with retries until the deadline.
    pub async fn resolve(&self, reference: &SecretRef, deadline: Deadline) -> Result<SecretString, Error> {
        let SecretRef::Vault(VaultRef { store, path, field }) = reference else { return resolve_local(reference) };
        let vault = self.vaults.get(store).ok_or_else(|| Error::NoVault(store.to_string()))?;
        vault.secret(path, field, deadline).await.map_err(|error| Error::Vault(Box::new(error)))
    }

    /// Takes over what can be had only once, from those of an earlier configuration: secret ids that were unwrapped.
    pub fn take_over(&self, earlier: &Self) {
        for vault in self.vaults.values() {
            if let Some(earlier) = earlier.vaults.values().find(|earlier| vault.logs_in_like(earlier)) {
                vault.take_over(earlier);
            }
        }
    }

    /// Lets go of what the next use makes anew.
    pub fn rest(&self) {
        for vault in self.vaults.values() {
            vault.rest();
        }
    }

    /// Gives back every token of its own.
    pub async fn close(&self) {
        for vault in self.vaults.values() {
            vault.close().await;
        }
    }
}
