//! A whole scenario: an issuer, a validator app, an OpenBao and a configuration that joins them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::dump::Dump;
use super::idkeep::{Idkeep, Outcome};
use super::issuer::{Flavour, Issuer};
use super::openbao::{OpenBao, writer_policy};
use super::validator::Validator;

/// One node that is kept in one OpenBao, over plain HTTP on this machine.
pub struct Scenario {
    pub bao: Arc<OpenBao>,
    pub issuer: Issuer,
    pub validator: Validator,
    pub idkeep: Idkeep,
    pub dump: Dump,
    /// The node's name, which no other scenario has.
    pub node: String,
    pub config: Config,
    /// Where the Vault store looks for its server, if not where it is.
    pub address: Option<String>,
}

/// What differs from scenario to scenario in the configuration.
#[derive(Clone)]
pub struct Config {
    /// Lines of `identity`, without indentation, instead of or beside the usual ones (`deadline: 5s`).
    pub identity: Vec<String>,
    /// What stands under `auth`, in flow style.
    pub auth: String,
    /// Names in `stores`.
    pub stores: String,
    /// Lines under `stores:`, as they are.
    pub more_stores: String,
    /// What stands under the Vault store's `auth`, in flow style.
    pub vault_auth: String,
    /// Lines of the `vault` store beside the usual ones.
    pub vault: Vec<String>,
    /// Whole lines beside `nodes` and `stores`.
    pub top: String,
}

/// The audience that the node wants and the issuer grants.
pub const AUDIENCE: &str = "https://validator.example.com";

/// The one OpenBao that most tests share; each has paths of its own.
pub fn shared_bao() -> &'static Arc<OpenBao> {
    static BAO: OnceLock<Arc<OpenBao>> = OnceLock::new();
    BAO.get_or_init(|| {
        let bao = OpenBao::dev();
        bao.enable_auth("approle");
        Arc::new(bao)
    })
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        Self::of(Dump::fresh(seed))
    }

    pub fn of(dump: Dump) -> Self {
        Self::on(shared_bao().clone(), dump)
    }

    /// On a server of its own, for tests that stop it or count its tokens.
    pub fn alone(dump: Dump) -> Self {
        let bao = OpenBao::dev();
        bao.enable_auth("approle");
        Self::on(Arc::new(bao), dump)
    }

    /// With an issuer of the test's own, which grants [`AUDIENCE`].
    pub fn issued_by(issuer: Issuer, seed: u64) -> Self {
        Self::join(shared_bao().clone(), issuer, Dump::fresh(seed))
    }

    /// With this OpenBao, for tests that count, limit or seal.
    pub fn on(bao: Arc<OpenBao>, dump: Dump) -> Self {
        Self::join(bao, Issuer::settings().flavour(Flavour::Auth0).granted(&[AUDIENCE]).start(), dump)
    }

    fn join(bao: Arc<OpenBao>, issuer: Issuer, dump: Dump) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let node = format!("node-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        bao.policy(&node, &writer_policy(&format!("canton/{node}/identities")));
        let (role_id, secret_id) = bao.approle(&node, &[&node], json!({}));
        let validator = Validator::trusting(&issuer.jwks_uri(), None)
            .audience(AUDIENCE)
            .user(&issuer.subject())
            .dump(&dump.json())
            .start();
        let idkeep = Idkeep::new();
        idkeep.secret_file("client-secret", issuer.client_secret.as_bytes());
        idkeep.secret_file("secret-id", secret_id.as_bytes());
        let auth = format!(
            "{{oauth2: {{issuer: {:?}, client_id: {:?}, client_secret: {{file: {:?}}}, audience: {AUDIENCE:?}, allow_http: true}}}}",
            issuer.url(),
            issuer.client_id,
            idkeep.path("client-secret"),
        );
        let vault_auth =
            format!("{{approle: {{role_id: {role_id:?}, secret_id: {{file: {:?}}}}}}}", idkeep.path("secret-id"));
        let vault = bao.ca_file.iter().map(|file| format!("tls: {{ca_file: {file:?}}}")).collect();
        let config = Config {
            identity: vec!["deadline: 20s".into()],
            auth,
            stores: "[vault]".into(),
            more_stores: String::new(),
            vault_auth,
            vault,
            top: String::new(),
        };
        let mut scenario = Self { bao, issuer, validator, idkeep, dump, node, config, address: None };
        scenario.configure();
        scenario
    }

    /// Writes the configuration anew.
    pub fn configure(&mut self) {
        let yaml = self.yaml();
        self.idkeep.config(&yaml);
    }

    /// The same with one more line under `identity`; a line of the same key is replaced.
    pub fn identity(&mut self, line: &str) -> &mut Self {
        let key = line.split(':').next().unwrap().to_owned() + ":";
        self.config.identity.retain(|known| !known.starts_with(&key));
        self.config.identity.push(line.to_owned());
        self.configure();
        self
    }

    /// The same for the Vault store.
    pub fn vault(&mut self, line: &str) -> &mut Self {
        let key = line.split(':').next().unwrap().to_owned() + ":";
        self.config.vault.retain(|known| !known.starts_with(&key));
        self.config.vault.push(line.to_owned());
        self.configure();
        self
    }

    /// With these lines beside `nodes` and `stores`, and the daemon on a port that is free.
    pub fn top(&mut self, lines: &str) -> &mut Self {
        self.config.top = format!("{lines}\nserver: {{listen: 127.0.0.1:0}}\n");
        self.configure();
        self
    }

    pub fn yaml(&self) -> String {
        let Config { identity, auth, stores, more_stores, vault_auth, vault, top } = &self.config;
        let lines = |lines: &[String]| lines.iter().map(|line| format!("      {line}\n")).collect::<String>();
        format!(
            "nodes:\n  {node}:\n    network: testnet\n    party_hint: acme-{node}\n    identity:\n      \
             endpoint: {endpoint}\n      allow_http: true\n{identity}      auth: {auth}\n      stores: {stores}\n\
             stores:\n  vault:\n    vault:\n      address: {address}\n      allow_http: true\n      \
             path: canton/{{node}}/identities\n      auth: {vault_auth}\n{vault}{more_stores}{top}",
            node = self.node,
            endpoint = self.validator.endpoint(),
            identity = lines(identity),
            address = self.address.as_ref().unwrap_or(&self.bao.address),
            vault = lines(vault),
        )
    }

    /// The node's path under `secret/`.
    pub fn path(&self) -> String {
        format!("canton/{}/identities", self.node)
    }

    /// Runs `sync -o json` and returns its report's only node.
    pub fn sync(&self, code: i32) -> Synced {
        self.sync_with(code, &[])
    }

    pub fn sync_with(&self, code: i32, arguments: &[&str]) -> Synced {
        let outcome = self.idkeep.expect(code, &[&["-o", "json", "sync"], arguments].concat());
        let node = outcome.json()["nodes"][0].clone();
        Synced { outcome, node }
    }

    /// Number of versions that are stored, 0 if there is no secret.
    pub fn versions(&self) -> u64 {
        self.bao.kv_metadata(&self.path()).map_or(0, |metadata| metadata["current_version"].as_u64().unwrap())
    }

    /// Our facts and whatever else is in `custom_metadata`.
    pub fn facts(&self) -> Value {
        self.bao.kv_metadata(&self.path()).map_or(Value::Null, |metadata| metadata["custom_metadata"].clone())
    }

    /// What is stored, which must be the dump byte for byte.
    pub fn assert_stored(&self, dump: &Dump) {
        let stored = self.bao.kv_get(&self.path()).expect("nothing is stored");
        assert_eq!(stored.data["content"].as_str().unwrap().as_bytes(), dump.json());
        assert_eq!(stored.data["encoding"], "json");
        assert_eq!(stored.data.as_object().unwrap().len(), 2);
    }
}

/// How a sync ended.
pub struct Synced {
    pub outcome: Outcome,
    pub node: Value,
}

impl Synced {
    /// Outcome of the first store.
    pub fn store(&self) -> &str {
        self.node["stores"][0]["outcome"].as_str().unwrap_or("none")
    }

    pub fn stderr(&self) -> &str {
        &self.outcome.stderr
    }
}
