//! Backups leave no plaintext behind: not in memory, not in a file, not in any word that is said.

mod memory;
mod outside;
mod vault;
mod verified;
mod writes;

use std::path::{Path, PathBuf};
use std::process::Command;

use memchr::memmem::find;
use serde_json::json;
use sha2::{Digest as _, Sha512};

use crate::support::backup::Node;
use crate::support::memory::forms;
use crate::support::parts::tool;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::s3::{Bucket, S3};

type Secrets = Vec<(String, Vec<u8>)>;

/// A node of whose run the test knows every secret.
pub(crate) struct Planted {
    pub node: Node,
    pub secrets: Secrets,
}

/// An S3 server behind a proxy, and credentials that nobody else has.
struct Cloud {
    bucket: Bucket,
    proxy: FaultProxy,
    secret_key: String,
}

impl Planted {
    /// With so many contracts of 1 kB, each of which also holds a private key: wherever a dump is stopped, one is near.
    pub fn new(seed: u64, contracts: u32) -> Self {
        let mut node = Node::with(seed, |network| network.rows = contracts);
        let key: String = node.network.keys[0].1.iter().map(|byte| format!("{byte:02x}")).collect();
        let plant = format!("update participant.par_contracts set instance = instance || decode('{key}', 'hex')");
        node.cluster.sql("participant", &plant);
        let mut secrets = keys(&node);
        secrets.extend(password(&node.cluster.password));
        secrets.extend(sign(&mut node));
        secrets.push(vault_token(&mut node));
        node.configure();
        Self { node, secrets }
    }

    /// The same, its sets kept in S3.
    fn in_a_cloud(seed: u64, contracts: u32) -> (Self, Cloud) {
        let mut planted = Self::new(seed, contracts);
        let secret_key = canary("s3");
        let bucket = S3::shared().bucket();
        let proxy = FaultProxy::before(bucket.s3.address, Fault::None);
        let node = &mut planted.node;
        node.url = format!("s3://{}/prefix", bucket.name);
        let more =
            [format!("endpoint: http://{}", proxy.address), "allow_http: true".into(), "lock_expiry: 10m".into()];
        node.repository.extend(more);
        node.configure();
        planted.secrets.push(("S3 secret access key".into(), secret_key.clone().into_bytes()));
        (planted, Cloud { bucket, proxy, secret_key })
    }

    /// The credentials where AWS's own tools keep them.
    fn credentials_in_a_file(&mut self, cloud: &Cloud) {
        let text =
            format!("[default]\naws_access_key_id = AKIDPLANTED\naws_secret_access_key = {}\n", cloud.secret_key);
        let idkeep = self.node.idkeep_mut();
        let path = idkeep.secret_file("aws-credentials", text.as_bytes());
        idkeep.env("AWS_SHARED_CREDENTIALS_FILE", path);
    }

    /// The files in which the operator keeps the secrets.
    fn given(&self) -> Vec<PathBuf> {
        let names = ["signing-key", "vault-token", "aws-credentials", "client-secret", "secret-id"];
        names.iter().map(|name| self.node.idkeep().path(name)).collect()
    }
}

/// Three pieces of each planted key: what is left of one need not be whole.
fn keys(node: &Node) -> Secrets {
    let keys = node.network.keys.iter().enumerate();
    let pieces = keys.flat_map(|(number, (_, key))| {
        [0, 48, 96].map(|at| (format!("key {number} from byte {at}"), key[at..at + 24].to_vec()))
    });
    pieces.collect()
}

/// As it is, as a password file has it, and the part of it that no file has to escape.
fn password(password: &str) -> Secrets {
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    let tail = password[password.len() - 16..].to_owned();
    let forms = [("password", password.to_owned()), ("password, escaped", escaped), ("password, its tail", tail)];
    forms.map(|(name, text)| (name.to_owned(), text.into_bytes())).into()
}

/// Gives the repository a signing key.
fn sign(node: &mut Node) -> Secrets {
    let path = node.idkeep().path("signing-key");
    ssh_keygen(&path);
    node.repository.push(format!("sign: {{file: {path:?}}}"));
    ssh_key_of("signing key", &path)
}

pub(crate) fn ssh_keygen(path: &Path) {
    let mut command = Command::new(tool("ssh-keygen"));
    let made = command.args(["-q", "-t", "ed25519", "-N", "", "-C", "idkeep", "-f"]).arg(path).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// A private key of OpenSSH's by its seed, what follows from it, and a line of its file.
fn ssh_key_of(name: &str, path: &Path) -> Secrets {
    let text = std::fs::read_to_string(path).unwrap();
    let key = ssh_key::PrivateKey::from_openssh(&text).unwrap();
    let seed = key.key_data().ed25519().unwrap().private.to_bytes();
    let expanded = Sha512::digest(seed);
    let line = text.lines().nth(3).unwrap().as_bytes().to_vec();
    vec![
        (name.to_owned(), seed.to_vec()),
        (format!("{name}, its hash's first half"), expanded[..32].to_vec()),
        (format!("{name}, its hash's second half"), expanded[32..].to_vec()),
        (format!("{name}, a line of its file"), line),
    ]
}

/// A token of the store's that is known before it is used.
fn vault_token(node: &mut Node) -> (String, Vec<u8>) {
    let token = canary("vault");
    let scenario = &mut node.scenario;
    let policy = scenario.node.clone();
    scenario.bao.must("POST", "auth/token/create", json!({"id": token, "policies": [policy], "ttl": "1h"}));
    scenario.idkeep.secret_file("vault-token", token.as_bytes());
    scenario.config.vault_auth = format!("{{token: {{file: {:?}}}}}", scenario.idkeep.path("vault-token"));
    ("vault token".into(), token.into_bytes())
}

fn canary(name: &str) -> String {
    format!("canary-{name}-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// None of the secrets in any form in these bytes.
fn assert_silent(what: &str, bytes: &[u8], secrets: &Secrets) {
    for (name, needle) in secrets.iter().flat_map(|(name, secret)| forms(name, secret)) {
        assert!(find(bytes, &needle).is_none(), "{name} is in {what}");
    }
}

/// Whether one of the secrets whose name begins so is there.
fn tells(bytes: &[u8], secrets: &Secrets, name: &str) -> bool {
    let chosen = secrets.iter().filter(|(known, _)| known.starts_with(name));
    let mut forms = chosen.flat_map(|(name, secret)| forms(name, secret));
    forms.any(|(_, needle)| find(bytes, &needle).is_some())
}
