//! Signatures of manifests and of records of `verify`: SSHSIG with Ed25519, which `ssh-keygen -Y verify` checks too.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use secrecy::{ExposeSecret as _, SecretString};
use ssh_key::private::KeypairData;
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, Signature, SshSig};
use zeroize::Zeroizing;

use crate::config::Signer;
use crate::error::{Failure, Fault};
use crate::secret;

/// What a signature is for: one made for anything else is refused, so that none can pass for the other kind's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A set's manifest.
    Manifest,
    /// What a `verify` found.
    Record,
}

impl Purpose {
    /// SSHSIG's namespace for it.
    #[must_use]
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Manifest => "idkeep",
            Self::Record => "idkeep-verification",
        }
    }
}

/// The largest signature that is read, in bytes; those of Ed25519 have about 300.
pub const MAX_BYTES: usize = 8 * 1024;

/// Why something is not signed, or not by whom it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not such a key.
    #[error("the signing key is not an Ed25519 private key in OpenSSH's form")]
    NotAKey,
    /// A passphrase protects it.
    #[error("the signing key is protected by a passphrase")]
    Passphrase,
    /// The file's two halves do not belong together.
    #[error("the signing key's public half is not that of its private half")]
    Mismatch,
    /// The key could not be used.
    #[error("making the signature")]
    Sign,
    /// Not a signature in SSHSIG's form.
    #[error("the signature is not in SSHSIG's form")]
    NotASignature,
    /// Made for something else.
    #[error("the signature was made for something else than `{}`", .0.namespace())]
    Namespace(Purpose),
    /// Made by somebody else.
    #[error("the signature is by a key that is none of the `signers`")]
    Stranger,
    /// It is not over these bytes.
    #[error("the signature does not match: what it is beside was changed, or it belongs to something else")]
    Wrong,
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::NotAKey | Self::Passphrase | Self::Mismatch => Fault::Config,
            Self::Sign => Fault::Bug,
            Self::NotASignature | Self::Namespace(_) | Self::Stranger | Self::Wrong => Fault::Identity,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotAKey | Self::Mismatch => {
                "`ssh-keygen -t ed25519 -N '' -C idkeep -f FILE` makes one; `sign` names FILE".into()
            }
            Self::Passphrase => "idkeep asks nobody: `ssh-keygen -p -N '' -f FILE` takes the passphrase off".into(),
            Self::Sign => return None,
            Self::Stranger => "if its key was rotated, keep the old one under `signers` too".into(),
            Self::NotASignature | Self::Namespace(_) | Self::Wrong => {
                "do not restore from it: somebody else may have written it".into()
            }
        })
    }
}

/// Signs these bytes with an Ed25519 key in OpenSSH's form; the armored signature.
pub fn sign(key: &SecretString, purpose: Purpose, bytes: &[u8]) -> Result<String, Error> {
    let namespace = purpose.namespace();
    let made = with_key(key, |key| {
        let data = SshSig::signed_data(namespace, HashAlg::Sha512, bytes).map_err(|_| Error::Sign)?;
        let public = KeyData::Ed25519(Ed25519PublicKey(key.verifying_key().to_bytes()));
        let signature = Signature::new(Algorithm::Ed25519, key.sign(&data).to_bytes()).map_err(|_| Error::Sign)?;
        let signature = SshSig::new(public, namespace, HashAlg::Sha512, signature).map_err(|_| Error::Sign)?;
        signature.to_pem(LineEnding::LF).map_err(|_| Error::Sign)
    });
    // Key parsers and signers leave arrays behind on the stack.
    secret::scrub_stack();
    made
}

/// The public half of a signing key, as `signers` lists it.
pub fn public_half(key: &SecretString) -> Result<Signer, Error> {
    let public = with_key(key, |key| Ok(key.verifying_key().to_bytes()));
    secret::scrub_stack();
    signer(public?)
}

/// Whose signature it is, if it is one of `signers` and over these bytes.
pub fn verify<'s>(
    signature: &[u8],
    purpose: Purpose,
    bytes: &[u8],
    signers: &'s [Signer],
) -> Result<&'s Signer, Error> {
    let (signature, key) = parse(signature, purpose)?;
    let signer = signers.iter().find(|signer| *signer.key() == key).ok_or(Error::Stranger)?;
    check(&signature, signer.key(), bytes)?;
    Ok(signer)
}

fn with_key<T>(key: &SecretString, act: impl FnOnce(&SigningKey) -> Result<T, Error>) -> Result<T, Error> {
    let parsed = PrivateKey::from_openssh(key.expose_secret()).map_err(|_| Error::NotAKey)?;
    if parsed.is_encrypted() {
        return Err(Error::Passphrase);
    }
    let KeypairData::Ed25519(pair) = parsed.key_data() else { return Err(Error::NotAKey) };
    let seed = Zeroizing::new(pair.private.to_bytes());
    let key = SigningKey::from_bytes(&seed);
    // Signing with a public half of somebody else's making gives the private half away.
    if key.verifying_key().to_bytes() != pair.public.0 {
        return Err(Error::Mismatch);
    }
    act(&key)
}

fn parse(armored: &[u8], purpose: Purpose) -> Result<(SshSig, [u8; 32]), Error> {
    if armored.len() > MAX_BYTES {
        return Err(Error::NotASignature);
    }
    let signature = SshSig::from_pem(armored).map_err(|_| Error::NotASignature)?;
    // The parser passes over lengths that are wrong; what `ssh-keygen` would refuse, or read otherwise, is refused.
    let again = signature.to_pem(LineEnding::LF).map_err(|_| Error::NotASignature)?;
    if again.trim_end().as_bytes() != armored.trim_ascii_end() {
        return Err(Error::NotASignature);
    }
    if signature.namespace() != purpose.namespace() {
        return Err(Error::Namespace(purpose));
    }
    let KeyData::Ed25519(key) = *signature.public_key() else { return Err(Error::Stranger) };
    Ok((signature, key.0))
}

fn check(signature: &SshSig, key: &[u8; 32], bytes: &[u8]) -> Result<(), Error> {
    if signature.algorithm() != Algorithm::Ed25519 || !signature.reserved().is_empty() {
        return Err(Error::NotASignature);
    }
    let data =
        SshSig::signed_data(signature.namespace(), signature.hash_alg(), bytes).map_err(|_| Error::NotASignature)?;
    let key = VerifyingKey::from_bytes(key).map_err(|_| Error::Stranger)?;
    let signature = ed25519_dalek::Signature::from_slice(signature.signature_bytes()).map_err(|_| Error::Wrong)?;
    key.verify_strict(&data, &signature).map_err(|_| Error::Wrong)
}

fn signer(key: [u8; 32]) -> Result<Signer, Error> {
    let key = PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(key)));
    key.to_openssh().ok().and_then(|text| text.parse().ok()).ok_or(Error::NotAKey)
}
