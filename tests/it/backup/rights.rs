//! Vault's policy, line by line, as it is rendered for a node with everything there: its identities, secrets that are
//! referred to, credentials that are made. All commands pass with it, and something breaks without any line of it.

use serde_json::{Value, json};

use super::credentials::Bank;
use super::secrecy::ssh_keygen;
use crate::support::backup::{Node, database};
use crate::support::idkeep::Outcome;

/// A node that has nothing on its machine but the login, under the rendered policy alone.
struct Everything {
    bank: Bank,
    policy: String,
}

impl Everything {
    fn new(seed: u64) -> Self {
        let mut bank = Bank::open(seed, json!({"max_ttl": "24h"}));
        let node = &mut bank.node;
        refer(node);
        let policy = node.idkeep().expect(0, &["policy", "vault"]).stdout;
        let bao = &node.scenario.bao;
        let role = json!({"token_policies": [node.name()], "token_no_default_policy": true, "token_ttl": "10m", "token_max_ttl": "30h"});
        bao.must("POST", &format!("auth/approle/role/{}", node.name()), role);
        let everything = Self { bank, policy };
        everything.allow(&everything.policy);
        everything
    }

    fn node(&self) -> &Node {
        &self.bank.node
    }

    fn allow(&self, policy: &str) {
        self.node().scenario.bao.policy(self.node().name(), policy);
    }

    /// No identities are stored.
    fn forget(&self) {
        self.node().scenario.bao.must("DELETE", &format!("secret/metadata/{}", self.node().scenario.path()), None);
    }

    /// The node's keys have changed.
    fn rotate(&self, seed: u64) {
        let dump = self.node().scenario.dump.clone().rotated(seed, 1);
        self.node().scenario.validator.dump(&dump.json());
    }

    /// What a path of the policy is for.
    fn what<'p>(&self, path: &'p str) -> &'p str {
        let scenario = &self.node().scenario;
        let name = [
            (format!("secret/data/{}", scenario.path()), "identities"),
            (format!("secret/metadata/{}", scenario.path()), "facts"),
            (at(self.node(), "client-secret"), "client secret"),
            (at(self.node(), "password"), "password"),
            (at(self.node(), "signing-key"), "signing key"),
        ];
        let known = name.into_iter().find_map(|(known, name)| (known == path).then_some(name));
        known.unwrap_or(if path.ends_with("/creds/idkeep-backup") { "credentials" } else { path })
    }

    /// Runs what needs this right, which is missing, and returns how it has to end.
    fn breaks(&self, what: &str, right: &str) -> (Outcome, &'static str) {
        let run = |code: i32, arguments: &[&str]| self.node().idkeep().expect(code, arguments);
        match (what, right) {
            ("identities", "create") => {
                self.forget();
                (run(77, &["sync"]), "status 403, permission denied")
            }
            ("identities", "update") => {
                self.rotate(71);
                (run(77, &["sync"]), "status 403, permission denied")
            }
            ("facts", "read") => (run(77, &["sync"]), "reading the metadata of"),
            ("facts", "update") => {
                self.forget();
                (run(77, &["sync"]), "writing the facts of")
            }
            // The data's first version makes the metadata too; only who writes facts first needs it.
            ("facts", "create") => (run(77, &["check", "--live"]), "create is missing"),
            ("facts", "allowed_parameters") => {
                (run(77, &["check", "--live"]), "the agent may set max_versions and delete_version_after")
            }
            ("client secret", "read") => (run(77, &["sync"]), "asking for a token: reading the secret at"),
            ("password", "read") => (run(77, &["backup"]), "validator: reading the password for"),
            ("signing key", "read") => (run(77, &["backup"]), "reading the key that signs: reading the secret at"),
            ("credentials", "read") => (run(77, &["backup"]), "participant: asking for credentials at"),
            ("sys/leases/renew", "update") => (run(77, &["backup"]), "participant: renewing credentials at"),
            ("sys/leases/revoke", "update") => (run(0, &["backup"]), "the credentials could not be revoked"),
            ("auth/token/lookup-self", "read") => (run(77, &["backup"]), "participant: looking up the token at"),
            ("auth/token/renew-self", "update") => (run(78, &["backup"]), "the token that holds the credentials of"),
            ("auth/token/revoke-self", "update") => (run(0, &["sync"]), "could not be revoked and lives on"),
            ("sys/capabilities-self", "update") => (run(0, &["check", "--live"]), "unknown: "),
            _ => panic!("nothing is known to break without `{right}` on {what}: add it here, or take it out there"),
        }
    }
}

/// Where a secret of the node lies.
fn at(node: &Node, name: &str) -> String {
    format!("secret/data/kept/{}/{name}", node.name())
}

/// Moves the client secret, the validator's password and a new signing key into Vault.
fn refer(node: &mut Node) {
    ssh_keygen(&node.idkeep().path("key"));
    let key = std::fs::read_to_string(node.idkeep().path("key")).unwrap();
    let secrets = [
        ("client-secret", node.scenario.issuer.client_secret.clone()),
        ("password", node.cluster.password.clone()),
        ("signing-key", key),
    ];
    let reference = |name: &str| format!("{{vault: {{store: vault, path: {}, field: it}}}}", at(node, name));
    let (client_secret, password, sign) = (reference("client-secret"), reference("password"), reference("signing-key"));
    for (name, secret) in &secrets {
        node.scenario.bao.must("POST", &at(node, name), json!({"data": {"it": secret}}));
    }
    let auth = &node.scenario.config.auth;
    let file = format!("{{file: {:?}}}", node.idkeep().path("client-secret"));
    node.scenario.config.auth = auth.replace(&file, &client_secret);
    let file = format!("{{file: {:?}}}", node.cluster.secret_file());
    let url = node.cluster.url("validator");
    node.databases[0] = database(&node.cluster, "validator", "validator", &url).replace(&file, &password);
    node.repository.push(format!("sign: {sign}"));
    for path in ["key", "key.pub", "client-secret"].map(|name| node.idkeep().path(name)) {
        std::fs::remove_file(path).unwrap();
    }
    node.configure();
}

/// Every right of the policy, with its path.
fn rights(policy: &str) -> Vec<(String, String)> {
    let mut path = "";
    let mut rights = Vec::new();
    for line in policy.lines() {
        let words: Vec<&str> = line.split('"').collect();
        match words[0].trim_start() {
            "path " => path = words[1],
            "capabilities = [" => {
                rights.extend(words[1..].iter().step_by(2).map(|right| (path.to_owned(), (*right).to_owned())));
            }
            "allowed_parameters = {" => rights.push((path.to_owned(), "allowed_parameters".into())),
            "" | "}" => {}
            // The one parameter that is allowed.
            word => assert!(word.starts_with('#') || words[1] == "custom_metadata", "an unknown line: {line}"),
        }
    }
    rights
}

/// The policy without this right.
fn without(policy: &str, path: &str, right: &str) -> String {
    let start = policy.find(&format!("path \"{path}\"")).unwrap();
    let end = start + policy[start..].find("\n}\n").unwrap() + 3;
    let block = &policy[start..end];
    let quoted = format!("\"{right}\"");
    let block = if right == "allowed_parameters" {
        let parameters = block.find("  allowed_parameters").unwrap();
        format!("{}}}\n", &block[..parameters])
    } else if block.contains(&format!("[{quoted}]")) {
        String::new()
    } else {
        block.replacen(&format!("{quoted}, "), "", 1).replacen(&format!(", {quoted}"), "", 1)
    };
    format!("{}{block}{}", &policy[..start], &policy[end..])
}

#[test]
fn every_command_passes_with_the_rendered_policy_and_something_breaks_without_any_line_of_it() {
    let everything = Everything::new(430);
    let node = everything.node();
    for arguments in [&["check", "--live"][..], &["sync"], &["backup"], &["list"], &["check", "--live"]] {
        let outcome = node.idkeep().expect(0, arguments);
        assert!(!outcome.output().contains("unknown: the rights"), "{outcome}");
    }
    // As if the last run had taken ten hours: what is borrowed has to live for twenty.
    let set = node.whole().remove(0);
    let path = node.folder().join(&set).join("manifest.json");
    let mut manifest: Value = node.manifest(&set);
    for dump in manifest["databases"].as_array_mut().unwrap() {
        let started_at: jiff::Timestamp = dump["started_at"].as_str().unwrap().parse().unwrap();
        dump["completed_at"] = format!("{:.6}", started_at + jiff::SignedDuration::from_hours(10)).into();
    }
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let rights = rights(&everything.policy);
    assert_eq!(rights.len(), 16, "{rights:#?}");
    for (path, right) in rights {
        everything.allow(&without(&everything.policy, &path, &right));
        let (outcome, says) = everything.breaks(everything.what(&path), &right);
        assert!(outcome.output().contains(says), "without `{right}` on {path}: {says:?}\n{outcome}");
        everything.allow(&everything.policy);
        let healed = node.idkeep().expect(0, &["sync"]);
        assert!(!healed.stderr.contains("could not be"), "{healed}");
        // A set that the run has taken in spite of it is of the usual length.
        for newer in node.whole().into_iter().filter(|other| *other != set) {
            std::fs::remove_dir_all(node.folder().join(newer)).unwrap();
        }
    }
}

#[test]
fn none_of_the_secrets_can_be_changed_with_the_rendered_policy_and_no_other_can_be_read() {
    let everything = Everything::new(431);
    let node = everything.node();
    let bao = &node.scenario.bao;
    let body = json!({"policies": [node.name()], "ttl": "300s", "no_default_policy": true});
    let token = bao.must("POST", "auth/token/create", body)["auth"]["client_token"].as_str().unwrap().to_owned();
    let ask = |method: &str, path: &str| {
        bao.api_as(&token, None, method, path, json!({"data": {"it": "x"}, "versions": [1]})).0
    };
    bao.must("POST", &format!("secret/data/{}", node.scenario.path()), json!({"data": {"content": "keys"}}));
    assert_eq!(ask("GET", &format!("secret/data/{}", node.scenario.path())), 403);
    for name in ["client-secret", "password", "signing-key"] {
        let path = at(node, name);
        assert_eq!(ask("GET", &path), 200);
        for (method, kind) in [
            ("POST", "data"),
            ("DELETE", "data"),
            ("GET", "metadata"),
            ("POST", "metadata"),
            ("DELETE", "metadata"),
            ("POST", "destroy"),
        ] {
            assert_eq!(ask(method, &path.replacen("/data/", &format!("/{kind}/"), 1)), 403, "{method} {kind} {name}");
        }
    }
    assert_eq!(ask("GET", &at(node, "another")), 403);
    assert_eq!(ask("LIST", &format!("secret/metadata/kept/{}", node.name())), 403);
}
