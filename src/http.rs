//! One rustls client for every address: capped reads, one time limit per answer, redirects never followed.

pub mod carry;
pub mod route;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response};
use zeroize::Zeroizing;

use crate::config::{Address, Proxy, Tls};
use crate::error::{Failure, Fault};
use crate::secret;
use route::Route;

/// Clients, one for each way of connecting, built when first needed and shared within a pass.
#[derive(Default)]
pub struct Http {
    clients: Mutex<HashMap<Profile, Client>>,
    /// Connections end with their answer: the buffers of one that waits for the next hold what came last.
    is_forgetful: bool,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
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
    asked: url::Url,
    headers: HeaderMap,
    /// The body, up to the cap.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer. Names the host, holds no byte of the other side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or one that broke.
    #[error("{doing}: {origin}: {why}")]
    Unreachable { doing: &'static str, origin: String, why: &'static str },
    /// The time for one answer ran out.
    #[error("{doing}: {origin}: no whole answer within {}", crate::config::Period(*after))]
    Timeout { doing: &'static str, origin: String, after: Duration },
    /// Earlier steps used up the whole deadline.
    #[error("{doing}: {origin}: no time is left before the deadline of this pass")]
    NoTime { doing: &'static str, origin: String },
    /// The server's certificate is not trusted.
    #[error("{doing}: {origin}: certificate not trusted: {why}")]
    Certificate { doing: &'static str, origin: String, why: &'static str, fix: &'static str },
    /// The server did not accept our certificate, or wants one.
    #[error("{doing}: {origin}: the server {why}")]
    ClientCertificate { doing: &'static str, origin: String, why: &'static str },
    /// The proxy does not let us through.
    #[error("{doing}: {origin}: the proxy {why}")]
    Proxy { doing: &'static str, origin: String, why: &'static str, fault: Fault },
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
            Self::Unreachable { .. } | Self::NoTime { .. } | Self::Timeout { .. } => Fault::Transient,
            Self::ClientCertificate { .. } => Fault::Credentials,
            Self::Proxy { fault, .. } => *fault,
            Self::TooLarge { .. }
            | Self::Certificate { .. }
            | Self::Protocol { .. }
            | Self::File(_)
            | Self::Pem { .. }
            | Self::Setup(_) => Fault::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => "is it up, and are host and port of the address right?".into(),
            Self::NoTime { .. } => "the log says what took so long; give the pass a longer `deadline`".into(),
            Self::Timeout { .. } => "is it overloaded, or is a firewall in between?".into(),
            Self::Certificate { fix, .. } => (*fix).into(),
            Self::ClientCertificate { .. } => {
                "`tls.client_cert_file` and `tls.client_key_file` must hold a current certificate that the server knows"
                    .into()
            }
            Self::Proxy { .. } => {
                "`idkeep check` prints the route of each address; `proxy.no_proxy` or NO_PROXY excludes a host".into()
            }
            Self::Protocol { .. } => "check scheme and port of the address".into(),
            Self::File(error) => return error.hint(),
            _ => return None,
        })
    }
}

impl Http {
    /// For a process that lives on after a pass: no connection is kept.
    #[must_use]
    pub fn forgetful() -> Self {
        Self { is_forgetful: true, ..Self::default() }
    }

    /// Lets go of every client: each holds authorities, and its certificate's key, as they were.
    pub fn rest(&self) {
        self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

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
        let client = build(&profile, self.is_forgetful)?;
        clients.insert(profile, client.clone());
        Ok(client)
    }
}

/// Certificates that lie in no file of their own: those of a kubeconfig.
#[derive(Default)]
pub struct Pem {
    /// Root certificates that replace the system's.
    pub roots: Option<Zeroizing<Vec<u8>>>,
    /// A client certificate with its private key.
    pub identity: Option<Zeroizing<Vec<u8>>>,
}

impl Pem {
    /// A client for this address; `source` is the file that messages name.
    pub fn client(&self, address: &Address, proxy: Option<&Proxy>, source: &Path) -> Result<Client, Error> {
        // Whoever asks may live on after its pass.
        let mut builder = builder(&Route::of(address, proxy))?.pool_max_idle_per_host(0);
        if let Some(roots) = &self.roots {
            builder = trusting(builder, roots, source)?;
        }
        if let Some(identity) = &self.identity {
            builder = showing(builder, identity, source)?;
        }
        finish(builder)
    }
}

fn build(profile: &Profile, is_forgetful: bool) -> Result<Client, Error> {
    let mut builder = builder(&profile.route)?;
    if is_forgetful {
        builder = builder.pool_max_idle_per_host(0);
    }
    let Some(tls) = &profile.tls else {
        return finish(builder.tls_certs_only([]));
    };
    if let Some(path) = &tls.ca_file {
        builder = trusting(builder, &secret::guarded_file(path)?, path)?;
    }
    if let (Some(cert), Some(key)) = (&tls.client_cert_file, &tls.client_key_file) {
        let mut pem = secret::private_file(key)?;
        pem.extend_from_slice(b"\n");
        pem.extend_from_slice(&secret::guarded_file(cert)?);
        builder = showing(builder, &pem, cert)?;
    }
    finish(builder)
}

fn builder(route: &Route) -> Result<ClientBuilder, Error> {
    let builder = Client::builder()
        .no_proxy()
        .http1_only()
        .referer(false)
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none());
    let Route::Through { url, .. } = route else {
        return Ok(builder);
    };
    let proxy = reqwest::Proxy::all(url.clone()).map_err(|_| Error::Setup("the proxy's address".into()))?;
    Ok(builder.proxy(proxy))
}

fn trusting(builder: ClientBuilder, pem: &[u8], path: &Path) -> Result<ClientBuilder, Error> {
    let roots = Certificate::from_pem_bundle(pem).unwrap_or_default();
    if roots.is_empty() {
        return Err(Error::Pem { path: path.into(), why: "no certificate in PEM form" });
    }
    Ok(builder.tls_certs_only(roots))
}

fn showing(builder: ClientBuilder, pem: &[u8], path: &Path) -> Result<ClientBuilder, Error> {
    let identity = Identity::from_pem(pem).map_err(|_| Error::Pem {
        path: path.into(),
        why: "this and the key file hold no certificate with its private key in PEM form",
    })?;
    Ok(builder.identity(identity))
}

fn finish(builder: ClientBuilder) -> Result<Client, Error> {
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
        self.in_time(self.receive(request)).await
    }

    /// Sends the request and leaves the answer's body unread.
    pub async fn run_for_head(&self, request: reqwest::RequestBuilder) -> Result<Answer, Error> {
        self.in_time(async { Ok(Answer::new(self.send(request).await?, Zeroizing::default())) }).await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if self.timeout.is_zero() {
            return Err(Error::NoTime { doing: self.doing, origin: self.origin.to_owned() });
        }
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => {
                Err(Error::Timeout { doing: self.doing, origin: self.origin.to_owned(), after: rounded(self.timeout) })
            }
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Error> {
        request.send().await.map_err(|error| self.failed(&error))
    }

    async fn receive(&self, request: reqwest::RequestBuilder) -> Result<Answer, Error> {
        let mut response = self.send(request).await?;
        let expected = response.content_length().unwrap_or(4096);
        // Of an error page, however large, the status is what counts.
        let is_success = response.status().is_success();
        if is_success && expected > self.cap as u64 {
            return Err(self.too_large());
        }
        let room = usize::try_from(expected).map_or(self.cap, |expected| expected.min(self.cap));
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > self.cap {
                if is_success {
                    return Err(self.too_large());
                }
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer::new(response, body))
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { doing: self.doing, origin: self.origin.to_owned(), cap: self.cap }
    }

    /// Says in our own words why there was no answer: the libraries' texts hold addresses and more.
    pub(crate) fn failed(&self, error: &reqwest::Error) -> Error {
        let (doing, origin) = (self.doing, self.origin.to_owned());
        let mut why = if error.is_connect() { "no connection" } else { "the connection broke" };
        let mut source: Option<&dyn StdError> = Some(error);
        while let Some(cause) = source {
            if let Some(tls) = tls_error(cause) {
                return self.tls_failed(tls);
            }
            let words = cause.to_string();
            if let Some(problem) = words.strip_prefix("tunnel error: ") {
                let (why, fault) = tunnel_problem(problem);
                return Error::Proxy { doing, origin, why, fault };
            } else if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                why = io_problem(io).unwrap_or(why);
            } else if words.starts_with("dns error") {
                why = "the host's name does not resolve";
            } else if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
                return Error::Protocol { doing, origin, why: "the answer is not HTTP".into() };
            }
            source = cause.source();
        }
        Error::Unreachable { doing, origin, why }
    }

    fn tls_failed(&self, error: &rustls::Error) -> Error {
        use rustls::{AlertDescription, Error as Tls};
        let (doing, origin) = (self.doing, self.origin.to_owned());
        match error {
            Tls::InvalidCertificate(reason) => {
                let (why, fix) = certificate_problem(reason);
                Error::Certificate { doing, origin, why, fix }
            }
            Tls::AlertReceived(AlertDescription::CertificateRequired) => {
                Error::ClientCertificate { doing, origin, why: "wants a client certificate" }
            }
            Tls::AlertReceived(alert) if is_about_our_certificate(*alert) => {
                Error::ClientCertificate { doing, origin, why: "does not accept our client certificate" }
            }
            // The alert's name is one of a fixed list.
            Tls::AlertReceived(alert) => {
                Error::Protocol { doing, origin, why: format!("the server broke off the TLS handshake ({alert:?})") }
            }
            Tls::InvalidMessage(_) => Error::Protocol { doing, origin, why: "the answer is not TLS".into() },
            _ => Error::Protocol { doing, origin, why: "no TLS connection could be made".into() },
        }
    }
}

/// What is left of a deadline, for people: to a tenth of a second.
fn rounded(span: Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis().div_ceil(100) * 100).unwrap_or(u64::MAX))
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

/// What is wrong with a server's certificate, and what to do about it.
fn certificate_problem(reason: &rustls::CertificateError) -> (&'static str, &'static str) {
    use rustls::CertificateError as Reason;
    const RENEW: &str = "the server needs a new certificate";
    match reason {
        // A bad signature is that of an authority of the same name with another key.
        Reason::UnknownIssuer | Reason::BadSignature => {
            ("signed by an unknown authority", "name the authority that signed it in `tls.ca_file`")
        }
        Reason::Expired | Reason::ExpiredContext { .. } => {
            ("expired", "the server needs a new certificate, or this machine's clock is wrong")
        }
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => ("not valid yet", "is this machine's clock right?"),
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            ("made for another host", "use a host name that the certificate has, or the server needs another one")
        }
        Reason::Revoked => ("revoked", RENEW),
        _ => ("not valid", RENEW),
    }
}

/// What became of a CONNECT, by the words of `hyper-util`.
fn tunnel_problem(words: &str) -> (&'static str, Fault) {
    match words {
        "proxy authorization required" => ("wants a user name and password", Fault::Credentials),
        "failed to create underlying connection" => ("cannot be reached", Fault::Transient),
        "unsuccessful" => ("does not connect to it", Fault::Transient),
        _ => ("broke the connection", Fault::Transient),
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
            // OpenSSL and rustls: an authority of the right name, but with another key.
            | Alert::DecryptError
    )
}

impl Answer {
    fn new(mut response: Response, body: Zeroizing<Vec<u8>>) -> Self {
        let headers = std::mem::take(response.headers_mut());
        Self { status: response.status(), asked: response.url().clone(), headers, body }
    }

    /// How long the server asks to be left alone: seconds, or until a date.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The server's own clock.
    #[must_use]
    pub fn date(&self) -> Option<jiff::Timestamp> {
        date(&self.headers)
    }

    /// Where a redirect points to: the host and nothing else.
    #[must_use]
    pub fn redirect_host(&self) -> String {
        redirect_host(&self.asked, self.text(&header::LOCATION))
    }

    fn text(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How long the server asks to be left alone: seconds, or until a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    wait_asked(headers.get(header::RETRY_AFTER)?.to_str().ok()?, date(headers))
}

/// The server's own clock.
pub(crate) fn date(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    http_date(headers.get(header::DATE)?.to_str().ok()?)
}

fn redirect_host(asked: &url::Url, location: Option<&str>) -> String {
    let target = location.and_then(|location| asked.join(location).ok());
    match target.as_ref().and_then(url::Url::host_str) {
        Some(host) if asked.host_str() == Some(host) => "another address of the same host".into(),
        Some(host) => host.to_owned(),
        None => "nowhere that can be read".into(),
    }
}

/// The wait that a `Retry-After` asks for, by the server's clock where it is known.
pub(crate) fn wait_asked(value: &str, server_now: Option<jiff::Timestamp>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than fit are as good as for ever.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let now = server_now.unwrap_or_else(jiff::Timestamp::now);
    Some(Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or_default())
}

/// The wait that a server asks for, as the end of a message.
pub(crate) fn patience(retry_after: Option<Duration>) -> String {
    retry_after.map(|wait| format!(", and it asks to be left alone for {}s", wait.as_secs())).unwrap_or_default()
}

pub(crate) fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "Mon, 23 Nov 2026 12:00:00 GMT";

    #[test]
    fn seconds_to_wait_are_read_however_many() {
        assert_eq!(wait_asked("0", None), Some(Duration::ZERO));
        assert_eq!(wait_asked(" 120 ", None), Some(Duration::from_mins(2)));
        assert_eq!(wait_asked("99999999999999999999", None), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn a_date_to_wait_for_counts_from_the_servers_clock() {
        let now = http_date(NOON);
        assert_eq!(wait_asked("Mon, 23 Nov 2026 12:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(wait_asked(NOON, now), Some(Duration::ZERO));
        assert_eq!(wait_asked("Mon, 23 Nov 2026 11:59:59 GMT", now), Some(Duration::ZERO), "it has passed");
    }

    #[test]
    fn without_the_servers_clock_our_own_counts() {
        let far = wait_asked("Fri, 31 Dec 2100 23:59:59 GMT", None).unwrap();
        assert!(far > Duration::from_hours(24));
    }

    #[test]
    fn what_is_no_wait_is_none() {
        for value in ["", "soon", "-1", "1.5", "0x10", "Mon, 99 Nov 2026 12:00:00 GMT"] {
            assert_eq!(wait_asked(value, None), None, "{value}");
        }
    }

    #[test]
    fn a_redirect_tells_its_host_and_nothing_else() {
        let asked = "https://node.acme.example/api".parse().unwrap();
        for (location, host) in [
            (Some("https://login.example:8443/a?token=t"), "login.example"),
            (Some("https://user:pass@login.example/"), "login.example"),
            (Some("//login.example/a"), "login.example"),
            (Some("/login"), "another address of the same host"),
            (Some("http://node.acme.example/api"), "another address of the same host"),
            (Some("http://["), "nowhere that can be read"),
            (Some("mailto:a@b"), "nowhere that can be read"),
            (None, "nowhere that can be read"),
        ] {
            assert_eq!(redirect_host(&asked, location), host, "{location:?}");
        }
    }
}
