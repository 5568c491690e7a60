//! One node's run: locked, prepared, each database in its turn, published.

mod owner;
mod publish;
mod tidy;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::Error;
use super::clock::Clock;
use super::facts::Facts;
use super::invariants::{self, Known};
use super::lease::Lease;
use super::manifest::{self, Manifest, Previous};
use super::plan::Plan;
use super::postgres::{Login, Server, Session, Target};
use super::repository::{Lock, Pending, Repository};
use super::set::SetId;
use super::stop::{Stop, Until};
use super::turn::{Turn, application_name};
use crate::config::{self, Database, Name, Node, Role, SecretRef, Signer};
use crate::http::Http;
use crate::retry::Deadline;
use crate::secret::Secrets;
use crate::sync::Subject;
use crate::validator::AppStatus;
pub use owner::Owner;
pub use publish::can_sign;

/// Time for the app to say whether it is ready.
const STATUS: Duration = Duration::from_secs(5);

/// Everything that a run over one node needs.
pub struct Run<'r> {
    pub(super) name: &'r Name,
    pub(super) node: &'r Node,
    pub(super) backup: &'r config::Backup,
    pub(super) repository: Rc<Repository>,
    pub(super) sign: Option<&'r SecretRef>,
    pub(super) signers: &'r [Signer],
    pub(super) subject: &'r Subject,
    pub(super) http: &'r Http,
    pub(super) secrets: Rc<Secrets>,
    pub(super) stop: Stop,
    pub(super) clock: Clock,
    pub(super) known: Known,
    pub(super) owner: Option<Owner>,
    /// Credentials that were made for this run, or are being made: whatever ends it, they are revoked.
    pub(super) leases: RefCell<Vec<Rc<Lease>>>,
    /// True while nobody knows whether the manifest is in the repository.
    pub(super) is_uncertain: Cell<bool>,
}

/// A database that is ready for its turn.
struct Prepared<'r> {
    database: &'r Database,
    target: Target,
    pg_dump_version: String,
    lease: Option<Rc<Lease>>,
}

impl Run<'_> {
    /// Takes a set. The lock is given back however it ends.
    pub async fn take(mut self) -> Result<Manifest, Error> {
        let stop = self.stop.clone();
        let lock = stop.or(Lock::take(&self.repository, self.name.as_str())).await?;
        // Boxed: a whole run is too large to be moved from frame to frame.
        let run = Box::pin(self.under(&lock));
        let result = stop.within(Until::RunEnded, run).await.unwrap_or(Err(Error::Interrupted));
        Box::pin(self.tidy(lock, result.as_ref().err())).await;
        result
    }

    async fn under(&mut self, lock: &Lock) -> Result<Manifest, Error> {
        let stop = self.stop.clone();
        stop.or(async {
            self.can_sign().await?;
            self.clear(lock).await;
            self.owner = self.read_owner().await?;
            self.known = self.known().await;
            Ok::<_, Error>(())
        })
        .await?;
        let previous = stop.or(self.previous()).await?;
        let plan = Plan::of(&self.backup.databases).map_err(Error::Plan)?;
        Box::pin(self.in_order(lock, &plan, previous)).await
    }

    async fn in_order(
        &self,
        lock: &Lock,
        plan: &Plan<'_>,
        previous: Option<(Previous, Manifest)>,
    ) -> Result<Manifest, Error> {
        let mut prepared = Vec::new();
        for database in plan.databases() {
            let last = previous.as_ref().and_then(|(_, manifest)| duration(manifest, database.name.as_str()));
            prepared.push(self.stop.or(self.prepare(database, last)).await?);
        }
        let app = self.app_status().await;
        // After every set that is there, also where the clock was set back since: sets sort by their ids.
        let after = previous.as_ref().map_or(self.clock.now(), |(previous, _)| previous.set.next().started_at());
        let begin_at = self.clock.now().max(after);
        let mut pending = self.stop.or(Pending::begin(&self.repository, self.name.as_str(), begin_at)).await?;
        tracing::info!(node = self.name.as_str(), set = pending.set().to_string(), "set begun");
        let mut manifest = self.manifest(pending.set(), plan, previous.map(|(previous, _)| previous), &app);
        let mut seen = Vec::new();
        for Prepared { database, target, pg_dump_version, lease } in &prepared {
            let lease = lease.as_deref();
            let turn = Turn { run: self, lock, database, target, pg_dump_version, lease, seen: &seen };
            match Box::pin(turn.take(&mut pending)).await {
                Ok((dump, facts)) => {
                    manifest.push(dump)?;
                    seen.push((database.name.to_string(), database.role, facts));
                }
                Err(Error::Rejected { invariants, .. }) => {
                    manifest.invariants = invariants;
                    return Err(self.reject(&manifest, pending).await);
                }
                Err(error) => return Err(error),
            }
        }
        manifest.participant_id = seen.iter().find_map(|(_, _, facts)| participant_id(facts));
        manifest.invariants = invariants::judge(&seen, &self.known, self.node.identity.namespace_key);
        manifest.remarks.extend(changes(&app, &self.app_status().await));
        self.publish(manifest, pending, lock).await
    }

    /// The database's connection, tried: what would fail later fails before anything is begun.
    async fn prepare<'p>(&'p self, database: &'p Database, last: Option<Duration>) -> Result<Prepared<'p>, Error> {
        let (lease, login) = match self.borrow(database, last).await? {
            Some((lease, login)) => (Some(lease), Some(login)),
            None => (None, None),
        };
        let (target, pg_dump_version) = self.try_out(database, login).await?;
        Ok(Prepared { database, target, pg_dump_version, lease })
    }

    async fn try_out(&self, database: &Database, login: Option<Login>) -> Result<(Target, String), Error> {
        let failed = Error::of(database.name.as_str());
        let target = Target::resolve(database, login, &self.secrets).await.map_err(&failed)?;
        let application = application_name(self.name.as_str(), database.name.as_str());
        let mut session = Session::open(&target, &application).await.map_err(&failed)?;
        let server = self.look(database, &mut session).await;
        session.close().await;
        let server = server?;
        let pg_dump_version = target.check_client(&server).await.map_err(&failed)?;
        if server.is_superuser {
            tracing::warn!(
                node = self.name.as_str(),
                database = database.name.as_str(),
                "dumped by a superuser: `idkeep policy postgres` prints a role that may only read"
            );
        }
        Ok((target, pg_dump_version))
    }

    async fn look(&self, database: &Database, session: &mut Session) -> Result<Server, Error> {
        let failed = Error::of(database.name.as_str());
        let server = session.server().await.map_err(&failed)?;
        if self.owner.is_some() && database.role == Role::Participant {
            session.snapshot().await.map_err(&failed)?;
            if let Facts::Participant(participant) = session.facts(database.role).await.map_err(&failed)? {
                self.same_participant(&participant)?;
            }
        }
        Ok(server)
    }

    /// Credentials that are made for this run, where the configuration asks for them.
    async fn borrow(&self, database: &Database, last: Option<Duration>) -> Result<Option<(Rc<Lease>, Login)>, Error> {
        let Some(config::Credentials::Vault { store, path }) = &database.pg_dump.credentials else { return Ok(None) };
        let Some(vault) = self.secrets.vault(store) else { return Ok(None) };
        let deadline = Deadline::after(self.node.identity.deadline.0);
        let lease = Rc::new(Lease::take(vault, path, last, deadline));
        self.leases.borrow_mut().push(Rc::clone(&lease));
        match lease.login().await {
            Ok(login) => Ok(Some((lease, login))),
            Err(source) => Err(Error::Credentials { database: database.name.to_string(), source: source.into() }),
        }
    }

    async fn app_status(&self) -> AppStatus {
        self.subject.source.status(self.http, Deadline::after(STATUS)).await
    }

    fn manifest(&self, set: SetId, plan: &Plan<'_>, previous: Option<Previous>, app: &AppStatus) -> Manifest {
        let remarks = match app.is_ready {
            Some(true) => Vec::new(),
            Some(false) => vec!["the validator app was not ready when the set was begun".to_owned()],
            None => vec!["the validator app did not say whether it was ready when the set was begun".to_owned()],
        };
        Manifest {
            schema: manifest::SCHEMA.to_owned(),
            node: self.name.to_string(),
            set,
            network: self.node.network.clone(),
            participant_id: None,
            idkeep_version: env!("CARGO_PKG_VERSION").to_owned(),
            splice_version: app.version.clone(),
            remarks,
            previous,
            databases: Vec::new(),
            order: plan.edges(),
            invariants: std::collections::BTreeMap::new(),
        }
    }

    /// The identities last synced, as the stores' metadata tells.
    async fn known(&self) -> Known {
        let deadline = Deadline::after(self.node.identity.deadline.0);
        let configured = self.node.identity.participant.as_ref().map(ToString::to_string);
        let mut known = Known { configured, ..Known::default() };
        for store in &self.subject.stores {
            let name = store.name().to_owned();
            match store.head(self.subject.place(), deadline).await {
                Ok(head) => known.stored.extend(head.participant().map(|id| (name, id.to_owned()))),
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(
                        node = self.name.as_str(),
                        store = name,
                        error,
                        "the identity in this store cannot be seen"
                    );
                    known.unseen.push(name);
                }
            }
        }
        known
    }
}

/// What changed about the app while the set was taken.
fn changes(before: &AppStatus, after: &AppStatus) -> Vec<String> {
    let mut remarks = Vec::new();
    if let (Some(old), Some(new)) = (&before.version, &after.version)
        && old != new
    {
        remarks.push(format!("the validator app's version changed from {old} to {new} while the set was taken"));
    }
    if before.is_ready == Some(true) && after.is_ready != Some(true) {
        remarks.push("the validator app was not ready any more when the set was complete".to_owned());
    }
    remarks
}

fn participant_id(facts: &Facts) -> Option<String> {
    match facts {
        Facts::Participant(participant) => participant.full_id(),
        _ => None,
    }
}

/// How long a database took in that set.
fn duration(manifest: &Manifest, name: &str) -> Option<Duration> {
    let dump = manifest.databases.iter().find(|dump| dump.name == name)?;
    Duration::try_from(dump.completed_at?.duration_since(dump.started_at)).ok()
}
