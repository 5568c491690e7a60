//! The SQL for the roles, run on a real server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::configured;
use crate::support::idkeep::Idkeep;
use crate::support::postgres::{Cluster, NEWEST, OLDEST, ROLE, client_binary, packaged};

/// A server whose socket trusts every user, with the databases of a node in it.
struct Throwaway(Cluster);

impl Throwaway {
    /// The node's databases, which belong to its apps' user, and which not everybody may connect to.
    fn node() -> Self {
        Self::of(packaged())
    }

    fn of(major: u32) -> Self {
        let cluster = Self(Cluster::start(major));
        // The policy has to make it.
        cluster.sql("postgres", &format!("drop role {ROLE}"));
        cluster.sql("postgres", "create role cnadmin login");
        for database in ["validator", "participant", "participant-3"] {
            cluster.sql("postgres", &format!("create database \"{database}\" owner cnadmin"));
            cluster.sql("postgres", &format!("revoke connect on database \"{database}\" from public"));
        }
        let tables = "create schema participant; \
            create table participant.common_crypto_private_keys(key_id text primary key, private_key bytea); \
            create table participant.events(n bigserial primary key, payload text); \
            insert into participant.common_crypto_private_keys values ('1220aa', '\\x0102'); \
            insert into participant.events(payload) select md5(i::text) from generate_series(1, 1000) i;";
        cluster.as_user("cnadmin", "participant", tables);
        // The other majors come without contributed extensions.
        if major == packaged() {
            cluster.as_user("cnadmin", "participant", "create extension pgcrypto");
        }
        let tables =
            "create schema validator; create table validator.t(a int primary key); insert into validator.t values (1)";
        cluster.as_user("cnadmin", "validator", tables);
        cluster
    }

    /// A client program of that server, over its socket.
    fn client(&self, program: &str, user: &str, database: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(client_binary(self.0.major, program));
        command.env_clear().env("PGHOST", self.0.sockets()).env("PGPORT", self.0.port.to_string());
        command.env("PGUSER", user).env("PGDATABASE", database);
        if program == "psql" {
            command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        }
        command.args(arguments).output().unwrap()
    }

    fn as_user(&self, user: &str, database: &str, sql: &str) -> String {
        let output = self.client("psql", user, database, &["-c", sql]);
        assert!(output.status.success(), "{user}: {sql}\n{}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        self.as_user("postgres", database, sql)
    }

    /// What the server says to a user whose command it refuses.
    fn refused(&self, user: &str, database: &str, sql: &str) -> String {
        let output = self.client("psql", user, database, &["-c", sql]);
        assert!(!output.status.success(), "{user} may {sql}");
        said(&output)
    }

    /// Runs a printed policy as the superuser, twice: it may be there already.
    fn apply(&self, policy: &Path, variables: &[&str]) {
        for _ in 0..2 {
            let arguments = [variables, &["-f", policy.to_str().unwrap()]].concat();
            let output = self.client("psql", "postgres", "postgres", &arguments);
            assert!(output.status.success(), "{}", said(&output));
        }
    }

    /// The configuration of that server's databases; the second one by this address.
    fn configured(&self, user: &str, participant: &str) -> Idkeep {
        let url = |database: &str| self.0.socket_url(user, database);
        let databases = format!(
            "        - {{name: validator, role: validator, pg_dump: {{url: '{}'}}}}
        - {{name: participant, role: participant, pg_dump: {{url: '{}'}}}}\n",
            url("validator"),
            url(participant)
        );
        configured("  bucket: {url: 's3://acme-dr'}\n", "bucket", "bucket", &databases)
    }

    /// A dump by `pg_dump` as that user.
    fn dump(&self, user: &str, database: &str) -> Vec<u8> {
        let output = self.client("pg_dump", user, database, &["-Fc", "-Z0"]);
        assert!(output.status.success(), "{user}: {}", said(&output));
        output.stdout
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The printed policy as a file.
fn printed(idkeep: &Idkeep, role: &str) -> PathBuf {
    let sql = idkeep.expect(0, &["policy", "postgres", "--role", role]).stdout;
    idkeep.file(&format!("{role}.sql"), sql.as_bytes())
}

#[test]
fn the_backup_role_dumps_everything_and_changes_nothing() {
    for major in [OLDEST, packaged(), NEWEST] {
        dumps_everything_and_changes_nothing(&Throwaway::of(major));
    }
}

fn dumps_everything_and_changes_nothing(cluster: &Throwaway) {
    let idkeep = cluster.configured("idkeep_backup", "participant");
    assert!(cluster.refused("idkeep_backup", "validator", "select 1").contains("does not exist"));
    cluster.apply(&printed(&idkeep, "writer"), &[]);
    for database in ["validator", "participant"] {
        assert!(cluster.dump("idkeep_backup", database).starts_with(b"PGDMP"));
    }
    // Everything else that a backup asks the server.
    let asks = "begin isolation level repeatable read read only; select pg_export_snapshot(); \
        select system_identifier from pg_control_system(); select timeline_id from pg_control_checkpoint(); \
        select pg_current_wal_lsn(), pg_is_in_recovery(), pg_database_size(current_database()); \
        select pid, application_name from pg_stat_activity where pg_blocking_pids(pid) <> '{}'; \
        select waitstart from pg_locks; select datname from pg_database where datname like 'participant%'; \
        select count(*) from participant.common_crypto_private_keys; commit";
    cluster.as_user("idkeep_backup", "participant", asks);
    let write = "insert into participant.events(payload) values ('x')";
    assert!(cluster.refused("idkeep_backup", "participant", write).contains("read-only transaction"));
    // Not for that setting alone.
    for change in [
        write,
        "delete from participant.events",
        "truncate participant.events",
        "create table participant.mine(a int)",
        "drop table participant.events",
        "alter table participant.events add column b int",
        "create schema mine",
        "create role mine",
        "create database mine",
        "copy participant.events to program 'true'",
        "select pg_reload_conf()",
        "set role cnadmin",
    ] {
        let sql = format!("set default_transaction_read_only = off; {change}");
        let output = cluster.client(
            "psql",
            "idkeep_backup",
            "participant",
            &["-c", "set default_transaction_read_only = off", "-c", change],
        );
        let said = said(&output);
        assert!(
            !output.status.success() && (said.contains("permission denied") || said.contains("must be")),
            "{sql}: {said}"
        );
    }
    // A database that the configuration does not name.
    assert!(cluster.refused("idkeep_backup", "participant-3", "select 1").contains("permission denied for database"));
    let role = "select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls, rolcanlogin \
                from pg_roles where rolname = 'idkeep_backup'";
    assert_eq!(cluster.sql("postgres", role), "f|t");
}

#[test]
fn a_database_without_a_name_is_granted_wherever_it_may_be() {
    let cluster = Throwaway::node();
    // A name that has to be quoted, too.
    let idkeep = cluster.configured("Acme%20backup", "");
    cluster.apply(&printed(&idkeep, "writer"), &[]);
    for database in ["participant", "participant-3", "validator", "postgres"] {
        cluster.as_user("Acme backup", database, "select 1");
    }
}

#[test]
fn an_address_of_a_superuser_still_gets_a_role_of_its_own() {
    let cluster = Throwaway::node();
    let idkeep = cluster.configured("postgres", "participant");
    cluster.apply(&printed(&idkeep, "writer"), &[]);
    assert_eq!(cluster.sql("postgres", "select rolsuper from pg_roles where rolname = 'postgres'"), "t");
    cluster.dump("idkeep_backup", "participant");
}

#[test]
fn a_user_that_vault_makes_is_a_member_of_the_role_and_can_dump() {
    let cluster = Throwaway::node();
    let database = |name: &str| {
        format!(
            "        - name: {name}
          role: {name}
          pg_dump:
            url: 'postgres:///{name}'
            credentials: {{vault: {{store: vault, path: database/creds/idkeep-backup}}}}\n"
        )
    };
    let databases = database("validator") + &database("participant");
    let idkeep = configured("  bucket: {url: 's3://acme-dr'}\n", "bucket", "bucket", &databases);
    let policy = printed(&idkeep, "writer");
    cluster.apply(&policy, &[]);
    let text = std::fs::read_to_string(&policy).unwrap();
    let creation = text.lines().find_map(|line| line.strip_prefix("--   create role ")).expect("a creation statement");
    let creation = creation.replace("{{name}}", "v-idkeep-1").replace("{{password}}", "p");
    cluster.sql("postgres", &format!("create role {}", creation.replace("{{expiration}}", "infinity")));
    cluster.dump("v-idkeep-1", "participant");
    let write = "insert into participant.events(payload) values ('x')";
    assert!(cluster.refused("v-idkeep-1", "participant", write).contains("permission denied"));
    assert!(cluster.refused("idkeep_backup", "participant", "select 1").contains("not permitted to log in"));
}

#[test]
fn the_restore_role_makes_an_empty_database_and_restores_into_it_as_its_owner() {
    let cluster = Throwaway::node();
    let idkeep = cluster.configured("idkeep_backup", "participant");
    cluster.apply(&printed(&idkeep, "writer"), &[]);
    let dump = cluster.dump("idkeep_backup", "participant");
    let policy = printed(&idkeep, "restorer");
    cluster.apply(&policy, &["-v", "owner=cnadmin"]);
    cluster.apply(&policy, &[]);
    let archive = idkeep.file("participant.dump", &dump);
    let created = cluster.client("createdb", "idkeep_restore", "postgres", &["-O", "cnadmin", "restored"]);
    assert!(created.status.success(), "{}", said(&created));
    let flags = ["--exit-on-error", "--single-transaction", "--no-owner", "--role=cnadmin", "-d", "restored"];
    let arguments = [&flags[..], &[archive.to_str().unwrap()]].concat();
    let restored = cluster.client("pg_restore", "idkeep_restore", "restored", &arguments);
    assert!(restored.status.success(), "{}", said(&restored));
    let count = "select count(*), min(tableowner) from participant.events, pg_tables where schemaname = 'participant'";
    assert_eq!(cluster.as_user("cnadmin", "restored", count), "2000|cnadmin");
    let role = "select rolsuper, rolcreaterole from pg_roles where rolname = 'idkeep_restore'";
    assert_eq!(cluster.sql("postgres", role), "f|f");
    let text = std::fs::read_to_string(&policy).unwrap();
    for flag in &flags[..3] {
        assert!(text.contains(flag), "{flag} is not what the policy says");
    }
}
