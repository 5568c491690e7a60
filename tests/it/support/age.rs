//! The stock `age` program: what idkeep sealed has to open with it alone.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::parts::tool;

/// An age key pair, made by `age-keygen`.
pub struct AgeKey {
    /// `age1…`
    pub recipient: String,
    pub key_file: PathBuf,
    folder: TempDir,
}

impl AgeKey {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key.txt");
        let made = Command::new(tool("age-keygen")).arg("-o").arg(&key_file).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = std::fs::read_to_string(&key_file).unwrap();
        let recipient = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
        Self { recipient: recipient.to_owned(), key_file, folder }
    }

    /// What was sealed to this recipient, armored or not; age's complaint otherwise.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(tool("age"));
        command.arg("--decrypt").arg("-i").arg(&self.key_file);
        run(command, sealed)
    }

    /// Seals to this recipient, as another tool would.
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut command = Command::new(tool("age"));
        command.args(["--encrypt", "--armor", "-r", &self.recipient]);
        run(command, plain).unwrap()
    }
}

fn run(mut command: Command, input: &[u8]) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may stop reading early, and it may write before it has read everything.
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writing.join().unwrap();
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The keys that open one sealed file alone: its file key, and the key of its payload.
pub struct FileKeys {
    pub file: [u8; 16],
    pub payload: [u8; 32],
}

impl AgeKey {
    /// `AGE-SECRET-KEY-1…`, and the bytes that it says.
    pub fn secret(&self) -> (String, [u8; 32]) {
        const DIGITS: &str = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
        let text = std::fs::read_to_string(&self.key_file).unwrap();
        let text = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
        let digits = text.strip_prefix("AGE-SECRET-KEY-1").unwrap();
        let bits = digits.chars().flat_map(|digit| {
            let value = DIGITS.find(digit).unwrap();
            (0..5).rev().map(move |bit| value >> bit & 1)
        });
        let bits: Vec<usize> = bits.collect();
        let mut bytes = [0; 32];
        for (byte, bits) in bytes.iter_mut().zip(bits.chunks_exact(8)) {
            *byte = u8::try_from(bits.iter().fold(0, |value, bit| value << 1 | bit)).unwrap();
        }
        (text.to_owned(), bytes)
    }

    /// Unwraps a file's own keys as the format says (age-encryption.org/v1), sealed to this recipient alone.
    pub fn file_keys(&self, sealed: &[u8]) -> FileKeys {
        use aws_lc_rs::{aead, agreement, error::Unspecified};
        let mut lines = sealed.splitn(5, |byte| *byte == b'\n');
        assert_eq!(lines.next().unwrap(), b"age-encryption.org/v1");
        let stanza = std::str::from_utf8(lines.next().unwrap()).unwrap();
        let share = unpadded(stanza.strip_prefix("-> X25519 ").unwrap());
        let mut wrapped = unpadded(std::str::from_utf8(lines.next().unwrap()).unwrap());
        // The next line is what follows the header's end, or a stanza of grease.
        let end = memchr::memmem::find(sealed, b"\n--- ").unwrap() + 5;
        let end = end + memchr::memchr(b'\n', &sealed[end..]).unwrap() + 1;
        let private = agreement::PrivateKey::from_private_key(&agreement::X25519, &self.secret().1).unwrap();
        let public = private.compute_public_key().unwrap();
        let salt = [&share, public.as_ref()].concat();
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, &share);
        let wrapping = agreement::agree(&private, peer, Unspecified, |shared| {
            Ok(expanded(&salt, shared, b"age-encryption.org/v1/X25519"))
        });
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &wrapping.unwrap()).unwrap();
        let nonce = aead::Nonce::assume_unique_for_key([0; 12]);
        let opened = aead::LessSafeKey::new(key).open_in_place(nonce, aead::Aad::empty(), &mut wrapped).unwrap();
        let file: [u8; 16] = (&*opened).try_into().unwrap();
        FileKeys { file, payload: expanded(&sealed[end..end + 16], &file, b"payload") }
    }
}

fn unpadded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).unwrap()
}

/// HKDF with SHA-256, 32 bytes of it.
fn expanded(salt: &[u8], secret: &[u8], info: &[u8]) -> [u8; 32] {
    use aws_lc_rs::hkdf;
    let mut bytes = [0; 32];
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    key.expand(&[info], hkdf::HKDF_SHA256).unwrap().fill(&mut bytes).unwrap();
    bytes
}
