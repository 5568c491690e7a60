//! What the client's and the server's words come down to. They are looked through for known phrases, then dropped.

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

/// Phrases in the C locale, the first that is found decides. Sources: libpq (`fe-connect.c`, `fe-secure-openssl.c`,
/// `fe-auth*.c`), the server (`postinit.c`, `auth.c`, `procarray.c`, `lock.c`), `pg_dump.c`, poolers, container engines.
const PHRASES: &[(&str, Cause)] = &[
    // Before anything that says why the connection ended in passing.
    ("unsupported startup parameter", Cause::Pooler),
    ("command-line options", Cause::Pooler),
    ("pgbouncer", Cause::Pooler),
    ("ocker daemon", Cause::NoContainer),
    ("password authentication failed", Cause::Authentication),
    ("authentication failed", Cause::Authentication),
    ("no password supplied", Cause::PasswordWanted),
    ("pg_hba.conf", Cause::NotAdmitted),
    ("is not permitted to log in", Cause::NoRole),
    ("valid client certificate", Cause::Authentication),
    ("does not support SSL", Cause::NoTls),
    ("unexpected eof", Cause::Lost),
    ("SSL SYSCALL error", Cause::Lost),
    ("root certificate file", Cause::NoRootCertificate),
    ("certificate verify failed", Cause::Certificate),
    ("does not match host name", Cause::HostName),
    ("could not get server's host name from server certificate", Cause::HostName),
    ("server certificate", Cause::Certificate),
    ("certificate", Cause::Certificate),
    ("private key file", Cause::Certificate),
    ("SSL error", Cause::Certificate),
    ("invalid connection option", Cause::Parameter),
    ("invalid sslmode value", Cause::Parameter),
    ("unrecognized configuration parameter", Cause::Parameter),
    ("invalid value for parameter", Cause::Parameter),
    ("invalid integer value", Cause::Parameter),
    ("could not translate host name", Cause::UnknownHost),
    ("Connection refused", Cause::NotListening),
    ("No route to host", Cause::NotListening),
    ("Network is unreachable", Cause::NotListening),
    ("Is the server running", Cause::NotListening),
    ("timeout expired", Cause::Timeout),
    ("Connection timed out", Cause::Timeout),
    ("the database system is", Cause::Starting),
    ("too many clients", Cause::Full),
    ("too many connections", Cause::Full),
    ("connection slots are reserved", Cause::Full),
    ("server version mismatch", Cause::Version),
    ("conflict with recovery", Cause::StandbyConflict),
    ("statement timeout", Cause::LockTimeout),
    ("lock timeout", Cause::LockTimeout),
    ("could not obtain lock", Cause::LockTimeout),
    ("could not import the requested snapshot", Cause::SnapshotGone),
    ("invalid snapshot identifier", Cause::SnapshotGone),
    ("is not running anymore", Cause::SnapshotGone),
    ("snapshot \"", Cause::SnapshotGone),
    ("row-level security", Cause::RowSecurity),
    ("max_locks_per_transaction", Cause::TooFewLocks),
    ("permission denied", Cause::Denied),
    ("invalid page in block", Cause::Damaged),
    ("could not read block", Cause::Damaged),
    ("missing chunk number", Cause::Damaged),
    ("compressed pglz data is corrupt", Cause::Damaged),
    ("cache lookup failed", Cause::Damaged),
    ("terminating connection", Cause::Lost),
    ("server closed the connection", Cause::Lost),
    ("connection to server was lost", Cause::Lost),
    ("Connection reset by peer", Cause::Lost),
    ("no connection to the server", Cause::Lost),
    ("Broken pipe", Cause::Unread),
    ("executable file not found", Cause::NoContainer),
    ("No such container", Cause::NoContainer),
    ("no such container", Cause::NoContainer),
    ("no container with name", Cause::NoContainer),
    ("container not found", Cause::NoContainer),
    ("running containers", Cause::NoContainer),
    ("is not running", Cause::NoContainer),
    ("Error from server (NotFound)", Cause::NoContainer),
];

/// `SQLSTATE`s (appendix A of PostgreSQL's manual); two letters are a class.
const STATES: &[(&str, Cause)] = &[
    ("28", Cause::Authentication),
    ("3D000", Cause::NoDatabase),
    ("42501", Cause::Denied),
    ("55P03", Cause::LockTimeout),
    ("57014", Cause::LockTimeout),
    ("57P03", Cause::Starting),
    ("57P", Cause::Lost),
    ("25P0", Cause::Lost),
    ("08", Cause::Lost),
    ("53300", Cause::Full),
    ("40001", Cause::StandbyConflict),
    ("40P01", Cause::StandbyConflict),
    ("XX001", Cause::Damaged),
    ("XX002", Cause::Damaged),
];

impl Cause {
    /// By what the client said on its standard error, and how it ended.
    pub(super) fn of(stderr: &str, status: Option<i32>) -> Self {
        if stderr.contains("role \"") && stderr.contains("\" does not exist") {
            return Self::NoRole;
        }
        if stderr.contains("database \"") && stderr.contains("\" does not exist") {
            return Self::NoDatabase;
        }
        let found = PHRASES.iter().find(|(phrase, _)| stderr.contains(phrase));
        match (found, status) {
            (Some((_, cause)), _) => *cause,
            // What shells and container engines say where there is no such program, or none that can be run.
            (None, Some(126 | 127)) => Self::NoContainer,
            // A shell or a container engine says by 128 and more which signal it was.
            (None, None | Some(129..=159)) => Self::Killed,
            (None, status) => Self::Other(status),
        }
    }

    /// By the server's own code.
    pub(super) fn of_state(state: &str) -> Self {
        let known = STATES.iter().find(|(prefix, _)| state.starts_with(prefix)).map(|(_, cause)| *cause);
        let code =
            || <[u8; 5]>::try_from(state.as_bytes()).ok().filter(|code| code.iter().all(u8::is_ascii_alphanumeric));
        known.unwrap_or_else(|| code().map_or(Self::Other(None), Self::State))
    }

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
            Self::NoInput => "add `-i` to the command in `exec`: `[docker, exec, -i, CONTAINER]`",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_on_connecting_is_told_apart() {
        for (said, cause) in [
            ("FATAL:  password authentication failed for user \"u\"", Cause::Authentication),
            ("failed: fe_sendauth: no password supplied", Cause::PasswordWanted),
            (
                "FATAL:  no pg_hba.conf entry for host \"::1\", user \"u\", database \"d\", no encryption",
                Cause::NotAdmitted,
            ),
            ("FATAL:  role \"u\" does not exist", Cause::NoRole),
            ("FATAL:  database \"d\" does not exist", Cause::NoDatabase),
            ("failed: SSL error: certificate verify failed", Cause::Certificate),
            ("server certificate for \"a\" does not match host name \"b\"", Cause::HostName),
            ("root certificate file \"/nonexistent/.postgresql/root.crt\" does not exist", Cause::NoRootCertificate),
            ("failed: server does not support SSL, but SSL was required", Cause::NoTls),
            ("FATAL:  unsupported startup parameter: options", Cause::Pooler),
            ("failed: Connection refused\n\tIs the server running on that host", Cause::NotListening),
            ("failed: FATAL:  the database system is starting up", Cause::Starting),
            ("FATAL:  sorry, too many clients already", Cause::Full),
            ("failed: timeout expired", Cause::Timeout),
        ] {
            assert_eq!(Cause::of(said, Some(2)), cause, "{said}");
        }
    }

    #[test]
    fn what_ends_a_dump_is_told_apart() {
        for (said, status, cause) in [
            ("ERROR:  canceling statement due to statement timeout", Some(1), Cause::LockTimeout),
            ("ERROR:  permission denied for table t", Some(1), Cause::Denied),
            ("ERROR:  could not import the requested snapshot", Some(1), Cause::SnapshotGone),
            ("aborting because of server version mismatch", Some(1), Cause::Version),
            ("FATAL:  terminating connection due to administrator command", Some(1), Cause::Lost),
            ("FATAL:  terminating connection due to conflict with recovery", Some(1), Cause::StandbyConflict),
            ("", None, Cause::Killed),
            ("", Some(137), Cause::Killed),
            ("", Some(127), Cause::NoContainer),
            ("gobbledygook", Some(1), Cause::Other(Some(1))),
        ] {
            assert_eq!(Cause::of(said, status), cause, "{said}");
        }
    }

    #[test]
    fn a_code_is_known_by_itself_or_by_its_class_and_never_shown_unless_it_is_one() {
        assert_eq!(Cause::of_state("57P01"), Cause::Lost);
        assert_eq!(Cause::of_state("57P03"), Cause::Starting);
        assert_eq!(Cause::of_state("42501"), Cause::Denied);
        assert_eq!(Cause::of_state("22012").to_string(), "SQLSTATE 22012");
        assert_eq!(Cause::of_state("tüdel").to_string(), "the answer is not understood");
    }
}
