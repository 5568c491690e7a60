//! How the SDK's requests travel: over our own client, each exactly once, and with credentials only where it is encrypted.
//!
//! The SDK's own transport would follow redirects with the dump in its hands, read answers without end, and know
//! neither `tls` nor `proxy`; it can be replaced, and that is all that is replaced of it.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use google_cloud_gax::Result as SdkResult;
use google_cloud_gax::error::Error as SdkError;
use google_cloud_gax::options::RequestOptions;
use google_cloud_gax::response::Response;
use google_cloud_iam_v1::model::{TestIamPermissionsRequest, TestIamPermissionsResponse};
use google_cloud_secretmanager_v1::model;
use google_cloud_secretmanager_v1::stub::SecretManagerService;
use http::{HeaderMap, Method, header};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::credentials::Credentials;
use super::refusal::{Refusal, refusal};
use crate::config::Address;
use crate::http::carry::Carrier;
use crate::store::cloud::Reason;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The way to one endpoint.
pub(super) struct Transport {
    carrier: Carrier,
    endpoint: Address,
    /// None for an emulator's `http://`.
    credentials: Option<Credentials>,
    /// How far the server's clock is ahead of ours.
    ahead: Mutex<SignedDuration>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// One request of the SDK's.
struct Request<'r> {
    method: Method,
    /// What stands after the endpoint.
    path: String,
    query: Vec<(&'static str, String)>,
    /// The right that it needs.
    right: &'static str,
    options: &'r RequestOptions,
}

impl Transport {
    pub(super) fn new(carrier: Carrier, endpoint: Address) -> Self {
        let credentials = (!endpoint.is_plain()).then(Credentials::default);
        Self { carrier, endpoint, credentials, ahead: Mutex::new(SignedDuration::ZERO) }
    }

    /// The server's clock, as far as its answers have told.
    pub(super) fn now(&self) -> Timestamp {
        let ahead = *self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        Timestamp::now().checked_add(ahead).unwrap_or_else(|_| Timestamp::now())
    }

    async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        request: Request<'_>,
        body: Option<&B>,
    ) -> SdkResult<Response<A>> {
        let answer = self.exchange(request, body).await;
        answer.map(Response::from).map_err(|refusal| SdkError::io(refusal.enclosed()))
    }

    async fn exchange<B: Serialize, A: DeserializeOwned>(
        &self,
        request: Request<'_>,
        body: Option<&B>,
    ) -> Result<A, Refusal> {
        let timeout = request.options.attempt_timeout().map_or(TIMEOUT, |timeout| timeout.min(TIMEOUT));
        let right = request.right;
        let message = self.message(request, body, timeout).await?;
        let answer = self.carrier.send(message, timeout).await.map_err(Reason::Http)?;
        self.heed_the_clock(answer.headers());
        if answer.status().is_success() {
            return serde_json::from_slice(answer.body()).map_err(|_| Reason::Garbled.into());
        }
        if let (401, Some(credentials)) = (answer.status().as_u16(), &self.credentials) {
            credentials.forget();
        }
        Err(refusal(&answer, right))
    }

    async fn message<B: Serialize>(
        &self,
        request: Request<'_>,
        body: Option<&B>,
        timeout: Duration,
    ) -> Result<http::Request<Bytes>, Refusal> {
        let mut url = url::Url::parse(&self.endpoint.join(&request.path)).map_err(|_| Reason::Garbled)?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let body = match body {
            Some(body) => json(body)?,
            None => Bytes::new(),
        };
        let mut message = http::Request::new(body);
        *message.method_mut() = request.method;
        *message.uri_mut() = url.as_str().parse().map_err(|_| Reason::Garbled)?;
        if let Some(credentials) = &self.credentials {
            *message.headers_mut() = credentials.headers(timeout).await?;
        }
        message.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        Ok(message)
    }

    fn heed_the_clock(&self, headers: &HeaderMap) {
        let date = headers.get(header::DATE).and_then(|date| crate::http::http_date(date.to_str().ok()?));
        if let Some(date) = date {
            *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = date.duration_since(Timestamp::now());
        }
    }
}

/// The request as it is sent, in memory that is wiped.
fn json(body: &impl Serialize) -> Result<Bytes, Reason> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(128 * 1024));
    serde_json::to_writer(&mut *bytes, body).map_err(|_| Reason::Garbled)?;
    Ok(Bytes::from_owner(bytes))
}

fn get<'r>(path: &str, right: &'static str, options: &'r RequestOptions) -> Request<'r> {
    Request { method: Method::GET, path: format!("/v1/{path}"), query: Vec::new(), right, options }
}

fn post<'r>(path: &str, right: &'static str, options: &'r RequestOptions) -> Request<'r> {
    Request { method: Method::POST, ..get(path, right, options) }
}

const NOTHING: Option<&()> = None;

/// The calls that idkeep makes; the SDK answers every other one itself, with "unimplemented".
impl SecretManagerService for Transport {
    async fn list_secret_versions(
        &self,
        asked: model::ListSecretVersionsRequest,
        options: RequestOptions,
    ) -> SdkResult<Response<model::ListSecretVersionsResponse>> {
        let mut request = get(&format!("{}/versions", asked.parent), "secretmanager.versions.list", &options);
        request.query.push(("pageSize", asked.page_size.to_string()));
        if !asked.page_token.is_empty() {
            request.query.push(("pageToken", asked.page_token));
        }
        self.call(request, NOTHING).await
    }

    async fn access_secret_version(
        &self,
        asked: model::AccessSecretVersionRequest,
        options: RequestOptions,
    ) -> SdkResult<Response<model::AccessSecretVersionResponse>> {
        let request = get(&format!("{}:access", asked.name), "secretmanager.versions.access", &options);
        self.call(request, NOTHING).await
    }

    async fn add_secret_version(
        &self,
        mut asked: model::AddSecretVersionRequest,
        options: RequestOptions,
    ) -> SdkResult<Response<model::SecretVersion>> {
        // What stands in the path does not stand in the body.
        let parent = std::mem::take(&mut asked.parent);
        let request = post(&format!("{parent}:addVersion"), "secretmanager.versions.add", &options);
        self.call(request, Some(&asked)).await
    }

    async fn create_secret(
        &self,
        asked: model::CreateSecretRequest,
        options: RequestOptions,
    ) -> SdkResult<Response<model::Secret>> {
        let mut request = post(&format!("{}/secrets", asked.parent), "secretmanager.secrets.create", &options);
        request.query.push(("secretId", asked.secret_id));
        self.call(request, Some(&asked.secret)).await
    }

    async fn disable_secret_version(
        &self,
        mut asked: model::DisableSecretVersionRequest,
        options: RequestOptions,
    ) -> SdkResult<Response<model::SecretVersion>> {
        let name = std::mem::take(&mut asked.name);
        let request = post(&format!("{name}:disable"), "secretmanager.versions.disable", &options);
        self.call(request, Some(&asked)).await
    }

    async fn test_iam_permissions(
        &self,
        mut asked: TestIamPermissionsRequest,
        options: RequestOptions,
    ) -> SdkResult<Response<TestIamPermissionsResponse>> {
        let resource = std::mem::take(&mut asked.resource);
        let request = post(&format!("{resource}:testIamPermissions"), "asking for rights", &options);
        self.call(request, Some(&asked)).await
    }
}
