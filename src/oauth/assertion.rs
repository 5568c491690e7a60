//! The client's signed assertion (RFC 7523), for `private_key_jwt`.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::Error;
use super::discovery::Endpoint;
use crate::config::{AssertionAudience, Oauth2};

/// Lifetime of an assertion, in seconds: it is used at once.
const LIFETIME: i64 = 60;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: i64,
    exp: i64,
}

/// A fresh assertion, with a `jti` that is used once.
pub(super) fn sign(config: &Oauth2, endpoint: &Endpoint, pem: &SecretString) -> Result<SecretString, Error> {
    let token_endpoint = endpoint.address.as_written();
    let audience = match config.assertion_audience {
        AssertionAudience::TokenEndpoint => token_endpoint,
        AssertionAudience::Issuer => endpoint.issuer.as_deref().unwrap_or(token_endpoint),
    };
    let mut random = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Assertion("no random numbers"))?;
    let now = jiff::Timestamp::now().as_second();
    let claims = Claims {
        iss: &config.client_id,
        sub: &config.client_id,
        aud: audience,
        jti: base16ct::lower::encode_string(&random),
        iat: now,
        exp: now + LIFETIME,
    };
    for (algorithm, key) in keys(pem.expose_secret().as_bytes()) {
        let mut header = Header::new(algorithm);
        header.kid.clone_from(&config.key_id);
        if let Ok(token) = jsonwebtoken::encode(&header, &claims, &key) {
            return Ok(token.into());
        }
    }
    Err(Error::Assertion("the private key is of no kind that is known here"))
}

/// The key as each kind that it may be; signing tells a P-256 key from a P-384 one.
fn keys(pem: &[u8]) -> impl Iterator<Item = (Algorithm, EncodingKey)> {
    let rsa = EncodingKey::from_rsa_pem(pem).ok().map(|key| (Algorithm::RS256, key));
    let ed = EncodingKey::from_ed_pem(pem).ok().map(|key| (Algorithm::EdDSA, key));
    let p256 = EncodingKey::from_ec_pem(pem).ok().map(|key| (Algorithm::ES256, key));
    let p384 = EncodingKey::from_ec_pem(pem).ok().map(|key| (Algorithm::ES384, key));
    [rsa, ed, p256, p384].into_iter().flatten()
}
