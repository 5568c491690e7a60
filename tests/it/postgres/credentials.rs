use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use idkeep::backup::postgres::credentials::{Credentials, Error};
use idkeep::backup::postgres::{Dump, Session, Target};
use idkeep::cli::{Role, System};
use idkeep::error::{Failure as _, Fault, chain};
use idkeep::http::Http;
use idkeep::policy;
use idkeep::retry::Deadline;
use idkeep::store::Store as _;
use idkeep::store::vault::Vault;
use serde_json::{Value, json};

use super::{RUN, node, on_one_thread, reading};
use crate::support::openbao::OpenBao;
use crate::support::postgres::Cluster;
use crate::support::wait_for;

const PATH: &str = "database/creds/idkeep-backup";

/// A server whose database engine makes users for this cluster, under idkeep's own rendered policy.
struct Bank {
    bao: OpenBao,
    folder: tempfile::TempDir,
    role_id: String,
}

impl Bank {
    fn open(cluster: &Cluster, role: Value, token: Value) -> Self {
        let bao = OpenBao::dev();
        cluster.sql("postgres", "create role banker superuser login password 'banker'");
        bao.must("POST", "sys/mounts/database", json!({"type": "database"}));
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            cluster.port
        );
        bao.must(
            "POST",
            "database/config/node",
            json!({"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
                   "username": "banker", "password": "banker"}),
        );
        let mut written = json!({
            "db_name": "node", "default_ttl": "10m",
            "creation_statements": ["create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}'",
                                    "grant pg_read_all_data to \"{{name}}\""],
        });
        for (key, value) in role.as_object().unwrap() {
            written[key] = value.clone();
        }
        bao.must("POST", "database/roles/idkeep-backup", written);
        let folder = tempfile::tempdir().unwrap();
        let mut bank = Self { bao, folder, role_id: String::new() };
        bank.bao.policy("idkeep", &bank.policy());
        let (role_id, secret_id) = bank.bao.approle("idkeep", &["idkeep"], token);
        crate::support::idkeep::write_private(&bank.folder.path().join("secret-id"), secret_id.as_bytes());
        bank.role_id = role_id;
        bank
    }

    /// What `idkeep policy vault` prints for a node that borrows from here.
    fn policy(&self) -> String {
        let yaml = format!(
            "nodes:\n  node-1:\n    identity:\n      endpoint: https://a.example/api/validator\n      auth: {{token: {{env: T}}}}\n      stores: [vault]\n\
             \x20   backup:\n      repository: r\n      recipients: [{recipient}]\n      databases:\n\
             \x20       - {{name: validator, role: validator, pg_dump: {{url: 'postgres://127.0.0.1/validator', credentials: {{vault: {{store: vault, path: {PATH}}}}}}}}}\n\
             repositories: {{r: {{url: 'file:///backups'}}}}\n\
             stores: {{vault: {{vault: {{address: '{address}', allow_http: true, path: p, auth: {{token: {{env: T}}}}}}}}}}\n",
            recipient = crate::support::age::AgeKey::new().recipient,
            address = self.bao.address,
        );
        let path = self.folder.path().join("idkeep.yaml");
        std::fs::write(&path, yaml).unwrap();
        let config = idkeep::config::load(&path).unwrap_or_else(|error| panic!("{error}"));
        policy::render(&config, System::Vault, Role::Writer).unwrap()
    }

    fn vault(&self) -> Rc<Vault> {
        let config = json!({
            "address": self.bao.address, "allow_http": true, "path": "p",
            "auth": {"approle": {"role_id": self.role_id, "secret_id": {"file": self.folder.path().join("secret-id")}}},
        });
        Rc::new(Vault::new("vault", &serde_json::from_value(config).unwrap(), Arc::new(Http::default())))
    }

    fn leases(&self) -> usize {
        let list = || self.bao.api("LIST", "sys/leases/lookup/database/creds/idkeep-backup", None);
        let (status, answer) = aside(list);
        if status == 404 { 0 } else { answer["data"]["keys"].as_array().map_or(0, Vec::len) }
    }
}

/// Clients of the tests run on a runtime of their own, which cannot be waited for inside another one.
fn aside<T: Send>(ask: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(ask).join()).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn users(cluster: &Cluster) -> String {
    cluster.sql("postgres", "select count(*) from pg_roles where rolname like 'v-%'")
}

#[test]
fn credentials_are_made_for_a_dump_and_gone_after_it() {
    let (cluster, _) = node();
    let bank = Bank::open(&cluster, json!({"max_ttl": "24h"}), json!({"token_ttl": "10m"}));
    let mut database = cluster.database("validator", "validator", "validator");
    database.pg_dump.password = None;
    on_one_thread(async {
        let vault = bank.vault();
        let (credentials, login) = Credentials::borrow(vault.clone(), PATH, None, soon()).await.unwrap();
        assert_eq!((bank.leases(), users(&cluster).as_str()), (1, "1"));
        let target = Target::resolve(&database, Some(login), &Rc::default()).await.unwrap();
        let mut session = Session::open(&target, RUN).await.unwrap();
        let snapshot = session.snapshot().await.unwrap();
        let mut dump = Dump::start(&target, RUN, &snapshot).await.unwrap();
        let reading = reading(&mut dump);
        dump.finish().await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(!reading.join().unwrap().is_empty());
        session.close().await;
        credentials.give_back().await;
        assert_eq!((bank.leases(), users(&cluster).as_str()), (0, "0"));
        vault.close().await;
    });
}

/// A password alone would be of a user that nobody knows, and each look would make another.
#[test]
fn what_is_made_by_reading_it_is_no_secret_to_refer_to() {
    let (cluster, _) = node();
    let bank = Bank::open(&cluster, json!({"max_ttl": "24h"}), json!({"token_ttl": "10m"}));
    on_one_thread(async {
        let vault = bank.vault();
        let error = vault.secret(PATH, "password", soon()).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
        assert!(chain(&error).ends_with("/v1/database/creds/idkeep-backup: it is made anew at each read"), "{error}");
        assert!(error.hint().unwrap().contains("under the database's `credentials`"));
        // It ends with our token.
        vault.close().await;
        wait_for("the user to be gone", Duration::from_secs(60), || (bank.leases() == 0).then_some(()));
    });
}

#[test]
fn credentials_are_prolonged_to_twice_the_last_run_or_refused() {
    let (cluster, _) = node();
    let bank = Bank::open(&cluster, json!({"default_ttl": "60s", "max_ttl": "2h"}), json!({"token_ttl": "30h"}));
    on_one_thread(async {
        let vault = bank.vault();
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        let (credentials, _) =
            Credentials::borrow(vault.clone(), PATH, Some(Duration::from_secs(1800)), soon()).await.unwrap();
        credentials.give_back().await;
        let error = Credentials::borrow(vault.clone(), PATH, hours(3), soon()).await.err().unwrap();
        assert!(matches!(error, Error::ShortLease { .. }) && error.fault() == Fault::Config, "{error}");
        assert!(error.hint().unwrap().contains("max_ttl"));
        assert_eq!((bank.leases(), users(&cluster).as_str()), (0, "0"), "what is refused is given back");
        vault.close().await;
    });
}

#[test]
fn a_token_that_would_take_them_with_it_is_prolonged_or_refused() {
    let (cluster, _) = node();
    let bank = Bank::open(&cluster, json!({"max_ttl": "24h"}), json!({"token_ttl": "10m", "token_max_ttl": "3h"}));
    on_one_thread(async {
        let vault = bank.vault();
        let (credentials, _) =
            Credentials::borrow(vault.clone(), PATH, Some(Duration::from_secs(3600)), soon()).await.unwrap();
        assert!(
            vault.token_due_in().await.unwrap() > Duration::from_secs(3600),
            "renewed for two hours, not ten minutes"
        );
        credentials.give_back().await;
        let error =
            Credentials::borrow(vault.clone(), PATH, Some(Duration::from_secs(2 * 3600)), soon()).await.err().unwrap();
        assert!(matches!(error, Error::ShortToken { .. }) && error.fault() == Fault::Config, "{error}");
        assert!(error.hint().unwrap().contains("token_max_ttl"));
        assert_eq!(bank.leases(), 0);
        vault.close().await;
    });
}

#[test]
fn credentials_and_their_token_are_kept_alive_while_they_are_needed() {
    let (cluster, _) = node();
    let bank = Bank::open(&cluster, json!({"default_ttl": "3s", "max_ttl": "24h"}), json!({"token_ttl": "3s"}));
    on_one_thread(async {
        let vault = bank.vault();
        let (mut credentials, _) = Credentials::borrow(vault.clone(), PATH, None, soon()).await.unwrap();
        {
            let mut keeping = std::pin::pin!(credentials.keep());
            // Both would be gone after three seconds: the server's own record of renewals is what is waited for.
            let renewals = || bank.bao.audited().into_iter().filter(|(_, path)| path == "sys/leases/renew").count();
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            while renewals() < 4 {
                tokio::select! {
                    error = &mut keeping => panic!("{}", chain(&error)),
                    _ = ticks.tick() => {}
                }
            }
        }
        assert_eq!((bank.leases(), users(&cluster).as_str()), (1, "1"));
        credentials.give_back().await;
        assert_eq!((bank.leases(), users(&cluster).as_str()), (0, "0"));
        vault.close().await;
    });
}

#[test]
fn credentials_that_come_to_the_end_of_their_life_are_noticed() {
    let (cluster, _) = node();
    let bank = Bank::open(&cluster, json!({"default_ttl": "1s", "max_ttl": "2s"}), json!({"token_ttl": "10m"}));
    on_one_thread(async {
        let vault = bank.vault();
        let (mut credentials, _) = Credentials::borrow(vault.clone(), PATH, None, soon()).await.unwrap();
        let error = credentials.keep().await;
        assert_eq!(error.fault(), Fault::Transient, "{}", chain(&error));
        credentials.give_back().await;
        vault.close().await;
    });
}

#[test]
fn a_path_that_makes_nothing_or_may_not_be_read_is_told() {
    let (cluster, _) = node();
    let bank = Bank::open(&cluster, json!({}), json!({}));
    on_one_thread(async {
        let vault = bank.vault();
        let error = Credentials::borrow(vault.clone(), "database/creds/other", None, soon()).await.err().unwrap();
        assert_eq!(error.fault(), Fault::Credentials, "{}", chain(&error));
        aside(|| bank.bao.must("DELETE", "database/roles/idkeep-backup", None));
        let error = Credentials::borrow(vault.clone(), PATH, None, soon()).await.err().unwrap();
        assert_eq!(error.fault(), Fault::Config, "{}", chain(&error));
        vault.close().await;
    });
}
