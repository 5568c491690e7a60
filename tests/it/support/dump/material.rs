//! Private keys from a seed, in the encodings that Canton's crypto provider writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use p256::pkcs8::EncodePublicKey as _;
use sha2::{Digest as _, Sha256};

use super::super::keys;
use super::encode::der;
use super::{Purpose, Spec};

/// A private key in all its encodings, and its public half.
pub struct Material {
    pub raw: Vec<u8>,
    pub pkcs8: Vec<u8>,
    pub public: Vec<u8>,
    pub secrets: Vec<Vec<u8>>,
}

/// The elliptic curves' crates offer the same names but share no trait that would say all this.
macro_rules! curve {
    ($curve:ident, $scalar:expr) => {{
        let key = $curve::SecretKey::from_slice(&$scalar).unwrap();
        let public = key.public_key().to_public_key_der().unwrap();
        Material::elliptic($scalar, public.as_bytes().to_vec())
    }};
}

impl Material {
    pub fn new(seed: u64, purpose: Purpose, spec: Spec) -> Self {
        let label = format!("{purpose:?} {spec:?}");
        match spec {
            Spec::Ed25519 | Spec::Unknown => Self::ed25519(bytes(seed, &label, 32)),
            Spec::P256 => curve!(p256, scalar(seed, &label, 32)),
            Spec::P384 => curve!(p384, scalar(seed, &label, 48)),
            Spec::Secp256k1 => curve!(k256, scalar(seed, &label, 32)),
            Spec::Rsa2048 => Self::rsa(),
        }
    }

    fn ed25519(secret: Vec<u8>) -> Self {
        let key = SigningKey::from_bytes(secret.as_slice().try_into().unwrap());
        // RFC 8410, version 1: no public key inside.
        let pkcs8 = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".as_slice(), &secret].concat();
        Self { raw: secret.clone(), pkcs8, public: key.verifying_key().to_bytes().to_vec(), secrets: vec![secret] }
    }

    /// As Bouncy Castle writes it: the curve is named twice, and the public key is inside.
    fn elliptic(scalar: Vec<u8>, public: Vec<u8>) -> Self {
        let (algorithm, point) = public[2..].split_at(2 + usize::from(public[3]));
        // Past the header and the 9 bytes that say "elliptic curve".
        let curve = &algorithm[11..];
        let (secret, curve, point) = (der(0x04, &[&scalar]), der(0xa0, &[curve]), der(0xa1, &[point]));
        let key = der(0x30, &[&[2, 1, 1], &secret, &curve, &point]);
        let pkcs8 = der(0x30, &[&[2, 1, 0], algorithm, &der(0x04, &[&key])]);
        Self { raw: scalar.clone(), pkcs8, public, secrets: vec![scalar] }
    }

    /// One fixed key, whatever the seed: making one takes long.
    fn rsa() -> Self {
        let pkcs8 = keys::der(keys::SYNTHETIC_ENCRYPTION);
        let pair = rcgen::KeyPair::from_pem(&keys::pem(keys::SYNTHETIC_ENCRYPTION)).unwrap();
        let public = der_of_pem(&pair.public_key_pem());
        // PKCS #1: version, n, e, d, p, q, …: the first large one is public, the next three are not.
        let numbers = rsa_numbers(&pkcs8);
        Self { raw: numbers[1].clone(), pkcs8, public, secrets: numbers[1..4].to_vec() }
    }
}

/// The large numbers in the PKCS #8 of an RSA key, in order (n, d, p, q, dp, dq, qi) and without leading zeros.
pub fn rsa_numbers(mut der: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while der.len() > 4 {
        let (tag, header, length) = match der[1] {
            0x82 => (der[0], 4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
            0x81 => (der[0], 3, usize::from(der[2])),
            short => (der[0], 2, usize::from(short)),
        };
        // Into sequences and the octet string that holds PKCS #1, past everything else.
        let inside = matches!(tag, 0x30 | 0x04) && length > 100;
        if tag == 0x02 && length >= 100 {
            let number = &der[header..header + length];
            found.push(number.strip_prefix(&[0]).unwrap_or(number).to_vec());
        }
        der = &der[if inside { header } else { header + length }..];
    }
    found
}

fn der_of_pem(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

/// As many bytes as wanted, always the same for one seed and label.
pub fn bytes(seed: u64, label: &str, count: usize) -> Vec<u8> {
    let block = |number: u64| {
        Sha256::new().chain_update(seed.to_be_bytes()).chain_update(number.to_be_bytes()).chain_update(label).finalize()
    };
    let mut all: Vec<u8> = (0..count.div_ceil(32) as u64).flat_map(block).collect();
    all.truncate(count);
    all
}

/// Never zero and below the order of each of the curves.
fn scalar(seed: u64, label: &str, count: usize) -> Vec<u8> {
    let mut scalar = bytes(seed, label, count);
    scalar[0] = scalar[0] & 0x7f | 0x01;
    scalar
}
