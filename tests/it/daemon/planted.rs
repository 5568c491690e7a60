//! A set of an hour that is still to come, planted by whoever may write the repository.

use serde_json::Value;

use crate::backup::hostile::{forge, plant};
use crate::backup::secrecy::ssh_keygen;
use crate::support::backup::Node;
use crate::support::daemon::Daemon;

const TO_COME: &str = "29990101T000000Z";

/// A node whose sets are signed, and believed only so.
fn signed(seed: u64) -> Node {
    let mut node = Node::new(seed);
    let key = node.idkeep().path("signing-key");
    ssh_keygen(&key);
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    node.repository.push(format!("sign: {{file: {key:?}}}"));
    node.repository.push(format!("signers: [{}]", public.trim()));
    node.configure();
    node.idkeep().sync(0);
    node
}

/// Something of no sense, or the newest set with all its bytes and its signature under another name.
fn plants(node: &Node, set: &str, is_forged: bool) {
    if is_forged {
        forge(node, set, TO_COME);
        let signature = "manifest.json.sig";
        std::fs::copy(node.folder().join(set).join(signature), node.folder().join(TO_COME).join(signature)).unwrap();
    } else {
        plant(node, TO_COME, b"{}");
    }
}

/// The results of the records of a set's verifications.
fn records(node: &Node, set: &str) -> Vec<String> {
    let beside = format!("{set}/verify-");
    let files = node.files().into_iter().filter(|file| file.starts_with(&beside) && file.ends_with(".json"));
    let read = files.map(|file| {
        let record: Value = serde_json::from_slice(&std::fs::read(node.folder().join(file)).unwrap()).unwrap();
        record["result"].as_str().unwrap().to_owned()
    });
    read.collect()
}

#[test]
fn it_fails_the_daemons_verification_and_hides_no_set_from_it() {
    for is_forged in [false, true] {
        let mut node = signed(926);
        let set = node.publish();
        plants(&node, &set, is_forged);
        assert_eq!(records(&node, &set), [""; 0]);
        node.scenario.top("schedule: {verify: {every: 24h}}");
        node.configure();
        let daemon = Daemon::start(node.idkeep());
        let of_node = [("node", node.name()), ("outcome", "fail")];
        daemon.wait_for_metrics("a verification that fails", |metrics| {
            (metrics.count("idkeep_verify_total", &of_node) > 0).then_some(())
        });
        let told = daemon.wait_for_event("the alarm", |event| event.is("the newest backup set is not verified"));
        assert_eq!(told.text("level"), "ERROR", "{told:?}");
        assert_eq!(records(&node, &set), ["pass"]);
        daemon.wait_for_metrics("the whole set's verification", |metrics| {
            metrics.value("idkeep_verify_last_success_timestamp_seconds", &of_node[..1])
        });
        daemon.stop();
    }
}

#[test]
fn it_fails_a_verification_by_hand_and_hides_no_set_from_it() {
    for is_forged in [false, true] {
        let node = signed(927);
        let set = node.publish();
        // As a control: without it all is well.
        node.idkeep().expect(0, &["verify"]);
        plants(&node, &set, is_forged);
        let outcome = node.idkeep().expect(2, &["-o", "json", "verify"]);
        let report = outcome.json();
        let result = |name: &str| {
            let sets = report["sets"].as_array().unwrap();
            sets.iter().find(|found| found["set"] == name).map(|found| found["result"].clone())
        };
        assert_eq!((result(&set), result(TO_COME)), (Some("pass".into()), Some("fail".into())), "{outcome}");
        assert!(outcome.stderr.contains(TO_COME), "{outcome}");
        assert_eq!(records(&node, &set), ["pass", "pass"]);
    }
}
