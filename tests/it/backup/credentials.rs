//! Credentials that OpenBao makes for one run: there while it dumps, gone however it ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::faults::{children, held_run, hold, kill};
use super::s3::keep_in;
use crate::support::backup::Node;
use crate::support::client::Client;
use crate::support::idkeep::Signal;
use crate::support::postgres::client_binary;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::s3::{S3, forward};
use crate::support::server::{Gate, Server};
use crate::support::wait_for;

const LONG: Duration = Duration::from_secs(60);

/// A node whose users are made by its OpenBao, under the policy that idkeep itself prints.
pub(super) struct Bank {
    pub(super) node: Node,
    path: String,
}

impl Bank {
    pub(super) fn open(seed: u64, role: Value) -> Self {
        let mut node = Node::new(seed);
        let mount = format!("database-{}", node.name());
        let path = format!("{mount}/creds/idkeep-backup");
        node.cluster.sql("postgres", "create role banker superuser login password 'banker'");
        let bao = node.scenario.bao.clone();
        bao.must("POST", &format!("sys/mounts/{mount}"), json!({"type": "database"}));
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            node.cluster.port
        );
        bao.must(
            "POST",
            &format!("{mount}/config/node"),
            json!({"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
                   "username": "banker", "password": "banker"}),
        );
        let binary = client_binary(node.cluster.major, "pg_dump");
        node.databases = ["validator", "participant"]
            .map(|name| {
                format!(
                    "{{name: {name}, role: {name}, pg_dump: {{url: 'postgres://127.0.0.1:{}/{name}', \
                     binary: {binary:?}, credentials: {{vault: {{store: vault, path: {path}}}}}}}}}",
                    node.cluster.port
                )
            })
            .into();
        node.configure();
        let policy = node.idkeep().expect(0, &["policy", "vault"]).stdout;
        bao.policy(node.name(), &policy);
        let bank = Self { node, path };
        bank.role(role);
        bank
    }

    fn role(&self, role: Value) {
        let mut written = json!({
            "db_name": "node", "default_ttl": "10m",
            "creation_statements": ["create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}'",
                                    "grant pg_read_all_data to \"{{name}}\""],
        });
        written.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
        self.node.scenario.bao.must("POST", &self.path.replace("/creds/", "/roles/"), written);
    }

    /// How many leases the server has, and how many users there are.
    fn there(&self) -> (usize, String) {
        let (_, leases) = self.node.scenario.bao.api("LIST", &format!("sys/leases/lookup/{}", self.path), None);
        let users = self.node.cluster.sql("postgres", "select count(*) from pg_roles where rolname like 'v-%'");
        (leases["data"]["keys"].as_array().map_or(0, Vec::len), users)
    }

    /// Where its Vault is.
    fn vault(&self) -> SocketAddr {
        self.node.scenario.bao.address.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Where its databases are.
    fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.node.cluster.port))
    }

    /// Has its databases reached by this proxy.
    fn databases_by(&mut self, proxy: &FaultProxy, names: &[&str]) {
        let (from, to) = (format!(":{}/", self.node.cluster.port), format!(":{}/", proxy.address.port()));
        for database in &mut self.node.databases {
            if names.iter().any(|name| database.contains(&format!("{{name: {name},"))) {
                *database = database.replace(&from, &to);
            }
        }
        self.node.configure();
    }

    fn assert_none_there(&self) {
        assert_eq!(self.there(), (0, "0".to_owned()));
    }
}

#[test]
fn both_databases_are_dumped_by_users_that_are_gone_afterwards() {
    let bank = Bank::open(420, json!({"max_ttl": "24h"}));
    let lock = hold(&bank.node);
    let run = held_run(&bank.node);
    assert_eq!(bank.there(), (2, "2".to_owned()));
    let who = "select count(distinct usename) from pg_stat_activity where application_name like 'idkeep/%' and usename like 'v-%'";
    assert_eq!(bank.node.cluster.sql("postgres", who), "1");
    drop(lock);
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    bank.assert_none_there();
    assert_eq!(bank.node.whole().len(), 1);
    bank.node.publish();
    bank.assert_none_there();
}

#[test]
fn a_run_that_fails_or_is_told_to_end_leaves_no_user() {
    let bank = Bank::open(421, json!({"max_ttl": "24h"}));
    for is_killed in [true, false] {
        let lock = hold(&bank.node);
        let run = held_run(&bank.node);
        if is_killed {
            kill(children(run.pid(), "pg_dump")[0]);
        } else {
            run.signal(Signal::TERM);
        }
        let outcome = run.wait();
        assert_eq!(outcome.code, 75, "{outcome}");
        bank.assert_none_there();
        drop(lock);
    }
    // A rejected set is an end, too.
    bank.node.cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 1");
    bank.node.backup(2);
    bank.assert_none_there();
}

#[test]
fn a_life_shorter_than_twice_the_last_run_is_told_before_anything_is_dumped() {
    let bank = Bank::open(422, json!({"max_ttl": "1h"}));
    let set = bank.node.publish();
    // As if the participant had taken ten hours.
    let path = bank.node.folder().join(&set).join("manifest.json");
    let mut manifest = bank.node.manifest(&set);
    let dump = &mut manifest["databases"][1];
    let started_at: jiff::Timestamp = dump["started_at"].as_str().unwrap().parse().unwrap();
    dump["completed_at"] = format!("{:.6}", started_at + jiff::SignedDuration::from_hours(10)).into();
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let outcome = bank.node.backup(78);
    assert!(outcome.stderr.contains("live for 1h at most; twice the last run is 20h"), "{outcome}");
    assert!(!outcome.stderr.contains("set begun"), "{outcome}");
    bank.assert_none_there();
    bank.role(json!({"max_ttl": "24h"}));
    bank.node.publish();
    bank.assert_none_there();
}

#[test]
fn a_path_that_may_not_be_read_is_told() {
    let bank = Bank::open(423, json!({}));
    bank.node.scenario.bao.policy(bank.node.name(), "path \"auth/token/revoke-self\" { capabilities = [\"update\"] }");
    let outcome = bank.node.backup(77);
    assert!(outcome.stderr.contains(&bank.path), "{outcome}");
    assert!(bank.node.files().iter().all(|file| !file.contains(".dump.")));
}

#[test]
fn a_run_that_is_told_to_end_before_its_first_dump_leaves_no_user() {
    let mut bank = Bank::open(424, json!({"max_ttl": "24h"}));
    // Whoever connects to the second database gets no answer.
    let silent = FaultProxy::before(bank.server(), Fault::BlackHole);
    bank.databases_by(&silent, &["participant"]);
    let run = bank.node.start();
    wait_for("both users to be there", LONG, || (bank.there() == (2, "2".to_owned())).then_some(()));
    run.signal(Signal::TERM);
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    assert!(outcome.stderr.contains("told to end") && !outcome.stderr.contains("set begun"), "{outcome}");
    bank.assert_none_there();
}

#[test]
fn credentials_that_are_on_their_way_when_a_run_is_told_to_end_are_revoked_too() {
    let mut bank = Bank::open(425, json!({"max_ttl": "24h"}));
    let to = bank.vault();
    let (client, gate) = (Client::new(None), Gate::closed());
    let held = gate.clone();
    let relay = Server::plain(move |seen| {
        let (client, held) = (client.clone(), held.clone());
        async move {
            let makes_a_user = seen.path.contains("/creds/");
            let reply = forward(&client, to, seen).await;
            if makes_a_user { reply.behind(held) } else { reply }
        }
    });
    bank.node.scenario.address = Some(relay.origin());
    bank.node.configure();
    let run = bank.node.start();
    wait_for("a user to be there", LONG, || (bank.there() == (1, "1".to_owned())).then_some(()));
    run.signal(Signal::TERM);
    run.wait_for_stderr("told to end");
    gate.open();
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    bank.assert_none_there();
}

/// Whoever tells it to end kills it after 25 s, and each server alone would be asked for minutes.
#[test]
fn a_run_that_is_told_to_end_is_gone_in_time_when_no_server_answers_any_more() {
    let bucket = S3::shared().bucket();
    let mut bank = Bank::open(426, json!({"max_ttl": "24h"}));
    let objects = FaultProxy::before(bucket.s3.address, Fault::None);
    let databases = FaultProxy::before(bank.server(), Fault::None);
    let vault = FaultProxy::before(bank.vault(), Fault::None);
    keep_in(&mut bank.node, &bucket, &format!("http://{}", objects.address), "60s");
    bank.node.scenario.address = Some(format!("http://{}", vault.address));
    bank.databases_by(&databases, &["validator", "participant"]);
    let lock = hold(&bank.node);
    let run = held_run(&bank.node);
    for proxy in [&objects, &databases, &vault] {
        proxy.set(Fault::BlackHole);
    }
    // Connections that are open would still be answered on.
    objects.break_off();
    vault.break_off();
    let told_at = Instant::now();
    run.signal(Signal::TERM);
    let outcome = run.wait();
    assert!(told_at.elapsed() < Duration::from_secs(25), "{:?}: {outcome}", told_at.elapsed());
    assert_eq!(outcome.code, 75, "{outcome}");
    for words in
        ["could be ended in time", "stays for the next run", "lock is not given back", "live until they run out"]
    {
        assert!(outcome.stderr.contains(words), "{words}: {outcome}");
    }
    drop(lock);
}
