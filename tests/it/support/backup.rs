//! A node whose databases are backed up: a scenario, a PostgreSQL server and a repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::age::AgeKey;
use super::idkeep::{Idkeep, Outcome, Running};
use super::parts::tool;
use super::postgres::{self, Cluster, Network};
use super::scenario::Scenario;

/// One node with both its databases on one server, and its sets in a folder unless it is told otherwise.
pub struct Node {
    pub scenario: Scenario,
    pub cluster: Cluster,
    pub network: Network,
    pub key: AgeKey,
    /// The repository's `url`.
    pub url: String,
    /// Lines of `backup`, beside the usual ones.
    pub backup: Vec<String>,
    /// Lines of the repository, beside `url`.
    pub repository: Vec<String>,
    /// The databases, in flow style.
    pub databases: Vec<String>,
}

impl Node {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// With another network than the usual one: its participant is that of the identities.
    pub fn with(seed: u64, change: impl FnOnce(&mut Network)) -> Self {
        let cluster = Cluster::packaged();
        let node = Self::on(cluster, seed, change);
        node.cluster.node(&node.network);
        node
    }

    /// On this server, where the databases are for the test to make.
    pub fn on(cluster: Cluster, seed: u64, change: impl FnOnce(&mut Network)) -> Self {
        let scenario = Scenario::new(seed);
        let mut network = Network::new();
        let old = network.namespace().to_owned();
        network.participant = scenario.dump.id.strip_prefix("PAR::").unwrap().to_owned();
        let namespace = network.namespace().to_owned();
        for (id, _) in network.keys.iter_mut().filter(|(id, _)| *id == old) {
            id.clone_from(&namespace);
        }
        change(&mut network);
        let url = format!("file://{}", scenario.idkeep.path("repository").display());
        let databases = vec![
            database(&cluster, "validator", "validator", &cluster.url("validator")),
            database(&cluster, "participant", "participant", &cluster.url("participant")),
        ];
        let key = AgeKey::new();
        let mut node =
            Self { scenario, cluster, network, key, url, backup: Vec::new(), repository: Vec::new(), databases };
        node.configure();
        node
    }

    /// Writes the configuration anew.
    pub fn configure(&mut self) {
        let yaml = self.yaml();
        self.idkeep_mut().config(&yaml);
    }

    pub fn yaml(&self) -> String {
        let lines = |indent: usize, lines: &[String]| -> String {
            lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
        };
        let is_sealed =
            self.backup.iter().any(|line| line.starts_with("encryption:") || line.starts_with("recipients:"));
        let recipients =
            if is_sealed { String::new() } else { format!("      recipients: [{}]\n", self.key.recipient) };
        let databases: Vec<String> = self.databases.iter().map(|database| format!("- {database}")).collect();
        let backup = format!(
            "    backup:\n      repository: sets\n{recipients}{}      databases:\n{}",
            lines(6, &self.backup),
            lines(8, &databases),
        );
        let identity = self.scenario.yaml();
        let (nodes, stores) = identity.split_once("\nstores:\n").unwrap();
        format!(
            "{nodes}\n{backup}stores:\n{stores}repositories:\n  sets:\n    url: {}\n{}",
            self.url,
            lines(4, &self.repository)
        )
    }

    pub fn idkeep(&self) -> &Idkeep {
        &self.scenario.idkeep
    }

    pub fn idkeep_mut(&mut self) -> &mut Idkeep {
        &mut self.scenario.idkeep
    }

    pub fn name(&self) -> &str {
        &self.scenario.node
    }

    /// Takes a set, which has to end with that code.
    pub fn backup(&self, code: i32) -> Outcome {
        self.idkeep().expect(code, &["-o", "json", "backup"])
    }

    /// Takes a set that has to be published; its id.
    pub fn publish(&self) -> String {
        let report = self.backup(0).json();
        report["nodes"][0]["set"].as_str().unwrap().to_owned()
    }

    pub fn start(&self) -> Running {
        self.idkeep().spawn(&["-o", "json", "--log-level", "debug", "backup"])
    }

    /// What `list` says of the node.
    pub fn listed(&self) -> Value {
        let mut report = self.idkeep().expect(0, &["-o", "json", "list"]).json();
        report["nodes"][0].take()
    }

    /// The ids of the sets that count as backups.
    pub fn whole(&self) -> Vec<String> {
        let listed = self.listed();
        let sets = listed["sets"].as_array().unwrap().iter();
        sets.filter(|set| set["state"] == "whole").map(|set| set["set"].as_str().unwrap().to_owned()).collect()
    }

    /// The node's folder in a `file://` repository.
    pub fn folder(&self) -> PathBuf {
        Path::new(self.url.strip_prefix("file://").unwrap()).join(self.name())
    }

    pub fn manifest(&self, set: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder().join(set).join("manifest.json")).unwrap()).unwrap()
    }

    /// Every file of the repository, relative to the node's folder, sorted.
    pub fn files(&self) -> Vec<String> {
        let folder = self.folder();
        let mut files: Vec<String> = below(&folder)
            .into_iter()
            .map(|file| file.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        files
    }

    /// Opens a dump with `age`, `zstd` and `pg_restore` alone, into a new database of the server's.
    pub fn restore(&self, sealed: &Path, into: &str) {
        self.cluster.sql("postgres", &format!("create database \"{into}\""));
        let program = |name| tool(name).display().to_string();
        let restore = postgres::client_binary(self.cluster.major, "pg_restore");
        let script = format!(
            "set -o pipefail; {} -d -i {:?} {sealed:?} | {} -d | \
             {restore:?} --exit-on-error -h {:?} -p {} -U postgres -d {into}",
            program("age"),
            self.key.key_file,
            program("zstd"),
            self.cluster.sockets(),
            self.cluster.port,
        );
        run_script(&script);
    }
}

/// A database of the configuration in flow style, with the clients that fit its server.
pub fn database(cluster: &Cluster, name: &str, role: &str, url: &str) -> String {
    format!(
        "{{name: {name}, role: {role}, pg_dump: {{url: {url:?}, password: {{file: {:?}}}, binary: {:?}}}}}",
        cluster.secret_file(),
        postgres::client_binary(cluster.major, "pg_dump"),
    )
}

pub fn run_script(script: &str) {
    let output = Command::new("bash").args(["-c", script]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// All files below a folder.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}
