//! The network as `object_store` uses it: our own clients, time limits by size, answers of failure put into our words.
//!
//! Retries are not made here: each request is tried once, and says why it failed.

mod body;
mod listing;
mod refusal;

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::request::Parts;
use http::{Method, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use reqwest::Client;
use url::{Host, Url};

use crate::config::{Address, Proxy, Tls};
use crate::http::{self as web, Exchange, Http};
use body::Timed;
pub use refusal::Refusal;

/// What a slow line carries in a second at the least: the time limit of a request follows from its size.
const BYTES_PER_SECOND: u64 = 256 << 10;
/// The time limit of a small request, and of silence in the middle of an answer.
const LEAST: Duration = Duration::from_secs(30);
/// A server that puts thousands of parts together may take minutes.
const COMPLETING: Duration = Duration::from_mins(10);
/// A machine's own credentials come at once, or there are none.
const METADATA: Duration = Duration::from_secs(5);
const METADATA_TRIES: u32 = 2;

/// Every way that a repository's requests may take: to its server, and to where its credentials come from.
#[derive(Clone)]
pub struct Network(Arc<Ways>);

struct Ways {
    tls: Tls,
    proxy: Option<Proxy>,
    /// The one origin that may be reached without TLS, beside this machine's own metadata service.
    plain: Option<String>,
    http: Http,
    clients: Mutex<HashMap<String, Client>>,
}

/// Whom a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// The repository, or a token service.
    Server,
    /// The metadata service of this machine, over plain http on a link that no one else is on.
    Metadata,
}

impl Network {
    /// The network of a repository; `server` may be reached without TLS where it says `http://`.
    pub fn new(server: &Address, tls: &Tls, proxy: Option<&Proxy>) -> Result<Self, web::Error> {
        // Of its own: what is kept here holds nothing but sealed bytes, and a large dump goes up part by part.
        let http = Http::default();
        // Built now, so that a mistake in a TLS file is known before anything is dumped.
        let client = http.client(server, tls, proxy)?;
        let origin = server.origin();
        Ok(Self(Arc::new(Ways {
            tls: tls.clone(),
            proxy: proxy.cloned(),
            plain: server.is_plain().then(|| origin.clone()),
            http,
            clients: Mutex::new(HashMap::from([(origin, client)])),
        })))
    }
}

impl HttpConnector for Network {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Network {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.0.ask(request).await.map_err(wrapped)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

/// `Unknown` is never tried again by `object_store`.
fn wrapped(refusal: Refusal) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, refusal)
}

impl Ways {
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, Refusal> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|_| Refusal::NotAnAddress)?;
        if self.peer(&url)? == Peer::Server {
            return self.ask_server(url, parts, body).await;
        }
        let mut tries = 1;
        loop {
            let result = self.send(url.clone(), &parts, body.clone(), METADATA).await;
            match result {
                // `object_store` looks at 403 itself: an older form of the service may be allowed.
                Ok(answer) if answer.status().is_success() || answer.status() == StatusCode::FORBIDDEN => {
                    return Ok(timed(answer, &url));
                }
                _ if tries == METADATA_TRIES => return Err(Refusal::NoCredentials),
                _ => tries += 1,
            }
        }
    }

    async fn ask_server(&self, url: Url, parts: Parts, body: HttpRequestBody) -> Result<HttpResponse, Refusal> {
        let limit = limit(&parts, body.content_length());
        let answer = self.send(url.clone(), &parts, body, limit).await?;
        if !answer.status().is_success() {
            return Err(refusal::read(&parts.method, answer).await);
        }
        if is_batch(&url) {
            return refusal::within_batch(answer).await.unwrap_or_else(|| Err(Refusal::broken(&url)));
        }
        if listing::is_asked_for(&parts.method, &url) {
            return listing::read(answer).await.ok_or_else(|| Refusal::broken(&url));
        }
        Ok(timed(answer, &url))
    }

    async fn send(
        &self,
        url: Url,
        parts: &Parts,
        body: HttpRequestBody,
        limit: Duration,
    ) -> Result<http::Response<reqwest::Body>, Refusal> {
        let origin = url.origin().ascii_serialization();
        let client = self.client(&origin)?;
        let mut request = reqwest::Request::new(parts.method.clone(), url);
        request.headers_mut().clone_from(&parts.headers);
        *request.body_mut() = Some(match body.as_bytes() {
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(body),
        });
        let exchange = Exchange { doing: refusal::DOING, origin: &origin, cap: 0, timeout: limit };
        match tokio::time::timeout(limit, client.execute(request)).await {
            Ok(Ok(answer)) => Ok(answer.into()),
            Ok(Err(error)) => Err(Refusal::Unanswered(Arc::new(exchange.failed(&error)))),
            Err(_) => Err(Refusal::timeout(&origin, limit)),
        }
    }

    fn client(&self, origin: &str) -> Result<Client, Refusal> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(origin) {
            return Ok(client.clone());
        }
        let address: Address = origin.parse().map_err(|_| Refusal::NotAnAddress)?;
        // A metadata service is on this machine's own link, which no proxy is.
        let proxy = self.proxy.as_ref().filter(|_| !address.is_plain());
        let client = self.http.client(&address, &self.tls, proxy);
        let client = client.map_err(|error| Refusal::Unanswered(Arc::new(error)))?;
        clients.insert(origin.to_owned(), client.clone());
        Ok(client)
    }

    /// Whose address it is; anything else without TLS is refused, wherever the name came from.
    fn peer(&self, url: &Url) -> Result<Peer, Refusal> {
        let origin = url.origin().ascii_serialization();
        if url.scheme() == "https" || self.plain.as_ref() == Some(&origin) {
            return Ok(Peer::Server);
        }
        if is_metadata(url) { Ok(Peer::Metadata) } else { Err(Refusal::Plain) }
    }
}

fn timed(answer: http::Response<reqwest::Body>, url: &Url) -> HttpResponse {
    let (parts, body) = answer.into_parts();
    let origin = url.origin().ascii_serialization();
    HttpResponse::from_parts(parts, HttpResponseBody::new(Timed::new(body, origin, LEAST)))
}

/// The addresses of the clouds' metadata services, which speak plain http to their own machine alone.
fn is_metadata(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_link_local() || ip.is_loopback(),
        // AWS: fd00:ec2::254, and ::23 for pods.
        Some(Host::Ipv6(ip)) => ip.segments()[..2] == [0xfd00, 0x0ec2] || ip == Ipv6Addr::LOCALHOST,
        Some(Host::Domain(name)) => {
            name == "metadata.google.internal" || name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// The time until the answer's head.
fn limit(parts: &Parts, bytes: usize) -> Duration {
    let query = parts.uri.query().unwrap_or_default();
    if (parts.method == Method::POST && query.contains("uploadId=")) || query.contains("comp=blocklist") {
        return COMPLETING;
    }
    LEAST.max(Duration::from_secs(bytes as u64 / BYTES_PER_SECOND))
}

/// Azure removes objects in batches, and says inside the answer what became of each.
fn is_batch(url: &Url) -> bool {
    url.query_pairs().any(|(name, value)| name == "comp" && value == "batch")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(server: &str) -> Network {
        Network::new(&server.parse().unwrap(), &Tls::default(), None).unwrap()
    }

    fn verdict(network: &Network, url: &str) -> &'static str {
        match network.0.peer(&url.parse().unwrap()) {
            Ok(Peer::Server) => "server",
            Ok(Peer::Metadata) => "metadata",
            Err(_) => "refused",
        }
    }

    #[test]
    fn without_tls_only_the_allowed_server_and_this_machines_metadata_are_reached() {
        let plain = network("http://minio.acme.example:9000");
        for (url, expected) in [
            ("http://minio.acme.example:9000/bucket/key", "server"),
            ("http://minio.acme.example:9001/bucket/key", "refused"),
            ("http://s3.amazonaws.com/bucket", "refused"),
            ("https://sts.us-east-1.amazonaws.com/", "server"),
            ("http://169.254.169.254/latest/api/token", "metadata"),
            ("http://169.254.170.2/v2/credentials/x", "metadata"),
            ("http://[fd00:ec2::23]/v1/credentials", "metadata"),
            ("http://[fd00:ec3::23]/v1/credentials", "refused"),
            ("http://metadata.google.internal/computeMetadata/v1/", "metadata"),
            ("http://metadata.google.internal.evil.example/", "refused"),
            ("http://127.0.0.1:40342/metadata/identity/oauth2/token", "metadata"),
        ] {
            assert_eq!(verdict(&plain, url), expected, "{url}");
        }
    }

    fn request(method: &str, uri: &str) -> HttpRequest {
        http::Request::builder().method(method).uri(uri).body(HttpRequestBody::empty()).unwrap()
    }

    fn told(error: &HttpError) -> String {
        match std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refusal>()) {
            Some(Refusal::Unanswered(error)) => error.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_is_given_up() {
        // The kernel accepts, and nobody answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", silent.local_addr().unwrap());
        let network = network(&origin);
        let error = network.call(request("GET", &format!("{origin}/bucket/key"))).await.unwrap_err();
        assert_eq!(told(&error), format!("asking the server: {origin}: no whole answer within 30s"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_falls_silent_is_given_up_however_slow_its_reader_was() {
        use hyper::body::{Body, Frame};
        use std::pin::Pin;
        use std::task::{Context, Poll};

        struct Once(Option<bytes::Bytes>);
        impl Body for Once {
            type Data = bytes::Bytes;
            type Error = std::io::Error;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<bytes::Bytes>, std::io::Error>>> {
                self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
            }
        }
        let body = reqwest::Body::wrap(Once(Some("first".into())));
        let mut body = Timed::new(body, "https://s3".into(), LEAST);
        tokio::time::sleep(LEAST * 10).await;
        let first = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first");
        tokio::time::sleep(LEAST * 10).await;
        let asked_at = tokio::time::Instant::now();
        let error = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.unwrap().unwrap_err();
        assert_eq!(told(&error), "asking the server: https://s3: no whole answer within 30s");
        assert!(asked_at.elapsed() >= LEAST);
    }

    #[test]
    fn the_time_limit_follows_from_the_size() {
        let parts = |method: &str, uri: &str| {
            let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
            request.into_parts().0
        };
        let put = parts("PUT", "http://h/k?partNumber=1&uploadId=a");
        assert_eq!(limit(&put, 1000), LEAST);
        assert_eq!(limit(&put, 8 << 20), Duration::from_secs(32));
        assert_eq!(limit(&put, 512 << 20), Duration::from_secs(2048));
        assert_eq!(limit(&parts("POST", "http://h/k?uploadId=a"), 1000), COMPLETING);
        assert_eq!(limit(&parts("POST", "http://h/k?uploads="), 0), LEAST);
    }
}
