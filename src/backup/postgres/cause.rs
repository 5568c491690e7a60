//! What the client's and the server's words come down to. They are looked through for known phrases, then dropped.

mod phrases;

use std::fmt;

use crate::error::Fault;

/// Why a server or its client did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The password is wrong, or another proof was refused.
    Authentication,
    /// The server wants a password, and none is configured.
    PasswordWanted,
    /// `pg_hba.conf` lets nobody in from here.
    NotAdmitted,
    /// The role does not exist, or may not log in.
    NoRole,
    /// A right is missing.
    Denied,
    /// Row security hides rows from this role.
    RowSecurity,
    /// There is no such database.
    NoDatabase,
    /// The certificate is not trusted.
    Certificate,
    /// The certificate is another host's.
    HostName,
    /// No root certificate to judge by.
    NoRootCertificate,
    /// The server knows no TLS.
    NoTls,
    /// A pooler stands in between.
    Pooler,
    /// A parameter of the address that libpq or the server does not take.
    Parameter,
    /// `exec` gives the client no standard input.
    NoInput,
    /// The command of `exec` does not reach a program.
    NoContainer,
    /// The client is older than the server.
    Version,
    /// Too few locks for a dump.
    TooFewLocks,
    /// The name of the host is not known.
    UnknownHost,
    /// Nothing listens there.
    NotListening,
    /// Starting, stopping or recovering.
    Starting,
    /// No connection is left.
    Full,
    /// No answer in time.
    Timeout,
    /// The connection ended.
    Lost,
    /// Another session held a lock for too long.
    LockTimeout,
    /// A standby gave up the snapshot to go on replaying.
    StandbyConflict,
    /// The snapshot is gone.
    SnapshotGone,
    /// A page or an index is broken.
    Damaged,
    /// The client was killed.
    Killed,
    /// The reader of the dump went away.
    Unread,
    /// An `SQLSTATE` of which nothing is known here.
    State([u8; 5]),
    /// Anything else, with the client's exit status.
    Other(Option<i32>),
}

impl Cause {
    /// What it means for a retry and the exit code.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Self::Authentication
            | Self::PasswordWanted
            | Self::NotAdmitted
            | Self::NoRole
            | Self::Denied
            | Self::RowSecurity => Fault::Credentials,
            Self::NoDatabase
            | Self::Certificate
            | Self::HostName
            | Self::NoRootCertificate
            | Self::NoTls
            | Self::Pooler
            | Self::Parameter
            | Self::NoInput
            | Self::NoContainer
            | Self::Version
            | Self::TooFewLocks => Fault::Config,
            _ => Fault::Transient,
        }
    }

    /// What the operator does about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Authentication => "check the user in `url` and the password's file; was the password changed?",
            Self::PasswordWanted => "add `password: {file: …}`, or `credentials`",
            Self::NotAdmitted => {
                "let the user in from here by a line in the server's pg_hba.conf; `hostssl` lines need `sslmode`"
            }
            Self::NoRole => "create the role (`idkeep policy postgres` prints it), or correct the user in `url`",
            Self::Denied => "the role needs `pg_read_all_data`: `idkeep policy postgres` prints what is needed",
            Self::RowSecurity => "give the role `bypassrls`: a dump without the hidden rows would be no backup",
            Self::NoDatabase => "correct the database's name; `psql -l` lists those of the server",
            Self::HostName => "put the name of the certificate into `url`; `hostaddr=` may say where it is",
            Self::Certificate | Self::NoRootCertificate => {
                "name the authority that signed the server's certificate with `sslrootcert=` in `url`"
            }
            Self::NoTls => "switch `ssl` on at the server; what is dumped holds private keys",
            Self::Pooler => "connect to PostgreSQL itself: through a pooler a dump breaks the connections of the app",
            Self::Parameter => "correct the parameters after `?` in `url`; an older client may not know a newer one",
            Self::NoInput => "the command in `exec` needs `-i`, and no `-t`: `[docker, exec, -i, CONTAINER]`",
            Self::NoContainer => {
                "try the command in `exec` by hand: is the container running, and is PostgreSQL's client in it?"
            }
            Self::Version => {
                "use a client of the server's major version or newer (`binary`), or the server's own (`exec`)"
            }
            Self::TooFewLocks => "raise `max_locks_per_transaction` at the server: a dump locks every table at once",
            Self::UnknownHost => "check the host in `url`, and the machine's name service",
            Self::NotListening => "is PostgreSQL running, and does it listen at that address?",
            Self::Starting => "wait until the server has started; look at its log if it does not",
            Self::Full => "raise `max_connections`, or look who holds the connections",
            Self::Timeout => "is the server reachable from here, or busy beyond measure?",
            Self::Lost => "look at the server's log: it was restarted, or somebody ended the session",
            Self::LockTimeout => {
                "another session holds a lock, such as a migration: `select * from pg_locks where not granted`"
            }
            Self::StandbyConflict => {
                "set `hot_standby_feedback = on`, or a longer `max_standby_streaming_delay`, at the standby"
            }
            Self::SnapshotGone => "the session that held the snapshot ended: look at the server's log",
            Self::Damaged => {
                "the database itself may be damaged: look at the server's log, and keep every older backup"
            }
            Self::Killed => "was it out of memory? look at the kernel's log",
            Self::Unread => "the upload gave up first: its own failure says why",
            Self::State(_) => "look at the server's log",
            Self::Other(_) => "look at the server's log, or try the command by hand",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authentication => "the server refuses the user's password or proof",
            Self::PasswordWanted => "the server wants a password, and none is configured",
            Self::NotAdmitted => "the server admits no such user from here (pg_hba.conf)",
            Self::NoRole => "the role does not exist there, or may not log in",
            Self::Denied => "permission denied",
            Self::RowSecurity => "row security hides rows from this role",
            Self::NoDatabase => "there is no such database",
            Self::Certificate => "the server's certificate is not trusted",
            Self::HostName => "the server's certificate is for another host",
            Self::NoRootCertificate => "there is no root certificate to judge the server's by",
            Self::NoTls => "the server does not support TLS",
            Self::Pooler => "a connection pooler answers there, not PostgreSQL itself",
            Self::Parameter => "a parameter of the address is not understood",
            Self::NoInput => "the command of `exec` passes no standard input on",
            Self::NoContainer => "the command of `exec` does not reach the program",
            Self::Version => "the client is older than the server",
            Self::TooFewLocks => "the server has too few locks for all tables",
            Self::UnknownHost => "the host's name is not known",
            Self::NotListening => "nothing listens there",
            Self::Starting => "the server is starting, stopping or recovering",
            Self::Full => "the server has no connection left",
            Self::Timeout => "no answer in time",
            Self::Lost => "the connection ended",
            Self::LockTimeout => "another session held a lock for too long",
            Self::StandbyConflict => "the standby gave the snapshot up in order to go on replaying",
            Self::SnapshotGone => "the snapshot is gone",
            Self::Damaged => "the server came upon damaged data",
            Self::Killed => "the client was killed",
            Self::Unread => "nobody read the dump to its end",
            Self::State(code) => return write!(f, "SQLSTATE {}", String::from_utf8_lossy(code)),
            Self::Other(Some(status)) => {
                return write!(f, "the client ended with status {status}, for a reason not known here");
            }
            Self::Other(None) => "the answer is not understood",
        })
    }
}
