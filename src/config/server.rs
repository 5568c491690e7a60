//! What the daemon answers over HTTP, and whom it tells that all is well.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Period, Proxy, SecretRef, Tls};

/// What the daemon answers over HTTP: `/livez`, `/readyz`, `/metrics`, `/status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it listens.
    #[serde(default = "loopback")]
    #[schemars(with = "String", extend("format" = "socket", "examples" = ["127.0.0.1:9464"]))]
    pub listen: SocketAddr,
    /// Who gets `/status`.
    #[serde(default)]
    pub status: StatusFor,
}

/// Who gets `/status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusFor {
    /// Only who asks from this machine.
    #[default]
    Loopback,
    /// Whoever reaches the port.
    All,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9464))
}

impl Default for Server {
    fn default() -> Self {
        Self { listen: loopback(), status: StatusFor::default() }
    }
}

/// An address that is called after each full success: whoever waits for it raises the alarm when it stays silent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Where the address is read: whoever knows it can say that all is well.
    pub url: SecretRef,
    /// Allows `http://`.
    #[serde(default)]
    pub allow_http: bool,
    /// TLS files for the address.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// For the whole answer.
    #[serde(default = "ten_seconds")]
    pub timeout: Period,
}

fn ten_seconds() -> Period {
    Period::seconds(10)
}
