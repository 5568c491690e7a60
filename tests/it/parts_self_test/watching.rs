//! Runs of a program, its memory, and the proxies.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::age::AgeKey;
use crate::support::client::Client;
use crate::support::dump::Dump;
use crate::support::idkeep::{Idkeep, Signal};
use crate::support::issuer::Issuer;
use crate::support::memory;
use crate::support::oidc::OidcProvider;
use crate::support::openbao::OpenBao;
use crate::support::pki::Pki;
use crate::support::proxy::{Fault, FaultProxy, HttpProxy, refused};
use crate::support::server::Tls;
use crate::support::validator::{BASE, Validator};

#[test]
fn a_secret_in_another_processs_memory_is_found_in_every_form() {
    use base64::Engine as _;
    let secret: Vec<u8> = (0..32).map(|byte| byte * 7 + 3).collect();
    let inside = base64::engine::general_purpose::STANDARD.encode([b"xy".as_slice(), &secret, b"z"].concat());
    let hex: String = secret.iter().map(|byte| format!("{byte:02X}")).collect();
    // The shell holds its script in memory, and waits.
    for form in [inside, hex] {
        let shell = Idkeep::of("/bin/sh");
        let running = shell.spawn(&["-c", &format!("here={form}; echo up; exec 0<&-; kill -s STOP $$")]);
        running.wait_for_stdout("up");
        let hits = memory::scan_for(running.pid(), &[("the secret".into(), secret.clone())]);
        assert!(!hits.is_empty());
        assert!(memory::scan_for(running.pid(), &[("another".into(), vec![0xA5; 32])]).is_empty());
        running.signal(Signal::KILL);
        assert_eq!(running.wait().signal, Some(9));
    }
}

#[test]
fn a_run_gives_code_and_both_outputs_and_an_empty_environment() {
    let mut shell = Idkeep::of("/bin/sh");
    let secret = shell.secret_file("secret", b"s");
    shell.env("SHOWN", "yes");
    let outcome = shell.run(&["-c", "echo \"{\\\"home\\\":\\\"$HOME\\\",\\\"shown\\\":\\\"$SHOWN\\\"}\"; echo oops >&2; stat -c %a secret >&2; exit 7"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (7, "oops\n600\n"));
    assert_eq!(outcome.json(), json!({"home": "", "shown": "yes"}));
    assert!(secret.exists());
    assert_eq!(Idkeep::of("/bin/sh").expect(0, &["-c", "kill -l >/dev/null"]).signal, None);
}

#[test]
fn a_program_that_wants_to_print_is_held_until_it_is_released() {
    let shell = Idkeep::of("/bin/sh");
    let blocked =
        shell.spawn_with_blocked_stdout(&["-c", "here=canary-in-memory; echo before >&2; echo '{\"a\":1}'; exit 3"]);
    blocked.wait_for_stderr("before\n");
    let hits = memory::scan(blocked.pid(), &[("canary", b"canary-in-memory".to_vec())]);
    assert!(!hits.is_empty());
    let outcome = blocked.release();
    assert_eq!((outcome.code, outcome.json()), (3, json!({"a": 1})));
}

#[test]
fn the_fault_proxy_delays_cuts_resets_and_swallows() {
    let validator = Validator::accepting("t").user("user").dump(&Dump::fresh(1).json()).start();
    let proxy = FaultProxy::before(validator.server().address, Fault::None);
    let url = validator.identities_url().replace(&validator.server().address.to_string(), &proxy.address.to_string());
    let ask = || Client::new(None).get_with_token(&url, "t");
    assert_eq!(ask().unwrap().status, 200);
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    let started = Instant::now();
    assert_eq!(ask().unwrap().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
    for fault in [Fault::CutAfter(500), Fault::ResetAfter(500), Fault::ResetAfter(0)] {
        proxy.set(fault);
        assert!(ask().is_err(), "{fault:?}");
    }
    let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
    let reset = std::io::Read::read(&mut stream, &mut [0]).unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    proxy.set(Fault::BlackHole);
    let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(std::io::Read::read(&mut stream, &mut [0]).is_err());
    assert!(std::net::TcpStream::connect(refused()).is_err());
}

#[test]
fn the_http_proxy_tells_tunnels_from_what_was_sent_in_clear() {
    let pki = Pki::new();
    let validator = Validator::accepting("t").tls(Tls::of(&pki)).start();
    let proxy = HttpProxy::start();
    let curl = |url: &str| {
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "-x", &proxy.url(), "--noproxy", "", "--cacert"]).arg(pki.ca_file());
        let output = command.args(["-o", "/dev/null", "-w", "%{http_code}", url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl(&format!("{}/livez", validator.endpoint())), "200");
    assert_eq!(curl("http://plain.example/x"), "502");
    let seen = proxy.seen();
    assert_eq!(seen.tunnels, [validator.server().address.to_string()]);
    assert!(seen.in_clear[0].starts_with("GET http://plain.example/x HTTP/1.1\r\n"));
}

#[test]
fn the_base_path_of_the_stand_in_is_the_documented_one() {
    assert_eq!(BASE, "/api/validator");
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("dev").exists());
}

#[test]
fn the_stock_age_opens_what_was_sealed_to_its_key_alone() {
    let (key, other) = (AgeKey::new(), AgeKey::new());
    let sealed = key.seal(b"identities");
    assert!(sealed.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----"));
    assert_eq!(key.open(&sealed).unwrap(), b"identities");
    assert!(other.open(&sealed).is_err());
}

#[test]
fn servers_can_be_shared_by_tests_in_a_static() {
    fn shared<T: Send + Sync>() {}
    shared::<OpenBao>();
    shared::<OidcProvider>();
    shared::<Issuer>();
    shared::<Validator>();
    shared::<Pki>();
}
