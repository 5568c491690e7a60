//! What a token says about itself, for a message that compares it with the configuration.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The public claims of a token that is a JWT. Not verified: the node has already refused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `aud`, joined where it is a list.
    pub audience: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `exp`, seconds since 1970.
    pub expires: Option<i64>,
    /// `alg` of the header.
    pub algorithm: Option<String>,
}

impl Claims {
    /// The claims, if the token is a JWT.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (header, payload) = (parts.next()?, parts.next()?);
        let (header, payload) = (json(header)?, json(payload)?);
        Some(Self {
            audience: words(&payload["aud"]),
            subject: words(&payload["sub"]),
            expires: payload["exp"].as_i64(),
            algorithm: words(&header["alg"]),
        })
    }
}

fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn words(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => return None,
    };
    // Claims are the issuer's words: keep them on one line and short.
    Some(text.chars().filter(|c| !c.is_control()).take(200).collect())
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
        let expires = match self.expires.map(jiff::Timestamp::from_second) {
            Some(Ok(at)) if at < jiff::Timestamp::now() => format!("{at} (past)"),
            Some(Ok(at)) => at.to_string(),
            _ => "none".into(),
        };
        let (audience, subject, algorithm) =
            (or_none(&self.audience), or_none(&self.subject), or_none(&self.algorithm));
        write!(f, "aud {audience}, sub {subject}, exp {expires}, alg {algorithm}")
    }
}
