//! What `verify --key` leaves of the private key and of what it opens.

use std::path::{Path, PathBuf};

use super::memory::{LONG, assert_clean};
use super::{Planted, Secrets, ssh_key_of, ssh_keygen};
use crate::support::age::AgeKey;
use crate::support::memory::scan_for;
use crate::support::s3::relay;
use crate::support::server::{Gate, Reply, Step};
use crate::support::wait_for;

/// A key as age knows it, and what must not be left of it.
type Key = (PathBuf, String, Secrets);

fn of_age(key: &AgeKey, _: &Path) -> Key {
    let (text, bytes) = key.secret();
    let secrets = vec![
        ("age key".into(), bytes.to_vec()),
        ("age key, as it is written".into(), text.clone().into_bytes()),
        ("age key, the end of it".into(), text.as_bytes()[text.len() - 24..].to_vec()),
    ];
    (key.key_file.clone(), key.recipient.clone(), secrets)
}

fn of_ssh(_: &AgeKey, folder: &Path) -> Key {
    let path = folder.join("ssh-key");
    ssh_keygen(&path);
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    let secrets = ssh_key_of("ssh key", &path);
    (path, public.trim_end().to_owned(), secrets)
}

/// With a server that holds half of the participant's dump back: meanwhile the key, and what it opens, are found.
fn leaves_nothing(seed: u64, key: fn(&AgeKey, &Path) -> Key) {
    let (mut planted, cloud) = Planted::in_a_cloud(seed, 12_000);
    planted.credentials_in_a_file(&cloud);
    let (file, recipient, of_key) = key(&planted.node.key, planted.node.idkeep().folder());
    planted.node.backup.push(format!("recipients: [{recipient}]"));
    planted.node.configure();
    planted.node.publish();
    let keys = cloud.bucket.keys();
    let path = keys.iter().find(|key| key.ends_with("participant.dump.zst.age")).unwrap().clone();
    let object = cloud.bucket.object(&path).unwrap();
    if of_key[0].0 == "age key" {
        planted.secrets.extend(super::memory::file_keys(&planted.node.key, &object));
    }
    let gate = Gate::closed();
    let (held, url) = (gate.clone(), format!("/{}/{path}", cloud.bucket.name));
    let server = relay(cloud.bucket.s3.address, move |seen| {
        let is_it = seen.method == "GET" && seen.path == url;
        is_it.then(|| half(&object, &held))
    });
    let endpoint = planted.node.repository.iter_mut().find(|line| line.starts_with("endpoint:")).unwrap();
    *endpoint = format!("endpoint: {}", server.origin());
    planted.node.configure();
    let arguments = ["-o", "json", "verify", "--key", file.to_str().unwrap()];
    let mut run = planted.node.idkeep().spawn_blocked(&arguments);
    let found = |name: &str, secrets: &Secrets| {
        let secrets: Secrets = secrets.iter().filter(|(known, _)| known.starts_with(name)).cloned().collect();
        wait_for(name, LONG, || (!scan_for(run.pid(), &secrets).is_empty()).then_some(()));
    };
    found("key 0", &planted.secrets);
    found(&of_key[0].0, &of_key);
    gate.open();
    run.wait_to_print();
    planted.secrets.extend(of_key);
    assert_clean(run.pid(), &planted.secrets);
    let outcome = run.release();
    let report = outcome.json();
    let checks = report["sets"][0]["checks"].as_array().unwrap();
    let contents = checks.iter().find(|check| check["check"] == "contents:participant").unwrap();
    assert_eq!(contents["result"], "pass", "{outcome}");
}

/// The object, its second half behind the gate.
fn half(object: &[u8], gate: &Gate) -> Reply {
    let (first, second) = object.split_at(object.len() / 2);
    let steps = [Step::Send(first.to_vec()), Step::Wait(gate.clone()), Step::Send(second.to_vec())];
    let reply = Reply::with_steps(200, "application/octet-stream", steps);
    let reply = reply.header("content-length", &object.len().to_string()).header("etag", "\"it\"");
    reply.header("last-modified", "Wed, 25 Nov 2026 09:00:00 GMT")
}

#[test]
fn an_age_key_is_in_memory_while_a_set_is_verified_and_gone_afterwards() {
    leaves_nothing(366, of_age);
}

#[test]
fn an_ssh_key_is_in_memory_while_a_set_is_verified_and_gone_afterwards() {
    leaves_nothing(367, of_ssh);
}
