//! JSON Web Tokens: minted as an issuer would, and read without being believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::keys;

pub const KEY_ID: &str = "test-key-1";

/// A token signed RS256 by the synthetic issuer key.
pub fn mint(claims: &Value) -> String {
    mint_with(claims, keys::SYNTHETIC_ISSUER)
}

/// A token signed RS256 by another of the synthetic keys, under the same key id.
pub fn mint_with(claims: &Value, key: &str) -> String {
    let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) };
    jsonwebtoken::encode(&header, claims, &rsa(key)).unwrap()
}

/// A token signed HS256, as the no-auth compose set-up believes.
pub fn mint_hs256(claims: &Value, secret: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// The public half of the synthetic issuer key as a key set.
pub fn jwks() -> Value {
    json!({ "keys": [jwk(keys::SYNTHETIC_ISSUER)] })
}

/// The public half of one synthetic key, for RS256.
pub fn jwk(key: &str) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&rsa(key), Algorithm::RS256).unwrap()).unwrap();
    jwk["kid"] = json!(KEY_ID);
    jwk["use"] = json!("sig");
    jwk
}

/// The public half of the synthetic issuer key as PEM, as OpenBao's `jwt_validation_pubkeys` wants it.
pub fn public_pem() -> String {
    public_pem_of(&keys::pem(keys::SYNTHETIC_ISSUER))
}

/// The public half of any PKCS #8 PEM.
pub fn public_pem_of(private: &str) -> String {
    rcgen::KeyPair::from_pem(private).unwrap().public_key_pem()
}

/// A JWK of a P-256 PKCS #8 PEM, for ES256.
pub fn ec_jwk(private: &str) -> Value {
    let key = EncodingKey::from_ec_pem(private.as_bytes()).unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
    jwk["use"] = json!("sig");
    jwk
}

/// What a token says, unverified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_else(|| panic!("no JWT"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn rsa(key: &str) -> EncodingKey {
    EncodingKey::from_rsa_pem(keys::pem(key).as_bytes()).unwrap()
}
