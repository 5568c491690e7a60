//! A repository: where backup sets lie.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Address, Period, Proxy, SecretRef, Tls};

/// Where backup sets lie. Credentials come from the cloud's own chain.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// `s3://BUCKET/PREFIX`, `gs://…`, `az://CONTAINER/…` or `file:///FOLDER`.
    pub url: RepositoryUrl,
    /// The server's address where it is not the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Address>,
    /// The bucket's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Allows an `http://` endpoint.
    #[serde(default)]
    pub allow_http: bool,
    /// TLS files for the server.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// A lock whose holder gave no sign for this long is taken over.
    #[serde(default = "sixty_seconds")]
    pub lock_expiry: Period,
    /// Signs manifests, and what `verify` finds, with this Ed25519 key (OpenSSH form).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<SecretRef>,
    /// Believes only manifests and records of `verify` that one of these keys has signed (`ssh-ed25519 AAAA…`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<Signer>,
}

const fn sixty_seconds() -> Period {
    Period::seconds(60)
}

/// `s3://`, `gs://`, `az://` or `file://`, the bucket or container, and a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "repository-url", "examples" = ["s3://acme-canton-dr/idkeep"]))]
pub struct RepositoryUrl {
    text: String,
    kind: RepositoryKind,
    bucket: String,
    prefix: String,
}

/// Which system a repository is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    /// S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// A folder of this machine.
    File,
}

impl RepositoryUrl {
    /// The system.
    #[must_use]
    pub const fn kind(&self) -> RepositoryKind {
        self.kind
    }

    /// The bucket or container; empty for a folder.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What stands before each node's name, without slashes at its ends; for a folder everything, absolute.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The folder, for `file://`.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        (self.kind == RepositoryKind::File).then(|| PathBuf::from(&self.prefix))
    }
}

const FOLDER: &str = "a folder reads `file:///absolute/path`";

fn folder(url: &Url) -> Result<String, String> {
    let path = url.to_file_path().map_err(|()| FOLDER.to_owned())?;
    let path = path.to_str().map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty());
    path.map(str::to_owned).ok_or_else(|| FOLDER.into())
}

fn prefix(url: &Url) -> Result<String, String> {
    let prefix = url.path().trim_matches('/');
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| is_plain(c) || c == '=');
    if !prefix.is_empty() && !prefix.split('/').all(is_name) {
        return Err("a prefix is made of letters, digits, `-`, `_`, `.`, `=` and single `/`".into());
    }
    Ok(prefix.to_owned())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

impl FromStr for RepositoryUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const READS: &str = "a repository reads `s3://BUCKET/PREFIX`, `gs://…`, `az://CONTAINER/…` or `file:///FOLDER`";
        let url = Url::parse(text).map_err(|_| READS.to_owned())?;
        let kind = match url.scheme() {
            "s3" => RepositoryKind::S3,
            "gs" => RepositoryKind::Gs,
            "az" => RepositoryKind::Az,
            "file" => RepositoryKind::File,
            _ => return Err(READS.into()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a secret is never written in the file: credentials come from the cloud's own chain".into());
        }
        if url.query().is_some() || url.fragment().is_some() || url.port().is_some() {
            return Err("a repository has no port, `?` or `#`; a server of your own goes into `endpoint`".into());
        }
        if text.chars().any(char::is_control) || text.split('/').any(|part| matches!(part, "." | "..")) {
            return Err("`.`, `..` and control characters are not allowed in a repository's address".into());
        }
        let bucket = url.host_str().unwrap_or_default().to_owned();
        let prefix = match kind {
            RepositoryKind::File if bucket.is_empty() => folder(&url)?,
            RepositoryKind::File => return Err(FOLDER.into()),
            _ if !(3..=222).contains(&bucket.len()) || !bucket.chars().all(is_plain) => {
                return Err("a bucket or container is named with 3 or more of letters, digits, `-`, `_` and `.`".into());
            }
            _ => prefix(&url)?,
        };
        Ok(Self { text: text.to_owned(), kind, bucket, prefix })
    }
}

impl TryFrom<String> for RepositoryUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RepositoryUrl> for String {
    fn from(url: RepositoryUrl) -> Self {
        url.text
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end_matches('/'))
    }
}

/// The public half of an Ed25519 key, as OpenSSH writes it: `ssh-ed25519 AAAA… [comment]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "signer", "examples" = [Signer::EXAMPLE]))]
pub struct Signer {
    text: String,
    key: [u8; 32],
}

impl Signer {
    /// The signer of the examples; nobody holds its private half.
    pub(super) const EXAMPLE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBLzMR9j9kYWcXHK1bc3oi/+4Ov/kfyDi6J9/1SMLq1m";

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The raw public key.
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl FromStr for Signer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key =
            ssh_key::PublicKey::from_openssh(text).map_err(|_| "a signer reads `ssh-ed25519 AAAA…`".to_owned())?;
        match key.key_data().ed25519() {
            Some(key) => Ok(Self { text: text.to_owned(), key: key.0 }),
            None => Err("a signer is an Ed25519 key: `ssh-keygen -t ed25519` makes one".into()),
        }
    }
}

impl TryFrom<String> for Signer {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Signer> for String {
    fn from(signer: Signer) -> Self {
        signer.text
    }
}
