//! Least rights, rendered from the configuration in each system's own format, with the reason for each.

mod aws;
mod azure;
mod gcp;
mod kubernetes;
mod objects;
mod postgres;
mod vault;

use crate::cli::{Role, System};
use crate::config::{Config, Name, Node, RepositoryKind};
use crate::error::{Failure, Fault};

/// Why there is nothing to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing of that system expires.
    #[error("`--role expirer` is for `s3`, `gs` and `az`: elsewhere idkeep removes nothing")]
    NoExpirer,
    /// No store of that kind is used.
    #[error("the configuration has no store of this kind")]
    NoStore,
    /// No database is backed up.
    #[error("the configuration has no database to back up")]
    NoDatabase,
    /// No repository of that kind is used.
    #[error("the configuration has no repository of this kind that a node's backups go to")]
    NoRepository,
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        if *self == Self::NoExpirer { Fault::Usage } else { Fault::Config }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoExpirer => "the roles here are `writer` and `restorer`",
            Self::NoStore => "add one under `stores`, and name it in a node's `stores`",
            Self::NoDatabase => "add `backup` to a node, with its `databases`",
            Self::NoRepository => "add one under `repositories`, and name it in a node's `backup.repository`",
        };
        Some(hint.into())
    }
}

/// What this system has to allow for this role.
pub fn render(config: &Config, system: System, role: Role) -> Result<String, Error> {
    let (rendered, nothing) = match system {
        System::Vault => (vault::render(config, role), Error::NoStore),
        System::Gcp => (gcp::render(config, role), Error::NoStore),
        System::Aws => (aws::render(config, role), Error::NoStore),
        System::Azure => (azure::render(config, role), Error::NoStore),
        System::Kubernetes => (kubernetes::render(config, role), Error::NoStore),
        System::Postgres => (postgres::render(config, role), Error::NoDatabase),
        System::S3 => (objects::render(config, RepositoryKind::S3, role), Error::NoRepository),
        System::Gs => (objects::render(config, RepositoryKind::Gs, role), Error::NoRepository),
        System::Az => (objects::render(config, RepositoryKind::Az, role), Error::NoRepository),
    };
    if rendered.is_empty() { Err(nothing) } else { Ok(rendered) }
}

/// Refuses what no configuration can make right.
pub const fn check(system: System, role: Role) -> Result<(), Error> {
    match (system, role) {
        (System::S3 | System::Gs | System::Az, _) | (_, Role::Writer | Role::Restorer) => Ok(()),
        (_, Role::Expirer) => Err(Error::NoExpirer),
    }
}

/// The nodes that use this store.
fn nodes_of<'a>(config: &'a Config, store: &Name) -> Vec<(&'a Name, &'a Node)> {
    config.nodes.iter().filter(|(_, node)| node.identity.stores.contains(store)).collect()
}
