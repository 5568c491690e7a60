//! Google Secret Manager, against a strict stand-in: the contract of all stores, and what is Google's own.

mod config;
mod policy;
mod protocol;
mod secrecy;
mod trouble;

use std::collections::BTreeMap;

use super::contract::{Kept, contract};
use crate::support::dump::Dump;
use crate::support::gcp::{AGENT, Google};
use crate::support::idkeep::Outcome;
use crate::support::scenario::Scenario;

/// A node that is kept in Google Secret Manager alone.
struct Gcp {
    google: Google,
    scenario: Scenario,
    /// More lines of the store.
    store: Vec<String>,
}

const WRITER: &str = "projects/acme-canton/roles/writer";
const FACTS: &str = "projects/acme-canton/roles/facts";

impl Gcp {
    /// With secrets that are there, and rights on exactly these.
    fn new(dump: Dump) -> Self {
        let gcp = Self::bare(Google::start(), dump);
        gcp.google.create(&gcp.secret());
        gcp.google.create(&gcp.facts_secret());
        gcp.grant();
        gcp
    }

    /// With nothing there, and no rights.
    fn bare(google: Google, dump: Dump) -> Self {
        let mut scenario = Scenario::of(dump);
        scenario.idkeep.env("GCE_METADATA_HOST", google.metadata_host());
        if let Some(file) = &google.ca_file {
            // Google's own client for tokens looks for roots before it does anything.
            scenario.idkeep.env("SSL_CERT_FILE", file);
        }
        scenario.config.stores = "[gcp]".into();
        let mut gcp = Self { google, scenario, store: Vec::new() };
        gcp.configure();
        gcp
    }

    fn grant(&self) {
        let right = |right: &str| format!("secretmanager.versions.{right}");
        let mut iam = self.google.state.iam.lock().unwrap();
        iam.define(WRITER, [right("add"), right("list")]);
        iam.define(FACTS, [right("add"), right("list"), right("access")]);
        iam.allow(AGENT, WRITER, &format!("secrets/{}", self.secret()));
        iam.allow(AGENT, FACTS, &format!("secrets/{}", self.facts_secret()));
    }

    fn configure(&mut self) {
        self.scenario.config.more_stores = self.google.store(&self.store);
        self.scenario.configure();
    }

    /// One more line of the store.
    fn store(&mut self, line: &str) {
        self.store.push(line.to_owned());
        self.configure();
    }

    fn secret(&self) -> String {
        format!("canton-{}-identities", self.scenario.node)
    }

    fn facts_secret(&self) -> String {
        format!("{}-facts", self.secret())
    }

    fn stored(&self) -> Vec<Vec<u8>> {
        self.google.versions(&self.secret()).into_iter().map(|version| version.data).collect()
    }

    /// Runs a sync, which has to end so, and returns what the store did.
    fn sync(&self, code: i32) -> (String, Outcome) {
        let synced = self.scenario.sync(code);
        assert_eq!(self.google.reads(), 0, "{}", synced.outcome);
        (synced.store().to_owned(), synced.outcome)
    }

    fn live(&self, code: i32) -> String {
        let outcome = self.scenario.idkeep.expect(code, &["check", "--live"]);
        assert_eq!(self.google.reads(), 0, "{outcome}");
        outcome.stdout
    }
}

impl Kept for Gcp {
    const HAS_CHECK_AND_SET: bool = false;

    fn start(dump: Dump) -> Self {
        Self::new(dump)
    }

    fn scenario(&mut self) -> &mut Scenario {
        &mut self.scenario
    }

    fn misdirect(&mut self, address: &str) {
        self.store(&format!("endpoint: https://{address}"));
    }

    fn values(&self) -> Vec<Vec<u8>> {
        self.stored()
    }

    fn facts(&self) -> BTreeMap<String, String> {
        serde_json::from_slice(&self.google.versions(&self.facts_secret()).last().unwrap().data).unwrap()
    }

    fn deny(&mut self) {
        assert!(self.google.state.iam.lock().unwrap().take(WRITER, "secretmanager.versions.add"));
    }

    fn throttle(&mut self, writes: usize) -> bool {
        self.google.trouble(|trouble| (trouble.refuse_adds, trouble.status) = (writes, 429));
        true
    }

    fn reads(&self) -> usize {
        self.google.reads()
    }

    fn max_bytes(&self) -> usize {
        65_536
    }
}

contract!(Gcp);
