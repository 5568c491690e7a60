//! A strict stand-in of Azure Key Vault and of what hands out its tokens, written from the published REST API: it
//! refuses what the real one refuses, and knows rights per caller, action and secret.

mod secrets;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::block_on;
use super::idkeep::Idkeep;
use super::pki::{Clients, Pki};
use super::server::{Gate, Reply, Seen, Server};
pub use secrets::Version;

pub const AUDIENCE: &str = "https://vault.azure.net";
pub const TENANT: &str = "0b0c0d0e-1111-4222-8333-444455556666";
/// The application that the workload, and the client with a secret, are.
pub const CLIENT: &str = "1a1b1c1d-2222-4333-8444-555566667777";
/// The user-assigned identity of the machine.
pub const MACHINE: &str = "2a2b2c2d-3333-4444-8555-666677778888";
/// What the cluster says the workload is.
pub const SUBJECT: &str = "system:serviceaccount:canton:idkeep";

/// A vault, a token endpoint and a machine's service for managed identities.
pub struct Azure {
    pub origin: String,
    pub ca_file: PathBuf,
    pub server: Server,
    machine: Server,
    state: Arc<Mutex<State>>,
    _pki: Pki,
}

/// Everything that it knows; tests look into it and change it.
pub struct State {
    pub origin: String,
    /// By the lower-case name.
    pub secrets: BTreeMap<String, Vec<Version>>,
    pub deleted: BTreeMap<String, Vec<Version>>,
    /// Caller, scope (`/` or `/secrets/NAME`) and actions.
    pub grants: Vec<(String, String, BTreeSet<String>)>,
    /// Tokens handed out, and to whom.
    pub tokens: BTreeMap<String, String>,
    pub client_secret: String,
    pub identity_header: String,
    /// Versions of one page.
    pub page: usize,
    /// What the challenge names.
    pub resource: String,
    /// Answers to the next good requests of a method, in place of the usual ones.
    pub trouble: VecDeque<Trouble>,
    /// Where the list goes on, if not here.
    pub next_link: Option<String>,
    /// The recovery level of all secrets.
    pub recovery_level: &'static str,
    /// Writes are answered once it is open.
    pub gate: Option<Gate>,
    /// An unknown secret has no versions, or is not there: both are seen.
    pub lists_nothing: bool,
    /// Values given away.
    pub values_read: usize,
    pub deletes_tried: usize,
    /// Bodies that came without a token.
    pub unguarded_bodies: usize,
    pub token_requests: usize,
}

/// An answer in place of the usual one.
#[derive(Clone)]
pub struct Trouble {
    /// Of what: `PUT`, or `TOKEN` for the token endpoint.
    pub method: &'static str,
    status: u16,
    body: Value,
    headers: Vec<(&'static str, String)>,
}

impl State {
    /// The answer that spoils the next request of this method, if there is one.
    fn spoiled(&mut self, method: &str) -> Option<Reply> {
        let at = self.trouble.iter().position(|trouble| trouble.method == method)?;
        let Trouble { status, body, headers, .. } = self.trouble.remove(at)?;
        let reply = Reply::json(status, &body);
        Some(headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value)))
    }
}

impl Azure {
    pub fn start() -> Self {
        let pki = Pki::new();
        let names = ["127.0.0.1", "localhost", "acme-canton.vault.azure.net", "login.microsoftonline.com"];
        let tls = pki.server_config_with(&pki.server_for(&names), Clients::Anonymous);
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            origin: origin.clone(),
            secrets: BTreeMap::new(),
            deleted: BTreeMap::new(),
            grants: Vec::new(),
            tokens: BTreeMap::new(),
            client_secret: format!("canary-client-secret-{:016x}", fastrand::u64(..)),
            identity_header: format!("canary-identity-header-{:016x}", fastrand::u64(..)),
            page: 25,
            resource: format!("resource=\"{AUDIENCE}\""),
            trouble: VecDeque::new(),
            next_link: None,
            recovery_level: "Recoverable",
            gate: None,
            lists_nothing: false,
            values_read: 0,
            deletes_tried: 0,
            unguarded_bodies: 0,
            token_requests: 0,
        }));
        let shared = state.clone();
        let server = Server::on(listener, Some(tls), move |seen| {
            let reply = answer(&mut shared.lock().unwrap(), &seen);
            async move { reply }
        });
        let shared = state.clone();
        let machine = Server::plain(move |seen| {
            let reply = tokens::of_machine(&mut shared.lock().unwrap(), &seen);
            async move { reply }
        });
        Self { origin, ca_file: pki.ca_file(), server, machine, state, _pki: pki }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Allows these actions (`setSecret`) on one secret.
    pub fn grant(&self, caller: &str, secret: &str, actions: &[&str]) {
        let actions = actions.iter().map(|action| format!("Microsoft.KeyVault/vaults/secrets/{action}/action"));
        self.state().grants.push((caller.into(), format!("/secrets/{}", secret.to_lowercase()), actions.collect()));
    }

    /// The environment of a pod with a workload identity.
    pub fn workload(&self, idkeep: &mut Idkeep) {
        let token = tokens::assertion(SUBJECT);
        // Projected into a volume: every process of the pod may read it.
        let file = idkeep.file("federated-token", token.as_bytes());
        idkeep.env("AZURE_TENANT_ID", TENANT).env("AZURE_CLIENT_ID", CLIENT);
        idkeep.env("AZURE_FEDERATED_TOKEN_FILE", file).env("AZURE_AUTHORITY_HOST", self.origin.as_str());
    }

    /// The environment of a container with a managed identity.
    pub fn machine(&self, idkeep: &mut Idkeep) {
        idkeep.env("IDENTITY_ENDPOINT", format!("{}/msi/token", self.machine.origin()));
        idkeep.env("IDENTITY_HEADER", self.state().identity_header.as_str());
    }

    /// The versions of a secret, oldest first.
    pub fn versions(&self, secret: &str) -> Vec<Version> {
        self.state().secrets.get(&secret.to_lowercase()).cloned().unwrap_or_default()
    }

    /// The newest version, to look at or to change.
    pub fn newest<T>(&self, secret: &str, change: impl FnOnce(&mut Version) -> T) -> T {
        change(self.state().secrets.get_mut(&secret.to_lowercase()).unwrap().last_mut().unwrap())
    }

    /// Makes all versions so many seconds older.
    pub fn age(&self, secret: &str, seconds: i64) {
        for version in self.state().secrets.get_mut(&secret.to_lowercase()).unwrap() {
            version.created -= seconds;
        }
    }

    /// Deleted, but recoverable.
    pub fn delete(&self, secret: &str) {
        let mut state = self.state();
        let versions = state.secrets.remove(&secret.to_lowercase()).unwrap();
        state.deleted.insert(secret.to_lowercase(), versions);
    }

    /// The next so many good requests of this method end like this.
    pub fn spoil(&self, method: &'static str, times: usize, status: u16, code: &str, headers: &[(&'static str, &str)]) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let trouble = Trouble { method, status, body: error("Trouble", code), headers };
        let trouble = std::iter::repeat_n(trouble, times);
        self.state().trouble.extend(trouble);
    }
}

/// The form of all refusals; the message is one that must never be shown.
pub fn error(code: &str, inner: &str) -> Value {
    json!({"error": {"code": code, "message": "CANARY of the other side", "innererror": {"code": inner}}})
}

fn answer(state: &mut State, seen: &Seen) -> Reply {
    if seen.path.ends_with("/oauth2/v2.0/token") { tokens::of_entra(state, seen) } else { secrets::answer(state, seen) }
}
