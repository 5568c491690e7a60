//! The roles for PostgreSQL as SQL for `psql`: one that takes backups, one that restores them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Role;
use crate::config::{Config, Database, DatabaseUrl, Name};

/// The role of the examples, for addresses that name none of their own.
const BACKUP: &str = "idkeep_backup";
const RESTORE: &str = "idkeep_restore";

/// What is backed up from one server, each with its node.
type Server<'a> = Vec<(&'a Name, &'a Database)>;

/// The SQL, a part for each server; nothing where no database is backed up.
pub(super) fn render(config: &Config, role: Role) -> String {
    let mut servers = BTreeMap::<(String, &[String]), Server>::new();
    for (name, node) in &config.nodes {
        for database in node.backup.iter().flat_map(|backup| &backup.databases) {
            let server = (host(database), database.pg_dump.exec.as_slice());
            servers.entry(server).or_default().push((name, database));
        }
    }
    let mut sql = String::new();
    for ((host, exec), server) in &servers {
        let whose: Vec<String> = server.iter().map(|(node, database)| format!("{node}: {}", database.name)).collect();
        let inside = if exec.is_empty() { "" } else { ", inside its container" };
        let _ = writeln!(sql, "-- The server at {host}{inside} ({}).", whose.join(", "));
        sql.push_str("-- By a superuser: psql -X -v ON_ERROR_STOP=1 -f THIS_FILE postgres\n");
        match role {
            Role::Restorer => restorer(&mut sql, server),
            Role::Writer | Role::Expirer => {
                let users: BTreeSet<String> = server.iter().map(|(_, database)| user(database)).collect();
                for user in users {
                    writer(&mut sql, server, &user);
                }
            }
        }
    }
    sql
}

fn host(database: &Database) -> String {
    let url = database.pg_dump.url.as_ref();
    let host = url.and_then(DatabaseUrl::host).unwrap_or_else(|| "the local socket".into());
    url.and_then(DatabaseUrl::port).map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

fn user(database: &Database) -> String {
    let user = database.pg_dump.url.as_ref().and_then(DatabaseUrl::user);
    user.filter(|user| !matches!(user.as_str(), "postgres" | "cnadmin")).unwrap_or_else(|| BACKUP.into())
}

fn writer(sql: &mut String, server: &Server<'_>, role: &str) {
    let databases: Vec<_> = server.iter().filter(|(_, database)| user(database) == role).collect();
    let is_dynamic = databases.iter().all(|(_, database)| database.pg_dump.credentials.is_some());
    let login = if is_dynamic { "nologin" } else { "login" };
    let (name, text) = (identifier(role), literal(role));
    let _ = write!(
        sql,
        "
-- Takes backups. It owns nothing, makes nothing, and is no superuser.
select format('create role %I', {text}) where not exists (select from pg_roles where rolname = {text}) \\gexec
alter role {name} {login} nosuperuser nocreatedb nocreaterole noreplication nobypassrls;

-- Reads every table, with the participant's private keys among them, and writes none. Its password is worth as much
-- as they are. (The dump needs no more: the server's identity and its position in the log are everybody's to ask.)
grant pg_read_all_data to {name};
"
    );
    if is_dynamic {
        let _ = write!(
            sql,
            "
-- Vault makes a member of this role for each dump. In its database engine, `creation_statements` is:
--   create role \"{{{{name}}}}\" with login password '{{{{password}}}}' valid until '{{{{expiration}}}}' in role {name};
-- and `max_ttl` at least twice as long as a backup takes.
"
        );
    } else {
        let _ = write!(
            sql,
            "
-- Should it ever be granted more, its transactions still begin as read-only ones.
alter role {name} set default_transaction_read_only = on;

-- Its password: psql asks for it and sends only its SCRAM form. The same goes into the file that `password` names.
--   \\password {name}
-- In pg_hba.conf, above wider rules: from idkeep's machine alone, and never without TLS.
--   hostssl all {name} ADDRESS/32 scram-sha-256
"
        );
    }
    connect(sql, &databases, &name, &text);
}

fn connect(sql: &mut String, databases: &[&(&Name, &Database)], name: &str, text: &str) {
    for (node, database) in databases {
        let (label, role) = (&database.name, database.role.as_str());
        let named = database.pg_dump.url.as_ref().and_then(DatabaseUrl::database);
        if let Some(named) = named {
            let _ = write!(
                sql,
                "
-- Connects to what it dumps, also where not everybody may: {node}, {label}.
grant connect on database {} to {name};
",
                identifier(&named)
            );
        } else {
            let pattern = literal(&format!("{role}%"));
            let _ = write!(
                sql,
                "
-- {node}, {label}: the configuration does not name this database, so connects to all that it may be,
-- and to `postgres`, where the list of databases is read.
select format('grant connect on database %I to %I', datname, {text}) from pg_database where datname like {pattern} \\gexec
grant connect on database postgres to {name};
"
            );
        }
    }
}

fn restorer(sql: &mut String, server: &Server<'_>) {
    let _ = write!(
        sql,
        "
-- The user that the node's apps log in as, who owns the restored databases: -v owner=NAME, else cnadmin.
\\if :{{?owner}}
\\else
\\set owner cnadmin
\\endif

-- Restores: for people, for an hour. Drop it afterwards.
select format('create role %I', '{RESTORE}') where not exists (select from pg_roles where rolname = '{RESTORE}') \\gexec
-- Makes the empty databases that a set is restored into.
alter role {RESTORE} login createdb nosuperuser nocreaterole noreplication nobypassrls;
-- Its password: psql asks for it and sends only its SCRAM form.
--   \\password {RESTORE}
-- Makes them the owner's, and restores as the owner.
grant :\"owner\" to {RESTORE};

-- Then, as {RESTORE}, for each database of one set, into an empty one, while the node stands still:
"
    );
    for (node, database) in server {
        let named = database.pg_dump.url.as_ref().and_then(DatabaseUrl::database);
        let target = named.unwrap_or_else(|| "DATABASE".into());
        let (file, target) = (&database.name, identifier(&target).replace('"', ""));
        let _ = write!(
            sql,
            "--   {node}: createdb -O OWNER '{target}'
--     age -d -i KEYFILE {file}.dump.zst.age | zstd -d |
--       pg_restore --exit-on-error --single-transaction --no-owner --role=OWNER -d '{target}'
"
        );
    }
}

fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    // Whatever the server's `standard_conforming_strings` says.
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
