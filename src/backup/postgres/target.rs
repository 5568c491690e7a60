//! One database of the configuration, resolved: by which programs it is reached, as whom, and by which name.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::child::{self, Process};
use super::{Error, Server, Session, conninfo, program};
use crate::config::{self, DatabaseUrl, PgDump, Role, SecretRef};
use crate::retry::Deadline;
use crate::secret::Secrets;

/// The database that a server always has, where others are listed.
const MAINTENANCE: &str = "postgres";

/// How the participant's databases are named, with or without a migration's number.
const PARTICIPANT: &str = "participant";

/// Time for a program that only says something.
const SAYING: Duration = Duration::from_secs(30);

/// Time for a password that is read over the network, with all retries.
const READING: Duration = Duration::from_mins(1);

/// The largest answer of such a program, in bytes.
const MAX_SAID: u64 = 4096;

/// One database that can be connected to and dumped.
pub struct Target {
    at: String,
    exec: Vec<String>,
    pg_dump: PathBuf,
    psql: PathBuf,
    url: Option<DatabaseUrl>,
    user: Option<String>,
    password: Password,
    database: String,
}

/// A user that was made for one dump.
pub struct Login {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

enum Password {
    None,
    Reference(SecretRef, Rc<Secrets>),
    Given(SecretString),
}

/// Which of the two programs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Program {
    PgDump,
    Psql,
}

impl Target {
    /// Finds the programs and the database's name; asks a container or the server for it where it is not written.
    pub async fn resolve(
        database: &config::Database,
        login: Option<Login>,
        secrets: &Rc<Secrets>,
    ) -> Result<Self, Error> {
        let config = &database.pg_dump;
        let (pg_dump, psql) = programs(config)?;
        let (user, password) = match (login, &config.password) {
            (Some(login), _) => (Some(login.user), Password::Given(login.password)),
            (None, Some(reference)) => (None, Password::Reference(reference.clone(), Rc::clone(secrets))),
            (None, None) => (None, Password::None),
        };
        let mut user = user.or_else(|| config.url.as_ref().and_then(DatabaseUrl::user));
        if user.is_none() && !config.exec.is_empty() {
            // The image's own superuser; the program's default would be the container's root.
            user = printenv(&config.exec, "POSTGRES_USER").await.ok();
        }
        let mut target = Self {
            at: String::new(),
            exec: config.exec.clone(),
            pg_dump,
            psql,
            url: config.url.clone(),
            user,
            password,
            database: MAINTENANCE.to_owned(),
        };
        let written = config.url.as_ref().and_then(DatabaseUrl::database);
        target.at = target.place();
        target.database = match (written, &config.database) {
            (Some(name), _) => name,
            (None, Some(asked)) => printenv(&asked.exec, &asked.env).await?,
            (None, None) if database.role == Role::Participant => target.participant().await?,
            (None, None) => return Err(Error::Unnamed { name: database.name.to_string() }),
        };
        target.at = target.place();
        Ok(target)
    }

    /// The database's own name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// `host:port/database`, or which command leads to it: what messages name.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.at
    }

    /// The version of the `pg_dump` that will run, once it is known to be able to dump this server.
    pub async fn check_client(&self, server: &Server) -> Result<String, Error> {
        let said = said(self.command(Program::PgDump), "--version").await;
        let program = || self.pg_dump.display().to_string();
        let said = said.map_err(|why| match why {
            Silence::Error(error) => error,
            Silence::Why(why) => Error::NoVersion { program: program(), why: why.into() },
        })?;
        let unclear = || Error::NoVersion { program: program(), why: "it is not PostgreSQL's".into() };
        let (client, major) = program::version(&said).ok_or_else(unclear)?;
        if major < server.major() {
            return Err(Error::OlderClient { at: self.at.clone(), client, server: server.version.clone() });
        }
        Ok(client)
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) const fn url(&self) -> Option<&DatabaseUrl> {
        self.url.as_ref()
    }

    /// The password as it is now.
    pub(super) async fn password(&self) -> Result<Option<SecretString>, Error> {
        match &self.password {
            Password::None => Ok(None),
            Password::Given(password) => Ok(Some(password.clone())),
            Password::Reference(reference, secrets) => {
                let password = secrets.resolve(reference, Deadline::after(READING)).await;
                password.map(Some).map_err(|source| Error::Password { at: self.at.clone(), source })
            }
        }
    }

    /// The program, about to connect under this name.
    pub(super) async fn connecting(
        &self,
        program: Program,
        application_name: &str,
        mark: &str,
    ) -> Result<Command, Error> {
        let mut command = self.command(program);
        command.arg("--no-password").arg("-d").arg(conninfo::conninfo(self, application_name, mark));
        if let Some(password) = self.password().await? {
            child::hand_over(&mut command, &password, self.at())?;
        }
        Ok(command)
    }

    fn command(&self, program: Program) -> Command {
        let path = match program {
            Program::PgDump => &self.pg_dump,
            Program::Psql => &self.psql,
        };
        if self.exec.is_empty() { child::direct(path) } else { child::inside(&self.exec, &path.to_string_lossy()) }
    }

    fn place(&self) -> String {
        match (&self.url, self.exec.first()) {
            (Some(url), _) if url.database().is_some() => url.to_string(),
            (Some(url), _) => format!("{url}/{}", self.database),
            (None, Some(command)) => format!("`{}` (by `{command}`)", self.database),
            (None, None) => self.database.clone(),
        }
    }

    /// The one database that can be the participant's; the server knows older ones, but not which is in use.
    async fn participant(&self) -> Result<String, Error> {
        let mut session = Session::open(self, "idkeep/databases").await?;
        let found = session.databases(PARTICIPANT).await;
        session.close().await;
        let mut found = found?;
        let at = self.at.clone();
        match found.len() {
            0 => Err(Error::NoParticipant { at }),
            1 => Ok(found.remove(0)),
            _ => Err(Error::SeveralParticipants { at, found }),
        }
    }
}

/// `pg_dump`, and `psql` beside it.
fn programs(config: &PgDump) -> Result<(PathBuf, PathBuf), Error> {
    let beside = |pg_dump: &Path| pg_dump.with_file_name("psql");
    let missing = |program| Error::NoProgram { program };
    if !config.exec.is_empty() {
        let pg_dump = config.binary.clone().unwrap_or_else(|| "pg_dump".into());
        let psql = beside(&pg_dump);
        return Ok((pg_dump, psql));
    }
    let pg_dump = match &config.binary {
        Some(binary) => binary.clone(),
        None => program::newest("pg_dump").ok_or_else(|| missing("pg_dump"))?,
    };
    let psql = Some(beside(&pg_dump)).filter(|path| path.is_file()).or_else(|| program::newest("psql"));
    Ok((pg_dump, psql.ok_or_else(|| missing("psql"))?))
}

/// Why a program said nothing of use.
enum Silence {
    Error(Error),
    Why(&'static str),
}

/// The value of one variable in a container, never the whole environment.
async fn printenv(exec: &[String], variable: &str) -> Result<String, Error> {
    let no_answer = |why| Error::NoAnswer {
        variable: variable.to_owned(),
        command: exec.first().cloned().unwrap_or_default(),
        why,
    };
    let said = said(child::inside(exec, "printenv"), variable).await.map_err(|silence| match silence {
        Silence::Error(error) => error,
        Silence::Why(why) => no_answer(why),
    })?;
    let value = said.strip_suffix('\n').unwrap_or(&said).trim_end_matches('\r');
    if value.is_empty() {
        return Err(no_answer("the variable is empty"));
    }
    if value.chars().any(char::is_control) {
        return Err(no_answer("the answer is more than one line of text"));
    }
    Ok(value.to_owned())
}

/// What a program says that takes one argument and no input.
async fn said(mut command: Command, argument: &str) -> Result<String, Silence> {
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(command).map_err(Silence::Error)?;
    let (_, stdout) = process.pipes();
    let saying = async {
        let mut text = String::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_SAID).read_to_string(&mut text).await.map_err(|_| Silence::Why("the answer is no text"))?;
        }
        let ended = process.ended().await;
        if ended.is_success { Ok(text) } else { Err(Silence::Why("it ended without an answer")) }
    };
    tokio::time::timeout(SAYING, saying).await.unwrap_or(Err(Silence::Why("no answer within 30s")))
}
