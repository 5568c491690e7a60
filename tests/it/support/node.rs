//! One node kept in a folder: an issuer, a validator app and a sealed `file` store. Lighter than
//! [`super::scenario`], for what happens before any store is reached.

use std::path::Path;
use std::sync::OnceLock;

use super::age::AgeKey;
use super::dump::Dump;
use super::idkeep::{Idkeep, Outcome};
use super::issuer::{AUDIENCE, Issuer};
use super::validator::{Settings, Validator};

pub struct Node {
    pub issuer: Issuer,
    pub validator: Validator,
    pub idkeep: Idkeep,
    pub dump: Dump,
    /// Lines of `identity`, by key.
    identity: Vec<(String, String)>,
    /// What stands under `auth.oauth2`, by key.
    oauth2: Vec<(String, String)>,
    /// In place of `oauth2`, in flow style.
    auth: Option<String>,
}

impl Node {
    /// Node and issuer agree; the deadline is a minute, far beyond what a good pass takes.
    pub fn new() -> Self {
        Self::with(Issuer::start(), |settings| settings)
    }

    /// An issuer of the test's, and a validator app that trusts it, as adjusted.
    pub fn with(issuer: Issuer, adjust: impl FnOnce(Settings) -> Settings) -> Self {
        let dump = Dump::fresh(7);
        let settings = Validator::trusting(&issuer.jwks_uri(), issuer.ca_file.as_deref());
        let settings = adjust(settings.user(&issuer.subject()).dump(&dump.json()));
        Self::of(issuer, settings.start(), dump)
    }

    pub fn of(issuer: Issuer, validator: Validator, dump: Dump) -> Self {
        let idkeep = Idkeep::new();
        let secret = idkeep.secret_file("client-secret", issuer.client_secret.as_bytes());
        let mut node = Self { issuer, validator, idkeep, dump, identity: Vec::new(), oauth2: Vec::new(), auth: None };
        node.set("endpoint", quoted(&node.validator.endpoint())).set("allow_http", "true").set("deadline", "60s");
        if let Some(ca_file) = node.validator.ca_file.clone() {
            node.set("tls", format!("{{ca_file: {}}}", path(&ca_file)));
        }
        node.oauth2("issuer", quoted(&node.issuer.url())).oauth2("allow_http", "true");
        node.oauth2("client_id", quoted(&node.issuer.client_id)).oauth2("client_secret", file(&secret));
        node.oauth2("audience", quoted(AUDIENCE));
        if let Some(ca_file) = node.issuer.ca_file.clone() {
            node.oauth2("tls", format!("{{ca_file: {}}}", path(&ca_file)));
        }
        node
    }

    /// A line of `identity`.
    pub fn set(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        replace(&mut self.identity, key, value.into());
        self
    }

    /// A line of `auth.oauth2`.
    pub fn oauth2(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        replace(&mut self.oauth2, key, value.into());
        self
    }

    /// Takes a line of `auth.oauth2` away.
    pub fn no_oauth2(&mut self, key: &str) -> &mut Self {
        self.oauth2.retain(|(known, _)| known != key);
        self
    }

    /// Another way to authenticate, in flow style.
    pub fn auth(&mut self, flow: impl Into<String>) -> &mut Self {
        self.auth = Some(flow.into());
        self
    }

    /// One node's lines under `nodes`.
    pub fn yaml_of(&self, name: &str) -> String {
        let lines = |lines: &[(String, String)], indent: &str| {
            lines.iter().map(|(key, value)| format!("{indent}{key}: {value}\n")).collect::<String>()
        };
        let auth = match &self.auth {
            Some(flow) => format!(" {flow}\n"),
            None => format!("\n        oauth2:\n{}", lines(&self.oauth2, "          ")),
        };
        format!(
            "  {name}:\n    network: testnet\n    party_hint: acme\n    identity:\n{identity}      auth:{auth}      \
             stores: [dr]\n",
            identity = lines(&self.identity, "      "),
        )
    }

    /// Writes the configuration with these nodes, `node` being this one.
    pub fn configure(&mut self, nodes: &[String]) {
        static KEY: OnceLock<AgeKey> = OnceLock::new();
        let yaml = format!(
            "nodes:\n{}stores:\n  dr: {{file: {{path: {}, recipients: [{}]}}}}\n",
            nodes.concat(),
            path(&self.idkeep.path("kept")),
            KEY.get_or_init(AgeKey::new).recipient,
        );
        self.idkeep.config(&yaml);
    }

    /// Runs `sync -o json` with more arguments; it has to end with that code, and say no secret.
    pub fn run(&mut self, code: i32, arguments: &[&str]) -> Ran {
        let node = self.yaml_of("node");
        self.configure(&[node]);
        self.run_as_configured(code, arguments)
    }

    pub fn run_as_configured(&self, code: i32, arguments: &[&str]) -> Ran {
        let outcome = self.idkeep.expect(code, &[&["-o", "json", "sync"], arguments].concat());
        assert_no_secret(&outcome, &self.issuer.client_secret);
        Ran(outcome)
    }

    /// Runs, and checks that the dump was stored.
    pub fn succeeds(&mut self) -> Ran {
        let ran = self.run(0, &[]);
        assert_eq!(ran.node()["stores"][0]["outcome"], "written", "{}", ran.0);
        assert_eq!(ran.node()["digest"], self.dump.digest());
        assert_eq!(self.versions(), 1);
        ran
    }

    /// Runs, and checks that it failed with this code, said all of this, and left the store alone.
    pub fn fails(&mut self, code: i32, said: &[&str]) -> Ran {
        self.fails_with(code, &[], said)
    }

    pub fn fails_with(&mut self, code: i32, arguments: &[&str], said: &[&str]) -> Ran {
        let before = self.versions();
        let ran = self.run(code, arguments);
        for text in said {
            assert!(ran.last_words().contains(text), "{text:?} was not said\n{}", ran.0);
        }
        assert_eq!(self.versions(), before, "the store was touched\n{}", ran.0);
        assert!(!ran.node()["error"].is_null() && ran.node()["stores"] == serde_json::json!([]), "{}", ran.0);
        ran
    }

    /// Versions in the store.
    pub fn versions(&self) -> usize {
        let Ok(files) = std::fs::read_dir(self.idkeep.path("kept/node")) else { return 0 };
        files.flatten().filter(|file| file.path().extension().is_some_and(|extension| extension == "age")).count()
    }
}

/// How a run ended.
pub struct Ran(pub Outcome);

impl Ran {
    /// The report's first node.
    pub fn node(&self) -> serde_json::Value {
        self.0.json()["nodes"][0].clone()
    }

    /// What stands at the end of stderr: the failure and its hint, without the logs before.
    pub fn last_words(&self) -> &str {
        let start = self.0.stderr.find("idkeep: ").unwrap_or(self.0.stderr.len());
        &self.0.stderr[start..]
    }
}

fn assert_no_secret(outcome: &Outcome, client_secret: &str) {
    let output = outcome.output();
    assert!(!output.contains(client_secret), "the client secret was said\n{outcome}");
    // Every JWT begins so, and so does every assertion.
    assert!(!output.contains("eyJ"), "a token was said\n{outcome}");
    assert!(!output.contains("panic"), "{outcome}");
}

fn replace(lines: &mut Vec<(String, String)>, key: &str, value: String) {
    lines.retain(|(known, _)| known != key);
    lines.push((key.to_owned(), value));
}

pub fn quoted(text: &str) -> String {
    format!("{text:?}")
}

pub fn path(path: &Path) -> String {
    quoted(path.to_str().unwrap())
}

/// A reference to a file.
pub fn file(file: &Path) -> String {
    format!("{{file: {}}}", path(file))
}
