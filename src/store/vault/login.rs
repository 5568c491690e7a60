//! Logging in: one token for all nodes, renewed or replaced when it runs out, given back at the end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Error;
use super::client::{self, Client};
use crate::config::VaultAuth;
use crate::http::{self as web, Answer};
use crate::retry::{Deadline, retry};
use crate::secret;
use crate::store::Local;

/// Time for what is left to do with a token after the pass.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a token that is not ours counts before it is read again.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// The token of one server.
#[derive(Default)]
pub(super) struct Session {
    state: Mutex<State>,
    unwrapped: RefCell<Unwrapped>,
}

/// A secret id can be unwrapped once, and may be needed for more than one login, of a later session too.
type Unwrapped = Rc<RefCell<Option<Known>>>;

/// A secret id, and the token that it was wrapped in, which is spent.
struct Known {
    wrapping: SecretString,
    secret_id: SecretString,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// A login that is under way. It outlives whoever waits for it: its token has to be given back too.
    attempt: Option<Local<'static, Result<Token, Error>>>,
}

struct Token {
    value: SecretString,
    /// Whether it is ours to renew and to revoke.
    is_own: bool,
    is_renewable: bool,
    renew_at: Option<Instant>,
}

#[derive(Deserialize)]
struct LoginAnswer {
    auth: AuthAnswer,
}

#[derive(Deserialize)]
struct AuthAnswer {
    client_token: SecretString,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

impl Token {
    fn new(auth: AuthAnswer) -> Self {
        // A server may name any number; a year is as good as for ever.
        let lease = Duration::from_secs(auth.lease_duration.min(365 * 86_400));
        Self {
            value: auth.client_token,
            is_own: true,
            is_renewable: auth.renewable,
            renew_at: (!lease.is_zero()).then(|| Instant::now() + lease.mul_f64(0.66)),
        }
    }

    fn is_due(&self) -> bool {
        self.renew_at.is_some_and(|at| Instant::now() >= at)
    }
}

impl Session {
    /// Takes over a secret id that another session has unwrapped, or does at this moment.
    pub(super) fn take_over(&self, earlier: &Self) {
        self.unwrapped.replace(Rc::clone(&earlier.unwrapped.borrow()));
    }

    /// Makes a call with the token at hand. A 403 because the token has run out is answered by one new login.
    pub(super) async fn call(
        &self,
        client: &Rc<Client>,
        deadline: Deadline,
        call: impl AsyncFn(&SecretString) -> Result<Answer, Error>,
    ) -> Result<Answer, Error> {
        let token = self.token(client, deadline).await?;
        let answer = call(&token).await?;
        if answer.status.as_u16() != 403 || !self.is_dead(client, &token, deadline).await {
            return Ok(answer);
        }
        tracing::info!("the token of the store has run out, logging in again");
        let token = self.replace(&token, client, deadline).await?;
        call(&token).await
    }

    async fn token(&self, client: &Rc<Client>, deadline: Deadline) -> Result<SecretString, Error> {
        // Whoever logs in meanwhile may have more time than this caller.
        let state = tokio::time::timeout(deadline.remaining(), self.state.lock()).await;
        let mut state =
            state.map_err(|_| web::Error::NoTime { doing: "logging in at", origin: client.origin.clone() })?;
        if let Some(token) = &state.token {
            if !token.is_due() {
                return Ok(token.value.clone());
            }
            if token.is_renewable
                && let Some((renewed, _)) = renew(client, &token.value, None, deadline).await
            {
                let value = renewed.value.clone();
                state.token = Some(renewed);
                return Ok(value);
            }
        }
        self.log_in(&mut state, client, deadline).await
    }

    async fn replace(
        &self,
        dead: &SecretString,
        client: &Rc<Client>,
        deadline: Deadline,
    ) -> Result<SecretString, Error> {
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.value.expose_secret() != dead.expose_secret()
        {
            return Ok(token.value.clone());
        }
        // It lives if it only may not look itself up.
        let _ = give_back(client, dead).await;
        self.log_in(&mut state, client, deadline).await
    }

    async fn log_in(&self, state: &mut State, client: &Rc<Client>, deadline: Deadline) -> Result<SecretString, Error> {
        let token: Token = retry(deadline, "login", async || -> Result<Token, Error> {
            let begin = || -> Local<'static, Result<Token, Error>> {
                let (client, unwrapped) = (Rc::clone(client), Rc::clone(&self.unwrapped.borrow()));
                Box::pin(async move { log_in_once(&client, &unwrapped, deadline).await })
            };
            let result = state.attempt.get_or_insert_with(begin).await;
            state.attempt = None;
            result
        })
        .await?;
        if http::HeaderValue::from_str(token.value.expose_secret()).is_err() {
            return Err(Error::BadToken { origin: client.origin.clone() });
        }
        tracing::debug!(origin = client.origin, "logged in to the store");
        let value = token.value.clone();
        state.token = Some(token);
        Ok(value)
    }

    /// How long the token can be made to live if that is `wanted`; `None` for one that is renewed for ever.
    pub(super) async fn prolong(
        &self,
        client: &Rc<Client>,
        wanted: Duration,
        deadline: Deadline,
    ) -> Result<Option<Duration>, Error> {
        #[derive(Deserialize)]
        struct Life {
            #[serde(default)]
            ttl: u64,
            #[serde(default)]
            period: u64,
        }
        const DOING: &str = "looking up the token at";
        const PATH: &str = "auth/token/lookup-self";
        let look = async |token: &_| client.get(PATH).token(token).send(DOING, deadline).await;
        let answer = self.call(client, deadline, look).await?;
        if !answer.status.is_success() {
            return Err(client.refusal(&answer, DOING, PATH));
        }
        let garbled = || Error::Garbled { doing: DOING, path: PATH.into() };
        let life: Life = client::data(&answer.body).ok_or_else(garbled)?;
        let ttl = Duration::from_secs(life.ttl);
        if ttl.is_zero() || life.period > 0 {
            return Ok(None);
        }
        let mut state = self.state.lock().await;
        let Some(token) = state.token.as_ref().filter(|token| token.is_renewable && ttl < wanted) else {
            return Ok(Some(ttl));
        };
        let Some((renewed, life)) = renew(client, &token.value, Some(wanted), deadline).await else {
            return Ok(Some(ttl));
        };
        state.token = Some(renewed);
        Ok(Some(life))
    }

    /// When the token is to be renewed.
    pub(super) async fn due_in(&self) -> Option<Duration> {
        let state = self.state.lock().await;
        // One that is not ours is read again whenever it is used: nothing has to be done for it meanwhile.
        let renew_at = state.token.as_ref().filter(|token| token.is_own).and_then(|token| token.renew_at)?;
        Some(renew_at.saturating_duration_since(Instant::now()))
    }

    /// Renews the token if that is due.
    pub(super) async fn keep(&self, client: &Rc<Client>, deadline: Deadline) -> Result<(), Error> {
        self.token(client, deadline).await.map(|_| ())
    }

    /// True if the server does not know the token any more, so that a 403 was not about rights.
    async fn is_dead(&self, client: &Client, token: &SecretString, deadline: Deadline) -> bool {
        if matches!(client.config().auth, VaultAuth::Token(_)) {
            return false;
        }
        let answer = client.get("auth/token/lookup-self").token(token).send("looking up the token at", deadline).await;
        answer.is_ok_and(|answer| answer.status.as_u16() == 403)
    }

    /// Gives back a token of our own, so that leases do not pile up.
    pub(super) async fn revoke(&self, client: &Client) {
        let mut state = self.state.lock().await;
        if let Some(attempt) = state.attempt.take()
            && let Ok(Ok(token)) = tokio::time::timeout(FAREWELL, attempt).await
        {
            state.token = Some(token);
        }
        // Wiped, unless a later session has it.
        self.unwrapped.take();
        let Some(token) = state.token.take().filter(|token| token.is_own) else { return };
        match give_back(client, &token.value).await {
            Ok(answer) if answer.status.is_success() => tracing::debug!("store token revoked"),
            // Batch tokens cannot be revoked and hold no lease.
            Ok(answer) if answer.status.as_u16() == 400 => {}
            Ok(answer) => tracing::warn!(
                status = answer.status.as_u16(),
                "the store's token could not be revoked and lives on until it runs out"
            ),
            Err(error) => tracing::warn!(
                error = crate::error::chain(&error),
                "the store's token could not be revoked and lives on until it runs out"
            ),
        }
    }
}

/// The token with a new life, and how long that is.
async fn renew(
    client: &Client,
    token: &SecretString,
    increment: Option<Duration>,
    deadline: Deadline,
) -> Option<(Token, Duration)> {
    let mut request = client.post("auth/token/renew-self").token(token);
    if let Some(increment) = increment {
        request = request.body(bytes::Bytes::from(json!({"increment": increment.as_secs()}).to_string()));
    }
    let answer = request.send("renewing the token at", deadline).await.ok()?;
    let answer: LoginAnswer = serde_json::from_slice(&answer.body).ok()?;
    let life = Duration::from_secs(answer.auth.lease_duration);
    let renewed = Token::new(answer.auth);
    // At the end of its maximal life a renewal gives next to nothing: better a new login.
    (renewed.renew_at? > Instant::now() + Duration::from_millis(300)).then_some((renewed, life))
}

async fn give_back(client: &Client, token: &SecretString) -> Result<Answer, Error> {
    let request = client.post("auth/token/revoke-self").token(token);
    request.send("revoking the token at", Deadline::after(FAREWELL)).await
}

async fn log_in_once(client: &Client, known: &RefCell<Option<Known>>, deadline: Deadline) -> Result<Token, Error> {
    match &client.config().auth {
        VaultAuth::Token(reference) => Ok(Token {
            value: secret::resolve_local(reference).map_err(|source| unreadable(client, source))?,
            is_own: false,
            is_renewable: false,
            // Whoever put it there may replace it.
            renew_at: Some(Instant::now() + READ_AGAIN),
        }),
        VaultAuth::Approle { role_id, secret_id, wrapped, mount } => {
            let secret_id = if *wrapped {
                unwrapped(known, secret_id, mount, client, deadline).await?
            } else {
                secret::resolve_local(secret_id).map_err(|source| unreadable(client, source))?
            };
            let mut body = json!({"role_id": role_id, "secret_id": secret_id.expose_secret()});
            let result = post(client, "approle", mount, &body, deadline).await;
            wipe(&mut body);
            result
        }
        VaultAuth::Kubernetes { role, mount, token_file } => {
            let jwt = secret::guarded_text(token_file).map_err(|source| unreadable(client, source))?;
            with_jwt(client, "kubernetes", mount, role, &jwt, deadline).await
        }
        VaultAuth::Jwt { role, mount, token } => {
            let jwt = secret::resolve_local(token).map_err(|source| unreadable(client, source))?;
            with_jwt(client, "jwt", mount, role, &jwt, deadline).await
        }
        VaultAuth::Cert { role, mount } => {
            let body = role.as_ref().map_or_else(|| json!({}), |role| json!({"name": role}));
            post(client, "cert", mount, &body, deadline).await
        }
    }
}

async fn with_jwt(
    client: &Client,
    method: &'static str,
    mount: &str,
    role: &str,
    jwt: &SecretString,
    deadline: Deadline,
) -> Result<Token, Error> {
    let mut body = json!({"role": role, "jwt": jwt.expose_secret()});
    let result = post(client, method, mount, &body, deadline).await;
    wipe(&mut body);
    result
}

/// JSON holds its strings in plain `String`s: they are wiped here, whatever the allocator does later.
fn wipe(body: &mut serde_json::Value) {
    use zeroize::Zeroize as _;
    for value in body.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        if let serde_json::Value::String(text) = value {
            text.zeroize();
        }
    }
}

async fn post(
    client: &Client,
    method: &'static str,
    mount: &str,
    body: &serde_json::Value,
    deadline: Deadline,
) -> Result<Token, Error> {
    let mount = mount.trim_matches('/');
    let path = format!("auth/{mount}/login");
    let doing = "logging in at";
    let (origin, mount_name) = (client.origin.clone(), mount.to_owned());
    let refused = |status| Error::LoginRefused { origin, method, mount: mount_name, status };
    let answer = client.post(&path).secret_json(body).send(doing, deadline).await?;
    match answer.status.as_u16() {
        200 => {
            let answer: Option<LoginAnswer> = serde_json::from_slice(&answer.body).ok();
            Ok(Token::new(answer.ok_or(Error::Garbled { doing, path })?.auth))
        }
        404 => Err(Error::NoLogin { origin: client.origin.clone(), method, mount: mount.to_owned() }),
        status @ (400 | 401 | 403) => Err(refused(status)),
        // The method for Kubernetes answers 500 for a token that the API server does not accept.
        status @ 500 if client::says(&answer, "lookup failed:") => Err(refused(status)),
        _ => Err(client.refusal(&answer, doing, &path)),
    }
}

/// The secret id inside a wrapping token, after a look at who wrapped it.
async fn unwrapped(
    known: &RefCell<Option<Known>>,
    reference: &crate::config::SecretRef,
    mount: &str,
    client: &Client,
    deadline: Deadline,
) -> Result<SecretString, Error> {
    let wrapping = secret::resolve_local(reference);
    // Whoever takes the spent one away means nothing by it; another one is meant to take its place.
    if let Some(secret_id) = kept(known, wrapping.as_ref().ok()) {
        return Ok(secret_id);
    }
    let wrapping = wrapping.map_err(|source| unreadable(client, source))?;
    match unwrap_once(&wrapping, mount, client, deadline).await {
        Ok(secret_id) => {
            known.replace(Some(Known { wrapping, secret_id: secret_id.clone() }));
            Ok(secret_id)
        }
        // Another session of this process may have been faster.
        Err(error @ Error::AlreadyUnwrapped { .. }) => kept(known, Some(&wrapping)).ok_or(error),
        Err(error) => Err(error),
    }
}

/// What is known of this wrapping token, or of whichever there was where it is gone.
fn kept(known: &RefCell<Option<Known>>, wrapping: Option<&SecretString>) -> Option<SecretString> {
    let known = known.borrow();
    let known = known.as_ref()?;
    let is_it = |wrapping: &SecretString| wrapping.expose_secret() == known.wrapping.expose_secret();
    wrapping.is_none_or(is_it).then(|| known.secret_id.clone())
}

async fn unwrap_once(
    wrapping: &SecretString,
    mount: &str,
    client: &Client,
    deadline: Deadline,
) -> Result<SecretString, Error> {
    #[derive(Deserialize)]
    struct Lookup {
        creation_path: String,
    }
    #[derive(Deserialize)]
    struct Unwrapped {
        secret_id: SecretString,
    }
    let origin = client.origin.clone();
    let gone = || Error::AlreadyUnwrapped { origin: origin.clone() };
    let mut body = json!({"token": wrapping.expose_secret()});
    let request = client.post("sys/wrapping/lookup").secret_json(&body);
    wipe(&mut body);
    let answer = request.send("looking up the wrapping token at", deadline).await?;
    let creation_path = match answer.status.as_u16() {
        200 => client::data::<Lookup>(&answer.body).ok_or_else(gone)?.creation_path,
        400 | 403 | 404 => return Err(gone()),
        _ => return Err(client.refusal(&answer, "looking up the wrapping token at", "sys/wrapping/lookup")),
    };
    let mount = mount.trim_matches('/');
    let is_secret_id =
        creation_path.starts_with(&format!("auth/{mount}/role/")) && creation_path.ends_with("/secret-id");
    if !is_secret_id {
        let creation_path = creation_path.chars().filter(|c| !c.is_control()).take(128).collect();
        return Err(Error::WrappedElsewhere { origin, creation_path, mount: mount.to_owned() });
    }
    let answer =
        client.post("sys/wrapping/unwrap").token(wrapping).send("unwrapping the secret id at", deadline).await?;
    match answer.status.as_u16() {
        200 => client::data::<Unwrapped>(&answer.body).map(|unwrapped| unwrapped.secret_id).ok_or_else(gone),
        400 | 403 | 404 => Err(gone()),
        _ => Err(client.refusal(&answer, "unwrapping the secret id at", "sys/wrapping/unwrap")),
    }
}

fn unreadable(client: &Client, source: secret::Error) -> Error {
    Error::Secret { origin: client.origin.clone(), source }
}
