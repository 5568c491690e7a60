//! The tests' own HTTP client, for preparing servers and for checking the stand-ins.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::block_on;
use super::pki::Identity;

/// A client with no proxy and no redirects, which trusts `ca_file` alone if there is one.
#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(ca_file: Option<&Path>) -> Self {
        Self::build(ca_file, None)
    }

    pub fn with_certificate(ca_file: &Path, identity: &Identity) -> Self {
        Self::build(Some(ca_file), Some(identity))
    }

    fn build(ca_file: Option<&Path>, identity: Option<&Identity>) -> Self {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            // A pooled connection to a server that was restarted would fail the next request.
            .pool_max_idle_per_host(0);
        if let Some(file) = ca_file {
            let pem = std::fs::read(file).unwrap();
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).unwrap());
        }
        if let Some(identity) = identity {
            let pem = format!("{}{}", identity.certificate, identity.key);
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        Self { inner: builder.build().unwrap() }
    }

    /// Sends a request and reads its whole answer.
    pub fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Answer> {
        block_on(self.send_async(method, url, headers, body))
    }

    pub async fn send_async(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.inner.request(method.parse().unwrap(), url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await?.to_vec() })
    }

    pub fn get(&self, url: &str) -> reqwest::Result<Answer> {
        self.send("GET", url, &[], None)
    }

    pub fn get_with_token(&self, url: &str, token: &str) -> reqwest::Result<Answer> {
        self.send("GET", url, &[("authorization", &format!("Bearer {token}"))], None)
    }

    /// Posts a form, as to a token endpoint.
    pub fn form(&self, url: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> reqwest::Result<Answer> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let form = ("content-type", "application/x-www-form-urlencoded");
        self.send("POST", url, &[headers, &[form]].concat(), Some(body.into_bytes()))
    }
}

impl Answer {
    /// The body as JSON; null if it is empty.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// `Authorization: Basic` as RFC 6749 §2.3.1 has it: both halves form-encoded first.
pub fn basic(id: &str, secret: &str) -> String {
    use base64::Engine as _;
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(id), encode(secret));
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// The fields of a form.
pub fn parse_form(body: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}
