//! A strict stand-in of a Splice validator app: what it checks, how it answers, and how it fails.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::client::Client;
use super::server::{Gate, Reply, Seen, Server, Step, Tls};

pub const BASE: &str = "/api/validator";
pub const IDENTITIES: &str = "/api/validator/v0/admin/participant/identities";
/// The audience that a validator app checks if it is not told otherwise.
pub const AUDIENCE: &str = "https://validator.example.com";

/// The answer to a request for the identities whose token is good.
#[derive(Clone)]
pub enum Answer {
    Dump(Vec<u8>),
    /// The usual dump, once the gate is open.
    Held(Gate),
    Status(u16, String, Vec<(String, String)>),
    /// 404, and `readyz` is 503: not initialised yet.
    NotReady,
    /// 404, and so is `readyz`.
    WrongBase,
    /// 404, and `readyz` is 200.
    NotServed,
    Redirect(String),
    /// 200 with a login page.
    Html,
    /// The usual dump, but chunked, so that its length is not told.
    Chunked,
    /// 2 MiB, chunked, beginning like a dump.
    Oversize,
    /// The usual dump, compressed although nobody asked.
    Gzip,
    /// One byte every 100 ms, for ever.
    Drip,
    /// Nothing at all until [`Validator::release`].
    Stall,
    /// The first bytes of the usual dump under its whole length, then the connection closes.
    CutAfter(usize),
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self::Status(status, json!({"error": "An unexpected error occurred."}).to_string(), Vec::new())
    }

    /// 429 or 503 with `Retry-After`.
    pub fn retry_after(status: u16, after: &str) -> Self {
        Self::Status(status, String::new(), vec![("retry-after".into(), after.into())])
    }
}

/// Whose tokens are believed.
#[derive(Clone)]
enum Trust {
    /// RS256 by the keys there, as the app is configured with a JWKS URL.
    Jwks { url: String, client: Client },
    /// HS256 with this secret, as the no-auth compose set-up has it.
    Unsafe(Vec<u8>),
    /// This text and no other, for tokens that are canaries.
    Literal(String),
}

/// What a validator is like, before it starts.
pub struct Settings {
    trust: Trust,
    audience: String,
    users: BTreeSet<String>,
    tls: Option<Tls>,
    host: Option<String>,
    dump: Vec<u8>,
}

/// A running stand-in.
pub struct Validator {
    pub ca_file: Option<PathBuf>,
    server: Server,
    state: Arc<State>,
}

struct State {
    settings: Settings,
    keys: tokio::sync::Mutex<Option<JwkSet>>,
    dump: Mutex<Vec<u8>>,
    script: Mutex<VecDeque<Answer>>,
    always: Mutex<Option<Answer>>,
    readyz: Mutex<Readyz>,
    version: Mutex<String>,
    release: Gate,
}

/// What `readyz` answers.
struct Readyz {
    status: u16,
    /// Whether the identities are missing too, as they are before the app is initialised.
    starting: bool,
    /// Probes that still fail before it turns to 200 by itself.
    probes_left: Option<usize>,
}

impl Readyz {
    const OK: Self = Self { status: 200, starting: false, probes_left: None };
    const STARTING: Self = Self { status: 503, starting: true, probes_left: None };
}

impl Settings {
    fn new(trust: Trust) -> Self {
        Self { trust, audience: AUDIENCE.into(), users: BTreeSet::new(), tls: None, host: None, dump: Vec::new() }
    }

    pub fn audience(mut self, audience: &str) -> Self {
        audience.clone_into(&mut self.audience);
        self
    }

    /// A `sub` with all rights. Others get 403.
    pub fn user(mut self, subject: &str) -> Self {
        self.users.insert(subject.to_owned());
        self
    }

    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Answers 404 under any other `Host`, as compose's nginx does.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    pub fn dump(mut self, dump: &[u8]) -> Self {
        self.dump = dump.to_vec();
        self
    }

    pub fn start(self) -> Validator {
        let tls = self.tls.clone();
        let state = Arc::new(State {
            keys: tokio::sync::Mutex::new(None),
            dump: Mutex::new(self.dump.clone()),
            script: Mutex::default(),
            always: Mutex::default(),
            readyz: Mutex::new(Readyz::OK),
            version: Mutex::new("0.7.5".into()),
            release: Gate::closed(),
            settings: self,
        });
        let shared = state.clone();
        let server = Server::start(tls.as_ref().map(|tls| tls.config.clone()), move |seen| {
            let state = shared.clone();
            async move { state.answer(&seen).await }
        });
        Validator { ca_file: tls.map(|tls| tls.ca_file), server, state }
    }
}

impl Validator {
    /// Believes RS256 tokens signed by a key of this set, for [`AUDIENCE`], of users to be named.
    pub fn trusting(jwks_uri: &str, ca_file: Option<&std::path::Path>) -> Settings {
        Settings::new(Trust::Jwks { url: jwks_uri.to_owned(), client: Client::new(ca_file) })
    }

    /// Believes HS256 tokens with the secret `unsafe`, of the service user.
    pub fn without_auth() -> Settings {
        Settings::new(Trust::Unsafe(b"unsafe".to_vec())).user("ledger-api-user")
    }

    /// Believes one literal token.
    pub fn accepting(token: &str) -> Settings {
        Settings::new(Trust::Literal(token.to_owned()))
    }

    /// The `endpoint` of a configuration.
    pub fn endpoint(&self) -> String {
        format!("{}{BASE}", self.server.origin())
    }

    /// The same with another host name for the same address, such as `localhost`.
    pub fn endpoint_at(&self, host: &str) -> String {
        self.endpoint().replace("127.0.0.1", host)
    }

    pub fn identities_url(&self) -> String {
        format!("{}{IDENTITIES}", self.server.origin())
    }

    /// The usual dump from now on.
    pub fn dump(&self, dump: &[u8]) {
        *self.state.dump.lock().unwrap() = dump.to_vec();
    }

    /// The next answers, one for each authorised request of the identities; after them comes the usual one.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.script.lock().unwrap().extend(answers);
    }

    /// The usual answer from now on, in place of the usual dump.
    pub fn always(&self, answer: Answer) {
        *self.state.always.lock().unwrap() = Some(answer);
    }

    /// Not ready: `readyz` is 503 and the identities are 404.
    pub fn ready(&self, ready: bool) {
        *self.state.readyz.lock().unwrap() = if ready { Readyz::OK } else { Readyz::STARTING };
    }

    /// Not ready; ready from the probe of `readyz` on that follows so many in vain.
    pub fn ready_after(&self, probes: usize) {
        *self.state.readyz.lock().unwrap() = Readyz { probes_left: Some(probes), ..Readyz::STARTING };
    }

    /// Another version of the app from now on, as after an upgrade.
    pub fn version(&self, version: &str) {
        version.clone_into(&mut self.state.version.lock().unwrap());
    }

    /// Lets all stalled requests have the usual dump.
    pub fn release(&self) {
        self.state.release.open();
    }

    /// Requests for the identities so far.
    pub fn identity_requests(&self) -> Vec<Seen> {
        self.server.seen().into_iter().filter(|seen| seen.path == IDENTITIES).collect()
    }

    pub fn readyz_requests(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.path == format!("{BASE}/readyz")).count()
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.server.seen()
    }

    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl State {
    async fn answer(&self, seen: &Seen) -> Reply {
        let host = seen.header("host").map(|host| host.split(':').next().unwrap_or(host));
        if self.settings.host.as_deref().is_some_and(|wanted| host != Some(wanted)) {
            return Reply::new(404, "text/html", "<html><h1>404 Not Found</h1><hr>nginx</html>");
        }
        let Some(path) = seen.path.strip_prefix(BASE) else {
            return not_found();
        };
        match (seen.method.as_str(), path) {
            ("GET", "/readyz") => Reply::empty(self.probe()),
            ("GET", "/livez") => Reply::empty(200),
            ("GET", "/version") => {
                let version = self.version.lock().unwrap().clone();
                Reply::json(200, &json!({"version": version, "commit_ts": "2026-11-20T10:00:00Z"}))
            }
            ("GET", "/v0/admin/participant/identities") => self.identities(seen).await,
            (_, "/readyz" | "/livez" | "/version" | "/v0/admin/participant/identities") => {
                failure(405, "HTTP method not allowed, supported methods: GET")
            }
            _ => not_found(),
        }
    }

    fn probe(&self) -> u16 {
        let mut readyz = self.readyz.lock().unwrap();
        match readyz.probes_left {
            Some(0) => *readyz = Readyz::OK,
            Some(left) => readyz.probes_left = Some(left - 1),
            None => (),
        }
        readyz.status
    }

    async fn identities(&self, seen: &Seen) -> Reply {
        if self.readyz.lock().unwrap().starting {
            return not_found();
        }
        if seen.query.is_some() || !seen.body.is_empty() {
            return failure(400, "this endpoint takes nothing");
        }
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match self.subject_of(token.unwrap_or_default()).await {
            None => failure(401, "The supplied authentication is invalid").header("www-authenticate", "Bearer"),
            Some(subject) if !self.settings.users.contains(&subject) => failure(403, "Authorization Failed"),
            Some(_) => self.scripted(),
        }
    }

    /// Whom the token proves, or nothing.
    async fn subject_of(&self, token: &str) -> Option<String> {
        match &self.settings.trust {
            Trust::Literal(literal) => (token == literal).then(|| self.settings.users.first().cloned())?,
            Trust::Unsafe(secret) => {
                let mut rules = Validation::new(Algorithm::HS256);
                rules.validate_exp = false;
                self.judged(token, &DecodingKey::from_secret(secret), rules, &["aud", "sub"])
            }
            Trust::Jwks { url, client } => {
                let kid = jsonwebtoken::decode_header(token).ok()?.kid?;
                let key = self.key(url, client, &kid).await?;
                let mut rules = Validation::new(Algorithm::RS256);
                rules.leeway = 0;
                self.judged(token, &key, rules, &["exp", "aud", "sub"])
            }
        }
    }

    fn judged(&self, token: &str, key: &DecodingKey, mut rules: Validation, required: &[&str]) -> Option<String> {
        rules.set_audience(&[&self.settings.audience]);
        rules.set_required_spec_claims(required);
        let claims = jsonwebtoken::decode::<Value>(token, key, &rules).ok()?.claims;
        claims["sub"].as_str().map(str::to_owned)
    }

    /// A key of the set, which is fetched again when it does not have it.
    async fn key(&self, url: &str, client: &Client, kid: &str) -> Option<DecodingKey> {
        let mut known = self.keys.lock().await;
        if known.as_ref().is_none_or(|set| set.find(kid).is_none()) {
            let answer = client.send_async("GET", url, &[], None).await.ok()?;
            *known = serde_json::from_slice(&answer.body).ok();
        }
        DecodingKey::from_jwk(known.as_ref()?.find(kid)?).ok()
    }

    fn scripted(&self) -> Reply {
        let dump = self.dump.lock().unwrap().clone();
        let next = self.script.lock().unwrap().pop_front();
        let answer = next.or_else(|| self.always.lock().unwrap().clone()).unwrap_or_else(|| Answer::Dump(dump.clone()));
        self.readyz.lock().unwrap().status = match answer {
            Answer::NotReady => 503,
            Answer::WrongBase => 404,
            _ => 200,
        };
        self.reply(answer, dump)
    }

    fn reply(&self, answer: Answer, dump: Vec<u8>) -> Reply {
        let json = "application/json";
        match answer {
            Answer::Dump(dump) => Reply::new(200, json, dump),
            Answer::Held(gate) => Reply::new(200, json, dump).behind(gate),
            Answer::Stall => Reply::new(200, json, dump).behind(self.release.clone()),
            Answer::Status(status, body, headers) => {
                headers.iter().fold(Reply::new(status, json, body), |reply, (name, value)| reply.header(name, value))
            }
            Answer::NotReady | Answer::WrongBase | Answer::NotServed => not_found(),
            Answer::Redirect(to) => Reply::redirect(&to),
            Answer::Html => Reply::new(200, "text/html; charset=utf-8", "<!doctype html><title>Canton wallet</title>"),
            // A pause hides the length.
            Answer::Chunked => Reply::with_steps(200, json, [Step::Send(dump), Step::Pause(Duration::ZERO)]),
            Answer::Oversize => {
                let start = Step::Send(b"{\"id\":\"".to_vec());
                let steps = (0..32).map(|_| Step::Send(vec![b'a'; 64 << 10]));
                Reply::with_steps(200, json, [Step::Pause(Duration::ZERO), start].into_iter().chain(steps))
            }
            Answer::Gzip => Reply::new(200, json, gzip(&dump)).header("content-encoding", "gzip"),
            Answer::Drip => Reply::with_steps(200, json, [Step::Drip(b' ', Duration::from_millis(100))]),
            Answer::CutAfter(bytes) => {
                let length = dump.len().to_string();
                let steps = [Step::Send(dump[..bytes].to_vec()), Step::Cut];
                Reply::with_steps(200, json, steps).header("content-length", &length)
            }
        }
    }
}

fn not_found() -> Reply {
    failure(404, "The requested resource could not be found.")
}

/// An error as Splice words it.
fn failure(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": message }))
}

/// A gzip file that stores without compressing; all of it is true but the gain.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        file.push(u8::from(blocks.peek().is_none()));
        let length = u16::try_from(block.len()).unwrap();
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend_from_slice(block);
    }
    file.extend(crc32(bytes).to_le_bytes());
    file.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
    };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
