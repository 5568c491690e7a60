//! `idkeep sync` against the script that an operator would run in its place, and its cost per node.
//!
//! Run by `cargo bench --bench sync`, after `./dev parts`. All over TLS with an authority of their own, against a real
//! OpenBao with a file audit device; issuer and validator app are the tests' stand-ins. The numbers in docs/src/performance.md
//! are this program's output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::pedantic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use it::support::dump::Dump;
use it::support::idkeep::Idkeep;
use it::support::issuer::{Flavour, Issuer};
use it::support::openbao::{OpenBao, writer_policy};
use it::support::parts;
use it::support::pki::Pki;
use it::support::server::Tls;
use it::support::validator::Validator;
use serde_json::json;

#[path = "../tests/it"]
mod it {
    pub mod support;
}

const AUDIENCE: &str = "https://validator.example.com";
const RUNS: usize = 21;

struct World {
    bao: OpenBao,
    issuer: Issuer,
    validator: Validator,
    idkeep: Idkeep,
    role_id: String,
    /// Its files must live as long as the servers.
    _pki: Pki,
}

fn main() {
    let mut world = World::new();
    println!("one node, {RUNS} runs of each in turn after a warm-up, wall time as a whole process");
    let script = world.script("ready", &format!("export BAO_TOKEN={}", world.bao.root_token));
    let script_with_login = world.script("login", &world.login());
    let mut times: [Vec<f64>; 5] = Default::default();
    for run in 0..=RUNS {
        // A new key for each, so that a version is written as the script writes one.
        let fresh = |which: u64| Dump::fresh(10 * (run as u64 + 100) + which).json();
        world.configure(1, false);
        world.validator.dump(&fresh(0));
        let ready = timed(|| world.sync_anew());
        let script_ready = timed(|| run_script(&script));
        world.configure(1, true);
        world.validator.dump(&fresh(1));
        let written = timed(|| world.sync_anew());
        let unchanged = timed(|| world.sync_anew());
        let script_login = timed(|| run_script(&script_with_login));
        if run > 0 {
            for (times, time) in times.iter_mut().zip([ready, script_ready, written, script_login, unchanged]) {
                times.push(time);
            }
        }
    }
    let what = [
        "idkeep sync, a ready Vault token",
        "curl, curl, bao kv put, the same",
        "idkeep sync, AppRole, revoked after",
        "curl, curl, bao write (login), put",
        "idkeep sync, AppRole, unchanged",
    ];
    for (what, times) in what.iter().zip(&mut times) {
        line(what, times);
    }
    println!(
        "ratios of medians: {:.1} with a ready token, {:.1} with a login",
        ratio(&times[1], &times[0]),
        ratio(&times[3], &times[2])
    );
    println!("peak resident memory: idkeep {:.1} MiB, script {:.1} MiB", world.peak(), script_peak(&script));
    println!("binary: {:.1} MB", std::fs::metadata(env!("CARGO_BIN_EXE_idkeep")).unwrap().len() as f64 / 1e6);

    println!("\nnodes in one pass, each with a version of its own, median of 5 passes");
    for count in [1, 10, 50, 100, 200] {
        world.configure(count, true);
        let mut passes: Vec<f64> = (0..5)
            .map(|pass| {
                world.validator.dump(&Dump::fresh(5000 + pass).json());
                timed(|| world.sync_anew())
            })
            .collect();
        passes.sort_by(f64::total_cmp);
        let whole = median(&passes);
        println!(
            "{count:>4} nodes: {whole:>7.1} ms, {:>5.2} ms per node, peak {:.1} MiB",
            whole / count as f64,
            world.peak()
        );
    }
}

impl World {
    fn new() -> Self {
        let bao = OpenBao::tls();
        bao.enable_auth("approle");
        bao.policy("writer", &writer_policy("canton/+/identities"));
        bao.must("POST", "secret/config", json!({"max_versions": 50}));
        let (role_id, secret_id) = bao.approle("idkeep", &["writer"], json!({"token_ttl": "10m"}));
        let pki = Pki::new();
        let issuer = Issuer::settings().flavour(Flavour::Auth0).granted(&[AUDIENCE]).tls(Tls::of(&pki)).start();
        let validator = Validator::trusting(&issuer.jwks_uri(), issuer.ca_file.as_deref())
            .audience(AUDIENCE)
            .user(&issuer.subject())
            .tls(Tls::of(&pki))
            .dump(&Dump::fresh(1).json())
            .start();
        let idkeep = Idkeep::new();
        idkeep.secret_file("client-secret", issuer.client_secret.as_bytes());
        idkeep.secret_file("secret-id", secret_id.as_bytes());
        idkeep.secret_file("vault-token", bao.root_token.as_bytes());
        Self { bao, issuer, validator, idkeep, role_id, _pki: pki }
    }

    fn configure(&mut self, count: usize, logs_in: bool) {
        let auth = if logs_in {
            format!("approle: {{role_id: {}, secret_id: {{file: {:?}}}}}", self.role_id, self.idkeep.path("secret-id"))
        } else {
            format!("token: {{file: {:?}}}", self.idkeep.path("vault-token"))
        };
        let mut yaml = String::from("nodes:\n");
        for number in 0..count {
            let _ = write!(
                yaml,
                "  node-{number}:\n    network: testnet\n    party_hint: acme-{number}\n    identity:\n      endpoint: {endpoint}\n      \
                 tls: {{ca_file: {node_ca:?}}}\n      max_changes_per_day: 1000000\n      auth: {{oauth2: {{issuer: {issuer:?}, client_id: {client:?}, \
                 client_secret: {{file: {secret:?}}}, audience: {AUDIENCE:?}, tls: {{ca_file: {issuer_ca:?}}}}}}}\n      stores: [vault]\n",
                endpoint = self.validator.endpoint(),
                node_ca = self.validator.ca_file.as_ref().unwrap(),
                issuer = self.issuer.url(),
                client = self.issuer.client_id,
                secret = self.idkeep.path("client-secret"),
                issuer_ca = self.issuer.ca_file.as_ref().unwrap(),
            );
        }
        let _ = write!(
            yaml,
            "stores:\n  vault:\n    vault:\n      address: {address}\n      tls: {{ca_file: {ca:?}}}\n      path: canton/{{node}}/identities\n      \
             auth: {{{auth}}}\n",
            address = self.bao.address,
            ca = self.bao.ca_file.as_ref().unwrap(),
        );
        self.idkeep.config(&yaml);
    }

    fn sync_anew(&self) {
        let outcome = self.idkeep.run(&["--log-level", "error", "sync", "--accept-new-identity"]);
        assert_eq!(outcome.code, 0, "{outcome}");
    }

    /// Peak resident memory of a sync, in MiB.
    fn peak(&self) -> f64 {
        self.validator.dump(&Dump::fresh(fastrand::u64(..)).json());
        let run = self.idkeep.spawn_with_blocked_stdout(&[
            "--log-level",
            "error",
            "-o",
            "json",
            "sync",
            "--accept-new-identity",
        ]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        run.release();
        peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// The login of a script that has an AppRole, as idkeep has.
    fn login(&self) -> String {
        format!(
            "export BAO_TOKEN=$({} write -field=token auth/approle/login role_id={} secret_id=@{})",
            parts::bao().display(),
            self.role_id,
            self.idkeep.path("secret-id").display()
        )
    }

    /// What an operator would run: a token, the dump, and a write, with the dump in a pipe.
    fn script(&self, name: &str, token: &str) -> PathBuf {
        let path = self.idkeep.path(name);
        let text = format!(
            r#"#!/bin/bash
set -euo pipefail
export VAULT_ADDR={address} BAO_ADDR={address} BAO_CACERT={bao_ca} HOME={home}
token=$(curl -sf --cacert {issuer_ca} -u "{client}:$(cat {client_secret})" -d grant_type=client_credentials -d audience={AUDIENCE} {token_url} | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
{token}
curl -sf --cacert {node_ca} -H "Authorization: Bearer $token" {identities} | {bao} kv put -mount=secret canton/script/identities content=- >/dev/null
"#,
            address = self.bao.address,
            bao_ca = self.bao.ca_file.as_ref().unwrap().display(),
            home = self.idkeep.folder().display(),
            issuer_ca = self.issuer.ca_file.as_ref().unwrap().display(),
            client = self.issuer.client_id,
            client_secret = self.idkeep.path("client-secret").display(),
            token_url = self.issuer.token_url(),
            node_ca = self.validator.ca_file.as_ref().unwrap().display(),
            identities = self.validator.identities_url(),
            bao = parts::bao().display(),
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }
}

fn run_script(path: &Path) {
    let output = Command::new(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The largest of the script's processes, in MiB, as the kernel accounts for it.
fn script_peak(path: &Path) -> f64 {
    let program = "import os, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); \
                   print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)";
    let output = Command::new("python3").arg("-c").arg(program).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Milliseconds.
fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    Duration::as_secs_f64(&started.elapsed()) * 1000.0
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(of) / median(to)
}

fn line(what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    println!("{what:<36} min {:>6.1}  median {:>6.1}  max {:>6.1} ms", times[0], median(times), times[times.len() - 1]);
}
