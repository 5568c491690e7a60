//! A strict stand-in for Google Secret Manager, from its published v1 REST API and protos, and for the metadata server
//! that gives out its tokens. Rights are held per member, on a project or on one secret, as Google's IAM has them.

pub mod iam;
mod rest;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

pub use iam::Iam;

use super::client::{Answer, Client};
use super::pki::Pki;
use super::server::{Gate, Reply, Seen, Server, Tls};

/// The project that every stand-in has.
pub const PROJECT: &str = "acme-canton";
/// Its number, which answers name in place of its id.
pub const NUMBER: &str = "123456789012";
/// Whom the metadata server gives tokens for.
pub const AGENT: &str = "serviceAccount:idkeep@acme-canton.iam.gserviceaccount.com";
/// Somebody else, for restoring.
pub const RESTORER: &str = "user:restorer@acme.example";

/// What the token exchange takes for the agent: what a cluster would put into a file.
pub const SUBJECT_TOKEN: &str = "a-token-of-the-cluster";

/// A running stand-in.
pub struct Google {
    pub api: Server,
    pub metadata: Server,
    pub state: Arc<State>,
    pub ca_file: Option<PathBuf>,
    _pki: Pki,
}

/// What it knows, shared with its handlers.
pub struct State {
    pub iam: Mutex<Iam>,
    secrets: Mutex<Vec<Secret>>,
    trouble: Mutex<Trouble>,
    /// The region of a regional endpoint.
    location: Option<String>,
    /// Whether it asks for a token at all; an emulator does not.
    is_guarded: bool,
}

/// What it does wrong on purpose.
#[derive(Default)]
pub struct Trouble {
    /// The next so many additions are refused with this status.
    pub refuse_adds: usize,
    pub status: u16,
    /// Every answer to an addition waits for this, after the version was made.
    pub hold_adds: Option<Gate>,
    /// Every call is answered so.
    pub always: Option<(u16, &'static str)>,
    /// Additions are made and then not answered.
    pub lose_adds: usize,
    /// How far its clock is ahead.
    pub ahead: SignedDuration,
    /// The most versions in one page.
    pub page: usize,
    /// So many of the newest versions are neither listed nor what `latest` means: of identities, of facts.
    pub unseen: (usize, usize),
    /// What the metadata server answers instead of a token.
    pub no_token: Option<u16>,
    /// Where every call is sent instead.
    pub redirect: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Secret {
    /// `secrets/NAME`, or with `locations/L/` before it.
    pub name: String,
    /// As it was created.
    pub made_as: serde_json::Value,
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug)]
pub struct Version {
    pub data: Vec<u8>,
    pub state: &'static str,
    pub created_at: Timestamp,
}

impl Google {
    /// Over TLS, with tokens.
    pub fn start() -> Self {
        Self::with(true, None)
    }

    /// As an emulator: over plain HTTP, without any rights.
    pub fn emulator() -> Self {
        Self::with(false, None)
    }

    pub fn regional(location: &str) -> Self {
        Self::with(true, Some(location.to_owned()))
    }

    fn with(is_guarded: bool, location: Option<String>) -> Self {
        let pki = Pki::new();
        let trouble = Trouble { page: 100, ..Trouble::default() };
        let state = Arc::new(State {
            iam: Mutex::new(Iam::new()),
            secrets: Mutex::default(),
            trouble: Mutex::new(trouble),
            location,
            is_guarded,
        });
        let tls = is_guarded.then(|| Tls::of(&pki));
        let ca_file = tls.as_ref().map(|tls| tls.ca_file.clone());
        let shared = Arc::clone(&state);
        let api = Server::start(tls.map(|tls| tls.config), move |seen| {
            let state = Arc::clone(&shared);
            async move { rest::answer(&state, &seen) }
        });
        let shared = Arc::clone(&state);
        let metadata = Server::plain(move |seen| {
            let state = Arc::clone(&shared);
            async move { token(&state, &seen) }
        });
        Self { api, metadata, state, ca_file, _pki: pki }
    }

    /// The entry under `stores` for this endpoint, with more lines of the store.
    pub fn store(&self, more: &[String]) -> String {
        let mut lines = vec![
            format!("project: {PROJECT}"),
            "secret: 'canton-{node}-identities'".to_owned(),
            format!("endpoint: {}", self.api.origin()),
        ];
        match &self.ca_file {
            Some(file) => lines.push(format!("tls: {{ca_file: {file:?}}}")),
            None => lines.push("allow_http: true".into()),
        }
        lines.extend(self.state.location.iter().map(|location| format!("location: {location}")));
        for line in more {
            let key = line.split(':').next().unwrap().to_owned() + ":";
            lines.retain(|known| !known.starts_with(&key));
            lines.push(line.clone());
        }
        let lines: String = lines.iter().map(|line| format!("      {line}\n")).collect();
        format!("  gcp:\n    gcp:\n{lines}")
    }

    /// `GCE_METADATA_HOST`.
    pub fn metadata_host(&self) -> String {
        self.metadata.address.to_string()
    }

    pub fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.state.trouble.lock().unwrap());
    }

    /// Creates a secret as its owner would.
    pub fn create(&self, name: &str) {
        let name = self.state.relative(name);
        let secret = Secret { name, made_as: json!({}), versions: Vec::new() };
        self.state.secrets.lock().unwrap().push(secret);
    }

    pub fn secret(&self, name: &str) -> Option<Secret> {
        let name = self.state.relative(name);
        self.state.secrets.lock().unwrap().iter().find(|secret| secret.name == name).cloned()
    }

    pub fn versions(&self, name: &str) -> Vec<Version> {
        self.secret(name).map(|secret| secret.versions).unwrap_or_default()
    }

    /// Changes what is stored, as somebody with every right would.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<Version>)) {
        let name = self.state.relative(name);
        let mut secrets = self.state.secrets.lock().unwrap();
        change(&mut secrets.iter_mut().find(|secret| secret.name == name).expect(&name).versions);
    }

    pub fn delete(&self, name: &str) {
        let name = self.state.relative(name);
        self.state.secrets.lock().unwrap().retain(|secret| secret.name != name);
    }

    /// Requests to the API whose path ends so.
    pub fn calls(&self, end: &str) -> Vec<Seen> {
        self.api.seen().into_iter().filter(|seen| seen.path.ends_with(end)).collect()
    }

    /// How often a version of identities was read, or tried to be.
    pub fn reads(&self) -> usize {
        let of_identities = |seen: &&Seen| !seen.path.contains("-facts/");
        self.calls(":access").iter().filter(of_identities).count()
    }

    /// What this member gets when it reads a version.
    pub fn read_as(&self, member: &str, name: &str, version: &str) -> Answer {
        let url = format!(
            "{}/v1/projects/{PROJECT}/{}/versions/{version}:access",
            self.api.origin(),
            self.state.relative(name)
        );
        let token = self.state.iam.lock().unwrap().token(member);
        Client::new(self.ca_file.as_deref()).get_with_token(&url, &token).unwrap()
    }
}

impl State {
    fn relative(&self, name: &str) -> String {
        match &self.location {
            Some(location) => format!("locations/{location}/secrets/{name}"),
            None => format!("secrets/{name}"),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now() + self.trouble.lock().unwrap().ahead
    }
}

/// <https://cloud.google.com/compute/docs/metadata/querying-metadata>, and on the same port the token exchange of
/// workload identity federation (RFC 8693).
fn token(state: &State, seen: &Seen) -> Reply {
    if let Some(status) = state.trouble.lock().unwrap().no_token {
        return Reply::new(status, "text/html", "a page that nobody should repeat");
    }
    if seen.method == "POST" && seen.path == "/v1/token" {
        let form = seen.form();
        let is_exchange = form.get("grant_type").is_some_and(|it| it.ends_with(":grant-type:token-exchange"));
        if !is_exchange || form.get("subject_token").map(String::as_str) != Some(SUBJECT_TOKEN) {
            return Reply::json(400, &json!({"error": "invalid_grant"}));
        }
        let token = state.iam.lock().unwrap().token(AGENT);
        return Reply::json(
            200,
            &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer",
                    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}),
        );
    }
    let is_ours = seen.path == "/computeMetadata/v1/instance/service-accounts/default/token";
    if seen.method != "GET" || !is_ours {
        return Reply::empty(404);
    }
    if seen.header("metadata-flavor") != Some("Google") {
        return Reply::empty(403);
    }
    let token = state.iam.lock().unwrap().token(AGENT);
    Reply::json(200, &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}))
        .header("metadata-flavor", "Google")
}
