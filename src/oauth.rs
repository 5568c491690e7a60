//! Tokens: OAuth 2.0 client credentials, or what stands in for them, held in wiped memory.

mod answer;
mod assertion;
mod claims;
mod discovery;
mod endpoint;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

pub use claims::Claims;

use crate::config::{Auth, UnsafeHs256};
use crate::error::{Failure, Fault};
use crate::http::{self, Http};
use crate::retry::{Deadline, retry};
use crate::secret::{self, Secrets};
use endpoint::Request;

/// A bearer token. Never printed, wiped when dropped.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<idkeep::oauth::AccessToken>();
/// ```
pub struct AccessToken {
    value: SecretString,
    renew_at: Option<Instant>,
}

impl AccessToken {
    /// Nothing if a header cannot carry it (RFC 6750: visible ASCII).
    fn new(value: SecretString, lifetime: Option<Duration>) -> Option<Self> {
        let text = value.expose_secret();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        // A lifetime of centuries is as good as a year.
        let renew_at = lifetime.map(|lifetime| Instant::now() + renew_after(lifetime.min(YEAR)));
        Some(Self { value, renew_at })
    }

    /// One that somebody else puts there, and may replace.
    fn read(value: SecretString) -> Option<Self> {
        Self::new(value, None).map(|token| Self { renew_at: Some(Instant::now() + READ_AGAIN), ..token })
    }

    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    fn is_due(&self) -> bool {
        self.renew_at.is_some_and(|at| Instant::now() >= at)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken")
    }
}

/// How long a ready token counts before it is read again.
const READ_AGAIN: Duration = Duration::from_secs(10);

const YEAR: Duration = Duration::from_hours(365 * 24);

/// When a token of this lifetime is renewed: max(half of it, min(it − 60 s, 80 % of it)).
fn renew_after(lifetime: Duration) -> Duration {
    let late = lifetime.saturating_sub(Duration::from_mins(1)).min(lifetime.mul_f64(0.8));
    late.max(lifetime / 2)
}

/// Why there is no token. Holds no byte of the answer but OAuth's own `error` code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// A secret or key that the request needs cannot be read.
    #[error("asking for a token")]
    Secret(#[from] secret::Error),
    /// The issuer refuses the client.
    #[error("asking {origin} for a token: the issuer refuses the client: {code}")]
    Refused { origin: String, code: String },
    /// The issuer refuses the request.
    #[error("asking {origin} for a token: {code}")]
    Rejected { origin: String, code: String },
    /// The answer is no token.
    #[error("asking {origin} for a token: the answer (status {status}) is no token: {why}")]
    NotAToken { origin: String, status: u16, why: &'static str },
    /// Busy, down or starting.
    #[error("asking {origin} for {what}: status {status}{}", http::patience(*retry_after))]
    Busy { origin: String, what: &'static str, status: u16, retry_after: Option<Duration> },
    /// A redirect, which is never followed.
    #[error("asking {origin} for a token: redirected to {to}, which is not followed")]
    Redirected { origin: String, to: String },
    /// The discovery document is missing or says something that is not believed.
    #[error("reading the discovery document of {issuer}: {why}")]
    Discovery { issuer: String, why: String },
    /// Another node's request took all the time there was.
    #[error("waiting for the token that another node asks for: none within the deadline")]
    Waited,
    /// What another node's request for the same token came to.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// The ready token is none.
    #[error("the ready token is empty or has characters that no token has")]
    NotReady,
    /// The private key does not sign.
    #[error("signing the client assertion: {0}")]
    Assertion(&'static str),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Http(error) => error.fault(),
            Self::Secret(error) => error.fault(),
            Self::Shared(error) => error.fault(),
            Self::Busy { .. } | Self::Waited => Fault::Transient,
            Self::Refused { .. } => Fault::Credentials,
            Self::Rejected { .. }
            | Self::NotAToken { .. }
            | Self::Redirected { .. }
            | Self::Discovery { .. }
            | Self::NotReady
            | Self::Assertion(_) => Fault::Config,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Secret(error) => error.retry_after(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Http(error) => return error.hint(),
            Self::Secret(error) => return error.hint(),
            Self::Shared(error) => return error.hint(),
            Self::Busy { .. } | Self::Waited => "look at the issuer's log or status page".into(),
            Self::Refused { .. } => {
                "check `client_id`, the secret or key it refers to, `client_auth`, and for Keycloak or Okta `basic_encoding`".into()
            }
            Self::Rejected { code, .. } if code == "invalid_request" => {
                "check `client_auth` and `basic_encoding`, and `audience`, `resource`, `scope` and `extra_params`".into()
            }
            Self::Rejected { .. } => "check `audience`, `resource`, `scope` and `extra_params` against what the issuer grants this client".into(),
            Self::NotAToken { .. } | Self::Redirected { .. } => "check `issuer` or `token_url`: something else answers there".into(),
            Self::Discovery { .. } => {
                "check `issuer`, or put the token endpoint's address in `token_url`: discovery is then not needed".into()
            }
            Self::NotReady => "`token` refers to something else; the file holds the token and nothing more".into(),
            Self::Assertion(_) => "`private_key` takes a PEM key: RSA, EC P-256, EC P-384 (PKCS #8) or Ed25519".into(),
        })
    }
}

/// Where a node's tokens come from. One request in flight, one token held until it is due.
pub struct TokenSource {
    auth: Auth,
    secrets: Rc<Secrets>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<Arc<AccessToken>>,
    endpoint: Option<discovery::Endpoint>,
    /// The last failure that waiting does not help, with when it came.
    failed: Option<(Instant, Arc<Error>)>,
}

impl TokenSource {
    /// A source that has not asked yet.
    #[must_use]
    pub fn new(auth: Auth, secrets: Rc<Secrets>) -> Self {
        Self { auth, secrets, held: Mutex::default() }
    }

    /// The token at hand, or a new one.
    pub async fn token(&self, http: &Http, deadline: Deadline) -> Result<Arc<AccessToken>, Error> {
        let mut held = self.held(deadline).await?;
        if let Some(token) = held.token.as_ref().filter(|token| !token.is_due()) {
            return Ok(Arc::clone(token));
        }
        self.ask(&mut held, http, deadline).await
    }

    /// A new token in place of one that the node refused; the one at hand if somebody was faster.
    pub async fn replace(
        &self,
        refused: &Arc<AccessToken>,
        http: &Http,
        deadline: Deadline,
    ) -> Result<Arc<AccessToken>, Error> {
        let mut held = self.held(deadline).await?;
        if let Some(token) = held.token.as_ref().filter(|token| !Arc::ptr_eq(token, refused)) {
            return Ok(Arc::clone(token));
        }
        self.ask(&mut held, http, deadline).await
    }

    /// Waits while another node asks. What came to nothing in the meantime is not asked for again.
    async fn held(&self, deadline: Deadline) -> Result<MutexGuard<'_, Held>, Error> {
        let started = Instant::now();
        let held = tokio::time::timeout(deadline.remaining(), self.held.lock()).await.map_err(|_| Error::Waited)?;
        match &held.failed {
            Some((at, error)) if *at > started => Err(Error::Shared(Arc::clone(error))),
            _ => Ok(held),
        }
    }

    async fn ask(&self, held: &mut Held, http: &Http, deadline: Deadline) -> Result<Arc<AccessToken>, Error> {
        held.token = None;
        match self.request(&mut held.endpoint, http, deadline).await {
            Ok(token) => {
                tracing::debug!("token ready");
                Ok(Arc::clone(held.token.insert(Arc::new(token))))
            }
            Err(error) if error.fault() == Fault::Transient => Err(error),
            Err(error) => {
                let (_, error) = held.failed.insert((Instant::now(), Arc::new(error)));
                Err(Error::Shared(Arc::clone(error)))
            }
        }
    }

    async fn request(
        &self,
        endpoint: &mut Option<discovery::Endpoint>,
        http: &Http,
        deadline: Deadline,
    ) -> Result<AccessToken, Error> {
        match &self.auth {
            Auth::Oauth2(oauth2) => {
                let request = Request { config: oauth2, secrets: &self.secrets, http, deadline };
                retry(deadline, "token", async || request.send(endpoint).await).await
            }
            Auth::UnsafeHs256(unsafe_hs256) => {
                let secret = self.secrets.resolve(&unsafe_hs256.secret, deadline).await?;
                sign(unsafe_hs256, &secret)
            }
            Auth::Token(reference) => {
                AccessToken::read(self.secrets.resolve(reference, deadline).await?).ok_or(Error::NotReady)
            }
        }
    }

    /// What the configuration asks for, to compare with what a refused token says.
    #[must_use]
    pub fn asks_for(&self) -> String {
        match &self.auth {
            Auth::Oauth2(oauth2) => match (&oauth2.audience, &oauth2.resource) {
                (Some(audience), _) => format!("asks for audience {audience}"),
                (None, Some(resource)) => format!("asks for resource {resource}"),
                (None, None) => "asks for no audience".into(),
            },
            Auth::UnsafeHs256(unsafe_hs256) => format!("says audience {}", unsafe_hs256.audience),
            Auth::Token(_) => "refers to a ready token".into(),
        }
    }
}

/// The token that a compose node without authentication trusts: claims `iat`, `aud`, `sub`.
fn sign(config: &UnsafeHs256, secret: &SecretString) -> Result<AccessToken, Error> {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.expose_secret().as_bytes());
    let claims = serde_json::json!({
        "iat": jiff::Timestamp::now().as_second(),
        "aud": config.audience,
        "sub": config.user,
    });
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    let token = token.map_err(|_| Error::Assertion("HS256"))?;
    AccessToken::read(token.into()).ok_or(Error::Assertion("HS256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_runs_out() {
        let cases = [(10, 5.0), (60, 30.0), (100, 50.0), (300, 240.0), (3600, 2880.0), (86400, 69120.0)];
        for (lifetime, expected) in cases {
            let after = renew_after(Duration::from_secs(lifetime)).as_secs_f64();
            assert!((after - expected).abs() < 0.001, "{lifetime}: {after}");
        }
    }
}
