//! Vault and OpenBao keep the contract of all stores.

use std::collections::BTreeMap;

use super::contract::{Kept, contract};
use crate::support::dump::Dump;
use crate::support::scenario::Scenario;

struct Vault(Scenario);

impl Kept for Vault {
    fn start(dump: Dump) -> Self {
        Self(Scenario::of(dump))
    }

    fn scenario(&mut self) -> &mut Scenario {
        &mut self.0
    }

    fn misdirect(&mut self, address: &str) {
        self.0.address = Some(format!("http://{address}"));
        self.0.configure();
    }

    fn values(&self) -> Vec<Vec<u8>> {
        let (bao, path) = (&self.0.bao, self.0.path());
        let versions = (1..=self.0.versions()).filter_map(|version| bao.kv_version(&path, version));
        versions.map(|data| data["content"].as_str().unwrap().as_bytes().to_vec()).collect()
    }

    fn facts(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.0.facts()).unwrap()
    }

    fn deny(&mut self) {
        let path = self.0.path();
        let only_metadata = format!("path \"secret/metadata/{path}\" {{ capabilities = [\"read\"] }}");
        self.0.bao.policy(&self.0.node, &only_metadata);
    }

    fn throttle(&mut self, _: usize) -> bool {
        // `vault/trouble.rs` has the server ration its requests.
        false
    }

    fn reads(&self) -> usize {
        let data = format!("secret/data/{}", self.0.path());
        self.0.bao.audited().iter().filter(|(operation, path)| operation == "read" && *path == data).count()
    }

    fn max_bytes(&self) -> usize {
        1_048_000
    }
}

contract!(Vault);
