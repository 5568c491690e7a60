//! `idkeep backup` against the pipeline that an operator would run in its place, and what it needs of memory.
//!
//! Run by `cargo bench --bench backup`, after `./dev parts`. A real PostgreSQL, hot; both ends durable. The numbers in
//! docs/src/performance.md are this program's output. `IDKEEP_BENCH_GB=1` leaves out the larger database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::pedantic, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use it::support::backup::{Node, run_script};
use it::support::postgres::{Cluster, client_binary};
use it::support::s3::{S3, credentials};

#[path = "../tests/it"]
mod it {
    pub mod support;
}

const RUNS: usize = 7;

/// Rows of about 560 bytes in the table that makes a gigabyte of database.
const ROWS_PER_GB: u64 = 1_900_000;

fn main() {
    let mut node = Node::new(1);
    fill(&node.cluster, 0, ROWS_PER_GB);
    println!("participant of {}, {RUNS} runs of each in turn after a warm-up, wall time", size(&node.cluster));
    let pipeline = script(&node, "| zstd -3 -T0 -q | age -r \"$recipient\" > \"$out\" && sync \"$out\"");
    let bound = script(&node, "> /dev/null");
    let mut times: [Vec<f64>; 3] = Default::default();
    for run in 0..=RUNS {
        let all = [
            timed(|| drop(node.idkeep().expect(0, &["--log-level", "error", "backup"]))),
            timed(|| run_script(&pipeline)),
            timed(|| run_script(&bound)),
        ];
        if run > 0 {
            times.iter_mut().zip(all).for_each(|(times, time)| times.push(time));
        }
        std::fs::remove_dir_all(node.folder()).unwrap();
    }
    let what = ["idkeep backup", "pg_dump | zstd -3 -T0 | age, sync", "pg_dump > /dev/null (the bound)"];
    for (what, times) in what.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!("{what:<34} min {:>6.2}  median {:>6.2}  max {:>6.2} s", times[0], median(times), times[RUNS - 1]);
    }
    println!(
        "ratios of medians: {:.2} times as fast as the pipeline, {:.2} times the bound",
        median(&times[1]) / median(&times[0]),
        median(&times[0]) / median(&times[2])
    );
    peaks(&mut node, "1 GB");
    if std::env::var("IDKEEP_BENCH_GB").is_err() {
        fill(&node.cluster, ROWS_PER_GB, 4 * ROWS_PER_GB);
        println!("participant of {}", size(&node.cluster));
        peaks(&mut node, "4 GB");
    }
}

/// Peak resident memory, into a folder and into a bucket.
fn peaks(node: &mut Node, what: &str) {
    println!("{what}: peak resident memory into a folder {:.1} MiB", peak(node));
    let (bucket, folder) = (S3::shared().bucket(), (node.url.clone(), node.repository.clone()));
    node.url = format!("s3://{}/sets", bucket.name);
    node.repository = vec![format!("endpoint: {}", bucket.s3.endpoint()), "allow_http: true".into()];
    for (name, value) in credentials().iter() {
        node.idkeep_mut().env(name, value);
    }
    node.configure();
    println!("{what}: peak resident memory into a bucket {:.1} MiB", peak(node));
    (node.url, node.repository) = folder;
    node.configure();
}

fn peak(node: &Node) -> f64 {
    let run = node.idkeep().spawn_with_blocked_stdout(&["--log-level", "error", "-o", "json", "backup"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    assert_eq!(run.release().code, 0);
    peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Both databases, one after the other, as an operator would dump them.
fn script(node: &Node, end: &str) -> String {
    let pg_dump = client_binary(node.cluster.major, "pg_dump");
    let (recipient, out) = (&node.key.recipient, node.idkeep().path("pipeline.age"));
    let dump = |database: &str| {
        let url = node.cluster.socket_url("postgres", database);
        format!("{} -Fc -Z0 -d '{url}' {end}\n", pg_dump.display())
    };
    format!("set -eo pipefail\nrecipient={recipient}\nout={out:?}\n{}{}", dump("validator"), dump("participant"))
}

/// Events like a participant's: hashes that do not compress, around contracts that do.
fn fill(cluster: &Cluster, from: u64, to: u64) {
    let sql = format!(
        "create table if not exists participant.lapi_events(event_sequential_id bigserial, event_offset bigint, \
           contract_id bytea, template_id int, payload bytea, ledger_effective_time bigint); \
         insert into participant.lapi_events(event_offset, contract_id, template_id, payload, ledger_effective_time) \
         select g, sha256(g::text::bytea) || sha256((g::bigint * 7)::text::bytea), g % 97, \
           convert_to(repeat('{{\"owner\":\"acme::1220' || md5((g % 1000)::text) || '\",\"amount\":' || g || '}}', 5) \
             || md5(g::text) || md5((g + 1)::text) || md5((g::bigint * 3)::text), 'UTF8'), 1700000000000000 + g::bigint * 1000 \
         from generate_series({}, {to}) g",
        from + 1
    );
    cluster.sql("participant", &sql);
}

fn size(cluster: &Cluster) -> String {
    cluster.sql("participant", "select pg_size_pretty(pg_database_size('participant'))").trim().to_owned()
}

fn timed(work: impl FnOnce()) -> f64 {
    // What the run before has left for the disk is not this one's.
    let status = Command::new(Path::new("sync")).status().unwrap();
    assert!(status.success());
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
