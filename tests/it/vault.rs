//! Vault's KV version 2, as a real OpenBao has it: the protocol, the rights, the logins, the trouble.

mod facts;
mod logins;
mod protocol;
mod references;
mod rights;
mod trouble;
mod whole;

use std::sync::Arc;

use serde_json::Value;

use crate::support::openbao::OpenBao;
use crate::support::scenario::Scenario;

/// A server that no other test touches.
fn own_bao() -> Arc<OpenBao> {
    Arc::new(OpenBao::dev())
}

/// The keys of `custom_metadata`, sorted.
fn keys(custom_metadata: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = custom_metadata.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

impl Scenario {
    /// The stored content of one version, read as root.
    fn content(&self, version: u64) -> Vec<u8> {
        let data =
            self.bao.kv_version(&self.path(), version).unwrap_or_else(|| panic!("there is no version {version}"));
        data["content"].as_str().unwrap().as_bytes().to_vec()
    }

    /// The metadata without what a mere look at it would not change anyway.
    fn metadata(&self) -> Value {
        self.bao.kv_metadata(&self.path()).unwrap_or_default()
    }
}
