//! The phrases and codes by which a cause is known.

use super::Cause;

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
    ("not a TTY", Cause::NoInput),
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
    pub(in super::super) fn of(stderr: &str, status: Option<i32>) -> Self {
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
    pub(in super::super) fn of_state(state: &str) -> Self {
        let known = STATES.iter().find(|(prefix, _)| state.starts_with(prefix)).map(|(_, cause)| *cause);
        let code =
            || <[u8; 5]>::try_from(state.as_bytes()).ok().filter(|code| code.iter().all(u8::is_ascii_alphanumeric));
        known.unwrap_or_else(|| code().map_or(Self::Other(None), Self::State))
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
