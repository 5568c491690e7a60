//! Rules of one database's dump: how it is reached, by whom, and what it is called.

use super::super::document::Findings;
use super::super::{Config, Credentials, Database, PgDump, Role, SecretRef};
use super::{exec, reference};

/// One database's dump.
pub(super) fn judge(config: &Config, database: &Database, path: &str, findings: &mut Findings) {
    let pg_dump = &database.pg_dump;
    let inside = format!("{path}.exec");
    let is_inside = !pg_dump.exec.is_empty() || findings.is_replaced(&inside);
    if pg_dump.url.is_none() && !is_inside {
        findings.mistake(
            path,
            "neither `url` nor `exec` is set",
            "add `url: postgres://…`, or `exec: [docker, exec, -i, CONTAINER]`",
        );
    }
    if is_inside {
        for (field, is_there) in [
            ("password", pg_dump.password.is_some()),
            ("credentials", pg_dump.credentials.is_some()),
            ("binary", pg_dump.binary.is_some()),
        ] {
            if is_there {
                findings.mistake(
                    &format!("{path}.{field}"),
                    format!(
                        "inside the server's container (`exec`) its own programs and socket are used: no `{field}`"
                    ),
                    "take it out",
                );
            }
        }
        exec::judge(&pg_dump.exec, &inside, true, findings);
    }
    if pg_dump.password.is_some() && pg_dump.credentials.is_some() {
        findings.mistake(&format!("{path}.credentials"), "`password` is set too", "keep one of them");
    }
    if let Some(SecretRef::Env(_)) = pg_dump.password {
        findings.warning(
            &format!("{path}.password"),
            "a variable stays in the environment of the process for its whole life",
            "prefer `{file: PATH}`",
        );
    }
    judge_credentials(config, pg_dump, path, findings);
    judge_url(pg_dump, path, findings);
    judge_name(database, path, findings);
}

fn judge_credentials(config: &Config, pg_dump: &PgDump, path: &str, findings: &mut Findings) {
    let Some(Credentials::Vault { store, path: creds }) = &pg_dump.credentials else { return };
    if findings.is_replaced(&format!("{path}.credentials")) {
        return;
    }
    let path = format!("{path}.credentials.vault");
    reference::judge_store(config, store, &path, findings);
    reference::judge_path(creds, "MOUNT/creds/ROLE", "database/creds/idkeep-backup", &path, findings);
}

fn judge_url(pg_dump: &PgDump, path: &str, findings: &mut Findings) {
    let at = format!("{path}.url");
    let Some(url) = pg_dump.url.as_ref().filter(|_| !findings.is_replaced(&at)) else { return };
    if !url.is_local() && !url.is_verified() {
        if pg_dump.allow_plaintext {
            findings.warning(
                &format!("{path}.allow_plaintext"),
                "weaker than `sslmode=verify-full`: the dump, with the node's private keys, may be read on its way",
                "give the server a certificate, and use `sslmode=verify-full&sslrootcert=FILE`",
            );
        } else {
            findings.mistake(
                &at,
                "beyond this machine nothing weaker than `sslmode=verify-full` keeps a dump private",
                "add `?sslmode=verify-full&sslrootcert=FILE`, or write `allow_plaintext: true` beside it",
            );
        }
    }
    if url.is_verified() && url.parameter("sslrootcert").is_none() {
        findings.warning(
            &at,
            "`sslrootcert` is not set, and without it libpq trusts no authority, not even the system's",
            "add `sslrootcert=FILE`; from PostgreSQL 16's libpq on, also `sslrootcert=system`",
        );
    }
    if let Some(user) = url.user().filter(|user| matches!(user.as_str(), "postgres" | "cnadmin")) {
        findings.warning(
            &at,
            format!("`{user}` may change everything, and a backup only needs to read"),
            "`idkeep policy postgres` prints a role that may read",
        );
    }
}

/// Every database has a name, from exactly one place.
fn judge_name(database: &Database, path: &str, findings: &mut Findings) {
    let pg_dump = &database.pg_dump;
    if findings.is_replaced(&format!("{path}.url")) || findings.is_replaced(&format!("{path}.database")) {
        return;
    }
    let is_named = pg_dump.url.as_ref().is_some_and(|url| url.database().is_some());
    match &pg_dump.database {
        Some(_) if is_named => {
            findings.mistake(&format!("{path}.database"), "`url` names the database already", "keep one of them");
        }
        Some(asked) => {
            let asking = format!("{path}.database.exec");
            if asked.exec.is_empty() {
                findings.mistake(&asking, "this is empty", "for example `[docker, exec, CONTAINER]`");
            }
            exec::judge(&asked.exec, &asking, false, findings);
        }
        // A participant's is looked for among the server's.
        None if is_named || database.role == Role::Participant => {}
        None => findings.mistake(
            path,
            "the database is not named",
            "write it into the address (`url: postgres:///NAME`), or ask for it with `database`",
        ),
    }
}
