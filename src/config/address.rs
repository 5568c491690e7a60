//! An address on the network, and how it is reached: TLS files and proxy.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// An `https://` address; `http://` only where `allow_http: true` stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "address", "examples" = ["https://host.example"]))]
pub struct Address {
    text: String,
    url: Url,
}

/// Files for TLS. `ca_file` replaces the system's roots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Root certificates (PEM) that replace the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Client certificate chain (PEM); with `client_key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_file: Option<PathBuf>,
    /// The client certificate's private key (PEM); refused if others may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<PathBuf>,
}

/// A proxy for one address. It replaces the proxies named in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// `http://` or `https://` address of the proxy; https targets are tunnelled through it.
    pub url: Address,
    /// Hosts, domains (`.acme.example`) and networks (`10.0.0.0/8`) that are reached directly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<String>,
}

impl Address {
    /// The parsed form.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The text as written, which an issuer's name is compared by.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// True for `http://`.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// True where the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// `scheme://host[:port]`, what messages name.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The address with `path` (which starts with `/`) after it.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.url.as_str().trim_end_matches('/'))
    }
}

/// True where the host is `localhost` or a loopback address.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| "not an address: it reads `https://host[:port][/path]`".to_owned())?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err("an address starts with `https://`".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "a secret is never written in the file: take the user name and password out of the address".into()
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("an address has no `?` or `#` part".into());
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}
