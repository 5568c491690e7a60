//! A store: where identities are kept.

use std::collections::BTreeMap;
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
    /// Google Secret Manager.
    Gcp(Box<GcpStore>),
    /// AWS Secrets Manager.
    Aws(Box<AwsStore>),
    /// Azure Key Vault.
    Azure(Box<AzureStore>),
    /// A Secret of a Kubernetes cluster.
    Kubernetes(KubernetesStore),
    /// A folder on this machine: one age-sealed file per version.
    File(FileStore),
}

impl Store {
    /// Where its secret's name stands, and the name.
    #[must_use]
    pub fn template(&self) -> (&'static str, &Template) {
        match self {
            Self::Vault(vault) => ("vault.path", &vault.path),
            Self::Gcp(gcp) => ("gcp.secret", &gcp.secret),
            Self::Aws(aws) => ("aws.secret", &aws.secret),
            Self::Azure(azure) => ("azure.secret", &azure.secret),
            Self::Kubernetes(kubernetes) => ("kubernetes.secret", &kubernetes.secret),
            Self::File(file) => ("file.path", &file.path),
        }
    }

    /// What tells the secret of this name from all others in the world; none where each node has its own anyway.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<Vec<String>> {
        let address = |address: &Option<Address>| address.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut place = match self {
            Self::Vault(vault) => {
                vec![vault.address.to_string(), vault.namespace.clone().unwrap_or_default(), vault.mount.clone()]
            }
            Self::Gcp(gcp) => {
                vec![address(&gcp.endpoint), gcp.project.clone(), gcp.location.clone().unwrap_or_default()]
            }
            Self::Aws(aws) => vec![address(&aws.endpoint), aws.region.clone()],
            // Azure's names know no case.
            Self::Azure(azure) => return Some(vec![azure.vault_url.to_string(), name.to_ascii_lowercase()]),
            Self::Kubernetes(kubernetes) => {
                let file = kubernetes.kubeconfig.as_ref().map(|file| file.display().to_string());
                let context = kubernetes.context.clone();
                vec![file.unwrap_or_default(), context.unwrap_or_default(), kubernetes.namespace.clone()]
            }
            Self::File(_) => return None,
        };
        place.push(name.to_owned());
        Some(place)
    }

    /// The cargo feature that this build lacks for it.
    #[must_use]
    pub const fn missing_feature(&self) -> Option<&'static str> {
        match self {
            Self::Gcp(_) if !cfg!(feature = "gcp") => Some("gcp"),
            Self::Aws(_) if !cfg!(feature = "aws") => Some("aws"),
            Self::Azure(_) if !cfg!(feature = "azure") => Some("azure"),
            Self::Kubernetes(_) if !cfg!(feature = "kubernetes") => Some("kubernetes"),
            _ => None,
        }
    }
}

/// Google Secret Manager, with Application Default Credentials.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GcpStore {
    /// The project's id.
    #[schemars(extend("examples" = ["acme-canton"]))]
    pub project: String,
    /// The secret's name; `{node}` and `{network}` are filled in. The facts lie in a sibling with `-facts` after it.
    pub secret: Template,
    /// The region of a regional secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Regions to replicate to, where idkeep creates the secret; left out, Google chooses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
    /// The Cloud KMS key to encrypt with, where idkeep creates the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Labels, where idkeep creates the secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Disables older versions than this many; left out, all stay enabled. None is ever destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_versions: Option<u32>,
    /// The server's address where it is not Google's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Address>,
    /// Allows an `http://` endpoint, such as an emulator's: no credentials are ever sent to one.
    #[serde(default)]
    pub allow_http: bool,
    /// TLS files for the server.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// AWS Secrets Manager, with the credentials of AWS's own chain.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsStore {
    /// The region.
    #[schemars(extend("examples" = ["eu-central-1"]))]
    pub region: String,
    /// The secret's name; `{node}` and `{network}` are filled in.
    pub secret: Template,
    /// The KMS key to encrypt with, where idkeep creates the secret; left out, `aws/secretsmanager`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    /// Tags beside the facts, where idkeep creates the secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The server's address where it is not AWS's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Address>,
    /// Allows an `http://` endpoint.
    #[serde(default)]
    pub allow_http: bool,
    /// TLS files for the server.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// Azure Key Vault, with workload or managed identity.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AzureStore {
    /// The vault's address.
    #[schemars(extend("examples" = ["https://acme-canton.vault.azure.net"]))]
    pub vault_url: Address,
    /// The secret's name; `{node}` and `{network}` are filled in.
    pub secret: Template,
    /// The client id of the identity to use: of a user-assigned managed identity, or in place of `AZURE_CLIENT_ID`;
    /// left out, what the environment names, else the machine's own managed identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What tokens are for, where the vault is reached under a private name; left out, they are only sent to a vault
    /// that stands in the domain that they are for, as Azure's own do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Address>,
    /// TLS files for the server.
    #[serde(default)]
    pub tls: Tls,
    /// Proxy for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// A Secret of a Kubernetes cluster: that of a kubeconfig, or the one that the pod runs in.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesStore {
    /// The namespace.
    #[schemars(extend("examples" = ["canton-backup"]))]
    pub namespace: String,
    /// The Secret's name; `{node}` and `{network}` are filled in.
    pub secret: Template,
    /// The kubeconfig of the cluster; left out, that of `KUBECONFIG`, the pod's own cluster, or `~/.kube/config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; left out, the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
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
