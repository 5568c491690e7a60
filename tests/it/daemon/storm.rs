//! Fifty nodes in bad weather: whatever happens to connections, every pass is accounted for, and all recover.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{SELDOM, let_pass};
use crate::support::daemon::{Daemon, ENDED, WELL, passes};
use crate::support::fleet::{Fleet, Member};
use crate::support::issuer::{Answer as IssuerAnswer, Issuer};
use crate::support::metrics::Metrics;
use crate::support::poll;
use crate::support::proxy::Fault;
use crate::support::validator::Answer;

const NODES: usize = 50;

const FREE_PORT: &str = "server: {listen: 127.0.0.1:0}\n";

/// Long enough for passes that are held up by everything at once.
const RECOVERED: Duration = Duration::from_secs(120);

/// From one look at all of them to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Another fault before this node, drawn anew.
fn gust(member: &Member, random: &mut fastrand::Rng) {
    member.proxy.set(match random.u8(0..10) {
        0..5 => Fault::None,
        5..7 => Fault::Delay(Duration::from_millis(random.u64(20..800))),
        7 => Fault::ResetAfter(random.u64(0..2500)),
        8 => Fault::CutAfter(random.u64(0..2500)),
        _ => Fault::BlackHole,
    });
    if random.bool() {
        member.proxy.break_off();
    }
    member.validator.always(match random.u8(0..10) {
        0..6 => Answer::Dump(member.dump.json()),
        6 => Answer::status(503),
        7 => Answer::retry_after(429, "1"),
        8 => Answer::status(500),
        _ => Answer::CutAfter(random.usize(1..1000)),
    });
}

fn gust_over_all(fleet: &Fleet, random: &mut fastrand::Rng) {
    fleet.members.iter().for_each(|member| gust(member, random));
    fleet.store.set(match random.u8(0..4) {
        0..2 => Fault::None,
        2 => Fault::Delay(Duration::from_millis(random.u64(20..300))),
        _ => Fault::ResetAfter(random.u64(0..1500)),
    });
    fleet.issuer.always(if random.u8(0..3) == 0 { IssuerAnswer::Status(503) } else { IssuerAnswer::Normal });
}

fn calm(fleet: &Fleet) {
    for member in &fleet.members {
        member.proxy.set(Fault::None);
        member.proxy.break_off();
        member.validator.always(Answer::Dump(member.dump.json()));
    }
    fleet.store.set(Fault::None);
    fleet.store.break_off();
    fleet.issuer.always(IssuerAnswer::Normal);
}

/// Passes that the log says were begun, by node.
fn begun(daemon: &Daemon) -> BTreeMap<String, u64> {
    let mut begun = BTreeMap::new();
    for event in daemon.events().iter().filter(|event| event.is("sync begun")) {
        *begun.entry(event.text("node").to_owned()).or_default() += 1;
    }
    begun
}

fn all_well(fleet: &Fleet, daemon: &Daemon, more: u64) {
    let so_far = daemon.metrics();
    let well = |metrics: &Metrics, member: &Member| passes(metrics, &member.name, WELL);
    poll("all nodes to be well", RECOVERED, PAUSE, || {
        let metrics = daemon.metrics();
        let is_well = |member: &Member| well(&metrics, member) >= well(&so_far, member) + more;
        fleet.members.iter().all(is_well).then_some(())
    });
    daemon.wait_for_readyz("", 200);
}

/// The storm, and what comes after it. Returns what to tell of it.
fn weather(storm: Duration) -> String {
    let mut fleet = Fleet::of(NODES, Issuer::settings().lifetime(8).start());
    let identity = ["deadline: 3s", "timeout: 2s"];
    fleet.configure(&identity, &format!("schedule: {{identities: {{every: 2s, jitter: 1s}}}}\n{FREE_PORT}"));
    let daemon = Daemon::start(&fleet.idkeep);
    all_well(&fleet, &daemon, 1);

    let mut random = fastrand::Rng::with_seed(20_261_128);
    let since = Instant::now();
    while since.elapsed() < storm {
        gust_over_all(&fleet, &mut random);
        let_pass(Duration::from_millis(1500));
        assert_eq!(daemon.get("/livez").status, 200);
    }
    let metrics = daemon.metrics();
    let failed = |member: &&Member| passes(&metrics, &member.name, &["failed"]) > 0;
    let hit = fleet.members.iter().filter(failed).count();
    assert!(hit > NODES / 2, "only {hit} nodes were hit: it was no storm");
    calm(&fleet);
    all_well(&fleet, &daemon, 2);

    // With nothing under way any more, what was begun and what ended are the same.
    fleet.configure(&identity, &format!("{SELDOM}\n{FREE_PORT}"));
    daemon.reload("done");
    let accounts = || {
        let metrics = daemon.metrics();
        let ended = |member: &Member| (member.name.clone(), passes(&metrics, &member.name, ENDED));
        (begun(&daemon), fleet.members.iter().map(ended).collect::<BTreeMap<_, _>>())
    };
    poll("the last passes to end", RECOVERED, PAUSE, || {
        let (begun, ended) = accounts();
        (begun == ended).then_some(())
    });
    let (begun, _) = accounts();
    assert_eq!(begun.len(), NODES);
    let told = format!("{} passes in {:?}; {hit} nodes were hit", begun.values().sum::<u64>(), since.elapsed());
    for member in &fleet.members {
        assert_eq!(fleet.versions(member), 1, "{} has another version of what has not changed", member.name);
    }
    let said = daemon.stop().stderr;
    assert!(!said.contains("mistake of idkeep itself"), "{said}");
    told
}

#[test]
fn fifty_nodes_come_through_latency_resets_and_refusals_and_every_pass_is_accounted_for() {
    println!("{}", weather(Duration::from_secs(20)));
}

#[test]
#[ignore = "takes minutes: the same storm for longer, to be run by hand"]
fn fifty_nodes_come_through_a_long_storm() {
    println!("{}", weather(Duration::from_secs(300)));
}

/// More of them than are looked after at the same time.
#[test]
fn forty_nodes_that_hang_do_not_keep_the_others_waiting_for_long() {
    let mut fleet = Fleet::new(50);
    for member in &fleet.members[..40] {
        member.validator.always(Answer::Stall);
    }
    let top = format!("{}\n{FREE_PORT}", super::EVERY_SECOND);
    fleet.configure(&["deadline: 4s", "timeout: 4s"], &top);
    let daemon = Daemon::start(&fleet.idkeep);
    for member in &fleet.members[40..] {
        daemon.wait_for_passes(&member.name, WELL, 3);
    }
    // From here on those that hang only keep each other waiting.
    let so_far: Vec<u64> = fleet.members.iter().map(|member| passes(&daemon.metrics(), &member.name, ENDED)).collect();
    for (member, so_far) in fleet.members.iter().zip(so_far).skip(40) {
        daemon.wait_for_passes(&member.name, WELL, so_far + 4);
        assert_eq!(daemon.get(&format!("/readyz?node={}", member.name)).status, 200);
    }
    daemon.stop();
}
