//! One request to the server, and what its answers mean. The server's words are never shown.

use std::time::Duration;

use http::Method;
use http::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::Error;
use crate::config::VaultStore;
use crate::http::{Answer, Exchange, Http};
use crate::retry::Deadline;

/// The largest answer that is read, in bytes: metadata of a secret with thousands of versions.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A server's address and the client that reaches it.
pub(super) struct Client {
    http: reqwest::Client,
    config: VaultStore,
    pub(super) origin: String,
}

/// One request under way to being sent.
pub(super) struct Request<'c> {
    client: &'c Client,
    builder: reqwest::RequestBuilder,
    cap: usize,
}

impl Client {
    pub(super) fn new(config: &VaultStore, http: &Http) -> Result<Self, Error> {
        Ok(Self {
            http: http.client(&config.address, &config.tls, config.proxy.as_ref())?,
            config: config.clone(),
            origin: config.address.origin(),
        })
    }

    pub(super) fn config(&self) -> &VaultStore {
        &self.config
    }

    pub(super) fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub(super) fn post(&self, path: &str) -> Request<'_> {
        self.request(Method::POST, path)
    }

    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let mut url = self.config.address.url().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path.split('/'));
        }
        let mut builder = self.http.request(method, url).header("X-Vault-Request", "true");
        if let Some(namespace) = &self.config.namespace {
            builder = builder.header("X-Vault-Namespace", namespace);
        }
        Request { client: self, builder, cap: MAX_BYTES }
    }

    /// What a status that is not success means, for all calls alike.
    pub(super) fn refusal(&self, answer: &Answer, doing: &'static str, path: &str) -> Error {
        let path = format!("{}/v1/{path}", self.origin);
        match answer.status.as_u16() {
            403 => Error::Denied { doing, path },
            // A standby that does not forward redirects to the active server; a redirect is never followed with a token.
            status @ (300..=399 | 408 | 412 | 425 | 429 | 472 | 473 | 500..=599) => {
                Error::Busy { doing, path, status, retry_after: answer.retry_after() }
            }
            status => Error::Rejected { doing, path, status },
        }
    }
}

impl Request<'_> {
    pub(super) fn token(mut self, token: &SecretString) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(token.expose_secret()) {
            value.set_sensitive(true);
            self.builder = self.builder.header("X-Vault-Token", value);
        }
        self
    }

    /// The most bytes of the answer that are read.
    pub(super) fn cap(mut self, cap: usize) -> Self {
        self.cap = cap;
        self
    }

    pub(super) fn body(mut self, body: bytes::Bytes) -> Self {
        self.builder = self.builder.body(body);
        self
    }

    /// A body with a secret in it.
    pub(super) fn secret_json(self, body: &serde_json::Value) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        // Writing JSON to memory does not fail.
        let _ = serde_json::to_writer(&mut *bytes, body);
        self.body(bytes::Bytes::from_owner(bytes))
    }

    pub(super) async fn send(self, doing: &'static str, deadline: Deadline) -> Result<Answer, Error> {
        let exchange =
            Exchange { doing, origin: &self.client.origin, cap: self.cap, timeout: TIMEOUT.min(deadline.remaining()) };
        Ok(exchange.run(self.builder).await?)
    }
}

/// The `data` of an answer.
pub(super) fn data<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    #[derive(Deserialize)]
    struct Envelope<T> {
        data: T,
    }
    serde_json::from_slice::<Envelope<T>>(body).ok().map(|envelope| envelope.data)
}

/// True if the server's errors contain this phrase: the only use that is made of its words.
pub(super) fn says(answer: &Answer, phrase: &str) -> bool {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
    }
    let errors = serde_json::from_slice::<Errors>(&answer.body).map(|answer| answer.errors);
    errors.is_ok_and(|errors| errors.iter().any(|error| error.contains(phrase)))
}
