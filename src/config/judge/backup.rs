//! Rules of a node's backups: its databases, their order, and whom their dumps are sealed to.

use std::collections::BTreeSet;

use super::super::document::Findings;
use super::super::{
    AgeRecipient, Backup, Config, Credentials, Database, Encryption, Name, Node, Period, PgDump, Role, SecretRef, Store,
};
use super::{judge_period, judge_recipients, known};

/// A node's backups.
pub(super) fn judge(config: &Config, backup: &Backup, path: &str, findings: &mut Findings) {
    if !config.repositories.contains_key(&backup.repository) {
        let message = format!("there is no repository `{}`", backup.repository);
        let fix = known(config.repositories.keys(), "repositories");
        findings.mistake(&format!("{path}.repository"), message, fix);
    }
    judge_sealing(backup, path, findings);
    judge_keeping(backup, path, findings);
    let databases = format!("{path}.databases");
    if backup.databases.is_empty() {
        findings.mistake(&databases, "no database is named", "list the validator app's and the participant's");
    }
    for (index, database) in backup.databases.iter().enumerate() {
        let path = format!("{databases}[{index}]");
        let before = &backup.databases[..index];
        if before.iter().any(|other| other.name == database.name) && !findings.is_replaced(&format!("{path}.name")) {
            let message = format!("the name `{}` stands here twice", database.name);
            findings.mistake(&format!("{path}.name"), message, "rename one");
        }
        judge_pg_dump(config, database, &format!("{path}.pg_dump"), findings);
    }
    // WIRE: `crate::backup::plan::Plan::of(&backup.databases)` here, its mistake at `databases[index].after`.
}

/// True where one of the node's databases gets its credentials from this store's server.
pub(super) fn uses(node: &Node, store: &Name) -> bool {
    let databases = node.backup.iter().flat_map(|backup| &backup.databases);
    databases
        .filter_map(|database| database.pg_dump.credentials.as_ref())
        .any(|Credentials::Vault { store: named, .. }| named == store)
}

fn judge_sealing(backup: &Backup, path: &str, findings: &mut Findings) {
    let recipients = format!("{path}.recipients");
    judge_recipients(&backup.recipients, &recipients, findings);
    if findings.is_replaced(&format!("{path}.encryption")) {
        return;
    }
    match (backup.encryption, backup.recipients.as_slice()) {
        (Encryption::Age, []) => findings.mistake(
            &recipients,
            "no age recipient is named, and the participant's database holds the node's private keys",
            "add `recipients: [age1…]`, of keys that are kept elsewhere",
        ),
        (Encryption::Age, named) if named.iter().map(AgeRecipient::as_str).collect::<BTreeSet<_>>().len() < 2 => {
            findings.warning(
                &recipients,
                "all depends on one key: if it is lost, so is every set",
                "add a second recipient, whose key is kept in another place",
            )
        }
        (Encryption::Age, _) => {}
        (Encryption::None, []) => findings.warning(
            &format!("{path}.encryption"),
            "NOTHING IS SEALED: the participant's database holds the node's private keys, and whoever reads the \
             repository, or a copy of it, owns the node's party for ever",
            "take this line out and add `recipients`",
        ),
        (Encryption::None, _) => findings.mistake(
            &format!("{path}.encryption"),
            "`recipients` stand here, and `encryption: none` seals to nobody",
            "take this line out",
        ),
    }
}

fn judge_keeping(backup: &Backup, path: &str, findings: &mut Findings) {
    judge_period(backup.yield_after, Period::seconds(1), &format!("{path}.yield_after"), findings);
    let pruning = format!("{path}.pruning_retention");
    match backup.pruning_retention {
        Some(retention) => judge_period(retention, Period::seconds(1), &pruning, findings),
        None => findings.warning(
            &pruning,
            "it is not known how far back the participant prunes, so no set is kept for bridging a gap",
            "add the participant's `retention` (of its pruning schedule), also where it does not prune yet",
        ),
    }
    let keep = backup.retention;
    if keep.keep_daily == 0 && keep.keep_weekly == 0 {
        findings.warning(
            &format!("{path}.retention"),
            format!(
                "only the newest {} sets are kept, so what is noticed later than that is in all of them",
                keep.keep_last
            ),
            "add `keep_daily` or `keep_weekly`",
        );
    }
}

fn judge_pg_dump(config: &Config, database: &Database, path: &str, findings: &mut Findings) {
    let pg_dump = &database.pg_dump;
    let exec = format!("{path}.exec");
    let is_inside = !pg_dump.exec.is_empty() || findings.is_replaced(&exec);
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
        judge_exec(&pg_dump.exec, &exec, true, findings);
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
    match config.stores.get(store) {
        None => {
            let message = format!("there is no store `{store}`");
            findings.mistake(&format!("{path}.store"), message, known(config.stores.keys(), "stores"));
        }
        Some(Store::File(_)) if !findings.is_replaced(&format!("stores.{store}")) => {
            let message = format!("`{store}` is a folder, and a folder makes no credentials");
            findings.mistake(&format!("{path}.store"), message, "name a `vault` store");
        }
        Some(_) => {}
    }
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['?', '#', '*', '+', '"', '\\']);
    if creds.starts_with("v1/") || !creds.split('/').all(is_part) {
        let message = "a path reads `MOUNT/creds/ROLE`, without `v1/` and without `/` at its ends";
        findings.mistake(&format!("{path}.path"), message, "for example `database/creds/idkeep-backup`");
    }
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
            let exec = format!("{path}.database.exec");
            if asked.exec.is_empty() {
                findings.mistake(&exec, "this is empty", "for example `[docker, exec, CONTAINER]`");
            }
            judge_exec(&asked.exec, &exec, false, findings);
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

/// A command that runs another in a container. What stands in it is not said: it may hold a secret by mistake.
fn judge_exec(exec: &[String], path: &str, is_dump: bool, findings: &mut Findings) {
    if exec.iter().any(|word| word.contains("PGPASSWORD") || word.contains("PGPASSFILE")) {
        let message =
            "a secret is never written in the file, nor in a command, where every user of the machine sees it";
        findings.mistake(path, message, "take it out, and let the container's socket trust the user");
        return;
    }
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let Some(tool) = exec.iter().map(name).find_map(|word| Tool::of(&word)) else { return };
    if is_dump && let Some((message, fix)) = tool.mistake(exec) {
        findings.mistake(path, message, fix);
    }
    findings.warning(
        path,
        tool.danger(),
        "prefer a connection of its own (`url`) with the role that `idkeep policy postgres` prints",
    );
}

/// What runs commands in containers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Docker,
    Kubernetes,
}

impl Tool {
    fn of(word: &str) -> Option<Self> {
        match word {
            "docker" | "docker-compose" | "podman" | "nerdctl" => Some(Self::Docker),
            "kubectl" | "oc" => Some(Self::Kubernetes),
            _ => None,
        }
    }

    fn danger(self) -> &'static str {
        match self {
            Self::Docker => {
                "whoever may use a container engine's socket is root on its machine, and so is idkeep with this"
            }
            Self::Kubernetes => {
                "whoever may exec into a pod (`pods/exec`) has every secret of that pod, and so has idkeep with this"
            }
        }
    }

    /// What would keep `psql` from being asked, or change the bytes of a dump.
    fn mistake(self, exec: &[String]) -> Option<(&'static str, &'static str)> {
        let has = |short: char, long: &str| {
            exec.iter().any(|word| {
                let letters = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')).unwrap_or_default();
                word == long || (letters.contains(short) && letters.chars().all(|c| matches!(c, 'i' | 't' | 'T')))
            })
        };
        let is_compose = exec.iter().any(|word| word == "compose" || word.ends_with("docker-compose"));
        if has('t', "--tty") {
            Some(("a terminal (`-t`) changes the bytes of a dump", "take it out"))
        } else if is_compose && !has('T', "--no-TTY") {
            Some(("`compose exec` gives a terminal, which changes the bytes of a dump", "add `-T` after `exec`"))
        } else if !is_compose && !has('i', "--interactive") && !has('i', "--stdin") {
            Some(("without `-i` nothing can be asked inside the container", "add `-i` after `exec`"))
        } else if self == Self::Kubernetes && exec.last().is_none_or(|word| word != "--") {
            Some(("kubectl takes the options of what it is to run for its own", "end the list with `--`"))
        } else {
            None
        }
    }
}
