//! What the secret managers of the clouds have in common: how a call to one can fail.

use std::time::Duration;

use crate::error::{Failure, Fault};
use crate::http;

/// A call that a secret manager did not do. Holds no byte of its answer.
#[derive(Debug, thiserror::Error)]
#[error("{doing} `{secret}` in {system}: {reason}")]
pub struct Error {
    /// The system, as people call it.
    pub system: System,
    /// What was being done: "adding a version to".
    pub doing: &'static str,
    /// The secret's name there.
    pub secret: String,
    /// Why not.
    #[source]
    pub reason: Reason,
}

/// A secret manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Google Secret Manager.
    Gcp,
    /// AWS Secrets Manager.
    Aws,
    /// Azure Key Vault.
    Azure,
    /// A Kubernetes API server.
    Kubernetes,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// No answer, through a client that is not ours.
    #[error("no answer: {0}")]
    Unreachable(&'static str),
    /// This process has no credentials, or they cannot be used.
    #[error("no credentials that could be used: {0}")]
    NoCredentials(&'static str),
    /// The credentials are not valid.
    #[error("the credentials are not accepted")]
    Unauthorized,
    /// 403: the credentials lack a right.
    #[error("permission denied ({0})")]
    Denied(&'static str),
    /// Too many requests.
    #[error("rate limited")]
    Throttled { retry_after: Option<Duration> },
    /// The server has trouble of its own.
    #[error("status {status}, the server has trouble of its own")]
    Busy { status: u16 },
    /// What it shows is older than what it has been given; it will catch up.
    #[error("{0}")]
    Behind(&'static str),
    /// The secret is not there, and may not be created.
    #[error("it does not exist, and creating it is not allowed")]
    Missing,
    /// Something is there that is not ours to write.
    #[error("{0}")]
    Foreign(String),
    /// The request makes no sense to the server.
    #[error("{0}")]
    Rejected(&'static str),
    /// Something stands in the way that the operator can take away.
    #[error("{why}")]
    InTheWay { why: &'static str, fix: &'static str, fault: Fault },
    /// The answer is not what the API says.
    #[error("the answer is not what the API says")]
    Garbled,
}

impl std::fmt::Display for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gcp => "Google Secret Manager",
            Self::Aws => "AWS Secrets Manager",
            Self::Azure => "Azure Key Vault",
            Self::Kubernetes => "Kubernetes",
        })
    }
}

impl System {
    /// What `policy` calls it.
    const fn policy(self) -> &'static str {
        match self {
            Self::Gcp => "gcp",
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match &self.reason {
            Reason::Http(error) => error.fault(),
            Reason::Unreachable(_) | Reason::Throttled { .. } | Reason::Busy { .. } | Reason::Behind(_) => {
                Fault::Transient
            }
            Reason::NoCredentials(_) | Reason::Unauthorized | Reason::Denied(_) | Reason::Missing => Fault::Credentials,
            Reason::InTheWay { fault, .. } => *fault,
            Reason::Foreign(_) | Reason::Rejected(_) | Reason::Garbled => Fault::Config,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        if let Reason::Throttled { retry_after } = self.reason { retry_after } else { None }
    }

    fn hint(&self) -> Option<String> {
        let policy = self.system.policy();
        Some(match &self.reason {
            Reason::Http(error) => return error.hint(),
            Reason::Unreachable(_) | Reason::Throttled { .. } | Reason::Busy { .. } | Reason::Behind(_) => return None,
            Reason::NoCredentials(_) => {
                "give the process its cloud's credentials: a workload identity, the machine's role, or the usual variables"
                    .into()
            }
            Reason::Unauthorized => "have the credentials run out, and is this machine's clock right?".into(),
            Reason::Denied(_) => {
                format!("`idkeep policy {policy}` prints the rights that are needed; with which identity does this process run?")
            }
            Reason::Missing => {
                format!("create it once with the commands that `idkeep policy {policy}` prints, or allow the agent to create it")
            }
            Reason::Foreign(_) => "use a name of its own for idkeep, or take the other owner off it".into(),
            Reason::InTheWay { fix, .. } => (*fix).into(),
            Reason::Rejected(_) | Reason::Garbled => "check this store's entry in the configuration".into(),
        })
    }
}
