//! A session of ours with a server, spoken through `psql`: each question is one line of SQL, each row of the answer
//! one JSON document, and a marker that nobody else knows ends it.

use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use super::child::Process;
use super::target::{Program, Target};
use super::{Cause, Error, conninfo, program};

/// Time for one answer: locks are waited for up to 60 s.
const ANSWER: Duration = Duration::from_mins(2);

/// Time for a goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// The largest answer, in bytes.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// A connection to one database.
pub struct Session {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    mark: String,
    at: String,
    answers: u32,
}

/// What a server says about itself and about this session.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Snapshot {
    /// Its id, as `pg_dump --snapshot` takes it.
    pub id: String,
    /// The position in the write-ahead log, such as `0/1A2B3C4D`; on a standby the last one replayed.
    pub wal_lsn: String,
}

/// Somebody who waits for a lock that we hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
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

#[derive(serde::Deserialize)]
struct Greeting {
    mark: Option<String>,
    number: u32,
}

/// An answer of the server: rows, or the `SQLSTATE` of its refusal.
pub(super) type Answer = Result<Vec<Value>, String>;

impl Session {
    /// Connects, and makes sure that it is PostgreSQL itself that answers.
    pub async fn open(target: &Target, application_name: &str) -> Result<Self, Error> {
        let mark = format!("{:016x}", fastrand::u64(..));
        let mut command = target.connecting(Program::Psql, application_name, &mark)?;
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0", "-v", "VERBOSITY=sqlstate"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(command)?;
        let (stdin, stdout) = process.pipes();
        let at = target.at().to_owned();
        let stdout = stdout.ok_or_else(|| refused("connecting to", &at, Cause::Other(None)))?;
        let mut session = Self { process, stdin, stdout: BufReader::new(stdout), mark, at, answers: 0 };
        session.greet().await?;
        Ok(session)
    }

    async fn greet(&mut self) -> Result<(), Error> {
        const DOING: &str = "connecting to";
        let greeting = "select json_build_object('mark', current_setting('idkeep.session', true), \
            'number', current_setting('server_version_num')::int)";
        let greeting: Greeting = self.one(DOING, greeting).await?;
        // A pooler drops what it does not know, or gives a session that others have used before.
        if greeting.mark.as_deref() != Some(self.mark.as_str()) {
            return Err(refused(DOING, &self.at, Cause::Pooler));
        }
        let late = [(140_000, "idle_session_timeout"), (170_000, "transaction_timeout")];
        for (since, setting) in late {
            if greeting.number >= since {
                self.run(DOING, &format!("set {setting} = 0")).await?;
            }
        }
        Ok(())
    }

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

    /// Ends every other session by this name and waits until it is gone; how many there were.
    pub async fn terminate(&mut self, application_name: &str) -> Result<u32, Error> {
        let sql = format!(
            "select json_build_object('pid', pid, 'is_gone', pg_terminate_backend(pid, 10000)) from pg_stat_activity \
             where application_name = '{}' and pid <> pg_backend_pid()",
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

    /// Says goodbye, so that the server logs no broken connection.
    pub async fn close(mut self) {
        drop(self.stdin.take());
        let _ = tokio::time::timeout(FAREWELL, self.process.ended()).await;
    }

    /// The client's process, for those who watch it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    pub(super) fn at(&self) -> &str {
        &self.at
    }

    async fn run(&mut self, doing: &'static str, sql: &str) -> Result<(), Error> {
        self.rows(doing, sql).await.map(|_| ())
    }

    async fn one<T: DeserializeOwned>(&mut self, doing: &'static str, sql: &str) -> Result<T, Error> {
        let row = self.all(doing, sql).await?.into_iter().next();
        row.ok_or_else(|| refused(doing, &self.at, Cause::Other(None)))
    }

    async fn all<T: DeserializeOwned>(&mut self, doing: &'static str, sql: &str) -> Result<Vec<T>, Error> {
        let rows = self.rows(doing, sql).await?;
        let parsed: Result<Vec<T>, _> = rows.into_iter().map(serde_json::from_value).collect();
        parsed.map_err(|_| refused(doing, &self.at, Cause::Other(None)))
    }

    async fn rows(&mut self, doing: &'static str, sql: &str) -> Result<Vec<Value>, Error> {
        self.ask(doing, sql).await?.map_err(|state| refused(doing, &self.at, Cause::of_state(&state)))
    }

    /// One question; a refusal is an answer, too.
    pub(super) async fn ask(&mut self, doing: &'static str, sql: &str) -> Result<Answer, Error> {
        let question = format!("{sql};\n\\echo {} :ERROR :SQLSTATE\n", self.mark);
        let answering = async {
            if !self.write(&question).await {
                return Ok(None);
            }
            self.answer(doing).await
        };
        match tokio::time::timeout(ANSWER, answering).await {
            Ok(Ok(Some(answer))) => {
                self.answers += 1;
                Ok(answer)
            }
            Ok(Ok(None)) => Err(self.lost(doing).await),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.process.kill();
                Err(refused(doing, &self.at, Cause::Timeout))
            }
        }
    }

    async fn tell(&mut self, command: &str) -> Result<(), Error> {
        if self.write(&format!("{command}\n")).await { Ok(()) } else { Err(self.lost("asking").await) }
    }

    async fn write(&mut self, text: &str) -> bool {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(text.as_bytes()).await.is_ok() && stdin.flush().await.is_ok(),
            None => false,
        }
    }

    /// The rows up to the marker; nothing where the client ended before it.
    async fn answer(&mut self, doing: &'static str) -> Result<Option<Answer>, Error> {
        let odd = || refused(doing, &self.at, Cause::Other(None));
        let mut stdout = (&mut self.stdout).take(MAX_ANSWER);
        let mut rows = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = stdout.read_until(b'\n', &mut line).await.map_err(|_| odd())?;
            if read == 0 || !line.ends_with(b"\n") {
                return if stdout.limit() == 0 { Err(odd()) } else { Ok(None) };
            }
            let line = String::from_utf8_lossy(&line);
            if let Some(status) = line.strip_prefix(&self.mark) {
                let mut words = status.split_whitespace();
                let answer = match (words.next(), words.next()) {
                    (Some("false"), _) => Ok(rows),
                    (Some("true"), Some(state)) => Err(state.to_owned()),
                    _ => return Err(odd()),
                };
                return Ok(Some(answer));
            }
            // Functions that return nothing give empty rows.
            if !line.trim().is_empty() {
                rows.push(serde_json::from_str(&line).map_err(|_| odd())?);
            }
        }
    }

    /// The client has ended: why?
    async fn lost(&mut self, doing: &'static str) -> Error {
        drop(self.stdin.take());
        let cause = match tokio::time::timeout(FAREWELL, self.process.ended()).await {
            // It came to the end of its input, which was never ours.
            Ok(ended) if ended.is_success && self.answers == 0 => Cause::NoInput,
            Ok(ended) if ended.is_success => Cause::Lost,
            Ok(ended) => ended.cause,
            Err(_) => Cause::Lost,
        };
        self.process.kill();
        refused(doing, &self.at, cause)
    }
}

fn refused(doing: &'static str, at: &str, cause: Cause) -> Error {
    Error::Refused { doing, at: at.to_owned(), cause }
}

/// Names of others, on their way into a message.
fn printable(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(63).collect()
}
