//! AWS Secrets Manager keeps the contract of all stores, with the rights that `policy aws` prints and no others.

mod logins;
mod rights;
mod trouble;

use std::collections::BTreeMap;

use serde_json::Value;

use super::contract::{Kept, contract};
use crate::support::aws::{Aws, KEY, REGION, SECRET, Trouble};
use crate::support::dump::Dump;
use crate::support::scenario::Scenario;

/// A node that is kept in AWS alone.
struct InAws {
    scenario: Scenario,
    aws: Aws,
    /// More of the store's entry, in flow style, each with a comma before it.
    more: String,
}

impl InAws {
    fn of(dump: Dump) -> Self {
        Self::with(dump, "")
    }

    fn with(dump: Dump, more: &str) -> Self {
        let (scenario, aws) = (Scenario::of(dump), Aws::start());
        let mut kept = Self { scenario, aws, more: more.to_owned() };
        kept.configure(None);
        kept.scenario.idkeep.env("AWS_EC2_METADATA_DISABLED", "true");
        kept.aws.policies([kept.policy("writer")]);
        kept
    }

    /// With keys in the environment.
    fn logged_in(mut self) -> Self {
        self.scenario.idkeep.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        self
    }

    fn configure(&mut self, address: Option<&str>) {
        let endpoint = address.map_or_else(|| self.aws.endpoint(), |address| format!("http://{address}"));
        self.scenario.config.stores = "[aws]".into();
        self.scenario.config.more_stores = format!(
            "  aws:\n    aws: {{region: {REGION}, secret: 'canton/{{node}}/identities', endpoint: {endpoint:?}, \
             allow_http: true{}}}\n",
            self.more
        );
        self.scenario.configure();
    }

    fn secret(&self) -> String {
        format!("canton/{}/identities", self.scenario.node)
    }

    fn policy(&self, role: &str) -> Value {
        self.scenario.idkeep.expect(0, &["-o", "json", "policy", "aws", "--role", role]).json()
    }

    /// Answers another dump from now on.
    fn change(&mut self, dump: &Dump) {
        self.scenario.validator.dump(&dump.json());
    }

    /// The agent's policy without what `keep` does not like of it.
    fn rights(&self, keep: impl Fn(&str, &str) -> bool) -> Value {
        let mut policy = self.policy("writer");
        for statement in policy["Statement"].as_array_mut().unwrap() {
            let sid = statement["Sid"].as_str().unwrap().to_owned();
            let actions = statement["Action"].as_array_mut().unwrap();
            actions.retain(|action| keep(&sid, action.as_str().unwrap()));
        }
        policy
    }
}

impl Kept for InAws {
    fn start(dump: Dump) -> Self {
        Self::of(dump).logged_in()
    }

    fn scenario(&mut self) -> &mut Scenario {
        &mut self.scenario
    }

    fn misdirect(&mut self, address: &str) {
        self.configure(Some(address));
    }

    fn values(&self) -> Vec<Vec<u8>> {
        let secret = self.secret();
        let versions = self.aws.versions(&secret);
        versions.iter().map(|(version, _)| self.aws.value(&secret, version)).collect()
    }

    fn facts(&self) -> BTreeMap<String, String> {
        // An empty tag stands for none.
        self.aws.tags(&self.secret()).into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    fn deny(&mut self) {
        let without = self.rights(|_, action| action != "secretsmanager:PutSecretValue");
        self.aws.policies([without]);
    }

    fn throttle(&mut self, writes: usize) -> bool {
        self.aws.state().answers = vec![Trouble::Throttled; writes];
        true
    }

    fn reads(&self) -> usize {
        self.aws.count("GetSecretValue") + self.aws.count("BatchGetSecretValue")
    }

    fn max_bytes(&self) -> usize {
        65_536
    }
}

contract!(InAws);
