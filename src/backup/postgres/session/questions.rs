//! What a server is asked: about itself, for a snapshot, about the sessions and databases that it has.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Session;
use crate::backup::postgres::{Error, conninfo, program};

/// What a server says about itself and about this session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Its version, such as `15.18`.
    pub version: String,
    /// The same as a number, such as 150018.
    pub number: u32,
    /// The cluster's system identifier, in decimal.
    pub system_identifier: String,
    /// The cluster's timeline.
    pub timeline: u32,
    /// True where it replays what another server writes.
    pub is_standby: bool,
    /// True where the role of this session may do everything.
    pub is_superuser: bool,
    /// The size of the database on the server's disk, in bytes.
    pub database_bytes: u64,
}

impl Server {
    /// The major version.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.number / 10_000
    }
}

/// A snapshot that another session may look through, as long as the one that took it is in its transaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// Its id, as `pg_dump --snapshot` takes it.
    pub id: String,
    /// The position in the write-ahead log, such as `0/1A2B3C4D`; on a standby the last one replayed.
    pub wal_lsn: String,
}

/// Somebody who waits for a lock that we hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Waiter {
    /// The process at the server.
    pub pid: i64,
    /// The role.
    pub user: String,
    /// What the session calls itself.
    pub application: String,
    /// For how long, in whole seconds.
    pub seconds: u64,
}

impl Session {
    /// What the server says about itself.
    pub async fn server(&mut self) -> Result<Server, Error> {
        const DOING: &str = "asking the server of";
        // On a primary the name of a WAL file begins with the timeline; the control file lags behind a promotion.
        let mut server: Server = self
            .one(
                DOING,
                "select json_build_object('version', current_setting('server_version'), \
                 'number', current_setting('server_version_num')::int, \
                 'system_identifier', (select system_identifier::text from pg_control_system()), \
                 'timeline', case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint()) \
                   else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end, \
                 'is_standby', pg_is_in_recovery(), 'is_superuser', current_setting('is_superuser') = 'on', \
                 'database_bytes', pg_database_size(current_database()))",
            )
            .await?;
        let odd = || Error::Malformed { at: self.at.clone(), what: "the server's version" };
        let is_decimal = server.system_identifier.chars().all(|c| c.is_ascii_digit());
        server.version = program::number(&server.version).filter(|_| is_decimal).ok_or_else(odd)?.0;
        Ok(server)
    }

    /// Takes a snapshot that others may share, until [`Session::commit`].
    pub async fn snapshot(&mut self) -> Result<Snapshot, Error> {
        const DOING: &str = "taking a snapshot of";
        self.run(DOING, "begin isolation level repeatable read read only").await?;
        let snapshot: Snapshot = self
            .one(
                DOING,
                "select json_build_object('id', pg_export_snapshot(), 'wal_lsn', \
                 case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)",
            )
            .await?;
        let is_plain = |text: &str, also: char| text.chars().all(|c| c.is_ascii_hexdigit() || c == also);
        if !is_plain(&snapshot.id, '-') || !is_plain(&snapshot.wal_lsn, '/') {
            return Err(Error::Malformed { at: self.at.clone(), what: "the snapshot's name" });
        }
        // A question that fails must not end the transaction. Not before: none is exported out of a savepoint.
        self.tell("\\set ON_ERROR_ROLLBACK on").await?;
        Ok(snapshot)
    }

    /// Ends the transaction of the snapshot; a dump that has begun keeps it.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.tell("\\set ON_ERROR_ROLLBACK off").await?;
        self.run("ending the snapshot of", "commit").await
    }

    /// Who has waited for at least `after` on a lock that a session by this name holds.
    pub async fn waiters(&mut self, application_name: &str, after: Duration) -> Result<Vec<Waiter>, Error> {
        const DOING: &str = "asking for waiting sessions of";
        // Inside a transaction the server would answer from what it knew before.
        self.run(DOING, "do $$ begin perform pg_stat_clear_snapshot(); end $$").await?;
        let sql = format!(
            "select json_build_object('pid', a.pid, 'user', coalesce(a.usename, ''), \
             'application', coalesce(a.application_name, ''), \
             'seconds', floor(extract(epoch from clock_timestamp() - min(l.waitstart)))::bigint) \
             from pg_locks l join pg_stat_activity a on a.pid = l.pid \
             where not l.granted and l.waitstart <= clock_timestamp() - interval '{} milliseconds' \
             and exists (select from unnest(pg_blocking_pids(l.pid)) b join pg_stat_activity h on h.pid = b \
               where h.application_name = '{}') \
             group by a.pid, a.usename, a.application_name order by min(l.waitstart)",
            after.as_millis(),
            conninfo::shortened(application_name),
        );
        let mut waiters: Vec<Waiter> = self.all(DOING, &sql).await?;
        for waiter in &mut waiters {
            waiter.user = printable(&waiter.user);
            waiter.application = printable(&waiter.application);
        }
        Ok(waiters)
    }

    /// Ends every other session of this user by this name, which anybody may give himself, and waits until it is gone; how many there were.
    pub async fn terminate(&mut self, application_name: &str) -> Result<u32, Error> {
        let sql = format!(
            "select json_build_object('pid', pid, 'is_gone', pg_terminate_backend(pid, 10000)) from pg_stat_activity \
             where application_name = '{}' and usename = session_user and pid <> pg_backend_pid()",
            conninfo::shortened(application_name),
        );
        let ended: Vec<Value> = self.all("ending sessions of", &sql).await?;
        Ok(u32::try_from(ended.len()).unwrap_or(u32::MAX))
    }

    /// The databases of the server whose names begin so.
    pub async fn databases(&mut self, prefix: &str) -> Result<Vec<String>, Error> {
        let prefix: String = prefix.chars().filter(char::is_ascii_alphanumeric).collect();
        let sql = format!(
            "select to_json(datname) from pg_database where starts_with(datname, '{prefix}') \
             and datallowconn and not datistemplate order by datname"
        );
        let names: Vec<String> = self.all("listing the databases of", &sql).await?;
        Ok(names)
    }
}

/// Names of others, on their way into a message.
fn printable(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(63).collect()
}
