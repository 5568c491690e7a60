//! The units' filter of system calls, in force: every call that it does not allow kills the program.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use super::{SERVICES, settings};
use crate::image::Image;
use crate::support::backup::Node;
use crate::support::client::Client;
use crate::support::parts::tool;
use crate::support::podman::said;
use crate::support::wait_for;

const LONG: Duration = Duration::from_secs(120);

/// The calls of a set such as `@system-service`, sets inside it included.
fn calls_of(set: &str) -> BTreeSet<String> {
    let listed = said(Command::new(tool("systemd-analyze")).args(["syscall-filter", set]));
    let names = listed.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.flat_map(calls).collect()
}

fn calls(name: &str) -> BTreeSet<String> {
    if name.starts_with('@') { calls_of(name) } else { BTreeSet::from([name.to_owned()]) }
}

/// What a unit allows: its lines in their order, those with `~` taken away.
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in settings(unit, "SystemCallFilter") {
        let is_denied = line.starts_with('~');
        for call in line.trim_start_matches('~').split_whitespace().flat_map(calls) {
            if is_denied {
                allowed.remove(&call);
            } else {
                allowed.insert(call);
            }
        }
    }
    assert!(allowed.len() > 200, "{unit}: {allowed:?}");
    allowed
}

/// Number of an address family.
fn family(name: &str) -> u64 {
    match name {
        "AF_UNIX" => 1,
        "AF_INET" => 2,
        "AF_INET6" => 10,
        "AF_NETLINK" => 16,
        other => panic!("{other}"),
    }
}

/// The unit's filters as a container engine takes them: its calls, its families, and no memory that is written *and*
/// executed.
fn profile(unit: &str) -> Value {
    assert_eq!(settings(unit, "MemoryDenyWriteExecute"), ["true"]);
    let mut plain = allowed(unit);
    let special = ["socket", "mmap", "mprotect", "pkey_mprotect"];
    assert!(special.iter().filter(|call| plain.remove(**call)).count() >= 3);
    let mut rules = vec![json!({"names": plain, "action": "SCMP_ACT_ALLOW"})];
    let mut allow = |call: &str, argument: Value| {
        rules.push(json!({"names": [call], "action": "SCMP_ACT_ALLOW", "args": [argument]}));
    };
    for name in settings(unit, "RestrictAddressFamilies")[0].split(' ') {
        allow("socket", json!({"index": 0, "value": family(name), "op": "SCMP_CMP_EQ"}));
    }
    // PROT_WRITE is 2, PROT_EXEC 4: of a mapping one at most, of a change not the second.
    for one in [0, 2, 4] {
        allow("mmap", json!({"index": 2, "value": 6, "valueTwo": one, "op": "SCMP_CMP_MASKED_EQ"}));
    }
    allow("mprotect", json!({"index": 2, "value": 4, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}));
    json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": rules})
}

/// Runs the program under a profile.
struct Confined {
    image: Image,
    node: Node,
}

impl Confined {
    fn new(seed: u64) -> Self {
        let image = Image::build("postgres");
        let mut node = Node::new(seed);
        let password = std::fs::read(node.cluster.secret_file()).unwrap();
        let password: PathBuf = node.idkeep().secret_file("db-password", &password);
        let database = |role: &str| {
            // By name, so that it is looked up.
            let url = node.cluster.url(role).replace("127.0.0.1", "localhost");
            format!("{{name: {role}, role: {role}, pg_dump: {{url: {url:?}, password: {{file: {password:?}}}}}}}")
        };
        node.databases = vec![database("validator"), database("participant")];
        node.configure();
        std::fs::create_dir(node.url.strip_prefix("file://").unwrap()).unwrap();
        Self { image, node }
    }

    fn run(&self, name: &str, profile: &Value, command: &str) -> Output {
        self.command(name, profile, &[], command).output().unwrap()
    }

    fn command(&self, name: &str, profile: &Value, options: &[&str], command: &str) -> Command {
        let file = self.image.podman.path("seccomp.json");
        std::fs::write(&file, profile.to_string()).unwrap();
        let seccomp = format!("seccomp={}", file.display());
        // The right stands for the units' limit, which an engine that is limited itself cannot raise.
        let options = [options, &["--security-opt", &seccomp, "--cap-add", "IPC_LOCK"]].concat();
        self.image.run(name, self.node.idkeep().folder(), &options, &["-o", "json", command])
    }
}

#[test]
fn a_sync_and_a_backup_need_no_system_call_that_the_units_do_not_allow() {
    let confined = Confined::new(910);
    for unit in SERVICES {
        for command in ["sync", "backup"] {
            let output = confined.run(&format!("{unit}-{command}"), &profile(unit), command);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{unit}: {command}: {stderr}");
            if command == "sync" {
                // What the three calls beside systemd's own list are for.
                assert!(stderr.contains("files=\"enforced") && stderr.contains("memory=\"locked\""), "{stderr}");
            }
        }
    }
    confined.node.scenario.assert_stored(&confined.node.scenario.dump);
    assert_eq!(confined.node.whole().len(), SERVICES.len());
}

#[test]
fn the_daemon_needs_no_system_call_that_its_unit_does_not_allow() {
    let mut confined = Confined::new(912);
    let schedule = "schedule: {identities: {every: 10m}, backups: {every: 3h}, verify: {every: 24h}}\n";
    let yaml = confined.node.yaml() + schedule + "server: {listen: 127.0.0.1:0}\n";
    confined.node.idkeep_mut().config(&yaml);
    said(&mut confined.command("it", &profile("idkeep.service"), &["-d"], "run"));
    let podman = &confined.image.podman;
    let log = || String::from_utf8(podman.command(&["logs", "it"]).output().unwrap().stderr).unwrap();
    let wait_for_log = |text: &str| {
        wait_for(text, LONG, || {
            let (log, state) = (log(), podman.must(&["inspect", "--format", "{{.State.Status}}", "it"]));
            assert_eq!(state.trim(), "running", "{log}");
            log.contains(text).then_some(())
        });
    };
    for passed in ["identities are stored", "backup set published", "backup set verified"] {
        wait_for_log(passed);
    }
    // `listening address="127.0.0.1:38471" …`
    let listening = log();
    let address = listening.split_once("address=\"").unwrap().1.split('"').next().unwrap();
    for path in ["livez", "readyz", "metrics", "status"] {
        let answer = Client::new(None).get(&format!("http://{address}/{path}")).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    }
    // As the unit reloads and stops it.
    assert_eq!(settings("idkeep.service", "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    podman.must(&["kill", "--signal", "HUP", "it"]);
    wait_for_log("configuration read again");
    podman.must(&["kill", "--signal", "TERM", "it"]);
    assert_eq!(podman.must(&["wait", "it"]).trim(), "0", "{}", log());
}

/// `ProcSubset=pid` and `ProtectSystem=strict` hide and close the rest.
#[test]
fn of_proc_it_reads_processes_alone_and_it_writes_where_the_units_let_it() {
    let node = Node::new(913);
    assert_eq!(settings("idkeep.service", "ProcSubset"), ["pid"]);
    for command in ["sync", "backup"] {
        let trace = node.idkeep().path("trace");
        let mut strace = Command::new(tool("strace"));
        strace.args(["-f", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2,creat", "-o"]).arg(&trace);
        strace.arg(env!("CARGO_BIN_EXE_idkeep")).arg(command).env_clear();
        said(strace.env("IDKEEP_CONFIG", node.idkeep().path("idkeep.yaml")));
        let trace = std::fs::read_to_string(trace).unwrap();
        let opened = trace.lines().filter_map(|line| Some((line, line.split('"').nth(1)?)));
        let (mut of_proc, mut written) = (0, 0);
        for (line, path) in opened {
            if let Some(inside) = path.strip_prefix("/proc/") {
                let first = inside.split('/').next().unwrap();
                assert!(["self", "thread-self"].contains(&first) || first.parse::<u32>().is_ok(), "{path}");
                of_proc += 1;
            } else if ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag)) {
                assert!(path == "/dev/null" || path.starts_with(node.url.trim_start_matches("file://")), "{line}");
                written += 1;
            }
        }
        assert!(of_proc > 0 && (written > 0 || command == "sync"), "{of_proc} {written}");
    }
}

/// The control: without one call that is needed the program is killed.
#[test]
fn without_a_call_that_it_needs_the_program_is_killed() {
    let confined = Confined::new(911);
    for call in ["landlock_create_ruleset", "connect", "mlockall"] {
        let mut profile = profile("idkeep.service");
        let names = profile["syscalls"][0]["names"].as_array_mut().unwrap();
        let before = names.len();
        names.retain(|name| name != call);
        assert_eq!(names.len(), before - 1, "{call} was allowed");
        let output = confined.run(call, &profile, "sync");
        // 128 and the signal's number: SIGSYS.
        assert_eq!(output.status.code(), Some(128 + 31), "{call}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
