//! What carries the SDK's requests: our own HTTP clients, for the store itself and for every login on the way to it.
//!
//! Nothing goes over a plain address but to this machine, to its link (where clouds keep their metadata), and to an
//! endpoint that the configuration names.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::config::{Address, AwsStore};
use crate::http::carry::Carrier;
use crate::http::{self as web, Http};

/// Time for one answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes: a page of a hundred versions is far below it.
const CAP: usize = 1024 * 1024;

/// What the metadata service of a machine is asked for begins so; nothing else is.
const METADATA: &str = "/latest/";

/// One way out; clones share what they have learnt.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    /// To hosts of the world.
    far: Carrier,
    /// To this machine and its link: no proxy has anything to do there.
    near: Carrier,
    endpoint: Option<Address>,
    doing: &'static str,
    /// The SDK wraps the failures of a login beyond reach: they are kept here.
    is_login: bool,
    seen: Arc<Mutex<Seen>>,
}

/// What the answers so far have told.
#[derive(Debug, Default)]
struct Seen {
    now: Option<Timestamp>,
    trouble: Option<Trouble>,
}

/// A request that went wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer.
    Http(web::Error),
    /// The machine's metadata service has nothing for us, or there is none.
    Metadata,
    /// An answer that is not success.
    Status(u16),
}

/// Stands in for a failure that [`Wire::take_trouble`] gives.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

impl Wire {
    /// To the store.
    pub(super) fn new(http: &Arc<Http>, config: &AwsStore) -> Self {
        Self::doing("talking to AWS Secrets Manager", http, config)
    }

    /// To wherever credentials are.
    pub(super) fn to_log_in(http: &Arc<Http>, config: &AwsStore) -> Self {
        Self { is_login: true, ..Self::doing("asking for AWS credentials", http, config) }
    }

    fn doing(doing: &'static str, http: &Arc<Http>, config: &AwsStore) -> Self {
        let carrier = |proxy| Carrier::new(Arc::clone(http), doing, config.tls.clone(), proxy, CAP);
        Self {
            far: carrier(config.proxy.clone()),
            near: carrier(None),
            endpoint: config.endpoint.clone(),
            doing,
            is_login: false,
            seen: Arc::default(),
        }
    }

    /// The other side's clock, as of its last answer.
    pub(super) fn now(&self) -> Timestamp {
        self.seen().now.unwrap_or_else(Timestamp::now)
    }

    /// What went wrong with a login last, if anything did since this was asked.
    pub(super) fn take_trouble(&self) -> Option<Trouble> {
        self.seen().trouble.take()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(&self, request: HttpRequest, timeout: Duration) -> Result<HttpResponse, ConnectorError> {
        let is_metadata = request.uri().contains(METADATA);
        let trouble = |trouble| if is_metadata { Trouble::Metadata } else { trouble };
        let answer = match self.send(&request, timeout).await {
            Ok(answer) => answer,
            Err(error) if !self.is_login => return Err(ConnectorError::io(error.into())),
            Err(error) => {
                self.seen().trouble = Some(trouble(Trouble::Http(error)));
                return Err(ConnectorError::io(NoAnswer.into()));
            }
        };
        let mut seen = self.seen();
        seen.now = date(&answer).or(seen.now);
        if !answer.status().is_success() {
            seen.trouble = Some(trouble(Trouble::Status(answer.status().as_u16())));
        }
        drop(seen);
        response(answer).ok_or_else(|| ConnectorError::other(NoAnswer.into(), None))
    }

    async fn send(&self, request: &HttpRequest, timeout: Duration) -> Result<http::Response<Bytes>, web::Error> {
        let carrier = self.way(request.uri())?;
        let body = Bytes::from_owner(Zeroizing::new(request.body().bytes().unwrap_or_default().to_vec()));
        let mut outgoing = http::Request::new(body);
        *outgoing.method_mut() = Method::from_bytes(request.method().as_bytes()).unwrap_or_default();
        *outgoing.uri_mut() = request.uri().parse().map_err(|_| self.misled("the SDK asks for no address"))?;
        for (name, value) in request.headers() {
            let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
                continue;
            };
            value.set_sensitive(name.as_str().contains("auth") || name.as_str().contains("token"));
            outgoing.headers_mut().append(name, value);
        }
        carrier.send(outgoing, timeout).await
    }

    /// Whether it may go there, and how.
    fn way(&self, uri: &str) -> Result<&Carrier, web::Error> {
        let url = url::Url::parse(uri).map_err(|_| self.misled("the SDK asks for no address"))?;
        let address: Address =
            url.origin().ascii_serialization().parse().map_err(|_| self.misled("the SDK asks for no address"))?;
        if self.endpoint.as_ref().is_some_and(|endpoint| endpoint.origin() == address.origin()) || !address.is_plain() {
            return Ok(&self.far);
        }
        if address.is_loopback() || is_link(url.host().as_ref()) {
            return Ok(&self.near);
        }
        Err(self.misled("the environment or a profile names an `http://` address beyond this machine and its link"))
    }

    fn misled(&self, why: &str) -> web::Error {
        web::Error::Protocol { doing: self.doing, origin: "AWS's SDK".into(), why: why.to_owned() }
    }
}

/// Where the clouds' machines and pods find metadata and credentials: an address that no router passes on.
fn is_link(host: Option<&url::Host<&str>>) -> bool {
    let ip = match host {
        Some(url::Host::Ipv4(ip)) => IpAddr::V4(*ip),
        Some(url::Host::Ipv6(ip)) => IpAddr::V6(*ip),
        _ => return false,
    };
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        // `fd00:ec2::254` and `fd00:ec2::23`: AWS's own.
        IpAddr::V6(ip) => ip.segments()[..2] == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0).segments()[..2],
    }
}

fn response(answer: http::Response<Bytes>) -> Option<HttpResponse> {
    let (parts, body) = answer.into_parts();
    let mut response = HttpResponse::new(parts.status.as_u16().try_into().ok()?, SdkBody::from(body));
    for (name, value) in &parts.headers {
        // What is no text is nothing that the SDK looks for.
        if let Ok(value) = value.to_str() {
            let _ = response.headers_mut().try_append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Some(response)
}

fn date(answer: &http::Response<Bytes>) -> Option<Timestamp> {
    let text = answer.headers().get(http::header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

/// The wire with the time that the SDK gives one request.
#[derive(Debug)]
struct Timed {
    wire: Wire,
    timeout: Duration,
}

impl HttpConnector for Timed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (wire, timeout) = (self.wire.clone(), self.timeout);
        HttpConnectorFuture::new(async move { wire.carry(request, timeout).await })
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let timeout = settings.read_timeout().unwrap_or(TIMEOUT).min(TIMEOUT);
        SharedHttpConnector::new(Timed { wire: self.clone(), timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_address_is_this_machines_or_its_links() {
        for (host, expected) in [
            ("http://169.254.169.254", true),
            ("http://169.254.170.23", true),
            ("http://[fd00:ec2::23]", true),
            ("http://[fd00:1::23]", false),
            ("http://10.0.0.1", false),
            ("http://sts.acme.example", false),
        ] {
            assert_eq!(is_link(url::Url::parse(host).unwrap().host().as_ref()), expected, "{host}");
        }
    }
}
