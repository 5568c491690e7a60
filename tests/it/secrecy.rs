//! No plaintext stays behind: not in memory, not in a file, not in any word that is said.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idkeep::http::Http;
use idkeep::oauth::TokenSource;
use idkeep::retry::Deadline;
use idkeep::seal::Envelope;
use idkeep::store::judge::Accept;
use idkeep::store::{Error as StoreError, Facts, Head, Local, Note, Place, Room, Store, Version};
use idkeep::sync::{Options, Pass, Subject};
use serde_json::json;

use crate::support::age::AgeKey;
use crate::support::dump::{Dump, Format, Purpose, SoftwareKey, Spec};
use crate::support::issuer::Answer as IssuerAnswer;
use crate::support::memory::{forms, scan_for};
use crate::support::oidc::{AUDIENCE as OIDC_AUDIENCE, OidcProvider};
use crate::support::parts::tool;
use crate::support::pki::Pki;
use crate::support::scenario::Scenario;
use crate::support::server::{Gate, Tls};
use crate::support::validator::{Answer, Validator};
use crate::support::wait_for;

type Secrets = Vec<(String, Vec<u8>)>;

const LONG: Duration = Duration::from_secs(60);

/// A dump with a key of every kind that is known.
fn every_kind() -> Dump {
    let mut dump = Dump::fresh(77);
    let signing = [
        (Spec::Ed25519, Format::Pkcs8),
        (Spec::P256, Format::Pkcs8),
        (Spec::P256, Format::Raw),
        (Spec::P384, Format::Pkcs8),
        (Spec::P384, Format::Raw),
        (Spec::Secp256k1, Format::Pkcs8),
        (Spec::Secp256k1, Format::Raw),
    ];
    for (number, (spec, format)) in signing.into_iter().enumerate() {
        dump = dump.key(SoftwareKey::new(700 + number as u64, Purpose::Signing, spec, format));
    }
    dump.key(SoftwareKey::new(790, Purpose::Encryption, Spec::Rsa2048, Format::Pkcs8))
}

/// A scenario in which every secret is known to the test: a canary as the store's token, too.
fn with_canaries(dump: Dump) -> (Scenario, Secrets) {
    let mut scenario = Scenario::alone(dump);
    let vault_token = format!("canary-vault-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let node = scenario.node.clone();
    scenario.bao.must("POST", "auth/token/create", json!({"id": vault_token, "policies": [node], "ttl": "1h"}));
    scenario.idkeep.secret_file("vault-token", vault_token.as_bytes());
    scenario.config.vault_auth = format!("{{token: {{file: {:?}}}}}", scenario.idkeep.path("vault-token"));
    scenario.configure();
    let mut secrets = scenario.dump.secrets();
    secrets.push(("client secret".into(), scenario.issuer.client_secret.clone().into_bytes()));
    secrets.push(("vault token".into(), vault_token.into_bytes()));
    (scenario, secrets)
}

/// The access token that the node was shown.
fn access_token(scenario: &Scenario) -> (String, Vec<u8>) {
    let shown = scenario.validator.identity_requests();
    let bearer = shown.last().unwrap().header("authorization").unwrap().to_owned();
    ("access token".into(), bearer.strip_prefix("Bearer ").unwrap().as_bytes().to_vec())
}

/// Nothing of these in the memory of the process, which waits to print its report.
fn assert_clean(pid: u32, secrets: &Secrets) {
    let hits = scan_for(pid, secrets);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
}

#[test]
fn nothing_is_left_in_memory_after_success() {
    let (scenario, mut secrets) = with_canaries(every_kind());
    let run = scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    secrets.push(access_token(&scenario));
    assert_clean(run.pid(), &secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert_eq!(outcome.json()["nodes"][0]["stores"][0]["outcome"], "written");
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn nothing_is_left_in_memory_after_a_dump_that_does_not_parse() {
    let mut broken = every_kind().json();
    broken.truncate(broken.len() - 1);
    let (scenario, mut secrets) = with_canaries(every_kind());
    scenario.validator.dump(&broken);
    let run = scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    secrets.push(access_token(&scenario));
    assert_clean(run.pid(), &secrets);
    assert_eq!(run.release().code, 65);
}

#[test]
fn nothing_is_left_in_memory_after_a_key_that_is_not_what_it_says() {
    let (scenario, secrets) = with_canaries(every_kind().flip_a_bit(5));
    let run = scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    assert_clean(run.pid(), &secrets);
    assert_eq!(run.release().code, 65);
}

/// The positive control: while the store hangs the key must be found, and by the same scan; after the
/// store has failed it must be gone.
#[test]
fn the_key_is_in_memory_while_the_store_hangs_and_gone_after_it_failed() {
    let (mut scenario, mut secrets) = with_canaries(every_kind());
    scenario.identity("deadline: 4s");
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let run = scenario.idkeep.spawn(&["-o", "json", "--log-level", "debug", "sync"]);
    // The store has been looked at before the node answers; from then on it hangs.
    run.wait_for_stderr("store looked at");
    scenario.bao.pause();
    gate.open();
    run.wait_for_stderr("identities judged");
    secrets.push(access_token(&scenario));
    let hits = scan_for(run.pid(), &secrets);
    for (name, _) in &secrets {
        if name != "client secret" && !name.ends_with("as written") {
            assert!(hits.iter().any(|hit| hit.needle.starts_with(name.as_str())), "{name} should be found: {hits:#?}");
        }
    }
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    scenario.bao.resume();

    // The same again, up to the report: everything is gone.
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let bao = &scenario.bao;
    let run = std::thread::scope(|scope| {
        let running = scope.spawn(|| scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]));
        scenario.validator.server().wait_for_requests(2);
        bao.pause();
        gate.open();
        running.join().unwrap()
    });
    secrets.push(access_token(&scenario));
    assert_clean(run.pid(), &secrets);
    assert_eq!(run.release().code, 75);
    bao.resume();
    assert_eq!(scenario.versions(), 0);
}

/// A scenario whose client secret lies in its OpenBao and nowhere else.
fn kept_in_vault(dump: Dump) -> (Scenario, Secrets) {
    let (mut scenario, secrets) = with_canaries(dump);
    let file = format!("{{file: {:?}}}", scenario.idkeep.path("client-secret"));
    let reference = "{vault: {store: vault, path: secret/data/oauth, field: secret}}";
    scenario.config.auth = scenario.config.auth.replace(&file, reference);
    scenario.configure();
    std::fs::remove_file(scenario.idkeep.path("client-secret")).unwrap();
    // An escape, so that its text is not where the answer's bytes are.
    let secret = json!({"secret": format!("{}\n", scenario.issuer.client_secret)});
    scenario.bao.kv_put("oauth", secret);
    let policy = scenario.idkeep.expect(0, &["policy", "vault"]).stdout;
    scenario.bao.policy(&scenario.node, &policy);
    (scenario, secrets)
}

/// The positive control: while the issuer hangs the secret must be found; when the report is due it must be gone.
#[test]
fn a_secret_of_vaults_is_in_memory_while_the_issuer_hangs_and_gone_after_success_and_failure() {
    let (mut scenario, mut secrets) = kept_in_vault(every_kind());
    scenario.identity("deadline: 60s");
    for is_refused in [false, true] {
        let gate = Gate::closed();
        let answer = if is_refused { IssuerAnswer::Error(401, "invalid_client") } else { IssuerAnswer::Normal };
        scenario.issuer.script([IssuerAnswer::Held(gate.clone(), Box::new(answer))]);
        let asked = scenario.issuer.token_requests().len();
        let mut run = scenario.idkeep.spawn_blocked(&["-o", "json", "--log-level", "debug", "sync"]);
        wait_for("the issuer to be asked", LONG, || (scenario.issuer.token_requests().len() > asked).then_some(()));
        let hits = scan_for(run.pid(), &secrets);
        for name in ["client secret", "vault token"] {
            assert!(hits.iter().any(|hit| hit.needle.starts_with(name)), "{name} should be found: {hits:#?}");
        }
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", run.pid())).unwrap();
        assert_silent(&[read("cmdline"), read("environ")].concat(), &secrets);
        gate.open();
        run.wait_to_print();
        if !is_refused {
            secrets.push(access_token(&scenario));
        }
        assert_clean(run.pid(), &secrets);
        let outcome = run.release();
        assert_eq!(outcome.code, if is_refused { 77 } else { 0 }, "{outcome}");
    }
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn nothing_of_a_secret_of_vaults_is_said_at_trace_nor_kept_in_a_file() {
    let (mut scenario, mut secrets) = kept_in_vault(every_kind());
    scenario.identity("deadline: 1s");
    let policy = scenario.idkeep.expect(0, &["policy", "vault"]).stdout;
    // Well; not as it should be; not to be read.
    for code in [0, 78, 77] {
        match code {
            78 => drop(scenario.bao.kv_put("oauth", json!({"secrets": scenario.issuer.client_secret}))),
            77 => scenario.bao.policy(&scenario.node, &policy.replace("secret/data/oauth", "secret/data/other")),
            _ => {}
        }
        for format in ["text", "json"] {
            for command in [&["sync"][..], &["check", "--live"]] {
                let arguments = [&["--log-level", "trace", "--log-format", format], command].concat();
                let outcome = scenario.idkeep.expect(code, &arguments);
                if code == 0 {
                    secrets.push(access_token(&scenario));
                }
                assert_silent(outcome.output().as_bytes(), &secrets);
                assert!(outcome.output().contains("asking for a token") || code == 0, "{outcome}");
            }
        }
    }
    for file in files_below(scenario.idkeep.folder()) {
        if !["vault-token", "secret-id"].iter().any(|name| file.ends_with(name)) {
            assert_silent(&std::fs::read(&file).unwrap(), &secrets);
        }
    }
}

#[test]
fn nothing_secret_is_said_at_trace_nor_shown_to_other_processes() {
    for code in [0, 65, 75, 77] {
        let (mut scenario, mut secrets) = with_canaries(every_kind());
        scenario.identity("deadline: 1s");
        match code {
            65 => scenario.validator.always(Answer::Dump(scenario.dump.clone().flip_a_bit(0).json())),
            75 => scenario.validator.always(Answer::status(500)),
            77 => scenario.validator.always(Answer::status(403)),
            _ => {}
        }
        for format in ["text", "json"] {
            let gate = Gate::closed();
            scenario.validator.script([Answer::Held(gate.clone())]);
            let run = scenario.idkeep.spawn(&["--log-level", "trace", "--log-format", format, "sync"]);
            scenario.validator.server().wait_for_requests(1);
            let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", run.pid())).unwrap();
            let outside = [read("cmdline"), read("environ")].concat();
            gate.open();
            let outcome = run.wait();
            secrets.push(access_token(&scenario));
            let said = [outside, outcome.stdout.clone().into_bytes(), outcome.stderr.clone().into_bytes()].concat();
            assert_silent(&said, &secrets);
            assert!(!outcome.stderr.is_empty(), "a run at trace says something");
        }
    }
}

/// None of the secrets in any form in these bytes.
fn assert_silent(said: &[u8], secrets: &Secrets) {
    for (name, needle) in secrets.iter().flat_map(|(name, secret)| forms(name, secret)) {
        let is_said = said.windows(needle.len()).any(|window| window == needle);
        assert!(!is_said, "{name} is in what was said:\n{}", String::from_utf8_lossy(said));
    }
}

/// Over TLS, with a client assertion, an AppRole and two stores, one of them sealed: other paths, other buffers.
#[test]
fn nothing_is_left_in_memory_nor_in_any_file_after_tls_assertions_and_seals() {
    let (mut scenario, mut secrets) = with_canaries(every_kind());
    let provider = OidcProvider::https();
    let pki = Pki::new();
    let validator = Validator::trusting(&provider.jwks_uri(), provider.ca_file.as_deref())
        .audience(OIDC_AUDIENCE)
        .user(&provider.rs256.id)
        .tls(Tls::of(&pki))
        .dump(&scenario.dump.json())
        .start();
    let (role_id, _) = scenario.bao.approle(&scenario.node, &[&scenario.node], json!({}));
    let secret_id = format!("canary-secret-id-{:016x}", fastrand::u64(..));
    let custom = format!("auth/approle/role/{}/custom-secret-id", scenario.node);
    scenario.bao.must("POST", &custom, json!({"secret_id": secret_id}));
    let key = scenario.idkeep.secret_file("assertion-key", provider.rs256.private_key.as_bytes());
    let secret_id_file = scenario.idkeep.secret_file("secret-id", secret_id.as_bytes());
    let age = AgeKey::new();
    let folder = scenario.idkeep.path("kept");
    let yaml = format!(
        "nodes:\n  {node}:\n    identity:\n      endpoint: {endpoint}\n      tls: {{ca_file: {node_ca:?}}}\n      \
         auth:\n        oauth2:\n          issuer: {issuer}\n          client_id: {client}\n          client_auth: private_key_jwt\n          \
         private_key: {{file: {key:?}}}\n          key_id: {key_id}\n          resource: {OIDC_AUDIENCE}\n          tls: {{ca_file: {issuer_ca:?}}}\n      \
         stores: [vault, local]\n\
         stores:\n  vault:\n    vault:\n      address: {address}\n      allow_http: true\n      path: canton/{{node}}/identities\n      \
         auth: {{approle: {{role_id: {role_id}, secret_id: {{file: {secret_id_file:?}}}}}}}\n  \
         local: {{file: {{path: {folder:?}, recipients: [{recipient}]}}}}\n",
        node = scenario.node,
        endpoint = validator.endpoint(),
        node_ca = validator.ca_file.as_ref().unwrap(),
        issuer = provider.issuer,
        client = provider.rs256.id,
        key_id = provider.rs256.key_id,
        issuer_ca = provider.ca_file.as_ref().unwrap(),
        address = scenario.bao.address,
        recipient = age.recipient,
    );
    scenario.idkeep.config(&yaml);
    secrets.push(("secret id".into(), secret_id.clone().into_bytes()));
    // The assertion key's own text, a line of it at a time: PEM is what was read, DER what it was used as.
    let pem: Vec<&str> = provider.rs256.private_key.lines().filter(|line| !line.starts_with('-')).collect();
    secrets.push(("assertion key, a line".into(), pem[5].as_bytes().to_vec()));
    secrets.push(("assertion key, decoded".into(), STANDARD.decode(pem.concat()).unwrap()[200..264].to_vec()));
    let run = scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    let shown = validator.identity_requests();
    let bearer = shown[0].header("authorization").unwrap();
    secrets.push(("access token".into(), bearer.strip_prefix("Bearer ").unwrap().as_bytes().to_vec()));
    let sealed = std::fs::read(folder.join(&scenario.node).join("00000001.age")).unwrap();
    let keys = age.file_keys(&sealed);
    secrets.push(("file key".into(), keys.file.to_vec()));
    secrets.push(("payload's key".into(), keys.payload.to_vec()));
    assert_clean(run.pid(), &secrets);
    let outcome = run.release();
    assert_eq!(outcome.code, 0, "{outcome}");
    let given = ["assertion-key", "secret-id", "client-secret", "vault-token"];
    for file in files_below(scenario.idkeep.folder()) {
        if !given.iter().any(|name| file.ends_with(name)) {
            assert_silent(&std::fs::read(&file).unwrap(), &secrets);
        }
    }
    assert_eq!(age.open(&sealed).unwrap(), scenario.dump.json());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Every system call that writes: what carries a key goes to a socket, and no file is made.
#[test]
fn what_carries_a_key_goes_to_a_socket_and_no_file_is_created() {
    let (scenario, secrets) = with_canaries(Dump::fresh(78));
    let trace = scenario.idkeep.path("trace");
    let status = Command::new(tool("strace"))
        .args(["-f", "-yy", "-xx", "-s", "1000000", "-e", WATCHED, "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_idkeep"))
        .args(["-o", "json", "--log-level", "trace", "sync"])
        .env_clear()
        .env("IDKEEP_CONFIG", scenario.idkeep.path("idkeep.yaml"))
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    scenario.assert_stored(&scenario.dump);
    let lines: Vec<String> = std::fs::read_to_string(&trace).unwrap().lines().map(str::to_owned).collect();
    let needles: Vec<_> = secrets.iter().flat_map(|(name, secret)| forms(name, secret)).collect();
    let carries = |line: &String| {
        let bytes = unescaped(line);
        needles.iter().any(|(_, needle)| bytes.windows(needle.len()).any(|window| window == needle))
    };
    let carrying: Vec<&String> = lines.iter().filter(|line| carries(line)).collect();
    assert!(!carrying.is_empty(), "the key goes to the store in clear here, so a call must carry it");
    for line in carrying {
        let shown = line.get(..200).unwrap_or(line);
        assert!(line.contains("<TCP:"), "a key is written to something else than a socket: {shown}");
    }
    for line in &lines {
        assert_makes_no_file(line, &unescaped(line));
    }
}

/// Every call that writes, and every call that makes or opens a file.
pub(crate) const WATCHED: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,sendfile,splice,vmsplice,copy_file_range,memfd_create,process_vm_writev,\
     open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,rename,renameat,renameat2,truncate,ftruncate";

/// One line of a trace, with its bytes.
pub(crate) fn assert_makes_no_file(line: &str, bytes: &[u8]) {
    let shown = line.get(..300).unwrap_or(line);
    let is_open = line.contains("open(") || line.contains("openat(") || line.contains("openat2(");
    let makes = ["creat(", "mkdir", "mknod", "link", "rename", "truncate(", "memfd_create("]
        .iter()
        .any(|call| line.contains(&format!(" {call}")));
    assert!(!makes, "a file is made: {shown}");
    if is_open {
        assert!(!line.contains("O_CREAT") && !line.contains("O_TMPFILE"), "a file is created: {shown}");
        // Where the kernel is told what a core may hold.
        if memchr::memmem::find(bytes, b"/proc/self/coredump_filter").is_some() {
            return;
        }
        // Asking whether the terminal or the log may be written is nothing: only opening for writing is.
        assert!(!line.contains("O_WRONLY") && !line.contains("O_RDWR"), "a file is opened for writing: {shown}");
    }
}

/// The bytes that strace writes as `\x41\x42`.
pub(crate) fn unescaped(line: &str) -> Vec<u8> {
    let digits = line.split("\\x").skip(1).filter_map(|part| u8::from_str_radix(part.get(..2)?, 16).ok());
    digits.collect()
}

/// A store that panics with the dump in its hands.
struct Panicking;

impl Store for Panicking {
    fn name(&self) -> &str {
        "panicking"
    }

    fn room(&self) -> Room {
        Room::UNLIMITED
    }

    fn head<'a>(&'a self, _: Place<'a>, _: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(async { Ok(Head::default()) })
    }

    fn put<'a>(
        &'a self,
        _: Place<'a>,
        envelope: &'a Envelope<'a>,
        _: &'a Facts,
        _: &'a Head,
        _: Deadline,
    ) -> Local<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            assert!(
                !matches!(envelope, Envelope::Plain(_)),
                "a secret in a panic's message: {:?}",
                std::env::var("CANARY")
            );
            Err(StoreError::Conflict)
        })
    }

    fn refresh<'a>(
        &'a self,
        _: Place<'a>,
        _: &'a Facts,
        _: &'a Head,
        _: Deadline,
    ) -> Local<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, _: Place<'a>, _: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn close(&self) -> Local<'_, ()> {
        Box::pin(async {})
    }
}

#[test]
#[ignore = "the child process of `nothing_is_left_in_memory_after_a_caught_panic`, which starts it with a configuration"]
fn child_whose_store_panics() {
    idkeep::log::quiet_panics();
    let config = idkeep::config::load(Path::new(&std::env::var("IDKEEP_CONFIG").unwrap())).unwrap();
    let (name, node) = config.nodes.iter().next().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let subject = Subject {
        name: name.clone(),
        config: node.clone(),
        source: idkeep::validator::Validator::new(
            node.identity.clone(),
            Rc::new(TokenSource::new(node.identity.auth.clone(), Rc::default())),
        ),
        stores: vec![Rc::new(Panicking)],
    };
    let options = Options { wait: None, dry_run: false, accept: Accept::Stored };
    let report = runtime.block_on(Pass::over(Arc::new(Http::default()), vec![subject]).run(options));
    drop(runtime);
    println!("exit code {}", report.exit_code());
    // The parent looks into this process until it closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn nothing_is_left_in_memory_after_a_caught_panic() {
    let (scenario, mut secrets) = with_canaries(every_kind());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secrecy::child_whose_store_panics", "--ignored", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env("IDKEEP_CONFIG", scenario.idkeep.path("idkeep.yaml"))
        .env("CANARY", "canary-in-a-panic")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ended = lines.by_ref().map(Result::unwrap).find(|line| line.contains("exit code")).expect("the child reports");
    assert!(ended.contains("exit code 70"), "{ended}");
    secrets.push(access_token(&scenario));
    // The child is this test's own program, in whose image the fixtures of all tests lie.
    let image = std::env::current_exe().unwrap();
    let mut hits = scan_for(child.id(), &secrets);
    hits.retain(|hit| Path::new(&hit.region) != image);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
    drop(child.stdin.take());
    let outcome = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("a mistake of idkeep itself, at tests/it/secrecy.rs"), "{said}");
    assert!(!said.contains("canary-in-a-panic"), "the panic's message is said: {said}");
}
