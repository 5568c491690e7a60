//! The validator app: one GET for the identities, every answer judged as the network's code means it.
//!
//! Status codes: Splice `HttpErrorHandler.scala`, `AuthExtractor.scala`.

use std::rc::Rc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, HeaderValue};
use reqwest::RequestBuilder;
use zeroize::Zeroizing;

use crate::config::{self, NamespaceKey};
use crate::error::{Failure, Fault};
use crate::http::{self as web, Answer, Exchange, Http};
use crate::identity::{self, Identities};
use crate::log::printable;
use crate::oauth::{self, AccessToken, Claims, TokenSource};
use crate::retry::{Deadline, retry};

/// The source of one node's identities.
pub struct Validator {
    config: config::Identity,
    tokens: Rc<TokenSource>,
}

/// Why there are no identities. Names the host, holds no byte of the answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(web::Error),
    /// No token.
    #[error(transparent)]
    Token(#[from] oauth::Error),
    /// The answer is not a dump.
    #[error("judging what {origin} answered")]
    Dump { origin: String, source: identity::Error },
    /// The participant refuses.
    #[error("asking {origin} for the identities: status 400, the participant refuses (export disabled, or not up)")]
    ParticipantRefuses { origin: String, retry_after: Option<Duration> },
    /// The token is not accepted.
    #[error(
        "asking {origin} for the identities: status 401, the token is not accepted; it says: {token}; the configuration {asked}"
    )]
    TokenRefused { origin: String, token: String, asked: String },
    /// The user lacks rights.
    #[error("asking {origin} for the identities: status 403, the token is valid but its user ({user}) lacks rights")]
    RightsMissing { origin: String, user: String },
    /// 404, and the app is not ready.
    #[error(
        "asking {origin} for the identities: status 404, and readyz says 503: the validator app is not initialised yet"
    )]
    NotInitialised { origin: String },
    /// 404 for readyz, when waiting for it.
    #[error("asking {origin} for readyz: status 404: wrong base path or host")]
    NoReadyz { origin: String },
    /// 404, and there is no readyz either.
    #[error("asking {origin} for the identities: status 404, and readyz is not there either: wrong base path or host")]
    WrongBase { origin: String },
    /// 404, though the app is ready.
    #[error(
        "asking {origin} for the identities: status 404, though readyz says 200: this app does not serve the endpoint (yet)"
    )]
    NotServed { origin: String },
    /// 404, and readyz tells nothing.
    #[error("asking {origin} for the identities: status 404, and readyz gives no clue ({clue})")]
    NotFound { origin: String, clue: String },
    /// Busy, down or starting.
    #[error("asking {origin} for {what}: status {status}{}", web::patience(*retry_after))]
    Busy { origin: String, what: &'static str, status: u16, retry_after: Option<Duration> },
    /// A redirect, which is never followed.
    #[error("asking {origin} for {what}: status {status}, redirected to {to}, which is not followed")]
    Redirected { origin: String, what: &'static str, status: u16, to: String },
    /// Any other status.
    #[error("asking {origin} for {what}: status {status}, which the validator app does not give")]
    Unexpected { origin: String, what: &'static str, status: u16 },
    /// Not ready within the time given by `--wait`.
    #[error("waiting for {origin}: not ready within {waited}; last: {last}")]
    NotReady { origin: String, waited: config::Period, last: String },
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            // What is too large to be a dump is no dump.
            Self::Http(web::Error::TooLarge { .. }) => Fault::Identity,
            Self::Http(error) => error.fault(),
            Self::Token(error) => error.fault(),
            Self::Dump { source, .. } => source.fault(),
            Self::TokenRefused { .. } | Self::RightsMissing { .. } => Fault::Credentials,
            Self::WrongBase { .. } | Self::NoReadyz { .. } | Self::Redirected { .. } | Self::Unexpected { .. } => {
                Fault::Config
            }
            Self::ParticipantRefuses { .. }
            | Self::NotInitialised { .. }
            | Self::NotServed { .. }
            | Self::NotFound { .. }
            | Self::Busy { .. }
            | Self::NotReady { .. } => Fault::Transient,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } | Self::ParticipantRefuses { retry_after, .. } => *retry_after,
            Self::Token(error) => error.retry_after(),
            _ => None,
        }
    }

    fn is_slow(&self) -> bool {
        matches!(
            self,
            Self::ParticipantRefuses { .. }
                | Self::NotInitialised { .. }
                | Self::NotServed { .. }
                | Self::NotFound { .. }
        )
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Http(web::Error::TooLarge { .. }) => "a dump is at most 1 MiB; nothing was stored".into(),
            Self::Http(error) => return error.hint(),
            Self::Token(error) => return error.hint(),
            Self::Dump { source, .. } => return source.hint(),
            Self::ParticipantRefuses { .. } => "look at the participant's log; identities cannot be exported while it is down".into(),
            Self::TokenRefused { .. } => {
                "`aud` must be the audience of the validator app (`auth.targetAudience`), which is not the ledger API's; `exp` must lie ahead; the node must know the key of the issuer".into()
            }
            Self::RightsMissing { .. } => {
                "the token's user needs: ParticipantAdmin; actAs the validator party; primary party = the validator party".into()
            }
            Self::NotInitialised { .. } => "wait for the validator app, or use `idkeep sync --wait 10m`".into(),
            Self::WrongBase { .. } | Self::NoReadyz { .. } => "`endpoint` must end in `/api/validator`; behind nginx the host must be the wallet's (`host:`)".into(),
            Self::NotServed { .. } | Self::NotFound { .. } => "which version does the validator app have, and is it the validator's (not the scan's or an SV's) address?".into(),
            Self::Busy { .. } => "look at the validator app's log".into(),
            Self::Redirected { .. } => "put the final address in `endpoint`; a login page in front of the API will not do".into(),
            Self::Unexpected { .. } => "something else than the validator app answers there; check `endpoint`".into(),
            Self::NotReady { .. } => {
                "look at the validator app's log; an init container must not wait for the app in whose own pod it runs".into()
            }
        })
    }
}

/// What the app says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppStatus {
    /// Whether it is ready; `None` where it does not answer.
    pub is_ready: Option<bool>,
    /// Its version; `None` where it does not say.
    pub version: Option<String>,
}

/// What is asked for, as messages say it.
const IDENTITIES: &str = "the identities";
const READYZ: &str = "readyz";

impl From<web::Error> for Error {
    fn from(error: web::Error) -> Self {
        Self::Http(error)
    }
}

impl Validator {
    /// The source for this configuration.
    #[must_use]
    pub fn new(config: config::Identity, tokens: Rc<TokenSource>) -> Self {
        Self { config, tokens }
    }

    /// Fetches and judges the identities.
    pub async fn fetch(&self, http: &Http, deadline: Deadline) -> Result<Identities, Error> {
        let mut token = self.tokens.token(http, deadline).await?;
        let mut is_second_token = false;
        let bytes = retry(deadline, "identities", async || match self.ask(http, &token, deadline).await {
            Err(Error::TokenRefused { .. }) if !is_second_token => {
                is_second_token = true;
                tracing::info!("the node refuses the token, getting a new one");
                token = self.tokens.replace(&token, http, deadline).await?;
                self.ask(http, &token, deadline).await
            }
            result => result,
        })
        .await?;
        tracing::debug!(bytes = bytes.len(), "identities fetched");
        Identities::parse(bytes, self.namespace_key()).map_err(|source| Error::Dump { origin: self.origin(), source })
    }

    /// Waits until the app says that it is ready.
    pub async fn wait(&self, http: &Http, span: Duration) -> Result<(), Error> {
        let deadline = Deadline::after(span);
        let ready = retry(deadline, "readyz", async || {
            let answer = self.readyz(http, deadline).await?;
            match answer.status.as_u16() {
                200 => Ok(()),
                404 => Err(Error::NoReadyz { origin: self.origin() }),
                _ => Err(self.other_status(READYZ, &answer)),
            }
        });
        ready.await.map_err(|error| match error.fault() {
            Fault::Transient => {
                Error::NotReady { origin: self.origin(), waited: config::Period(span), last: error.to_string() }
            }
            _ => error,
        })
    }

    /// Whether the app says that it is ready, and which version it is; `None` where it does not say.
    pub async fn status(&self, http: &Http, deadline: Deadline) -> AppStatus {
        let ready = self.readyz(http, deadline).await.ok().map(|answer| answer.status.as_u16() == 200);
        AppStatus { is_ready: ready, version: self.version(http, deadline).await }
    }

    /// `<base>/version`, which needs no token.
    async fn version(&self, http: &Http, deadline: Deadline) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: String,
        }
        let origin = self.origin();
        let timeout = self.timeout(deadline);
        let exchange = Exchange { doing: "asking for the version", origin: &origin, cap: 64 * 1024, timeout };
        let answer = exchange.run(self.get(http, "/version").ok()?).await.ok()?;
        let version = serde_json::from_slice::<Version>(&answer.body).ok()?.version;
        (answer.status.as_u16() == 200 && (1..=64).contains(&version.len())).then(|| printable(&version))
    }

    /// The token's public claims, for `check --live`.
    pub async fn claims(&self, http: &Http, deadline: Deadline) -> Result<Option<Claims>, Error> {
        let token = self.tokens.token(http, deadline).await?;
        Ok(Claims::of(token.expose()))
    }

    fn namespace_key(&self) -> NamespaceKey {
        self.config.namespace_key
    }

    fn origin(&self) -> String {
        self.config.endpoint.origin()
    }

    async fn ask(&self, http: &Http, token: &AccessToken, deadline: Deadline) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| oauth::Error::NotReady)?;
        bearer.set_sensitive(true);
        let request = self.get(http, "/v0/admin/participant/identities")?.header(AUTHORIZATION, bearer);
        let origin = self.origin();
        let timeout = self.timeout(deadline);
        let exchange =
            Exchange { doing: "asking for the identities", origin: &origin, cap: identity::MAX_BYTES, timeout };
        let answer = exchange.run(request).await?;
        if answer.status.as_u16() == 200 {
            return Ok(answer.body);
        }
        Err(self.refusal(http, &answer, token, deadline).await)
    }

    async fn refusal(&self, http: &Http, answer: &Answer, token: &AccessToken, deadline: Deadline) -> Error {
        let origin = self.origin();
        let retry_after = answer.retry_after();
        match answer.status.as_u16() {
            400 => Error::ParticipantRefuses { origin, retry_after },
            401 => Error::TokenRefused {
                origin,
                token: Claims::of(token.expose())
                    .map_or_else(|| "nothing readable, it is not a JWT".into(), |claims| claims.to_string()),
                asked: self.tokens.asks_for(),
            },
            403 => Error::RightsMissing {
                origin,
                user: Claims::of(token.expose()).and_then(|claims| claims.subject).unwrap_or_else(|| "unknown".into()),
            },
            404 => match self.readyz(http, deadline).await.map(|answer| answer.status.as_u16()) {
                Ok(503) => Error::NotInitialised { origin },
                Ok(404) => Error::WrongBase { origin },
                Ok(200) => Error::NotServed { origin },
                Ok(status) => Error::NotFound { origin, clue: format!("status {status}") },
                Err(_) => Error::NotFound { origin, clue: "no answer".into() },
            },
            _ => self.other_status(IDENTITIES, answer),
        }
    }

    fn other_status(&self, what: &'static str, answer: &Answer) -> Error {
        let origin = self.origin();
        match answer.status.as_u16() {
            status @ 300..=399 => Error::Redirected { origin, what, status, to: answer.redirect_host() },
            status @ (408 | 425 | 429 | 500..=599) => {
                Error::Busy { origin, what, status, retry_after: answer.retry_after() }
            }
            status => Error::Unexpected { origin, what, status },
        }
    }

    /// `<base>/readyz`, which needs no token; its status is all that counts.
    async fn readyz(&self, http: &Http, deadline: Deadline) -> Result<Answer, Error> {
        let origin = self.origin();
        let exchange =
            Exchange { doing: "asking for readyz", origin: &origin, cap: 0, timeout: self.timeout(deadline) };
        Ok(exchange.run_for_head(self.get(http, "/readyz")?).await?)
    }

    fn get(&self, http: &Http, path: &str) -> Result<RequestBuilder, Error> {
        let config = &self.config;
        let client = http.client(&config.endpoint, &config.tls, config.proxy.as_ref())?;
        let request = client.get(config.endpoint.join(path));
        Ok(match &config.host {
            Some(host) => request.header(HOST, host),
            None => request,
        })
    }

    /// Time for one answer.
    fn timeout(&self, deadline: Deadline) -> Duration {
        self.config.timeout.0.min(deadline.remaining())
    }
}
