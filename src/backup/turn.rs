//! One database's turn: its snapshot, judged, dumped as of that very snapshot, sealed and durable.

use std::time::Duration;

use futures_util::future;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::facts::{Facts, ParticipantFacts};
use super::invariants;
use super::lease::Lease;
use super::manifest::{Dump as Record, Invariant, Offsets, Outcome};
use super::postgres::{self, Cause, Dump, Server, Session, Snapshot, Target};
use super::repository::{Lock, Pending, Upload, part_bytes};
use super::stop::Until;
use super::stream::{Progress, Stream, Sums, Treatment};
use super::{Error, Run, progress};
use crate::config::{Database, Encryption, Role};
use crate::retry::Deadline;
use crate::seal;

/// Time for what is given up to be removed.
const TO_ABORT: Duration = Duration::from_mins(2);

/// Between two looks for sessions that wait on our locks.
const LOOK: Duration = Duration::from_secs(2);

/// Between two questions to a standby that lags.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// One database, its turn come.
pub(super) struct Turn<'r> {
    pub run: &'r Run<'r>,
    pub lock: &'r Lock,
    pub database: &'r Database,
    pub target: &'r Target,
    pub pg_dump_version: &'r str,
    pub lease: Option<&'r Lease>,
    /// What the databases before it said.
    pub seen: &'r [(String, Role, Facts)],
}

/// A snapshot that was judged, with the session that holds it.
struct Held {
    session: Session,
    /// Who watches for others once the first session was lost.
    again: Option<Session>,
    server: Server,
    snapshot: Snapshot,
    snapshot_at: Timestamp,
    facts: Facts,
}

/// What was seen in it.
struct Look {
    server: Server,
    snapshot: Snapshot,
    snapshot_at: Timestamp,
    facts: Facts,
}

impl Turn<'_> {
    /// Takes it. When this returns, the dump is whole and durable, or nothing of it is left.
    pub async fn take(&self, pending: &mut Pending) -> Result<(Record, Facts), Error> {
        let name = self.database.name.as_str();
        let started_at = self.run.clock.now();
        let application = application_name(self.run.name.as_str(), name);
        let mut held = self.hold(&application, pending).await?;
        let file = file_name(name, self.run.backup.encryption);
        let stored = self.store(&application, &mut held, &file, pending).await;
        held.session.close().await;
        if let Some(again) = held.again {
            again.close().await;
        }
        let sums = stored?;
        let completed_at = self.run.clock.now();
        tracing::info!(
            node = self.run.name.as_str(),
            database = name,
            plain_bytes = sums.plain_bytes,
            bytes = sums.bytes,
            "dump stored"
        );
        let Held { server, snapshot, snapshot_at, facts, .. } = held;
        let record = Record {
            name: name.to_owned(),
            role: self.database.role,
            database: self.target.database().to_owned(),
            driver: "pg_dump".into(),
            server_version: server.version,
            pg_dump_version: self.pg_dump_version.to_owned(),
            standby: server.is_standby,
            started_at,
            snapshot_at,
            completed_at: Some(completed_at),
            system_identifier: server.system_identifier,
            timeline: server.timeline,
            wal_lsn: snapshot.wal_lsn,
            offsets: offsets(&facts),
            file,
            bytes: sums.bytes,
            sha256: sums.sha256,
            plain_bytes: sums.plain_bytes,
            recipients: self.run.backup.recipients.iter().map(ToString::to_string).collect(),
        };
        Ok((record, facts))
    }

    /// A snapshot whose data may follow what was dumped before: judged before a byte is read.
    async fn hold(&self, application: &str, pending: &Pending) -> Result<Held, Error> {
        let failed = Error::of(self.database.name.as_str());
        let stop = &self.run.stop;
        let mut session = stop.or(async { Session::open(self.target, application).await.map_err(failed) }).await?;
        let judged = stop.or(self.look(&mut session, pending)).await;
        match judged {
            Ok(Look { server, snapshot, snapshot_at, facts }) => {
                Ok(Held { session, again: None, server, snapshot, snapshot_at, facts })
            }
            // A client that is killed outside a container would leave its session there, with all that it holds.
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    async fn look(&self, session: &mut Session, pending: &Pending) -> Result<Look, Error> {
        let deadline = Deadline::after(self.run.node.identity.deadline.0);
        let failed = Error::of(self.database.name.as_str());
        loop {
            let server = session.server().await.map_err(&failed)?;
            // Earlier than the snapshot itself: whatever is said to be before it really was.
            let snapshot_at = self.run.clock.now();
            let snapshot = session.snapshot().await.map_err(&failed)?;
            let facts = session.facts(self.database.role).await.map_err(&failed)?;
            let Err(error) = self.judge(&facts, &server, pending) else {
                return Ok(Look { server, snapshot, snapshot_at, facts });
            };
            if !matches!(error, Error::StandbyLags { .. }) || deadline.remaining() < ASK_AGAIN {
                return Err(error);
            }
            tracing::debug!(error = error.to_string(), "asking the standby again");
            session.commit().await.map_err(&failed)?;
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    fn judge(&self, facts: &Facts, server: &Server, pending: &Pending) -> Result<(), Error> {
        let Facts::Participant(participant) = facts else { return Ok(()) };
        let mut seen = self.seen.to_vec();
        seen.push((self.database.name.to_string(), self.database.role, facts.clone()));
        let invariants = invariants::judge(&seen, &self.run.known, self.run.node.identity.namespace_key);
        let fails = |name: &str| invariants.get(name).filter(|invariant| invariant.result == Outcome::Fail);
        if let Some(Invariant { reason, .. }) = fails("I1").filter(|_| server.is_standby) {
            return Err(Error::StandbyLags { database: self.database.name.to_string(), reason: reason.clone() });
        }
        self.run.same_participant(participant)?;
        if invariants.values().any(|invariant| invariant.result == Outcome::Fail) {
            return Err(Error::Rejected { set: pending.set(), invariants });
        }
        Ok(())
    }

    async fn store(
        &self,
        application: &str,
        held: &mut Held,
        file: &str,
        pending: &mut Pending,
    ) -> Result<Sums, Error> {
        let backup = self.run.backup;
        let part_bytes = part_bytes(held.server.database_bytes);
        let encryptor = match backup.encryption {
            Encryption::Age => Some(seal::encryptor(&backup.recipients)?),
            Encryption::None => None,
        };
        let key = format!("{}/{}/{file}", self.run.name, pending.set());
        let mut upload = self.run.repository.upload(&key, part_bytes, pending).await?;
        let failed = Error::of(self.database.name.as_str());
        let mut dump = match Dump::start(self.target, application, &held.snapshot).await {
            Ok(dump) => dump,
            Err(error) => {
                upload.abort().await;
                return Err(failed(error));
            }
        };
        let treatment = Treatment { compression: backup.compression, encryptor, part_bytes };
        let started = dump.stdout().map_or(Err(super::stream::Error::Seal), |dump| Stream::start(dump, treatment));
        let mut stream = match started {
            Ok(stream) => stream,
            Err(error) => {
                dump.kill();
                upload.abort().await;
                return Err(error.into());
            }
        };
        let result = self.pump(held, application, &mut stream, &mut upload).await;
        match result {
            Ok(()) => {
                let sums = stream.finish().await;
                self.end(application, sums, dump, upload).await
            }
            Err(error) => {
                dump.kill();
                self.give_up(application, upload, Some(stream)).await;
                Err(error)
            }
        }
    }

    /// Leaves nothing behind, here and at the server, as far as there is time for it.
    async fn give_up(&self, application: &str, upload: Upload, stream: Option<Stream>) {
        let ours = async {
            // What it waits for may be what stood still.
            if timeout(TO_ABORT, upload.abort()).await.is_err() {
                let (node, database) = (self.run.name.as_str(), self.database.name.as_str());
                tracing::warn!(
                    node,
                    database,
                    "what was stored of the dump could not be removed: the next run does it"
                );
            }
            if let Some(stream) = stream {
                stream.abandon().await;
            }
        };
        let all = future::join(ours, self.end_sessions(application));
        if self.run.stop.within(Until::DumpEnded, all).await.is_none() {
            let (node, database) = (self.run.name.as_str(), self.database.name.as_str());
            tracing::warn!(node, database, "not all that the dump has begun could be ended in time");
        }
    }

    /// Killing a client outside does not end what runs inside the container, nor does its own death.
    async fn end_sessions(&self, application: &str) {
        if let Err(error) = postgres::end(self.target, application).await {
            tracing::warn!(error = crate::error::chain(&error), "the dump's sessions could not be ended");
        }
    }

    /// Moves parts from the stream to the repository, until its end or until something is in the way.
    async fn pump(
        &self,
        held: &mut Held,
        application: &str,
        stream: &mut Stream,
        upload: &mut Upload,
    ) -> Result<(), Error> {
        let progress = stream.progress();
        let parts = async {
            while let Some(part) = stream.next().await {
                upload.push(part).await?;
            }
            Ok(())
        };
        let database = self.database.name.as_str();
        let size = held.server.database_bytes;
        tokio::select! {
            result = parts => result,
            error = self.watch(&mut held.session, &mut held.again, application, &progress) => Err(error),
            error = self.lease_ends() => Err(error),
            () = progress::show(&progress, self.run.name.as_str(), database, size) => Ok(()),
            () = progress::stalled(&progress) => Err(Error::Stalled { database: database.to_owned() }),
            () = self.lock.lost() => Err(Error::LockLost),
            () = self.run.stop.told() => Err(Error::Interrupted),
        }
    }

    /// The dump's exit status decides before anything is committed.
    async fn end(
        &self,
        application: &str,
        sums: Result<Sums, super::stream::Error>,
        dump: Dump,
        upload: Upload,
    ) -> Result<Sums, Error> {
        let failed = Error::of(self.database.name.as_str());
        let ended = self.run.stop.or(async { dump.finish().await.map_err(failed) }).await;
        let error = match (ended, sums) {
            (Ok(()), Ok(sums)) => {
                upload.commit().await?;
                return Ok(sums);
            }
            (Ok(()), Err(error)) => Error::from(error),
            // Whoever stopped reading knows why.
            (Err(Error::Database { source, .. }), Err(error)) if source.cause() == Some(Cause::Unread) => error.into(),
            (Err(error), _) => error,
        };
        self.give_up(application, upload, None).await;
        Err(error)
    }

    /// Looks who waits for our locks; returns when somebody has for too long. The snapshot's holder lets go of it as
    /// soon as the dump has taken it over.
    async fn watch(
        &self,
        session: &mut Session,
        again: &mut Option<Session>,
        application: &str,
        progress: &Progress,
    ) -> Error {
        let after = self.run.backup.yield_after.0;
        let mut looks = interval(LOOK.min(after / 2).max(Duration::from_millis(100)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_held = true;
        loop {
            looks.tick().await;
            let result = async {
                if is_held && progress.plain_bytes() > 0 {
                    is_held = false;
                    session.commit().await?;
                }
                again.as_mut().unwrap_or(session).waiters(application, after).await
            };
            match result.await {
                Ok(waiters) if waiters.is_empty() => {}
                Ok(waiters) => {
                    return Error::GaveWay { database: self.database.name.to_string(), after, waiters };
                }
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(error, "who waits for this dump cannot be seen: looking again");
                    // The first one stays as it is: the dump may not have its snapshot yet.
                    *again = Session::open(self.target, application).await.ok();
                }
            }
        }
    }

    async fn lease_ends(&self) -> Error {
        let Some(lease) = self.lease else { return std::future::pending().await };
        match lease.broken().await {
            Some(source) => Error::Credentials { database: self.database.name.to_string(), source: source.into() },
            None => std::future::pending().await,
        }
    }
}

/// What a dump's sessions call themselves; no two runs alike.
pub(super) fn application_name(node: &str, database: &str) -> String {
    format!("idkeep/{node}/{database}/{:08x}", fastrand::u32(..))
}

/// `<name>.dump.zst.age`: what was done to it, in order.
fn file_name(name: &str, encryption: Encryption) -> String {
    match encryption {
        Encryption::Age => format!("{name}.dump.zst.age"),
        Encryption::None => format!("{name}.dump.zst"),
    }
}

fn offsets(facts: &Facts) -> Option<Offsets> {
    match facts {
        Facts::Validator(validator) => {
            let (migration_id, validator_last_ingested) = invariants::newest(validator);
            Some(Offsets::Validator { validator_last_ingested, migration_id })
        }
        Facts::Participant(ParticipantFacts { ledger_end, pruned_up_to, .. }) => {
            Some(Offsets::Participant { ledger_end: *ledger_end, pruned_up_to: *pruned_up_to })
        }
        Facts::None => None,
    }
}
