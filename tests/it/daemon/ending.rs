//! SIGTERM and SIGINT: whatever is under way, it ends in time, with 0, and leaves nothing half done or held.

use std::time::Duration;

use serde_json::json;

use super::{EVERY_SECOND, LONG, SELDOM, alone, goes_on};
use crate::backup::faults::{heals, hold, wait_for_the_dump_to_wait};
use crate::backup::s3::{assert_nothing_left, keep_in};
use crate::support::backup::Node;
use crate::support::daemon::Daemon;
use crate::support::idkeep::Signal;
use crate::support::openbao::{OpenBao, writer_policy};
use crate::support::s3::S3;
use crate::support::server::Gate;
use crate::support::validator::Answer;
use crate::support::wait_for;

#[test]
fn an_idle_daemon_gives_its_tokens_back_and_ends() {
    for signal in [Signal::TERM, Signal::INT] {
        let scenario = alone(850, SELDOM);
        let before = scenario.bao.tokens();
        let daemon = Daemon::start(&scenario.idkeep);
        daemon.wait_for_passes(&scenario.node, &["written"], 1);
        assert_eq!(scenario.bao.tokens(), before + 1);
        daemon.stop_by(signal);
        assert_eq!(scenario.bao.tokens(), before);
    }
}

#[test]
fn a_pass_that_is_under_way_is_given_up_and_nothing_is_stored() {
    let scenario = alone(851, EVERY_SECOND);
    let before = scenario.bao.tokens();
    scenario.validator.always(Answer::Held(Gate::closed()));
    let daemon = Daemon::start(&scenario.idkeep);
    scenario.validator.server().wait_for_requests(1);
    wait_for("the login", LONG, || (scenario.bao.tokens() > before).then_some(()));
    daemon.stop();
    assert_eq!(scenario.versions(), 0);
    assert_eq!(scenario.bao.tokens(), before);
}

/// A version without its facts is half a version.
#[test]
fn a_version_that_is_being_written_gets_its_facts() {
    let mut scenario = alone(852, SELDOM);
    let before = scenario.bao.tokens();
    let server = scenario.bao.address.trim_start_matches("http://").parse().unwrap();
    let slow = crate::support::proxy::Fault::Delay(Duration::from_millis(700));
    let proxy = crate::support::proxy::FaultProxy::before(server, slow);
    scenario.address = Some(format!("http://{}", proxy.address));
    scenario.configure();
    let daemon = Daemon::start(&scenario.idkeep);
    wait_for("the version", LONG, || (scenario.versions() == 1).then_some(()));
    daemon.stop();
    assert_eq!(scenario.versions(), 1);
    assert_eq!(scenario.facts()["idkeep_stored_version"], "1");
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn a_store_that_hangs_does_not_keep_it() {
    let mut scenario = alone(853, EVERY_SECOND);
    let other = OpenBao::dev();
    other.policy("writer", &writer_policy(&scenario.path()));
    let (role_id, secret_id) = other.approle("writer", &["writer"], json!({}));
    let secret_id = scenario.idkeep.secret_file("other-secret-id", secret_id.as_bytes());
    scenario.config.stores = "[vault, wide]".into();
    scenario.config.more_stores = format!(
        "  wide:\n    vault:\n      address: {}\n      allow_http: true\n      path: canton/{{node}}/identities\n      \
         auth: {{approle: {{role_id: {role_id:?}, secret_id: {{file: {secret_id:?}}}}}}}\n",
        other.address
    );
    scenario.configure();
    let before = other.tokens();
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    assert_eq!(other.tokens(), before + 1);
    scenario.bao.pause();
    let requests = scenario.validator.identity_requests().len();
    scenario.validator.server().wait_for_requests(requests + 1);
    daemon.stop();
    assert_eq!(other.tokens(), before, "a store that answers gets its token back all the same");
    scenario.bao.resume();
}

#[test]
fn a_backup_that_is_under_way_leaves_no_set_no_session_and_no_lock() {
    let mut node = Node::new(854);
    node.scenario.top("schedule: {backups: {every: 1h}}");
    node.configure();
    let lock = hold(&node);
    let daemon = Daemon::start(node.idkeep());
    wait_for_the_dump_to_wait(&node);
    // As a control: it is held now.
    let refused = node.idkeep().expect(75, &["backup"]);
    assert!(refused.stderr.contains("another run holds the lock"), "{refused}");
    daemon.stop();
    assert_eq!(node.cluster.sessions("idkeep/"), 0, "sessions are left");
    drop(lock);
    heals(&node);
}

#[test]
fn a_backup_to_a_bucket_that_is_under_way_leaves_no_set_no_lock_and_no_upload() {
    let bucket = S3::shared().bucket();
    let mut node = Node::new(855);
    node.scenario.top("schedule: {backups: {every: 1h}}");
    keep_in(&mut node, &bucket, &bucket.s3.endpoint(), "10m");
    let lock = hold(&node);
    let daemon = Daemon::start(node.idkeep());
    wait_for_the_dump_to_wait(&node);
    daemon.stop();
    assert!(node.whole().is_empty());
    assert_nothing_left(&bucket, &node);
    drop(lock);
    // With the lock left behind this would wait for it for ten minutes.
    node.publish();
    assert_nothing_left(&bucket, &node);
}

#[test]
fn a_daemon_whose_port_is_taken_says_so_and_ends() {
    let mut scenario = super::scheduled(856, SELDOM);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    scenario.config.top = format!("{SELDOM}\nserver: {{listen: {address}}}\n");
    scenario.configure();
    let outcome = scenario.idkeep.run(&["run"]);
    assert!([75, 78].contains(&outcome.code), "{outcome}");
    assert!(outcome.stderr.contains(&address.to_string()), "{outcome}");
    assert_eq!(scenario.versions(), 0);
}

#[test]
fn a_daemon_without_anything_to_do_is_a_mistake_of_the_configuration() {
    let mut scenario = super::scheduled(857, "");
    let outcome = scenario.idkeep.expect(78, &["run"]);
    assert!(outcome.stderr.contains("schedule"), "{outcome}");
    scenario.top("schedule: {}");
    scenario.idkeep.expect(78, &["run"]);
    // A schedule for backups alone, where no node has any.
    scenario.top("schedule: {backups: {every: 3h}}");
    let outcome = scenario.idkeep.run(&["run"]);
    assert_eq!(outcome.code, 78, "{outcome}");
}
