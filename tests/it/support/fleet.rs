//! Many nodes that one daemon looks after, each with a validator app of its own; they share issuer and store.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::dump::Dump;
use super::idkeep::Idkeep;
use super::issuer::{AUDIENCE, Issuer};
use super::openbao::{OpenBao, writer_policy};
use super::proxy::{Fault, FaultProxy};
use super::scenario::shared_bao;
use super::validator::Validator;

/// The nodes, their servers and their configuration.
pub struct Fleet {
    pub bao: Arc<OpenBao>,
    pub issuer: Issuer,
    pub members: Vec<Member>,
    /// Those that the configuration names.
    pub configured: Range<usize>,
    /// Stands before the store.
    pub store: FaultProxy,
    pub idkeep: Idkeep,
    vault_auth: String,
}

/// One node of them.
pub struct Member {
    pub name: String,
    pub dump: Dump,
    pub validator: Validator,
    /// Stands before the validator app.
    pub proxy: FaultProxy,
}

impl Fleet {
    pub fn new(nodes: usize) -> Self {
        Self::of(nodes, Issuer::start())
    }

    /// With an issuer of the test's own.
    pub fn of(nodes: usize, issuer: Issuer) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let fleet = format!("fleet-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let bao = shared_bao().clone();
        bao.policy(&fleet, &writer_policy(&format!("canton/{fleet}-*")));
        let (role_id, secret_id) = bao.approle(&fleet, &[&fleet], json!({}));
        let idkeep = Idkeep::new();
        idkeep.secret_file("client-secret", issuer.client_secret.as_bytes());
        idkeep.secret_file("secret-id", secret_id.as_bytes());
        let vault_auth =
            format!("{{approle: {{role_id: {role_id:?}, secret_id: {{file: {:?}}}}}}}", idkeep.path("secret-id"));
        let members =
            (0..nodes).map(|number| Member::start(&issuer, format!("{fleet}-{number}"), number as u64)).collect();
        let store = FaultProxy::before(address_of(&bao.address), Fault::None);
        Self { bao, issuer, members, configured: 0..nodes, store, idkeep, vault_auth }
    }

    /// Writes the configuration, with these lines under each `identity` and these at the end of the file.
    pub fn configure(&mut self, identity: &[&str], top: &str) {
        let lines: String = identity.iter().map(|line| format!("      {line}\n")).collect();
        let auth = format!(
            "{{oauth2: {{issuer: {:?}, client_id: {:?}, client_secret: {{file: {:?}}}, audience: {AUDIENCE:?}, allow_http: true}}}}",
            self.issuer.url(),
            self.issuer.client_id,
            self.idkeep.path("client-secret"),
        );
        let node = |member: &Member| {
            format!(
                "  {}:\n    network: testnet\n    party_hint: acme\n    identity:\n      endpoint: {}\n      \
                 allow_http: true\n      auth: {auth}\n      stores: [vault]\n{lines}",
                member.name,
                member.endpoint(),
            )
        };
        let nodes: String = self.members[self.configured.clone()].iter().map(node).collect();
        let yaml = format!(
            "nodes:\n{nodes}stores:\n  vault:\n    vault:\n      address: http://{}\n      allow_http: true\n      \
             path: canton/{{node}}/identities\n      auth: {}\n{top}",
            self.store.address, self.vault_auth,
        );
        self.idkeep.config(&yaml);
    }

    /// Number of versions stored of a node.
    pub fn versions(&self, member: &Member) -> u64 {
        let metadata = self.bao.kv_metadata(&format!("canton/{}/identities", member.name));
        metadata.map_or(0, |metadata| metadata["current_version"].as_u64().unwrap())
    }
}

impl Member {
    fn start(issuer: &Issuer, name: String, seed: u64) -> Self {
        let dump = Dump::fresh(9000 + seed);
        let settings = Validator::trusting(&issuer.jwks_uri(), None).user(&issuer.subject());
        let validator = settings.dump(&dump.json()).start();
        let proxy = FaultProxy::before(validator.server().address, Fault::None);
        Self { name, dump, validator, proxy }
    }

    fn endpoint(&self) -> String {
        let direct = self.validator.server().address.to_string();
        self.validator.endpoint().replace(&direct, &self.proxy.address.to_string())
    }
}

fn address_of(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}
