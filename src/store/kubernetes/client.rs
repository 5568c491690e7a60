//! One request to the API server through `kube`, and what its answers mean. The server's words are never shown.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::client::Body;
use kube::core::{PartialObjectMeta, Status};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;

use super::cluster::Cluster;
use crate::http::{Error as HttpError, Exchange, date, retry_after};
use crate::retry::Deadline;
use crate::store::Error as StoreError;
use crate::store::cloud::Reason;

/// The largest answer that is read, in bytes: 256 KiB of annotations and who owns them. Never a whole Secret.
const MAX_BYTES: usize = 1024 * 1024;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The API server's client.
pub(super) struct Client(kube::Client);

/// How `kube` reaches the server: over our own client, with our limits.
#[derive(Clone)]
struct Way(Arc<Cluster>);

/// An answer of the server.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The server's own clock.
    pub(super) now: Timestamp,
    retry_after: Option<Duration>,
    body: Bytes,
}

/// Why an answer is not what was asked for.
pub(super) enum Refusal {
    /// Somebody changed the object.
    Conflict,
    /// More than fits.
    TooLarge,
    /// Anything else.
    Because(Reason),
}

impl Client {
    /// Must be called where tasks can be spawned: `kube` keeps a queue of its own.
    pub(super) fn new(cluster: Cluster) -> Self {
        Self(kube::Client::new(Way(Arc::new(cluster)), "default"))
    }

    pub(super) async fn send<B: Into<Body>>(&self, request: Request<B>, deadline: Deadline) -> Result<Answer, Reason> {
        let mut request = request.map(Into::into);
        request.extensions_mut().insert(deadline);
        let response = self.0.send(request).await.map_err(|error| match error {
            kube::Error::Service(error) => match error.downcast::<HttpError>() {
                Ok(error) => Reason::Http(*error),
                Err(_) => Reason::Unreachable("the client has ended"),
            },
            _ => Reason::Garbled,
        })?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            now: date(&parts.headers).unwrap_or_else(Timestamp::now),
            retry_after: retry_after(&parts.headers),
            body: body.collect_bytes().await.map_err(|_| Reason::Garbled)?,
        })
    }
}

impl Way {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let cluster = &self.0;
        let origin = cluster.address.origin();
        let remaining = parts.extensions.get().map_or(TIMEOUT, |deadline: &Deadline| deadline.remaining());
        let doing = "asking the API server";
        let misled = |why: &str| HttpError::Protocol { doing, origin: origin.clone(), why: why.to_owned() };
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        parts.uri = cluster.address.join(target).parse().map_err(|_| misled("that is no address"))?;
        if let Some(token) = &cluster.token {
            let token = token.read()?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
                .map_err(|_| misled("the token has characters that no header can carry"))?;
            value.set_sensitive(true);
            parts.headers.insert(AUTHORIZATION, value);
        }
        let body = body.collect_bytes().await.map_err(|_| misled("the request has no body"))?;
        let exchange = Exchange { doing, origin: &origin, cap: MAX_BYTES, timeout: TIMEOUT.min(remaining) };
        Ok(exchange.carry(&cluster.client, Request::from_parts(parts, body)).await?.map(Body::from))
    }
}

impl tower_service::Service<Request<Body>> for Way {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, HttpError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let way = self.clone();
        Box::pin(async move { way.send(request).await })
    }
}

impl Answer {
    /// The metadata and nothing else: an answer of another kind would hold the data.
    pub(super) fn metadata(&self) -> Result<PartialObjectMeta<Secret>, Reason> {
        let metadata: PartialObjectMeta<Secret> = self.parse()?;
        let is_partial = metadata.types.as_ref().is_some_and(|types| types.kind == "PartialObjectMetadata");
        if is_partial { Ok(metadata) } else { Err(Reason::Garbled) }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Reason> {
        serde_json::from_slice(&self.body).map_err(|_| Reason::Garbled)
    }

    /// The metadata of an answer to a write, else why it was refused; `verb` names the rights that it takes.
    pub(super) fn written(&self, verb: &'static str) -> Result<PartialObjectMeta<Secret>, Refusal> {
        match self.status {
            200 | 201 => self.metadata().map_err(Refusal::Because),
            _ => Err(self.refusal(verb)),
        }
    }

    /// What a status that is not success means.
    pub(super) fn refusal(&self, verb: &'static str) -> Refusal {
        let causes = self.causes();
        let has = |reason: &str, field: &str| {
            causes.iter().any(|(of, at)| (reason.is_empty() || of == reason) && (field.is_empty() || at == field))
        };
        Refusal::Because(match self.status {
            401 => Reason::Unauthorized,
            403 if has("NamespaceTerminating", "") => Reason::Rejected("the namespace is being deleted"),
            403 => Reason::Denied(verb),
            404 => Reason::Rejected("there is no such namespace"),
            405 | 406 | 415 => Reason::Rejected("the API server knows no server-side apply, or it is none"),
            409 if has("FieldManagerConflict", "") => {
                Reason::Foreign("another field manager owns what idkeep writes there".into())
            }
            // Somebody made it anew in the meantime.
            409 => return Refusal::Conflict,
            422 if has("", "metadata.uid") => return Refusal::Conflict,
            413 => return Refusal::TooLarge,
            422 if has("FieldValueTooLong", "data") => return Refusal::TooLarge,
            422 if has("FieldValueForbidden", "data") => {
                Reason::Foreign("it is immutable (`immutable: true`): what it holds cannot be replaced".into())
            }
            422 if has("", "type") => Reason::Foreign("it is of another type than `Opaque`".into()),
            300..=399 => Reason::Rejected("it answers with a redirect, which is never followed with a token"),
            429 => Reason::Throttled { retry_after: self.retry_after },
            status @ (408 | 500..=599) => Reason::Busy { status },
            _ => Reason::Rejected("the API server cannot make sense of the request"),
        })
    }

    /// Reason and field of each cause; compared with words of ours, never shown.
    fn causes(&self) -> Vec<(String, String)> {
        let status: Status = self.parse().unwrap_or_default();
        let causes = status.details.map(|details| details.causes).unwrap_or_default();
        causes.into_iter().map(|cause| (cause.reason, cause.field)).collect()
    }
}

impl Refusal {
    /// As the store's error; `bytes` is what was sent, and `max` what fits.
    pub(super) fn into_error(self, bytes: usize, max: usize, because: impl FnOnce(Reason) -> StoreError) -> StoreError {
        match self {
            Self::Conflict => StoreError::Conflict,
            Self::TooLarge => StoreError::TooLarge { bytes, max },
            Self::Because(reason) => because(reason),
        }
    }
}
