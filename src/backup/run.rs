//! One node's run: locked, prepared, each database in its turn, published.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::clock::Clock;
use super::facts::{Facts, ParticipantFacts};
use super::invariants::{self, Known};
use super::lease::Lease;
use super::manifest::{self, Manifest, Outcome, Previous};
use super::plan::Plan;
use super::postgres::{Login, Session, Target};
use super::repository::{Lock, Pending, Repository, clear_leftovers};
use super::set::SetId;
use super::stop::Stop;
use super::turn::{Turn, application_name};
use super::{Error, catalog, sign};
use crate::config::{self, Database, Name, Node, Role, SecretRef, Signer};
use crate::http::Http;
use crate::retry::Deadline;
use crate::secret;
use crate::store::vault::Vault;
use crate::sync::Subject;
use crate::validator::AppStatus;

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
    pub(super) vaults: &'r dyn Fn(&Name) -> Option<Rc<Vault>>,
    pub(super) stop: Stop,
    pub(super) clock: Clock,
    pub(super) known: Known,
    pub(super) owner: Option<Owner>,
}

/// `<node>/node.json`: whose sets a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `PAR::…`.
    pub participant_id: String,
    /// The network, where it was configured.
    pub network: Option<String>,
}

/// A database that is ready for its turn.
struct Prepared<'r> {
    database: &'r Database,
    target: Target,
    pg_dump_version: String,
    lease: Option<Lease>,
}

impl Run<'_> {
    /// Takes a set. The lock is given back however it ends.
    pub async fn take(mut self) -> Result<Manifest, Error> {
        let node = self.name.as_str();
        let stop = self.stop.clone();
        let lock = stop.or(Lock::take(&self.repository, node)).await?;
        let result = tokio::select! {
            result = self.under(&lock) => result,
            () = stop.grace_is_over() => Err(Error::Interrupted),
        };
        let is_lost = matches!(result, Err(Error::LockLost));
        let tidying = async {
            // What this run has left behind is gone before anybody else may look; what another one took over is theirs.
            if result.is_err() && !is_lost {
                self.clear(&lock).await;
            }
            lock.release().await;
        };
        tokio::select! {
            () = tidying => {}
            () = stop.grace_is_over() => tracing::warn!(node, "what was begun stays for the next run to remove"),
        }
        result
    }

    async fn clear(&self, lock: &Lock) {
        match clear_leftovers(&self.repository, self.name.as_str(), lock).await {
            Ok(sets) => {
                for set in sets {
                    tracing::info!(
                        node = self.name.as_str(),
                        set = set.to_string(),
                        "removed what a run had left that did not end"
                    );
                }
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(node = self.name.as_str(), error, "leftovers could not be removed");
            }
        }
    }

    async fn under(&mut self, lock: &Lock) -> Result<Manifest, Error> {
        let stop = self.stop.clone();
        self.can_sign()?;
        stop.or(async {
            self.clear(lock).await;
            self.owner = self.read_owner().await?;
            self.known = self.known().await;
            Ok::<_, Error>(())
        })
        .await?;
        let previous = stop.or(self.previous()).await?;
        let plan = Plan::of(&self.backup.databases).map_err(Error::Plan)?;
        let mut prepared = Vec::new();
        let result = self.in_order(lock, &plan, previous, &mut prepared).await;
        for Prepared { lease, .. } in prepared {
            if let Some(lease) = lease {
                lease.revoke().await;
            }
        }
        result
    }

    async fn in_order<'p>(
        &'p self,
        lock: &Lock,
        plan: &Plan<'p>,
        previous: Option<(Previous, Manifest)>,
        prepared: &mut Vec<Prepared<'p>>,
    ) -> Result<Manifest, Error> {
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
        for Prepared { database, target, pg_dump_version, lease } in &*prepared {
            let lease = lease.as_ref();
            let turn = Turn { run: self, lock, database, target, pg_dump_version, lease, seen: &seen };
            match turn.take(&mut pending).await {
                Ok((dump, facts)) => {
                    manifest.push(dump)?;
                    seen.push((database.name.to_string(), database.role, facts));
                }
                Err(Error::Rejected { set, invariants }) => {
                    manifest.invariants = invariants.clone();
                    self.reject(&manifest, pending).await?;
                    return Err(Error::Rejected { set, invariants });
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
        match self.try_out(database, login).await {
            Ok((target, pg_dump_version)) => Ok(Prepared { database, target, pg_dump_version, lease }),
            Err(error) => {
                if let Some(lease) = lease {
                    lease.revoke().await;
                }
                Err(error)
            }
        }
    }

    async fn try_out(&self, database: &Database, login: Option<Login>) -> Result<(Target, String), Error> {
        let failed = Error::of(database.name.as_str());
        let target = Target::resolve(database, login).await.map_err(&failed)?;
        let application = application_name(self.name.as_str(), database.name.as_str());
        let mut session = Session::open(&target, &application).await.map_err(&failed)?;
        let server = session.server().await.map_err(&failed)?;
        if self.owner.is_some() && database.role == Role::Participant {
            session.snapshot().await.map_err(&failed)?;
            if let Facts::Participant(participant) = session.facts(database.role).await.map_err(&failed)? {
                self.same_participant(&participant)?;
            }
        }
        session.close().await;
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

    /// Credentials that are made for this run, where the configuration asks for them.
    async fn borrow(&self, database: &Database, last: Option<Duration>) -> Result<Option<(Lease, Login)>, Error> {
        let Some(config::Credentials::Vault { store, path }) = &database.pg_dump.credentials else { return Ok(None) };
        let Some(vault) = (self.vaults)(store) else { return Ok(None) };
        let deadline = Deadline::after(self.node.identity.deadline.0);
        let lease = Lease::take(vault, path, last, deadline).await;
        lease
            .map(Some)
            .map_err(|source| Error::Credentials { database: database.name.to_string(), source: source.into() })
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

    async fn read_owner(&self) -> Result<Option<Owner>, Error> {
        let key = self.owner_key();
        let Some(bytes) = self.repository.read(&key, manifest::MAX_BYTES).await? else { return Ok(None) };
        let owner = serde_json::from_slice(&bytes)
            .map_err(|_| Error::Vanished { file: key, found: "not what idkeep writes".into() })?;
        Ok(Some(owner))
    }

    fn owner_key(&self) -> String {
        format!("{}/node.json", self.name)
    }

    /// Two clusters that share a node's name must not mix their sets.
    pub(super) fn same_participant(&self, participant: &ParticipantFacts) -> Result<(), Error> {
        let (Some(owner), Some(found)) = (&self.owner, participant.full_id()) else { return Ok(()) };
        if owner.participant_id == found {
            return Ok(());
        }
        Err(Error::AnotherParticipant {
            node: self.name.to_string(),
            stored: crate::log::printable(&owner.participant_id),
            found,
        })
    }

    /// The newest set that is believed: what is built on it must not be on what anybody may have put there.
    async fn previous(&self) -> Result<Option<(Previous, Manifest)>, Error> {
        let node = self.name.as_str();
        let folders = self.repository.folders(node).await?;
        for set in folders.iter().rev().filter_map(|name| name.parse::<SetId>().ok()) {
            let key = format!("{node}/{set}/manifest.json");
            let Some(bytes) = catalog::small(&self.repository, &key).await? else { continue };
            let why = match Manifest::parse(&bytes) {
                Ok(manifest) if manifest.node != node || manifest.set != set => "it is that of another set".to_owned(),
                Ok(manifest) => {
                    let signature = match self.signers {
                        [] => None,
                        _ => catalog::small(&self.repository, &format!("{key}.sig")).await?,
                    };
                    match catalog::unbelieved(self.signers, signature.as_ref(), &bytes) {
                        None => return Ok(Some((Previous { set, sha256: hex(&bytes) }, manifest))),
                        Some(why) => why,
                    }
                }
                Err(error) => error.to_string(),
            };
            tracing::warn!(node, set = set.to_string(), why, "this set's manifest is passed over");
        }
        Ok(None)
    }

    /// A key that cannot sign, or whose sets nobody would believe, is found before hours of dumping.
    fn can_sign(&self) -> Result<(), Error> {
        let Some(reference) = self.sign else { return Ok(()) };
        let public = sign::public_half(&secret::resolve(reference)?)?;
        let is_believed = self.signers.is_empty() || self.signers.iter().any(|signer| signer.key() == public.key());
        if is_believed { Ok(()) } else { Err(Error::NotASigner) }
    }

    /// A set that breaks an invariant is kept as evidence, under a name that nobody takes for a backup.
    async fn reject(&self, manifest: &Manifest, pending: Pending) -> Result<(), Error> {
        let key = format!("{}/{}/rejected.json", self.name, pending.set());
        self.repository.create(&key, Bytes::from(manifest.to_bytes())).await?;
        pending.end().await;
        Ok(())
    }

    /// The manifest is written last, and only by who still holds the lock over objects that are all there.
    async fn publish(&self, manifest: Manifest, pending: Pending, lock: &Lock) -> Result<Manifest, Error> {
        if manifest.invariants.values().any(|invariant| invariant.result == Outcome::Fail) {
            let (set, invariants) = (manifest.set, manifest.invariants.clone());
            self.reject(&manifest, pending).await?;
            return Err(Error::Rejected { set, invariants });
        }
        manifest.check_order()?;
        let folder = format!("{}/{}", self.name, manifest.set);
        for dump in &manifest.databases {
            let file = format!("{folder}/{}", dump.file);
            match self.repository.size(&file).await? {
                Some(bytes) if bytes == dump.bytes => {}
                Some(bytes) => return Err(Error::Vanished { file, found: format!("{bytes} bytes") }),
                None => return Err(Error::Vanished { file, found: "not there".into() }),
            }
        }
        self.own(&manifest).await?;
        let bytes = manifest.to_bytes();
        // What servers say of themselves is in it: a set that nobody could read again would be none.
        Manifest::parse(&bytes).map_err(Error::Unreadable)?;
        if let Some(reference) = self.sign {
            let key = secret::resolve(reference)?;
            let signature = sign::sign(&key, &bytes)?;
            self.repository.replace(&format!("{folder}/manifest.json.sig"), Bytes::from(signature)).await?;
        }
        if !lock.is_ours().await? {
            return Err(Error::LockLost);
        }
        if !self.repository.create(&format!("{folder}/manifest.json"), Bytes::from(bytes)).await? {
            return Err(Error::Taken(manifest.set));
        }
        pending.end().await;
        self.announce(&manifest);
        Ok(manifest)
    }

    /// Says whose sets this folder holds, before the first one is there.
    async fn own(&self, manifest: &Manifest) -> Result<(), Error> {
        let (None, Some(participant_id)) = (&self.owner, &manifest.participant_id) else { return Ok(()) };
        let owner = Owner { participant_id: participant_id.clone(), network: self.node.network.clone() };
        let bytes = serde_json::to_vec_pretty(&owner).unwrap_or_default();
        if self.repository.create(&self.owner_key(), Bytes::from(bytes)).await? {
            return Ok(());
        }
        // Somebody else was first: it is theirs, or the same.
        match self.read_owner().await? {
            Some(stored) if stored.participant_id == owner.participant_id => Ok(()),
            stored => Err(Error::AnotherParticipant {
                node: self.name.to_string(),
                stored: stored.map(|stored| crate::log::printable(&stored.participant_id)).unwrap_or_default(),
                found: owner.participant_id,
            }),
        }
    }

    fn announce(&self, manifest: &Manifest) {
        let (node, set) = (self.name.as_str(), manifest.set.to_string());
        for (name, invariant) in &manifest.invariants {
            if invariant.result == Outcome::Unknown {
                tracing::warn!(node, set, invariant = name, reason = invariant.reason, "published, but not proven");
            }
        }
        for remark in &manifest.remarks {
            tracing::warn!(node, set, remark, "published with a remark");
        }
        tracing::info!(node, set, "set published");
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

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}
