//! Signature Version 4 as a service checks it.

use sha2::{Digest as _, Sha256};

use super::super::server::Seen;

/// What a request says about who sent it.
pub struct Claimed {
    pub key: String,
    scope: Vec<String>,
    headers: Vec<String>,
    signature: String,
}

pub fn claimed(seen: &Seen) -> Option<Claimed> {
    let rest = seen.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
    let field = |name: &str| rest.split(", ").find_map(|part| part.strip_prefix(&format!("{name}=")));
    let mut scope = field("Credential")?.split('/').map(str::to_owned);
    Some(Claimed {
        key: scope.next()?,
        scope: scope.collect(),
        headers: field("SignedHeaders")?.split(';').map(str::to_owned).collect(),
        signature: field("Signature")?.to_owned(),
    })
}

impl Claimed {
    /// Whether whoever has this secret has signed this request, for this region and service.
    pub fn is_of(&self, seen: &Seen, secret: &str, region: &str, service: &str) -> bool {
        let [date, its_region, its_service, end] = self.scope.as_slice() else { return false };
        let is_signed = |name: &str| self.headers.iter().any(|signed| signed == name);
        let at = seen.header("x-amz-date").unwrap_or_default();
        if its_region != region || its_service != service || end != "aws4_request" || !at.starts_with(date.as_str()) {
            return false;
        }
        // What decides what is done has to be signed.
        let needed = ["host", "x-amz-date", "x-amz-target"].into_iter().all(is_signed);
        let has_token = seen.header("x-amz-security-token").is_some();
        if !needed || has_token && !is_signed("x-amz-security-token") {
            return false;
        }
        let headers: String = self
            .headers
            .iter()
            .map(|name| format!("{name}:{}\n", seen.header(name).unwrap_or_default().trim()))
            .collect();
        let query = seen.query.as_deref().unwrap_or_default();
        let signed = self.headers.join(";");
        let request = format!(
            "{}\n{}\n{query}\n{headers}\n{signed}\n{}",
            seen.method,
            seen.path,
            hex(&Sha256::digest(&seen.body))
        );
        let scope = self.scope.join("/");
        let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(request)));
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        for part in [region, service, "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        hex(&hmac(&key, text.as_bytes())) == self.signature
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    let key = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block[..key.len()].copy_from_slice(&key);
    let padded = |with: u8| block.map(|byte| byte ^ with).to_vec();
    let inner = Sha256::digest([padded(0x36), text.to_vec()].concat());
    Sha256::digest([padded(0x5c), inner.to_vec()].concat()).to_vec()
}
