//! A synthetic dump: the three keys of a fresh node, made for this run and of value to nobody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use serde_json::json;

use crate::identity::Fingerprint;

/// Key formats and specs of Canton's `crypto.proto`.
const RAW: u64 = 3;
const PKCS8: u64 = 5;
const NAMESPACE: u64 = 1;
const PROTOCOL: u64 = 4;

/// A dump in the form that a validator app gives.
pub(super) fn dump() -> Option<Vec<u8>> {
    let (namespace, namespace_pair) = ed25519(NAMESPACE)?;
    let (_, signing_pair) = ed25519(PROTOCOL)?;
    let document = json!({
        "id": format!("PAR::demo-validator-1::{namespace}"),
        "keys": [
            {"keyPair": STANDARD.encode(namespace_pair), "name": "namespace"},
            {"keyPair": STANDARD.encode(signing_pair), "name": "signing"},
            {"keyPair": STANDARD.encode(p256()?), "name": "encryption"},
        ],
        "authorizedStoreSnapshot": STANDARD.encode(b"synthetic topology transactions"),
        "version": "0.7.5",
    });
    Some(document.to_string().into_bytes())
}

/// An Ed25519 signing key with its fingerprint.
fn ed25519(usage: u64) -> Option<(Fingerprint, Vec<u8>)> {
    let mut seed = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut seed).ok()?;
    let key = ed25519_dalek::SigningKey::from_bytes(&seed);
    let fingerprint = Fingerprint::of(key.verifying_key().as_bytes());
    let private =
        [bytes(1, fingerprint.to_string().as_bytes()), varint(2, RAW), bytes(3, &seed), varint(5, usage), varint(6, 1)];
    Some((fingerprint, key_pair(1, &private.concat())))
}

/// A P-256 encryption key.
fn p256() -> Option<Vec<u8>> {
    let mut scalar = [0_u8; 32];
    let key = loop {
        aws_lc_rs::rand::fill(&mut scalar).ok()?;
        if let Ok(key) = p256::SecretKey::from_slice(&scalar) {
            break key;
        }
    };
    let fingerprint = Fingerprint::of(key.public_key().to_public_key_der().ok()?.as_bytes());
    let der = key.to_pkcs8_der().ok()?;
    let private =
        [bytes(1, fingerprint.to_string().as_bytes()), varint(2, PKCS8), bytes(3, der.as_bytes()), varint(5, 1)];
    Some(key_pair(2, &private.concat()))
}

/// `UntypedVersionedMessage { CryptoKeyPair { signing (1) or encryption (2) pair { private key } } }`, version 30.
fn key_pair(kind: u64, private: &[u8]) -> Vec<u8> {
    [bytes(1, &bytes(kind, &bytes(2, private))), varint(2, 30)].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [number(field << 3 | 2), number(content.len() as u64), content.to_vec()].concat()
}

fn varint(field: u64, value: u64) -> Vec<u8> {
    [number(field << 3), number(value)].concat()
}

fn number(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value >= 0x80 {
        encoded.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    encoded.push(u8::try_from(value).unwrap_or(0));
    encoded
}
