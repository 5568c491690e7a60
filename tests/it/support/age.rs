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
