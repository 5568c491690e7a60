//! One request to the token endpoint, and what its answer means.

use std::cell::Cell;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderValue};
use oauth2::basic::BasicErrorResponseType;
use oauth2::{
    AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, Scope, TokenResponse as _, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::answer::TokenClient;
use super::discovery::{self, Endpoint};
use super::{AccessToken, Claims, Error, assertion};
use crate::config::{BasicEncoding, ClientAuth, Oauth2};
use crate::http::{self as web, Exchange, Http};
use crate::retry::Deadline;
use crate::secret::Secrets;

/// Time for one answer of the issuer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// A token to be asked for.
#[derive(Clone, Copy)]
pub(super) struct Request<'r> {
    pub(super) config: &'r Oauth2,
    pub(super) secrets: &'r Secrets,
    pub(super) http: &'r Http,
    pub(super) deadline: Deadline,
}

impl Request<'_> {
    /// One try to get it; the endpoint is looked up once and kept.
    pub(super) async fn send(self, known: &mut Option<Endpoint>) -> Result<AccessToken, Error> {
        let Self { config, http, deadline, .. } = self;
        let endpoint = match known {
            Some(endpoint) => endpoint.clone(),
            None => known.insert(discovery::endpoint(config, http, deadline).await?).clone(),
        };
        let result = self.ask(&endpoint).await;
        if result.is_err() {
            // The issuer may have moved its endpoint: look again next time.
            *known = None;
        }
        result
    }

    async fn ask(self, endpoint: &Endpoint) -> Result<AccessToken, Error> {
        let Self { config, http, deadline, .. } = self;
        let client_secret = match (&config.client_secret, endpoint.client_auth) {
            (Some(reference), ClientAuth::Basic | ClientAuth::Post) => {
                Some(self.secrets.resolve(reference, deadline).await?)
            }
            _ => None,
        };
        let assertion = match endpoint.client_auth {
            ClientAuth::PrivateKeyJwt => {
                let key = config.private_key.as_ref().ok_or(Error::Assertion("`private_key` is not set"))?;
                Some(assertion::sign(config, endpoint, &self.secrets.resolve(key, deadline).await?)?)
            }
            _ => None,
        };
        let proof = Proof { client_secret, assertion };
        exchange(config, endpoint, http, deadline, &proof).await
    }
}

/// What the client authenticates with; nothing where its certificate does.
struct Proof {
    client_secret: Option<SecretString>,
    assertion: Option<SecretString>,
}

async fn exchange(
    config: &Oauth2,
    endpoint: &Endpoint,
    http: &Http,
    deadline: Deadline,
    Proof { client_secret, assertion }: &Proof,
) -> Result<AccessToken, Error> {
    let mut client = TokenClient::new(ClientId::new(config.client_id.clone()))
        .set_token_uri(TokenUrl::from_url(endpoint.address.url().clone()))
        .set_auth_type(if endpoint.client_auth == ClientAuth::Basic {
            AuthType::BasicAuth
        } else {
            AuthType::RequestBody
        });
    if let Some(secret) = client_secret {
        client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
    }
    let mut request = client.exchange_client_credentials();
    for scope in config.scope.iter().flat_map(|scopes| scopes.split_whitespace()) {
        request = request.add_scope(Scope::new(scope.to_owned()));
    }
    for (name, value) in [("audience", &config.audience), ("resource", &config.resource)] {
        if let Some(value) = value {
            request = request.add_extra_param(name, value);
        }
    }
    for (name, value) in &config.extra_params {
        request = request.add_extra_param(name, value);
    }
    if let Some(assertion) = assertion {
        request = request
            .add_extra_param("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .add_extra_param("client_assertion", assertion.expose_secret());
    }
    let raw_basic = client_secret
        .as_ref()
        .filter(|_| endpoint.client_auth == ClientAuth::Basic && config.basic_encoding == BasicEncoding::Raw)
        .map(|secret| raw_basic(&config.client_id, secret));
    let origin = endpoint.address.origin();
    let status = Cell::new(0);
    let send = async |request: HttpRequest| {
        let response = send(config, endpoint, http, deadline, request, raw_basic.as_ref()).await?;
        status.set(response.status().as_u16());
        Ok(response)
    };
    let answer = request.request_async(&send).await.map_err(|error| refusal(error, &origin, status.get()))?;
    let value = SecretString::from(answer.access_token().secret().as_str());
    let lifetime = answer.expires_in().or_else(|| lifetime_of(value.expose_secret()));
    AccessToken::new(value, Some(lifetime.unwrap_or(Duration::from_mins(1)))).ok_or_else(|| Error::NotAToken {
        origin: endpoint.address.origin(),
        status: 200,
        why: "it is empty or has characters that no token has",
    })
}

/// Seconds until the token's own `exp`.
fn lifetime_of(token: &str) -> Option<Duration> {
    let expires = Claims::of(token)?.expires?;
    let left = expires.checked_sub(jiff::Timestamp::now().as_second())?;
    u64::try_from(left).ok().map(Duration::from_secs)
}

/// Id and secret as they are: what some servers expect in place of RFC 6749's form-encoding.
fn raw_basic(client_id: &str, secret: &SecretString) -> Zeroizing<String> {
    let plain = Zeroizing::new(format!("{client_id}:{}", secret.expose_secret()));
    Zeroizing::new(format!("Basic {}", STANDARD.encode(plain.as_bytes())))
}

/// Carries one request of the `oauth2` crate; only answers that it can judge go back to it.
async fn send(
    config: &Oauth2,
    endpoint: &Endpoint,
    http: &Http,
    deadline: Deadline,
    request: HttpRequest,
    raw_basic: Option<&Zeroizing<String>>,
) -> Result<HttpResponse, Error> {
    let client = http.client(&endpoint.address, &config.tls, config.proxy.as_ref())?;
    let origin = endpoint.address.origin();
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    if let Some(value) = raw_basic {
        let mut value = HeaderValue::from_str(value).map_err(|_| Error::Rejected {
            origin: origin.clone(),
            code: "client id or secret does not fit in a header".into(),
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let exchange = Exchange {
        doing: "asking for a token",
        origin: &origin,
        cap: MAX_BYTES,
        timeout: deadline.remaining().min(TIMEOUT),
    };
    let answer = match exchange.run(client.post(endpoint.address.url().clone()).headers(headers).body(body)).await {
        Err(web::Error::TooLarge { .. }) => {
            return Err(Error::NotAToken { origin, status: 200, why: "it is larger than 256 KiB" });
        }
        answer => answer?,
    };
    let status = answer.status.as_u16();
    match status {
        200..=299 | 400 | 401 | 403 => {
            let mut response = HttpResponse::new(answer.body.to_vec());
            *response.status_mut() = answer.status;
            Ok(response)
        }
        408 | 425 | 429 | 500..=599 => {
            Err(Error::Busy { origin, what: "a token", status, retry_after: answer.retry_after() })
        }
        300..=399 => Err(Error::Redirected { origin, to: answer.redirect_host() }),
        _ => Err(Error::NotAToken { origin, status, why: "not an answer of a token endpoint" }),
    }
}

type OauthError = RequestTokenError<Error, oauth2::basic::BasicErrorResponse>;

/// Keeps the OAuth `error` code and nothing else: descriptions and bodies are the other side's.
fn refusal(error: OauthError, origin: &str, status: u16) -> Error {
    let origin = origin.to_owned();
    match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(response) => match response.error() {
            code @ (BasicErrorResponseType::InvalidClient | BasicErrorResponseType::UnauthorizedClient) => {
                Error::Refused { origin, code: code.as_ref().to_owned() }
            }
            code if status == 401 => Error::Refused { origin, code: shown(code) },
            code => Error::Rejected { origin, code: shown(code) },
        },
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) if status == 401 => {
            Error::Refused { origin, code: format!("status {status}") }
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Error::NotAToken { origin, status, why: "it does not have the form of one" }
        }
    }
}

/// The code, if it has the form of one.
fn shown(code: &BasicErrorResponseType) -> String {
    let code: &str = code.as_ref();
    let is_code = code.len() <= 64 && code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if is_code { code.to_owned() } else { "an error code that is none of OAuth's".into() }
}
