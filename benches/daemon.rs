//! `idkeep run`: what it costs while nothing is due, and with 1,000 nodes of a 10-minute interval.
//!
//! Run by `cargo bench --bench daemon`, after `./dev parts`. A real OpenBao; issuer and validator app are the tests'
//! stand-ins, and all nodes share one. The numbers in docs/src/performance.md are this program's output. The second
//! half takes as long as two intervals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::pedantic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use it::support::daemon::Daemon;
use it::support::dump::Dump;
use it::support::idkeep::Idkeep;
use it::support::issuer::{Flavour, Issuer};
use it::support::metrics::Metrics;
use it::support::openbao::{OpenBao, writer_policy};
use it::support::validator::Validator;
use serde_json::json;

#[path = "../tests/it"]
mod it {
    pub mod support;
}

const AUDIENCE: &str = "https://validator.example.com";

/// Seconds.
const INTERVAL: f64 = 600.0;

/// Of the clock that the kernel counts processor time in, per second.
const TICKS: f64 = 100.0;

/// How long the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    let mut world = World::new();
    let idle = world.run(1, "1h");
    stored(&idle, 1);
    let before = spent(&idle);
    std::thread::sleep(IDLE);
    let core = (spent(&idle) - before) / IDLE.as_secs_f64();
    println!("1 node, idle after its pass: {:.1} MiB resident, {:.4} % of a core", resident(&idle), core * 100.0);
    end(idle);

    let few = world.run(1, "10m");
    stored(&few, 1);
    let one = resident(&few);
    end(few);
    let started = Instant::now();
    let many = world.run(1000, "10m");
    stored(&many, 1000);
    let first = started.elapsed();
    println!(
        "1,000 nodes: all stored {:.0} s after the start, {:.1} s of processor time",
        first.as_secs_f64(),
        spent(&many)
    );
    let (before, since) = (spent(&many), Instant::now());
    // Two more rounds: each node twice again.
    let mut oldest = 0.0_f64;
    while passes(&many.metrics()) < 3000.0 {
        std::thread::sleep(Duration::from_secs(5));
        oldest = oldest.max(age(&many.metrics()));
    }
    let core = (spent(&many) - before) / since.elapsed().as_secs_f64();
    let resident = resident(&many);
    println!(
        "1,000 nodes, every 10 minutes: {:.2} % of a core, {resident:.1} MiB resident, {:.1} KiB per node, \
         the stalest identities {oldest:.0} s old",
        core * 100.0,
        (resident - one) * 1024.0 / 999.0,
    );
    assert!(oldest < INTERVAL * 1.1 + 5.0, "a node was not fresh in its interval");
    end(many);
}

struct World {
    bao: OpenBao,
    issuer: Issuer,
    validator: Validator,
    idkeep: Idkeep,
    role_id: String,
}

impl World {
    fn new() -> Self {
        let bao = OpenBao::dev();
        bao.enable_auth("approle");
        bao.policy("writer", &writer_policy("canton/+/identities"));
        let (role_id, secret_id) = bao.approle("idkeep", &["writer"], json!({"token_ttl": "10m"}));
        let issuer = Issuer::settings().flavour(Flavour::Auth0).granted(&[AUDIENCE]).start();
        let validator = Validator::trusting(&issuer.jwks_uri(), None)
            .audience(AUDIENCE)
            .user(&issuer.subject())
            .dump(&Dump::fresh(1).json())
            .start();
        let idkeep = Idkeep::new();
        idkeep.secret_file("client-secret", issuer.client_secret.as_bytes());
        idkeep.secret_file("secret-id", secret_id.as_bytes());
        Self { bao, issuer, validator, idkeep, role_id }
    }

    /// The daemon over so many nodes, none of which is stored yet.
    fn run(&mut self, nodes: usize, every: &str) -> Daemon {
        let round = fastrand::u32(..);
        let mut yaml = String::from("nodes:\n");
        for number in 0..nodes {
            let _ = write!(
                yaml,
                "  node-{round}-{number}:\n    network: testnet\n    identity:\n      endpoint: {endpoint}\n      allow_http: true\n      \
                 auth: {{oauth2: {{issuer: {issuer:?}, client_id: {client:?}, client_secret: {{file: {secret:?}}}, audience: {AUDIENCE:?}, \
                 allow_http: true}}}}\n      stores: [vault]\n",
                endpoint = self.validator.endpoint(),
                issuer = self.issuer.url(),
                client = self.issuer.client_id,
                secret = self.idkeep.path("client-secret"),
            );
        }
        let _ = write!(
            yaml,
            "stores:\n  vault:\n    vault:\n      address: {address}\n      allow_http: true\n      path: canton/{{node}}/identities\n      \
             auth: {{approle: {{role_id: {role_id}, secret_id: {{file: {secret_id:?}}}}}}}\n\
             schedule:\n  identities: {{every: {every}, jitter: 1m}}\nserver: {{listen: \"127.0.0.1:0\"}}\n",
            address = self.bao.address,
            role_id = self.role_id,
            secret_id = self.idkeep.path("secret-id"),
        );
        self.idkeep.config(&yaml);
        Daemon::start_with(&self.idkeep, &["--log-level", "info"])
    }
}

/// Waits until all are stored.
fn stored(daemon: &Daemon, nodes: usize) {
    while passes(&daemon.metrics()) < nodes as f64 {
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn values<'m>(metrics: &'m Metrics, name: &'m str) -> impl Iterator<Item = f64> + 'm {
    let lines = metrics.text.lines().filter(move |line| line.starts_with(name) && line[name.len()..].starts_with('{'));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn passes(metrics: &Metrics) -> f64 {
    values(metrics, "idkeep_sync_total").sum()
}

/// Of the stalest identities, in seconds.
fn age(metrics: &Metrics) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    now - values(metrics, "idkeep_sync_last_success_timestamp_seconds").fold(now, f64::min)
}

/// MiB.
fn resident(daemon: &Daemon) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Seconds of processor time so far.
fn spent(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / TICKS
}

fn end(daemon: Daemon) {
    let outcome = daemon.stop();
    assert_eq!(outcome.code, 0, "{outcome}");
}
