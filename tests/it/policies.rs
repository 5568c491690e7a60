//! What `policy` prints for databases and repositories: it names what the configuration names and nothing beside it,
//! and the SQL does what it says on a real server.

mod files;
mod objects;
mod postgres;

use crate::support::idkeep::Idkeep;

/// Two nodes, of which each keeps its sets in every repository kind that the test asks for.
fn configured(repositories: &str, first: &str, second: &str, database: &str) -> Idkeep {
    let node = |name: &str, repository: &str| {
        format!(
            "  {name}:
    network: devnet
    identity:
      endpoint: https://node.acme.example/api/validator
      auth: {{token: {{file: /nowhere/token}}}}
      stores: [vault]
    backup:
      repository: {repository}
      recipients: [age1wj6wz9nuezp5lak9xgjxhcyx74dwzh0mzajkdm0nzplxgr62cc0q2dhqhj]
      databases:
{database}"
        )
    };
    Idkeep::configured(&format!(
        "nodes:\n{}{}stores:
  vault:
    vault: {{address: 'https://vault.acme.example', path: '{{node}}', auth: {{kubernetes: {{role: idkeep}}}}}}
repositories:\n{repositories}",
        node("one", first),
        node("two", second),
    ))
}

const DATABASES: &str = "        - {name: validator, role: validator, pg_dump: {url: 'postgres:///validator'}}
        - {name: participant, role: participant, pg_dump: {url: 'postgres:///participant'}}
";

#[test]
fn what_the_configuration_does_not_have_gets_no_policy() {
    let idkeep = configured("  folder: {url: 'file:///backups'}\n", "folder", "folder", DATABASES);
    for system in ["s3", "gs", "az"] {
        for role in ["writer", "expirer", "restorer"] {
            let outcome = idkeep.expect(78, &["policy", system, "--role", role]);
            assert!(outcome.stderr.contains("no repository of this kind that a node's backups go to\nhint: add one"));
            assert_eq!(outcome.stdout, "");
        }
    }
    let identities = Idkeep::configured(super::config::GOOD);
    let outcome = identities.expect(78, &["policy", "postgres"]);
    assert!(outcome.stderr.contains("has no database to back up\nhint: add `backup` to a node"), "{outcome}");
    // A repository that no node uses is none that anybody needs rights in.
    let unused = "  folder: {url: 'file:///backups'}\n  bucket: {url: 's3://acme-dr'}\n";
    configured(unused, "folder", "folder", DATABASES).expect(78, &["policy", "s3"]);
}

#[test]
fn only_repositories_have_an_expirer() {
    let idkeep = configured("  bucket: {url: 's3://acme-dr/idkeep'}\n", "bucket", "bucket", DATABASES);
    for system in ["vault", "postgres"] {
        let outcome = idkeep.expect(64, &["policy", system, "--role", "expirer"]);
        assert!(outcome.stderr.contains("`--role expirer` is for `s3`, `gs` and `az`"), "{outcome}");
    }
    idkeep.expect(64, &["policy", "s3", "--role", "owner"]);
}

#[test]
fn a_vault_that_makes_credentials_lets_the_agent_ask_for_them_and_give_them_back() {
    let database = "        - name: validator
          role: validator
          pg_dump:
            url: postgres:///validator
            credentials: {vault: {store: vault, path: database/creds/idkeep-backup}}
        - {name: participant, role: participant, pg_dump: {url: 'postgres:///participant'}}
";
    let with = configured("  bucket: {url: 's3://acme-dr'}\n", "bucket", "bucket", database);
    let without = configured("  bucket: {url: 's3://acme-dr'}\n", "bucket", "bucket", DATABASES);
    let paths = |idkeep: &Idkeep, role: &str| {
        let policy = idkeep.expect(0, &["policy", "vault", "--role", role]).stdout;
        let lines = policy.lines().filter_map(|line| line.strip_prefix("path \"")?.strip_suffix("\" {"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let of_dumps = ["database/creds/idkeep-backup", "sys/leases/renew", "sys/leases/revoke"];
    let (asked, plain) = (paths(&with, "writer"), paths(&without, "writer"));
    // Once, though both nodes ask for them.
    assert_eq!(asked.iter().filter(|path| of_dumps.contains(&path.as_str())).count(), 3, "{asked:?}");
    assert!(plain.iter().all(|path| !of_dumps.contains(&path.as_str())), "{plain:?}");
    assert!(paths(&with, "restorer").iter().all(|path| path.starts_with("secret/")));
}
