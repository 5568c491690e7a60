//! One rustls client for every address: capped reads, one time limit per answer, redirects never followed.

pub mod route;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use reqwest::{Certificate, Client, Identity};
use zeroize::Zeroizing;

use crate::config::{Address, Proxy, Tls};
use crate::error::{Failure, Fault};
use crate::secret;
use route::Route;

/// Clients, one for each way of connecting, built when first needed and shared within a pass.
#[derive(Default)]
pub struct Http {
    clients: Mutex<HashMap<Profile, Client>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Profile {
    tls: Option<Tls>,
    route: Route,
}

/// An answer of another server: never shown, wiped when dropped.
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    headers: HeaderMap,
    /// The body, up to the cap.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer. Names the host, holds no byte of the other side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or one that broke.
    #[error("{doing}: {origin}: {why}")]
    Unreachable { doing: &'static str, origin: String, why: String },
    /// The time for one answer ran out.
    #[error("{doing}: {origin}: no whole answer within {}", crate::config::Period(*after))]
    Timeout { doing: &'static str, origin: String, after: Duration },
    /// The server's certificate is not trusted.
    #[error("{doing}: {origin}: certificate not trusted: {why}")]
    Certificate { doing: &'static str, origin: String, why: String },
    /// The server did not accept our certificate, or wants one.
    #[error("{doing}: {origin}: the server did not accept our client certificate")]
    ClientCertificate { doing: &'static str, origin: String },
    /// The other side does not speak what the address says.
    #[error("{doing}: {origin}: {why}")]
    Protocol { doing: &'static str, origin: String, why: String },
    /// More bytes than allowed.
    #[error("{doing}: {origin}: the answer is larger than {cap} bytes")]
    TooLarge { doing: &'static str, origin: String, cap: usize },
    /// A TLS file cannot be read.
    #[error(transparent)]
    File(#[from] secret::Error),
    /// A TLS file holds something else.
    #[error("{}: {why}", path.display())]
    Pem { path: PathBuf, why: &'static str },
    /// The client cannot be built.
    #[error("setting up TLS: {0}")]
    Setup(String),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => Fault::Transient,
            Self::ClientCertificate { .. } => Fault::Credentials,
            Self::TooLarge { .. }
            | Self::Certificate { .. }
            | Self::Protocol { .. }
            | Self::File(_)
            | Self::Pem { .. }
            | Self::Setup(_) => Fault::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Certificate { .. } => Some("name the authority that signed it in `tls.ca_file`".into()),
            Self::ClientCertificate { .. } => Some("set `tls.client_cert_file` and `tls.client_key_file`".into()),
            Self::Protocol { .. } => Some("check scheme and port of the address".into()),
            Self::File(error) => error.hint(),
            _ => None,
        }
    }
}

impl Http {
    /// The client for this address.
    pub fn client(&self, address: &Address, tls: &Tls, proxy: Option<&Proxy>) -> Result<Client, Error> {
        let route = Route::of(address, proxy);
        // A plain address needs no roots, and reading the system's takes longer than all the rest.
        let plain_proxy = matches!(&route, Route::Through { url, .. } if url.scheme() == "https");
        let tls = (!address.is_plain() || plain_proxy).then(|| tls.clone());
        let profile = Profile { tls, route };
        let mut clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = clients.get(&profile) {
            return Ok(client.clone());
        }
        let client = build(&profile)?;
        clients.insert(profile, client.clone());
        Ok(client)
    }
}

fn build(profile: &Profile) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .no_proxy()
        .http1_only()
        .referer(false)
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none());
    if let Route::Through { url, .. } = &profile.route {
        let proxy = reqwest::Proxy::all(url.clone()).map_err(|_| Error::Setup("the proxy's address".into()))?;
        builder = builder.proxy(proxy);
    }
    let Some(tls) = &profile.tls else {
        return finish(builder.tls_certs_only([]));
    };
    if let Some(path) = &tls.ca_file {
        let pem = secret::guarded_file(path)?;
        let roots = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if roots.is_empty() {
            return Err(Error::Pem { path: path.clone(), why: "no certificate in PEM form" });
        }
        builder = builder.tls_certs_only(roots);
    }
    if let (Some(cert), Some(key)) = (&tls.client_cert_file, &tls.client_key_file) {
        let mut pem = secret::private_file(key)?;
        pem.extend_from_slice(b"\n");
        pem.extend_from_slice(&secret::guarded_file(cert)?);
        let identity = Identity::from_pem(&pem).map_err(|_| Error::Pem {
            path: cert.clone(),
            why: "this and the key file hold no certificate with its private key in PEM form",
        })?;
        builder = builder.identity(identity);
    }
    finish(builder)
}

fn finish(builder: reqwest::ClientBuilder) -> Result<Client, Error> {
    builder.build().map_err(|error| {
        let mut source: &dyn StdError = &error;
        while let Some(deeper) = source.source() {
            source = deeper;
        }
        Error::Setup(source.to_string())
    })
}

/// One request with its limits.
pub struct Exchange<'a> {
    /// What this is for, as messages say it: "asking for the identities".
    pub doing: &'static str,
    /// `scheme://host:port`, for messages.
    pub origin: &'a str,
    /// The most bytes of body that are read.
    pub cap: usize,
    /// Time for the answer, to its last byte.
    pub timeout: Duration,
}

impl Exchange<'_> {
    /// Sends the request and reads the whole answer.
    pub async fn run(&self, request: reqwest::RequestBuilder) -> Result<Answer, Error> {
        match tokio::time::timeout(self.timeout, self.receive(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { doing: self.doing, origin: self.origin.to_owned(), after: self.timeout }),
        }
    }

    async fn receive(&self, request: reqwest::RequestBuilder) -> Result<Answer, Error> {
        let mut response = request.send().await.map_err(|error| self.failed(&error))?;
        let expected = response.content_length().unwrap_or(4096);
        if expected > self.cap as u64 {
            return Err(self.too_large());
        }
        let mut body = Zeroizing::new(Vec::with_capacity(usize::try_from(expected).unwrap_or(0)));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > self.cap {
                return Err(self.too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: response.status(), headers: std::mem::take(response.headers_mut()), body })
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { doing: self.doing, origin: self.origin.to_owned(), cap: self.cap }
    }

    /// Says in our own words why there was no answer: the libraries' texts hold addresses and more.
    fn failed(&self, error: &reqwest::Error) -> Error {
        let (doing, origin) = (self.doing, self.origin.to_owned());
        let mut why = if error.is_connect() { "no connection" } else { "the connection broke" }.to_owned();
        let mut source: Option<&dyn StdError> = Some(error);
        while let Some(cause) = source {
            if let Some(tls) = tls_error(cause) {
                return match tls {
                    rustls::Error::InvalidCertificate(reason) => {
                        Error::Certificate { doing, origin, why: certificate_problem(reason) }
                    }
                    rustls::Error::AlertReceived(alert) if is_about_our_certificate(*alert) => {
                        Error::ClientCertificate { doing, origin }
                    }
                    _ => Error::Protocol { doing, origin, why: "no TLS connection could be made".into() },
                };
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                if let Some(words) = io_problem(io) {
                    words.clone_into(&mut why);
                }
            } else if cause.to_string().starts_with("dns error") {
                "the host's name does not resolve".clone_into(&mut why);
            } else if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
                return Error::Protocol { doing, origin, why: "the answer is not HTTP".into() };
            }
            source = cause.source();
        }
        Error::Unreachable { doing, origin, why }
    }
}

/// rustls hides its errors inside `io::Error`, often one in another, which do not show them as a source.
fn tls_error<'e>(cause: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    if let Some(tls) = cause.downcast_ref() {
        return Some(tls);
    }
    tls_error(cause.downcast_ref::<std::io::Error>()?.get_ref()?)
}

fn io_problem(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => Some("connection refused"),
        Kind::ConnectionReset | Kind::BrokenPipe => Some("connection reset"),
        Kind::UnexpectedEof => Some("the connection ended before the answer did"),
        Kind::TimedOut => Some("timed out"),
        Kind::HostUnreachable | Kind::NetworkUnreachable => Some("no route to the host"),
        _ => None,
    }
}

fn certificate_problem(reason: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Reason;
    match reason {
        Reason::UnknownIssuer => "signed by an unknown authority".into(),
        Reason::Expired | Reason::ExpiredContext { .. } => "expired".into(),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => "not valid yet".into(),
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => "made for another host".into(),
        Reason::Revoked => "revoked".into(),
        _ => "not valid".into(),
    }
}

fn is_about_our_certificate(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}

impl Answer {
    /// How long the server asks to be left alone: seconds, or until a date.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.text(&header::RETRY_AFTER)?;
        if let Ok(seconds) = value.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = http_date(value)?;
        let now = self.date().unwrap_or_else(jiff::Timestamp::now);
        Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
    }

    /// The server's own clock.
    #[must_use]
    pub fn date(&self) -> Option<jiff::Timestamp> {
        http_date(self.text(&header::DATE)?)
    }

    /// Host that a redirect points to.
    #[must_use]
    pub fn redirect_host(&self) -> Option<String> {
        let location = self.text(&header::LOCATION)?;
        let host = url::Url::parse(location).ok()?.host_str()?.to_owned();
        Some(host)
    }

    fn text(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}
