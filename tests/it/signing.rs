//! Signatures of manifests, against OpenSSH's own `ssh-keygen`, both ways.

use std::path::Path;
use std::process::{Command, Output};

use idkeep::backup::sign::{self, Error, Purpose};
use idkeep::config::Signer;
use secrecy::SecretString;
use tempfile::TempDir;

use crate::support::parts;

const MANIFEST: &[u8] = b"{\n  \"schema\": \"idkeep/backup-set/v1\"\n}\n";

/// A key that `ssh-keygen` made, in a folder of its own.
struct Key {
    folder: TempDir,
}

impl Key {
    fn new(kind: &str, passphrase: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = Self { folder };
        let made = key.ssh_keygen(&["-q", "-t", kind, "-N", passphrase, "-C", "who it is", "-f", "key"]);
        assert!(made.status.success(), "{made:?}");
        key
    }

    fn ssh_keygen(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(parts::tool("ssh-keygen"));
        command.args(arguments).current_dir(self.path());
        command.output().unwrap()
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn private(&self) -> SecretString {
        // As a reference is read: without its last newline.
        let text = std::fs::read_to_string(self.path().join("key")).unwrap();
        SecretString::from(text.trim_end_matches('\n'))
    }

    fn public(&self) -> Signer {
        std::fs::read_to_string(self.path().join("key.pub")).unwrap().trim_end().parse().unwrap()
    }

    /// `ssh-keygen -Y sign`.
    fn sign(&self, namespace: &str, options: &[&str], bytes: &[u8]) -> Vec<u8> {
        std::fs::write(self.path().join("manifest.json"), bytes).unwrap();
        let mut arguments = vec!["-q", "-Y", "sign", "-f", "key", "-n", namespace];
        arguments.extend(options);
        arguments.push("manifest.json");
        let signed = self.ssh_keygen(&arguments);
        assert!(signed.status.success(), "{signed:?}");
        let signature = self.path().join("manifest.json.sig");
        let bytes = std::fs::read(&signature).unwrap();
        std::fs::remove_file(signature).unwrap();
        bytes
    }

    /// Whether `ssh-keygen -Y verify -n idkeep` takes it.
    fn accepts(&self, signature: &str, bytes: &[u8]) -> bool {
        let public = std::fs::read_to_string(self.path().join("key.pub")).unwrap();
        std::fs::write(self.path().join("allowed"), format!("idkeep {public}")).unwrap();
        std::fs::write(self.path().join("manifest.json"), bytes).unwrap();
        std::fs::write(self.path().join("sig"), signature).unwrap();
        let mut command = Command::new(parts::tool("ssh-keygen"));
        command.args(["-Y", "verify", "-f", "allowed", "-I", "idkeep", "-n", "idkeep", "-s", "sig"]);
        let manifest = std::fs::File::open(self.path().join("manifest.json")).unwrap();
        command.current_dir(self.path()).stdin(manifest).output().unwrap().status.success()
    }
}

#[test]
fn ssh_keygen_accepts_our_signature_and_only_over_these_bytes() {
    let key = Key::new("ed25519", "");
    let signature = sign::sign(&key.private(), Purpose::Manifest, MANIFEST).unwrap();
    assert!(key.accepts(&signature, MANIFEST));
    assert!(!key.accepts(&signature, b"{}\n"));
    assert!(!Key::new("ed25519", "").accepts(&signature, MANIFEST));
    // Ed25519 is deterministic: the same key signs the same bytes alike.
    assert_eq!(signature.as_bytes(), key.sign("idkeep", &[], MANIFEST));
}

#[test]
fn a_signature_of_ssh_keygen_is_accepted_from_a_signer_only() {
    let (key, other) = (Key::new("ed25519", ""), Key::new("ed25519", ""));
    let signers = [other.public(), key.public()];
    for options in [&[][..], &["-O", "hashalg=sha256"]] {
        let signature = key.sign("idkeep", options, MANIFEST);
        assert_eq!(sign::verify(&signature, Purpose::Manifest, MANIFEST, &signers).unwrap(), &key.public());
        assert_eq!(sign::verify(&signature, Purpose::Manifest, b"{}\n", &signers), Err(Error::Wrong));
        assert_eq!(sign::verify(&signature, Purpose::Manifest, MANIFEST, &signers[..1]), Err(Error::Stranger));
        assert_eq!(sign::verify(&signature, Purpose::Manifest, MANIFEST, &[]), Err(Error::Stranger));
    }
    // Neither kind's signature passes for the other's, whatever the bytes say.
    let record = sign::sign(&key.private(), Purpose::Record, MANIFEST).unwrap();
    assert_eq!(record.as_bytes(), key.sign("idkeep-verification", &[], MANIFEST));
    assert_eq!(sign::verify(record.as_bytes(), Purpose::Record, MANIFEST, &signers).unwrap(), &key.public());
    assert_eq!(
        sign::verify(record.as_bytes(), Purpose::Manifest, MANIFEST, &signers),
        Err(Error::Namespace(Purpose::Manifest))
    );
    let manifest = key.sign("idkeep", &[], MANIFEST);
    assert_eq!(sign::verify(&manifest, Purpose::Record, MANIFEST, &signers), Err(Error::Namespace(Purpose::Record)));
    let elsewhere = key.sign("file", &[], MANIFEST);
    assert_eq!(
        sign::verify(&elsewhere, Purpose::Manifest, MANIFEST, &signers),
        Err(Error::Namespace(Purpose::Manifest))
    );
}

#[test]
fn a_signature_with_any_bit_changed_is_refused() {
    let key = Key::new("ed25519", "");
    let signature = sign::sign(&key.private(), Purpose::Manifest, MANIFEST).unwrap();
    let signers = [key.public()];
    for index in 0..signature.len() {
        let mut changed = signature.clone().into_bytes();
        changed[index] ^= 1;
        // The last line's end is nobody's concern.
        let is_refused = sign::verify(&changed, Purpose::Manifest, MANIFEST, &signers).is_err();
        assert!(is_refused || index == signature.len() - 1, "byte {index} does not matter:\n{signature}");
    }
    assert_eq!(sign::verify(b"", Purpose::Manifest, MANIFEST, &signers), Err(Error::NotASignature));
    assert_eq!(sign::verify(&vec![b'-'; 1 << 20], Purpose::Manifest, MANIFEST, &signers), Err(Error::NotASignature));
}

#[test]
fn a_key_that_cannot_sign_unattended_is_named_as_what_it_is() {
    assert_eq!(
        sign::sign(&Key::new("ed25519", "secret").private(), Purpose::Manifest, MANIFEST),
        Err(Error::Passphrase)
    );
    assert_eq!(sign::sign(&Key::new("ecdsa", "").private(), Purpose::Manifest, MANIFEST), Err(Error::NotAKey));
    let public = std::fs::read_to_string(Key::new("ed25519", "").path().join("key.pub")).unwrap();
    assert_eq!(sign::sign(&SecretString::from(public), Purpose::Manifest, MANIFEST), Err(Error::NotAKey));
    let key = Key::new("ed25519", "");
    assert_eq!(sign::public_half(&key.private()).unwrap().key(), key.public().key());
}
