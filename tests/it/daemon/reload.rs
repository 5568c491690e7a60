//! SIGHUP: the configuration is read again, and a wrong one leaves the old one in force.

use super::{EVERY_SECOND, SELDOM, alone, goes_on, scheduled};
use crate::backup::faults::{hold, wait_for_the_dump_to_wait};
use crate::support::backup::Node;
use crate::support::daemon::{Daemon, ENDED, WELL, passes};
use crate::support::dump::Dump;
use crate::support::fleet::Fleet;
use crate::support::metrics::Metrics;
use crate::support::scenario::AUDIENCE;
use crate::support::validator::Validator;

const FREE_PORT: &str = "server: {listen: 127.0.0.1:0}\n";

/// Reloads so far that were done and that failed, and whether the last one was done.
fn reloads(metrics: &Metrics) -> (u64, u64, Option<f64>) {
    let count = |outcome| metrics.count("idkeep_config_reload_total", &[("outcome", outcome)]);
    (count("done"), count("failed"), metrics.value("idkeep_config_last_reload_successful", &[]))
}

#[test]
fn a_node_that_comes_in_is_looked_after_and_one_that_goes_is_forgotten() {
    let mut fleet = Fleet::new(3);
    let top = format!("{SELDOM}\n{FREE_PORT}");
    fleet.configured = 0..2;
    fleet.configure(&[], &top);
    let daemon = Daemon::start(&fleet.idkeep);
    daemon.wait_for_readyz("", 200);
    let names: Vec<String> = fleet.members.iter().map(|member| member.name.clone()).collect();
    assert_eq!(daemon.get(&format!("/readyz?node={}", names[2])).status, 404);

    fleet.configured = 1..3;
    fleet.configure(&[], &top);
    daemon.reload("done");
    daemon.wait_for_passes(&names[2], &["written"], 1);
    daemon.wait_for_readyz("", 200);
    assert_eq!(fleet.versions(&fleet.members[2]), 1);
    assert_eq!(daemon.get(&format!("/readyz?node={}", names[0])).status, 404);
    let metrics = daemon.metrics();
    assert!(!metrics.text.contains(&format!("\"{}\"", names[0])), "{}", metrics.text);
    // What has been done already is neither forgotten nor done again.
    assert_eq!(passes(&metrics, &names[1], ENDED), 1, "{}", metrics.text);
    assert_eq!(fleet.members[1].validator.identity_requests().len(), 1);
    assert_eq!(reloads(&metrics), (1, 0, Some(1.0)));
}

#[test]
fn a_wrong_configuration_is_refused_by_name_and_the_old_one_stays_in_force() {
    let scenario = scheduled(840, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let path = scenario.idkeep.path("idkeep.yaml");
    let right = std::fs::read_to_string(&path).unwrap();
    let mistakes = [
        (right.replace("stores: [vault]", "stores: [vautl]"), "vautl"),
        (format!("{right}colour: green\n"), "colour"),
        ("nodes: [".to_owned(), "idkeep.yaml"),
        (String::new(), "idkeep.yaml"),
    ];
    for (count, (wrong, named)) in (1..).zip(&mistakes) {
        std::fs::write(&path, wrong).unwrap();
        let logged = daemon.log().len();
        daemon.reload("failed");
        let said = daemon.log().split_off(logged);
        assert!(said.lines().any(|line| line.contains("ERROR") || line.contains("WARN")), "{said}");
        assert!(said.contains(named), "{named} is not named: {said}");
        assert_eq!(reloads(&daemon.metrics()), (0, count, Some(0.0)));
    }
    std::fs::remove_file(&path).unwrap();
    daemon.reload("failed");
    goes_on(&daemon, &scenario.node);
    std::fs::write(&path, &right).unwrap();
    daemon.reload("done");
    assert_eq!(reloads(&daemon.metrics()), (1, 5, Some(1.0)));
    goes_on(&daemon, &scenario.node);
    daemon.stop();
}

#[test]
fn another_interval_counts_from_the_next_pass_on() {
    let mut scenario = scheduled(841, SELDOM);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, WELL, 1);
    let interval = |metrics: &Metrics| metrics.value("idkeep_schedule_interval_seconds", &[("task", "identities")]);
    assert_eq!(interval(&daemon.metrics()), Some(3600.0));
    scenario.top(EVERY_SECOND);
    daemon.reload("done");
    daemon.wait_for_passes(&scenario.node, WELL, 3);
    assert_eq!(interval(&daemon.metrics()), Some(1.0));
}

#[test]
fn many_reloads_leave_no_token_and_no_file_open() {
    let mut scenario = alone(842, EVERY_SECOND);
    let before = scenario.bao.tokens();
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let open = daemon.descriptors();
    for jitter in 1..=10 {
        // One that is the same as before would not be taken over at all.
        scenario.top(&format!("schedule: {{identities: {{every: 1s, jitter: {jitter}00ms}}}}"));
        daemon.reload("done");
    }
    goes_on(&daemon, &scenario.node);
    // One of the world that was, if it is still being given back.
    let tokens = scenario.bao.tokens();
    assert!(tokens <= before + 2, "{} tokens are held", tokens - before);
    let more = daemon.descriptors().saturating_sub(open);
    assert!(more <= 4, "{more} more files are open than before");
    daemon.stop();
    assert_eq!(scenario.bao.tokens(), before);
}

#[test]
fn a_reload_in_mid_pass_lets_the_pass_end() {
    use crate::support::server::Gate;
    use crate::support::validator::Answer;
    let mut scenario = scheduled(843, SELDOM);
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let daemon = Daemon::start(&scenario.idkeep);
    scenario.validator.server().wait_for_requests(1);
    scenario.top("schedule: {identities: {every: 2h}}");
    daemon.reload("done");
    gate.open();
    daemon.wait_for_passes(&scenario.node, &["written"], 1);
    assert_eq!(scenario.versions(), 1);
    assert_eq!(scenario.validator.identity_requests().len(), 1);
    daemon.wait_for_readyz("", 200);
}

/// What the process gave up at its start it cannot take up again.
#[test]
fn what_needs_a_new_start_is_refused_with_these_words() {
    let mut scenario = scheduled(844, EVERY_SECOND);
    let daemon = Daemon::start(&scenario.idkeep);
    goes_on(&daemon, &scenario.node);
    let top = format!("{EVERY_SECOND}\n{FREE_PORT}");
    for (other, said) in [
        (format!("{top}process: {{lock_memory: \"off\"}}\n"), "start the daemon anew"),
        (top.replace(":0}", ":0, status: all}"), "start the daemon anew"),
        (FREE_PORT.to_owned(), "nothing is scheduled"),
    ] {
        scenario.config.top = other;
        scenario.configure();
        let logged = daemon.log().len();
        daemon.reload("failed");
        let log = daemon.log().split_off(logged);
        assert!(log.contains(said), "{log}");
    }
    scenario.config.top = top;
    scenario.configure();
    daemon.reload("done");
    goes_on(&daemon, &scenario.node);
}

#[test]
fn a_reload_in_mid_backup_lets_the_backup_end() {
    let mut node = Node::new(845);
    node.scenario.top("schedule: {backups: {every: 1h}}");
    node.configure();
    let lock = hold(&node);
    let daemon = Daemon::start(node.idkeep());
    wait_for_the_dump_to_wait(&node);
    node.scenario.top("schedule: {backups: {every: 2h}}");
    node.configure();
    daemon.reload("done");
    drop(lock);
    let published = [("node", node.name()), ("outcome", "published")];
    daemon.wait_for_metrics("the set", |metrics| (metrics.count("idkeep_backup_total", &published) == 1).then_some(()));
    daemon.stop();
    assert_eq!(node.whole().len(), 1);
    assert_eq!(node.cluster.sessions("idkeep/"), 0);
}

/// What was known of the one before says nothing about this one.
#[test]
fn a_node_that_is_another_is_begun_anew() {
    let scenario = scheduled(846, SELDOM);
    let daemon = Daemon::start(&scenario.idkeep);
    daemon.wait_for_passes(&scenario.node, &["written"], 1);
    let other = Dump::fresh(847);
    let settings = Validator::trusting(&scenario.issuer.jwks_uri(), None).audience(AUDIENCE);
    let validator = settings.user(&scenario.issuer.subject()).dump(&other.json()).start();
    let yaml = scenario.yaml().replace(&scenario.validator.endpoint(), &validator.endpoint());
    std::fs::write(scenario.idkeep.path("idkeep.yaml"), yaml).unwrap();
    daemon.reload("done");
    daemon.wait_for_metrics("the other participant to be refused", |metrics| {
        (metrics.count("idkeep_sync_refused_total", &[("node", &scenario.node)]) == 1).then_some(())
    });
    daemon.wait_for_readyz("", 503);
    assert_eq!(scenario.versions(), 1);
    scenario.assert_stored(&scenario.dump);
}
