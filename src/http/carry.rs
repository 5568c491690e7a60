//! Carries the requests of the clouds' SDKs over our own clients: same TLS rules, same routes, capped answers.

use std::time::Duration;

use bytes::Bytes;

use super::{Error, Exchange, Http};
use crate::config::{Address, Proxy, Tls};

/// How requests to one system are carried; `Send` and `Sync`, so that an SDK can hold it.
#[derive(Debug, Clone)]
pub struct Carrier {
    http: std::sync::Arc<Http>,
    /// What this is for, as messages say it.
    doing: &'static str,
    tls: Tls,
    proxy: Option<Proxy>,
    /// The most bytes of an answer's body.
    cap: usize,
}

impl Carrier {
    /// TLS files and proxy count for every host that it reaches.
    #[must_use]
    pub const fn new(
        http: std::sync::Arc<Http>,
        doing: &'static str,
        tls: Tls,
        proxy: Option<Proxy>,
        cap: usize,
    ) -> Self {
        Self { http, doing, tls, proxy, cap }
    }

    /// Sends it and reads the whole answer, whose body is wiped when its last holder drops it.
    pub async fn send(&self, request: http::Request<Bytes>, timeout: Duration) -> Result<http::Response<Bytes>, Error> {
        let url = url(&request, self.doing)?;
        let address: Address = url.origin().ascii_serialization().parse().map_err(|_| misled(self.doing))?;
        let client = self.http.client(&address, &self.tls, self.proxy.as_ref())?;
        let origin = address.origin();
        Exchange { doing: self.doing, origin: &origin, cap: self.cap, timeout }.carry(&client, request).await
    }
}

impl Exchange<'_> {
    /// The same over this client, whatever host the request names.
    pub async fn carry(
        &self,
        client: &reqwest::Client,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, Error> {
        let url = url(&request, self.doing)?;
        let (parts, body) = request.into_parts();
        let answer = self.run(client.request(parts.method, url).headers(parts.headers).body(body)).await?;
        let mut response = http::Response::new(Bytes::from_owner(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

fn url(request: &http::Request<Bytes>, doing: &'static str) -> Result<url::Url, Error> {
    url::Url::parse(&request.uri().to_string()).map_err(|_| misled(doing))
}

fn misled(doing: &'static str) -> Error {
    Error::Protocol { doing, origin: String::new(), why: "the SDK asks for no address".to_owned() }
}
