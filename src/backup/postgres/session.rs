//! A session of ours with a server, spoken through `psql`: each question is one line of SQL, each row of the answer
//! one JSON document, and a marker that nobody else knows ends it.

mod questions;
mod rights;

use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use super::child::Process;
use super::target::{Program, Target};
use super::{Cause, Error};
pub use questions::{Server, Snapshot, Waiter};
pub use rights::Rights;

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
    /// What has come of a line whose end is still to come.
    half_line: Vec<u8>,
    asked: u32,
    answers: u32,
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
        let mut command = target.connecting(Program::Psql, application_name, &mark).await?;
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0", "-v", "VERBOSITY=sqlstate"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(command)?;
        let (stdin, stdout) = process.pipes();
        let at = target.at().to_owned();
        let stdout = stdout.ok_or_else(|| refused("connecting to", &at, Cause::Other(None)))?;
        let mut session = Self {
            process,
            stdin,
            stdout: BufReader::new(stdout),
            mark,
            at,
            half_line: Vec::new(),
            asked: 0,
            answers: 0,
        };
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
        // As `pg_dump` does: no view's functions run with our rights.
        let restrict = "select to_json(set_config(name, 'view, foreign-table', false)) from pg_settings \
            where name = 'restrict_nonsystem_relation_kind'";
        self.run(DOING, restrict).await
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
        // Whoever asked before may have stopped listening: its rows end with another number.
        self.asked += 1;
        let end = format!("{} {}", self.mark, self.asked);
        let question = format!("{sql};\n\\echo {end} :ERROR :SQLSTATE\n");
        let answering = async {
            if !self.write(&question).await {
                return Ok(None);
            }
            self.answer(doing, &end).await
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
    async fn answer(&mut self, doing: &'static str, end: &str) -> Result<Option<Answer>, Error> {
        let odd = || refused(doing, &self.at, Cause::Other(None));
        let mut stdout = (&mut self.stdout).take(MAX_ANSWER);
        let mut lines: Vec<String> = Vec::new();
        loop {
            let read = stdout.read_until(b'\n', &mut self.half_line).await.map_err(|_| odd())?;
            if read == 0 || !self.half_line.ends_with(b"\n") {
                return if stdout.limit() == 0 { Err(odd()) } else { Ok(None) };
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.half_line)).into_owned();
            if !line.starts_with(&self.mark) {
                lines.push(line);
                continue;
            }
            let mut words = line.strip_prefix(end).unwrap_or_default().split_whitespace();
            match (words.next(), words.next()) {
                (Some("false"), _) => return parsed(&lines).map(|rows| Some(Ok(rows))).ok_or_else(odd),
                (Some("true"), Some(state)) => return Ok(Some(Err(state.to_owned()))),
                _ => lines.clear(),
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

/// Functions that return nothing give empty rows.
fn parsed(lines: &[String]) -> Option<Vec<Value>> {
    lines.iter().filter(|line| !line.trim().is_empty()).map(|line| serde_json::from_str(line).ok()).collect()
}

fn refused(doing: &'static str, at: &str, cause: Cause) -> Error {
    Error::Refused { doing, at: at.to_owned(), cause }
}
