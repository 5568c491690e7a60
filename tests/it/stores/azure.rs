//! Azure Key Vault keeps the contract of all stores, and what is its own: tokens, tags, seconds, deleted secrets.

mod logins;
mod rights;
mod secrecy;
mod trouble;
mod versions;

use std::collections::BTreeMap;

use super::contract::{Kept, contract};
use crate::support::azure::{AUDIENCE, Azure, CLIENT};
use crate::support::dump::Dump;
use crate::support::scenario::{Scenario, Synced};

/// What `idkeep policy azure` gives the agent.
const WRITER: [&str; 3] = ["setSecret", "readMetadata", "update"];

/// A node that is kept in a vault of its own, with a workload identity.
struct Vault {
    azure: Azure,
    scenario: Scenario,
    address: String,
    /// More lines of the store.
    lines: Vec<String>,
}

impl Vault {
    /// One whose agent has no right yet.
    fn without_rights(dump: Dump) -> Self {
        let azure = Azure::start();
        let mut scenario = Scenario::of(dump);
        azure.workload(&mut scenario.idkeep);
        let address = azure.origin.clone();
        let lines = vec![format!("tls: {{ca_file: {:?}}}", azure.ca_file), format!("audience: {AUDIENCE}")];
        let mut vault = Self { azure, scenario, address, lines };
        vault.configure();
        vault
    }

    fn new(seed: u64) -> Self {
        let vault = Self::without_rights(Dump::fresh(seed));
        vault.azure.grant(CLIENT, &vault.secret(), &WRITER);
        vault
    }

    fn configure(&mut self) {
        let lines: String = self.lines.iter().map(|line| format!("      {line}\n")).collect();
        self.scenario.config.stores = "[azure]".into();
        self.scenario.config.more_stores = format!(
            "  azure:\n    azure:\n      vault_url: {}\n      secret: \"{{node}}-Identities\"\n{lines}",
            self.address
        );
        self.scenario.configure();
    }

    /// The store with this line in place of those of its key.
    fn line(&mut self, line: &str) {
        let key = line.split(':').next().unwrap().to_owned() + ":";
        self.lines.retain(|known| !known.starts_with(&key));
        self.lines.push(line.to_owned());
        self.configure();
    }

    fn secret(&self) -> String {
        format!("{}-Identities", self.scenario.node)
    }

    fn sync(&self, code: i32) -> Synced {
        self.scenario.sync_with(code, &[])
    }

    /// The node gives another identity of the same participant.
    fn change(&self, seed: u64) -> Dump {
        let dump = self.scenario.dump.clone().rotated(seed, 1);
        self.scenario.validator.dump(&dump.json());
        dump
    }

    /// What `check --live` says about the store, as result, message and fix.
    fn check(&self, code: i32) -> Vec<(String, String)> {
        let report = self.scenario.idkeep.expect(code, &["-o", "json", "check", "--live"]).json();
        let what = format!("{}: store azure", self.scenario.node);
        let live = report["live"].as_array().unwrap().iter().filter(|tried| tried["what"] == what);
        let text = |tried: &serde_json::Value, key: &str| tried[key].as_str().unwrap_or_default().to_owned();
        live.map(|tried| (text(tried, "result"), text(tried, "message") + "; " + &text(tried, "fix"))).collect()
    }
}

impl Kept for Vault {
    const HAS_CHECK_AND_SET: bool = false;

    fn start(dump: Dump) -> Self {
        let vault = Self::without_rights(dump);
        vault.azure.grant(CLIENT, &vault.secret(), &WRITER);
        vault
    }

    fn scenario(&mut self) -> &mut Scenario {
        &mut self.scenario
    }

    fn misdirect(&mut self, address: &str) {
        self.address = format!("https://{address}");
        self.configure();
    }

    fn values(&self) -> Vec<Vec<u8>> {
        self.azure.versions(&self.secret()).into_iter().map(|version| version.value.into_bytes()).collect()
    }

    fn facts(&self) -> BTreeMap<String, String> {
        self.azure.versions(&self.secret()).pop().map(|version| version.tags).unwrap_or_default()
    }

    fn deny(&mut self) {
        self.azure.state().grants.clear();
        self.azure.grant(CLIENT, &self.secret(), &["readMetadata"]);
    }

    fn throttle(&mut self, writes: usize) -> bool {
        self.azure.state().trouble.clear();
        self.azure.spoil("PUT", writes, 429, "Throttled", &[("retry-after", "1")]);
        true
    }

    fn reads(&self) -> usize {
        let is_read = |method: &str, path: &str| {
            method == "GET" && path.starts_with("/secrets/") && !path.ends_with("/versions")
                || path.ends_with("/backup")
        };
        self.azure.server.seen().iter().filter(|seen| is_read(&seen.method, &seen.path)).count()
    }

    fn max_bytes(&self) -> usize {
        25_600
    }
}

contract!(Vault);
