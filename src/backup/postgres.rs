//! PostgreSQL as a source of dumps: `psql` holds a snapshot and reads it, `pg_dump` dumps exactly that.
//!
//! Both are the client's own programs, on this machine or in the server's container, so that libpq alone decides
//! how a server proves itself. Whatever they say is classified into words of our own and never shown.

mod cause;
mod child;
mod conninfo;
pub mod credentials;
mod dump;
mod password;
mod program;
mod read;
mod session;
mod target;

pub use cause::Cause;
pub use dump::Dump;
pub use session::{Rights, Server, Session, Snapshot, Waiter};
pub use target::{Login, Target};

use crate::error::{Failure, Fault};
use crate::secret;

/// Why there is no session, no fact or no dump.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The password cannot be read.
    #[error("reading the password for {at}")]
    Password { at: String, source: secret::Error },
    /// A password that no password file can carry.
    #[error("the password for {at} has a line break in it or at its end")]
    PasswordShape { at: String },
    /// The password could not be put where only the child finds it.
    #[error("handing the password for {at} to the client: the kernel gives no memory file")]
    PasswordFile { at: String },
    /// A client program is not on this machine.
    #[error("looking for `{program}`: it is not on this machine")]
    NoProgram { program: &'static str },
    /// A program cannot be started.
    #[error("starting `{program}`")]
    Start { program: String, source: std::io::Error },
    /// The program does not say which version it is.
    #[error("asking `{program}` for its version: {why}")]
    NoVersion { program: String, why: String },
    /// The client is older than the server.
    #[error("`pg_dump` is of version {client}, {at} of version {server}: an older client cannot dump it")]
    OlderClient { at: String, client: String, server: String },
    /// Nothing says which database.
    #[error("the database `{name}` has no database name")]
    Unnamed { name: String },
    /// The container does not say which database.
    #[error("asking for `{variable}` by `{command} … printenv {variable}`: {why}")]
    NoAnswer { variable: String, command: String, why: &'static str },
    /// More than one database might be the participant's.
    #[error("{at} has several databases that may be the participant's: {}", found.join(", "))]
    SeveralParticipants { at: String, found: Vec<String> },
    /// No database looks like the participant's.
    #[error("{at} has no database whose name begins with `participant`")]
    NoParticipant { at: String },
    /// What the server, or the client on the way to it, said.
    #[error("{doing} {at}: {cause}")]
    Refused { doing: &'static str, at: String, cause: Cause },
    /// Data in a form that is not known.
    #[error("reading {what} of {at}: it is not in the form that is known")]
    Malformed { at: String, what: &'static str },
}

impl Error {
    /// The cause, where the server or the client named one.
    #[must_use]
    pub const fn cause(&self) -> Option<Cause> {
        match self {
            Self::Refused { cause, .. } => Some(*cause),
            _ => None,
        }
    }
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Password { source, .. } => source.fault(),
            Self::Refused { cause, .. } => cause.fault(),
            Self::PasswordFile { .. } => Fault::Transient,
            Self::Start { source, .. } if program::is_transient(source) => Fault::Transient,
            Self::PasswordShape { .. }
            | Self::NoProgram { .. }
            | Self::Start { .. }
            | Self::NoVersion { .. }
            | Self::OlderClient { .. }
            | Self::Unnamed { .. }
            | Self::NoAnswer { .. }
            | Self::SeveralParticipants { .. }
            | Self::NoParticipant { .. }
            | Self::Malformed { .. } => Fault::Config,
        }
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Password { source, .. } => return source.hint(),
            Self::Refused { cause, .. } => cause.hint().into(),
            Self::PasswordShape { .. } => "a password is one line: look at the file with `od -c`".into(),
            Self::PasswordFile { .. } => "is the machine out of memory or of file descriptors?".into(),
            Self::NoProgram { .. } => "install the PostgreSQL client of the server's major version or newer, name it with `binary`, or use the server's own through `exec`".into(),
            Self::Start { .. } => "check `binary` and `exec`".into(),
            Self::NoVersion { .. } => "`binary` has to be PostgreSQL's own `pg_dump`; with `exec`, try the command by hand and add `pg_dump --version`".into(),
            Self::OlderClient { .. } => "install the client of the server's major version or newer and name it with `binary`, or use the server's own through `exec`".into(),
            Self::Unnamed { .. } => "end `url` with `/DATABASE`, or let `database: {env, exec}` ask for it".into(),
            Self::NoAnswer { .. } => "try the command by hand; is the container running, and is the variable the one that names the database?".into(),
            Self::SeveralParticipants { .. } => "older ones remain from earlier migrations: look into the participant's CANTON_PARTICIPANT_POSTGRES_DB, and end `url` with `/DATABASE`, or use `database: {env, exec}`".into(),
            Self::NoParticipant { .. } => "end `url` with `/DATABASE`; is this the participant's server, and may the user see its database?".into(),
            Self::Malformed { .. } => "this version of the app writes what this version of idkeep does not know; please report it with the app's version".into(),
        })
    }
}

/// Ends every session that carries this name, wherever its client ran: one that was killed with `docker exec` lives on
/// in the container. Returns how many there were.
pub async fn end(target: &Target, application_name: &str) -> Result<u32, Error> {
    let mut session = Session::open(target, application_name).await?;
    let ended = session.terminate(application_name).await;
    session.close().await;
    ended
}
