//! What others can see of a run: its children's arguments, environments and limits, its words, its files.

use std::process::Command;

use super::{Planted, assert_silent, tells};
use crate::backup::faults::{children, hold, wait_for_the_dump_to_wait};
use crate::support::backup::below;
use crate::support::idkeep::write_private;
use crate::support::parts::tool;

fn proc(pid: u32, name: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{name}")).unwrap()
}

fn text(pid: u32, name: &str) -> String {
    String::from_utf8(proc(pid, name)).unwrap()
}

/// Every program that is started in a whole run, with all that it is started with.
#[test]
fn no_program_is_started_with_a_secret_in_its_arguments_or_environment() {
    let (mut planted, cloud) = Planted::in_a_cloud(370, 200);
    // All that idkeep can be given by its own environment: its children do not get it.
    let password = planted.node.cluster.password.clone();
    let file = format!("{{file: {:?}}}", planted.node.cluster.secret_file());
    for database in &mut planted.node.databases {
        *database = database.replace(&file, "{env: DATABASE_PASSWORD}");
    }
    planted.node.configure();
    let trace = planted.node.idkeep().path("trace");
    let output = Command::new(tool("strace"))
        .args(["-f", "-v", "-xx", "-s", "1000000", "-e", "trace=execve,execveat", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_idkeep"))
        .args(["-o", "json", "backup"])
        .env_clear()
        .env("IDKEEP_CONFIG", planted.node.idkeep().path("idkeep.yaml"))
        .env("DATABASE_PASSWORD", &password)
        .env("AWS_ACCESS_KEY_ID", "AKIDPLANTED")
        .env("AWS_SECRET_ACCESS_KEY", &cloud.secret_key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = std::fs::read_to_string(trace).unwrap();
    let started: Vec<Vec<u8>> =
        trace.lines().filter(|line| line.contains("exec")).map(super::writes::unescaped).collect();
    // The control: idkeep itself was given them, and this way of looking sees it.
    for name in ["password", "S3 secret"] {
        assert!(tells(&started[0], &planted.secrets, name), "{name}");
    }
    let clients = started.iter().filter(|line| memchr::memmem::find(line, b"application_name").is_some()).count();
    assert!(clients >= 6, "for each database: tried, its snapshot held, dumped");
    for program in &started[1..] {
        assert_silent("what a program is started with", program, &planted.secrets);
        for name in ["DATABASE_PASSWORD", "AWS_", "IDKEEP_"] {
            assert!(memchr::memmem::find(program, name.as_bytes()).is_none(), "a child is told {name}");
        }
    }
    assert_silent("the report", &output.stdout, &planted.secrets);
    assert_silent("the log", &output.stderr, &planted.secrets);
}

#[test]
fn while_a_dump_runs_no_process_shows_a_secret_and_the_children_are_as_hardened_as_idkeep() {
    let planted = Planted::new(371, 200);
    let lock = hold(&planted.node);
    let run = planted.node.start();
    wait_for_the_dump_to_wait(&planted.node);
    let ours = [vec![run.pid()], children(run.pid(), "pg_dump"), children(run.pid(), "psql")].concat();
    assert_eq!(ours.len(), 3, "one dumps, one holds the snapshot");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        for name in ["cmdline", "environ"] {
            let Ok(bytes) = std::fs::read(format!("/proc/{pid}/{name}")) else { continue };
            assert_silent(&format!("{name} of {pid}"), &bytes, &planted.secrets);
        }
    }
    for pid in &ours {
        let status = text(*pid, "status");
        let line = |start: &str| status.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
        assert!(line("NoNewPrivs:").ends_with('1'), "{status}");
        let limits = text(*pid, "limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
        // Whatever takes cores through a pipe need not heed the limit.
        assert_eq!(text(*pid, "coredump_filter").trim().trim_start_matches('0'), "", "a core would hold memory");
    }
    // The control: the children have the password, where nobody else looks.
    for pid in &ours[1..] {
        assert!(tells(&proc(*pid, "fd/3"), &planted.secrets, "password, escaped"));
    }
    drop(lock);
    assert_eq!(run.wait().code, 0);
}

/// How a run is made to end.
fn spoil(planted: &mut Planted, code: i32) {
    let cluster = &planted.node.cluster;
    match code {
        2 => drop(cluster.sql("participant", "update participant.lapi_parameters set ledger_end = 20")),
        77 => {
            let wrong = super::canary("wrong");
            write_private(&cluster.secret_file(), wrong.as_bytes());
            planted.secrets.push(("wrong password".into(), wrong.into_bytes()));
        }
        _ => {}
    }
}

#[test]
fn nothing_secret_is_said_at_trace_nor_kept_in_any_file() {
    for code in [0, 2, 75, 77] {
        let mut planted = Planted::new(372, 200);
        spoil(&mut planted, code);
        for format in ["text", "json"] {
            let lock = (code == 75).then(|| hold(&planted.node));
            let arguments = ["-o", format, "--log-level", "trace", "--log-format", format, "backup"];
            let run = planted.node.idkeep().spawn(&arguments);
            if lock.is_some() {
                wait_for_the_dump_to_wait(&planted.node);
                let end =
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'idkeep/%'";
                planted.node.cluster.sql("postgres", end);
            }
            let outcome = run.wait();
            assert_eq!(outcome.code, code, "{outcome}");
            assert!(!outcome.stderr.is_empty(), "a run at trace says something");
            assert_silent("the log", outcome.stderr.as_bytes(), &planted.secrets);
            assert_silent("the report", outcome.stdout.as_bytes(), &planted.secrets);
        }
        let given = planted.given();
        let folder = planted.node.idkeep().folder();
        for file in below(folder).iter().filter(|file| !given.contains(file)) {
            assert_silent(&file.display().to_string(), &std::fs::read(file).unwrap(), &planted.secrets);
        }
    }
}
