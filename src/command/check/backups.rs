//! `check --live` for backups: each repository looked into, each database logged in to, nothing changed.

use std::rc::Rc;

use super::Tried;
use crate::backup::catalog::Catalog;
use crate::backup::postgres::{self, Rights, Server, Session, Target};
use crate::backup::repository::{Lock, Repository};
use crate::backup::{self};
use crate::config::{Config, Database, Signer};
use crate::error::{Failed, Fault};
use crate::retry::Deadline;
use crate::secret::Secrets;
use crate::sync::Subject;

/// Tries what a node's backup needs.
pub(super) async fn try_backup(config: &Config, subject: &Subject, secrets: &Rc<Secrets>, tried: &mut Vec<Tried>) {
    let Some(backup) = &subject.config.backup else { return };
    let node = subject.name.as_str();
    let what = format!("{node}: repository {}", backup.repository);
    match backup::repository_of(config, subject) {
        None => {}
        Some(Ok(repository)) => {
            tried.extend(look_at_lock(&repository, node, &what).await);
            tried.push(look_into(&repository, node, what, backup::signers(config, subject)).await);
        }
        Some(Err(error)) => tried.push(Tried::failed(what, Failed::from(&error))),
    }
    if let Some(reference) = backup::sign(config, subject) {
        let what = format!("{node}: signing key");
        let deadline = Deadline::after(subject.config.identity.deadline.0);
        tried.push(
            match backup::can_sign(secrets, Some(reference), backup::signers(config, subject), deadline).await {
                Ok(()) => Tried::fine(what, "it signs manifests".into()),
                Err(error) => Tried::failed(what, Failed::from(&error)),
            },
        );
    }
    for database in &backup.databases {
        let what = format!("{node}: database {}", database.name);
        if database.pg_dump.credentials.is_some() {
            // Asking for credentials makes a user, and looking is to change nothing.
            let message = "its credentials are made for each dump, so it is not tried here";
            tried.push(Tried::unknown(what, message.into()));
            continue;
        }
        match log_in(node, database, secrets).await {
            Ok((message, server, rights)) => {
                tried.extend(judge_rights(&what, &server, &rights));
                tried.push(Tried::fine(what, message));
            }
            Err(error) => tried.push(Tried::failed(what, Failed::from(&error))),
        }
    }
}

async fn look_into(repository: &Rc<Repository>, node: &str, what: String, signers: &[Signer]) -> Tried {
    match Catalog::read(repository, node, signers).await {
        Ok(catalog) => {
            let whole = catalog.whole().count();
            let others = catalog.sets.len() - whole;
            Tried::fine(what, format!("{whole} whole sets, {others} that are not, {} rejected", catalog.rejected.len()))
        }
        Err(error) => Tried::failed(what, Failed::from(&error)),
    }
}

/// A lock that is held is as it should be while a run is under way; one that stays tells of a run that died.
async fn look_at_lock(repository: &Repository, node: &str, what: &str) -> Option<Tried> {
    // What fails here fails for the sets as well, and is said there.
    let holder = Lock::holder(repository, node).await.ok()??;
    Some(Tried::fine(what.to_owned(), format!("a backup is under way, or one died: the lock is held by {holder}")))
}

fn judge_rights(what: &str, server: &Server, rights: &Rights) -> Vec<Tried> {
    const FIX: &str = "`idkeep policy postgres` prints a role that may do what is needed and no more";
    let mut tried = Vec::new();
    let what = || what.to_owned();
    if rights.unreadable > 0 {
        let message = format!("the role may not read {} of the tables and sequences", rights.unreadable);
        tried.push(Tried::failed(what(), Failed::new(Fault::Credentials, message, FIX)));
    }
    if server.is_superuser {
        tried.push(Tried::unwise(what(), "the user is a superuser, and a dump needs only to read".into(), FIX.into()));
    } else if rights.writable > 0 {
        let message = format!("the role may change {} of the tables, and a dump needs only to read", rights.writable);
        tried.push(Tried::unwise(what(), message, FIX.into()));
    }
    tried
}

async fn log_in(
    node: &str,
    database: &Database,
    secrets: &Rc<Secrets>,
) -> Result<(String, Server, Rights), postgres::Error> {
    let target = Target::resolve(database, None, secrets).await?;
    let mut session = Session::open(&target, &format!("idkeep/{node}/{}/check", database.name)).await?;
    let server = session.server().await?;
    let rights = session.rights().await?;
    session.close().await;
    let dump = target.check_client(&server).await?;
    let standby = if server.is_standby { ", a standby" } else { "" };
    let name = target.database();
    let size = indicatif::HumanBytes(server.database_bytes);
    let message = format!("`{name}` on PostgreSQL {}{standby}, {size}, pg_dump {dump}", server.version);
    Ok((message, server, rights))
}
