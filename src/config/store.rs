//! A store: where identities are kept.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Address, AgeRecipient, Proxy, SecretRef, Template, Tls};

/// Where identities are kept: exactly one kind.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(extend("examples" = [{"file": {"path": "/var/lib/idkeep"}}]))]
pub enum Store {
    /// HashiCorp Vault or `OpenBao`, KV version 2.
    Vault(Box<VaultStore>),
    /// A folder on this machine: one age-sealed file per version.
    File(FileStore),
}

/// HashiCorp Vault or `OpenBao`, KV version 2.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultStore {
    /// The server's address.
    pub address: Address,
    /// Allows an `http://` address.
    #[serde(default)]
    pub allow_http: bool,
    /// The namespace, where the server has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the KV engine is mounted.
    #[serde(default = "secret_mount")]
    pub mount: String,
    /// The secret's path under the mount; `{node}` and `{network}` are filled in.
    pub path: Template,
    /// How to log in: exactly one way.
    pub auth: VaultAuth,
    /// TLS files for the server.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

fn secret_mount() -> String {
    "secret".into()
}

/// How to log in to Vault.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(extend("examples" = [{"token": {"file": "/run/secrets/idkeep"}}]))]
pub enum VaultAuth {
    /// With the pod's service account.
    Kubernetes {
        /// The role to log in as.
        #[schemars(extend("examples" = ["idkeep"]))]
        role: String,
        /// Where the method is mounted.
        #[serde(default = "kubernetes_mount")]
        mount: String,
        /// The service account's token.
        #[serde(default = "service_account_token")]
        token_file: PathBuf,
    },
    /// With a role id and a secret id.
    Approle {
        /// The role's id; not a secret.
        #[schemars(extend("examples" = ["idkeep"]))]
        role_id: String,
        /// The secret id, or the wrapping token that holds it.
        secret_id: SecretRef,
        /// The secret id is response-wrapped; its origin is checked before it is unwrapped.
        #[serde(default)]
        wrapped: bool,
        /// Where the method is mounted.
        #[serde(default = "approle_mount")]
        mount: String,
    },
    /// With a signed token of another issuer.
    Jwt {
        /// The role to log in as.
        #[schemars(extend("examples" = ["idkeep"]))]
        role: String,
        /// Where the method is mounted.
        #[serde(default = "jwt_mount")]
        mount: String,
        /// The token.
        token: SecretRef,
    },
    /// With the client certificate under `tls`.
    Cert {
        /// The certificate role; left out, the server picks one that matches.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// Where the method is mounted.
        #[serde(default = "cert_mount")]
        mount: String,
    },
    /// With a ready token, which is neither renewed nor revoked.
    Token(SecretRef),
}

fn kubernetes_mount() -> String {
    "kubernetes".into()
}

fn approle_mount() -> String {
    "approle".into()
}

fn jwt_mount() -> String {
    "jwt".into()
}

fn cert_mount() -> String {
    "cert".into()
}

fn service_account_token() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

/// A folder on this machine: one age-sealed file per version, old versions kept.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileStore {
    /// The folder; `{node}` and `{network}` are filled in, else each node gets a folder in it.
    pub path: Template,
    /// The age recipients to seal to; not needed where the node has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<AgeRecipient>,
}
