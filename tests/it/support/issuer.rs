//! A token issuer of our own, for what a certified one will not do: Auth0's `audience`, and every fault.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::client::parse_form;
use super::server::{Gate, Reply, Seen, Server, Step, Tls, origin};
use super::{block_on, jwt};

pub const AUDIENCE: &str = "https://validator.example.com";

/// Whose habits it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Needs `audience`, one that the client is granted; `sub` is `<client id>@clients`; the issuer ends in `/`.
    Auth0,
    /// Ignores `audience` and always names the first granted one; tokens live five minutes; no `/` at the end.
    Keycloak,
}

/// How a client that shows itself by `Basic` must have encoded its id and secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Basic {
    Rfc6749,
    Raw,
}

/// The answer to a token request.
#[derive(Clone)]
pub enum Answer {
    /// A token, if the request is right; else what the real one says.
    Normal,
    /// An opaque token with this very text, if the request is right.
    Literal(String),
    /// A JWT with these claims, whatever they are, if the request is right.
    Claims(Value),
    /// OAuth's error answer.
    Error(u16, &'static str),
    /// 429, with `Retry-After` if there is one.
    TooMany(Option<&'static str>),
    Status(u16),
    /// 200 with a login page.
    Html,
    /// 200 with JSON that has no token in it.
    NotAToken,
    Redirect(String),
    /// 200, JSON, and a body that never ends.
    Endless,
    /// One byte every 100 ms, for ever.
    Drip,
    /// The token's answer, cut in the middle.
    Cut,
    After(Duration, Box<Answer>),
    /// Held back until the gate opens.
    Held(Gate, Box<Answer>),
}

/// The discovery document.
#[derive(Clone)]
pub enum Discovery {
    Right,
    /// These members are replaced; null takes one away.
    With(Value),
    /// Right, but padded to more than so many bytes.
    Padded(usize),
    Status(u16),
    Html,
    Redirect(String),
}

impl Discovery {
    pub fn issuer(other: &str) -> Self {
        Self::With(json!({ "issuer": other }))
    }

    pub fn token_endpoint(other: &str) -> Self {
        Self::With(json!({ "token_endpoint": other }))
    }

    pub fn mtls_token_endpoint(other: &str) -> Self {
        Self::With(json!({ "mtls_endpoint_aliases": { "token_endpoint": other } }))
    }

    pub fn methods(supported: &[&str]) -> Self {
        Self::With(json!({ "token_endpoint_auth_methods_supported": supported }))
    }
}

/// What an issuer is like, before it starts.
pub struct Settings {
    flavour: Flavour,
    tls: Option<Tls>,
    client_id: String,
    client_secret: String,
    basic: Basic,
    granted: Vec<String>,
    lifetime: Option<u64>,
    extra: BTreeMap<String, String>,
}

/// A running issuer with one client.
pub struct Issuer {
    pub client_id: String,
    pub client_secret: String,
    pub ca_file: Option<std::path::PathBuf>,
    server: Server,
    state: Arc<State>,
}

struct State {
    settings: Settings,
    origin: String,
    script: Mutex<VecDeque<Answer>>,
    always: Mutex<Answer>,
    discovery: Mutex<Discovery>,
    secret: Mutex<String>,
}

impl Settings {
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    pub fn client(mut self, id: &str, secret: &str) -> Self {
        (self.client_id, self.client_secret) = (id.to_owned(), secret.to_owned());
        self
    }

    pub fn basic(mut self, basic: Basic) -> Self {
        self.basic = basic;
        self
    }

    /// The audiences that the client may ask for.
    pub fn granted(mut self, audiences: &[&str]) -> Self {
        self.granted = audiences.iter().map(ToString::to_string).collect();
        self
    }

    /// Seconds, or nothing: then `expires_in` is absent (and the JWT lives an hour).
    pub fn lifetime(mut self, lifetime: impl Into<Option<u64>>) -> Self {
        self.lifetime = lifetime.into();
        self
    }

    /// A form field that a request must have, such as a `scope`.
    pub fn wants(mut self, field: &str, value: &str) -> Self {
        self.extra.insert(field.to_owned(), value.to_owned());
        self
    }

    pub fn start(self) -> Issuer {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let tls = self.tls.clone();
        let state = Arc::new(State {
            origin: origin(tls.is_some(), listener.local_addr().unwrap()),
            secret: Mutex::new(self.client_secret.clone()),
            settings: self,
            script: Mutex::default(),
            always: Mutex::new(Answer::Normal),
            discovery: Mutex::new(Discovery::Right),
        });
        let shared = state.clone();
        let server = Server::on(listener, tls.as_ref().map(|tls| tls.config.clone()), move |seen| {
            let state = shared.clone();
            async move { state.answer(&seen).await }
        });
        Issuer {
            client_id: state.settings.client_id.clone(),
            client_secret: state.settings.client_secret.clone(),
            ca_file: tls.map(|tls| tls.ca_file),
            server,
            state,
        }
    }
}

impl Issuer {
    /// Auth0's habits, one client, [`AUDIENCE`] granted, plain HTTP; to be changed and started.
    pub fn settings() -> Settings {
        Settings {
            flavour: Flavour::Auth0,
            tls: None,
            client_id: "idkeep-client".into(),
            client_secret: "idkeep-client-secret-0123456789".into(),
            basic: Basic::Rfc6749,
            granted: vec![AUDIENCE.into()],
            lifetime: Some(86_400),
            extra: BTreeMap::new(),
        }
    }

    pub fn start() -> Self {
        Self::settings().start()
    }

    /// The issuer as a configuration names it.
    pub fn url(&self) -> String {
        self.state.issuer()
    }

    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.state.origin)
    }

    pub fn jwks_uri(&self) -> String {
        format!("{}/.well-known/jwks.json", self.state.origin)
    }

    /// The `sub` of its tokens.
    pub fn subject(&self) -> String {
        self.state.subject()
    }

    /// The next answers, one for each token request; after them comes the usual one.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.script.lock().unwrap().extend(answers);
    }

    /// The usual answer from now on.
    pub fn always(&self, answer: Answer) {
        *self.state.always.lock().unwrap() = answer;
    }

    pub fn discovery(&self, discovery: Discovery) {
        *self.state.discovery.lock().unwrap() = discovery;
    }

    /// Another secret of the client's from now on: the one before is revoked.
    pub fn rotate_secret(&self, secret: &str) {
        secret.clone_into(&mut self.state.secret.lock().unwrap());
    }

    /// Token requests so far.
    pub fn token_requests(&self) -> Vec<Seen> {
        self.server.seen().into_iter().filter(|seen| seen.path == "/oauth/token").collect()
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.server.seen()
    }

    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl State {
    fn issuer(&self) -> String {
        let slash = if self.settings.flavour == Flavour::Auth0 { "/" } else { "" };
        format!("{}{slash}", self.origin)
    }

    fn subject(&self) -> String {
        match self.settings.flavour {
            Flavour::Auth0 => format!("{}@clients", self.settings.client_id),
            Flavour::Keycloak => format!("service-account-{}", self.settings.client_id),
        }
    }

    async fn answer(&self, seen: &Seen) -> Reply {
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/.well-known/openid-configuration") => self.document(),
            ("GET", "/.well-known/jwks.json") => Reply::json(200, &jwt::jwks()),
            ("POST", "/oauth/token") => {
                let next = self.script.lock().unwrap().pop_front();
                let answer = next.unwrap_or_else(|| self.always.lock().unwrap().clone());
                self.token_reply(answer, seen).await
            }
            (_, "/oauth/token") => Reply::empty(405),
            _ => Reply::new(404, "text/plain", "Not Found"),
        }
    }

    fn document(&self) -> Reply {
        let mut document = json!({
            "issuer": self.issuer(),
            "token_endpoint": format!("{}/oauth/token", self.origin),
            "jwks_uri": format!("{}/.well-known/jwks.json", self.origin),
            "authorization_endpoint": format!("{}/authorize", self.origin),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        });
        match self.discovery.lock().unwrap().clone() {
            Discovery::Right => (),
            Discovery::With(members) => {
                for (name, value) in members.as_object().unwrap() {
                    document[name] = value.clone();
                }
                document.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            }
            Discovery::Padded(size) => document["padding"] = json!("x".repeat(size)),
            Discovery::Status(status) => return Reply::empty(status),
            Discovery::Html => return Reply::new(200, "text/html", "<html>Welcome</html>"),
            Discovery::Redirect(to) => return Reply::redirect(&to),
        }
        Reply::json(200, &document)
    }

    async fn token_reply(&self, answer: Answer, seen: &Seen) -> Reply {
        match answer {
            Answer::Normal => self.checked(seen, |state, audience| state.jwt(audience)),
            Answer::Literal(token) => self.checked(seen, |_, _| token),
            Answer::Claims(claims) => self.checked(seen, |_, _| jwt::mint(&claims)),
            Answer::Error(status, code) => error(status, code, "as the test wanted"),
            Answer::TooMany(None) => error(429, "too_many_requests", "Global limit has been reached"),
            Answer::TooMany(Some(after)) => {
                error(429, "too_many_requests", "Global limit has been reached").header("retry-after", after)
            }
            Answer::Status(status) => Reply::new(status, "text/plain", "upstream trouble"),
            Answer::Html => Reply::new(200, "text/html; charset=utf-8", "<!doctype html><title>Log in</title>"),
            Answer::NotAToken => Reply::json(200, &json!({"message": "hello", "token_type": "Bearer"})),
            Answer::Redirect(to) => Reply::redirect(&to),
            Answer::Endless => {
                let start = Step::Send(b"{\"access_token\":\"".to_vec());
                let steps = std::iter::once(start).chain((0..4096).map(|_| Step::Send(vec![b'a'; 64 << 10])));
                // A pause makes the length unknown, so that nobody can refuse it by its header.
                Reply::with_steps(200, "application/json", steps.chain([Step::Pause(Duration::ZERO)]))
            }
            Answer::Drip => Reply::with_steps(200, "application/json", [Step::Drip(b' ', Duration::from_millis(100))]),
            Answer::Cut => {
                let steps = [Step::Send(b"{\"access_token\":\"".to_vec()), Step::Cut];
                Reply::with_steps(200, "application/json", steps).header("content-length", "1000")
            }
            Answer::After(time, answer) => {
                tokio::time::sleep(time).await;
                Box::pin(self.token_reply(*answer, seen)).await
            }
            Answer::Held(gate, answer) => Box::pin(self.token_reply(*answer, seen)).await.behind(gate),
        }
    }

    /// Judges the request as strictly as the real ones do; makes the token only for a right one.
    fn checked(&self, seen: &Seen, token: impl FnOnce(&Self, &str) -> String) -> Reply {
        if seen.header("content-type").is_none_or(|kind| !kind.starts_with("application/x-www-form-urlencoded")) {
            return error(415, "invalid_request", "a form is wanted");
        }
        let form = parse_form(&seen.body);
        if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
            return error(400, "unsupported_grant_type", "client_credentials is wanted");
        }
        if !self.is_the_client(seen, &form) {
            return error(401, "invalid_client", "Unauthorized").header("www-authenticate", "Basic");
        }
        for (field, value) in &self.settings.extra {
            if form.get(field) != Some(value) {
                return error(400, "invalid_request", "a field is missing");
            }
        }
        let audience = match (self.settings.flavour, form.get("audience")) {
            (Flavour::Keycloak, _) => &self.settings.granted[0],
            (Flavour::Auth0, Some(audience)) if self.settings.granted.contains(audience) => audience,
            (Flavour::Auth0, Some(_)) => return error(403, "access_denied", "Service not found"),
            (Flavour::Auth0, None) => {
                return error(403, "access_denied", "No audience parameter was provided");
            }
        };
        let mut body = json!({"access_token": token(self, audience), "token_type": "Bearer"});
        if let Some(lifetime) = self.settings.lifetime {
            body["expires_in"] = json!(lifetime);
        }
        Reply::json(200, &body).header("cache-control", "no-store")
    }

    /// Exactly one way of showing itself, and the right secret.
    fn is_the_client(&self, seen: &Seen, form: &BTreeMap<String, String>) -> bool {
        let Settings { client_id, basic, .. } = &self.settings;
        let client_secret = &*self.secret.lock().unwrap();
        match (seen.header("authorization"), form.get("client_secret")) {
            (None, Some(secret)) => form.get("client_id") == Some(client_id) && secret == client_secret,
            (Some(header), None) => {
                let pair = header.strip_prefix("Basic ").and_then(|encoded| STANDARD.decode(encoded).ok());
                let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
                match basic {
                    Basic::Raw => pair == format!("{client_id}:{client_secret}"),
                    Basic::Rfc6749 => pair
                        .split_once(':')
                        .is_some_and(|(id, secret)| decoded(id) == *client_id && decoded(secret) == *client_secret),
                }
            }
            _ => false,
        }
    }

    fn jwt(&self, audience: &str) -> String {
        let now = jwt::now();
        let lifetime = self.settings.lifetime.unwrap_or(3600);
        jwt::mint(&json!({
            "iss": self.issuer(), "sub": self.subject(), "aud": audience, "azp": self.settings.client_id,
            "iat": now, "exp": now + lifetime, "gty": "client-credentials",
            // Two tokens of one second would be the same text otherwise.
            "jti": format!("{:016x}", fastrand::u64(..)),
        }))
    }
}

fn error(status: u16, code: &str, description: &str) -> Reply {
    Reply::json(status, &json!({"error": code, "error_description": description}))
}

/// Undoes form-encoding of one value.
fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={text}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
