//! Sets taken inside a container, by its own programs and over its own socket.

use std::time::Duration;

use super::faults::{children, held_run, hold, kill};
use crate::support::backup::Node;
use crate::support::idkeep::{Running, Signal};
use crate::support::postgres::container::Container;
use crate::support::wait_for;

const LONG: Duration = Duration::from_secs(60);

/// A node whose databases are dumped inside the server's container, the participant's by the name that its own
/// container knows.
struct Contained {
    node: Node,
    server: Container,
    _participant: Container,
}

impl Contained {
    fn new(seed: u64) -> Self {
        let mut node = Node::new(seed);
        node.cluster.sql("postgres", "create role cnadmin superuser login");
        // What is left of an earlier migration.
        node.cluster.create("participant-0", "select 1");
        let server = Container::of(&node.cluster, "cnadmin");
        let participant = Container::start(&["PATH=/usr/bin:/bin", "CANTON_PARTICIPANT_POSTGRES_DB=participant"], &[]);
        let exec = server.exec();
        node.databases = vec![
            format!("{{name: validator, role: validator, pg_dump: {{url: 'postgres:///validator', exec: {exec:?}}}}}"),
            format!(
                "{{name: participant, role: participant, pg_dump: {{exec: {exec:?}, \
                 database: {{env: CANTON_PARTICIPANT_POSTGRES_DB, exec: {:?}}}}}}}",
                participant.exec_without_input()
            ),
        ];
        node.configure();
        Self { node, server, _participant: participant }
    }

    fn runs_pg_dump(&self) -> bool {
        self.server.programs().iter().any(|name| name == "pg_dump")
    }

    /// Nothing of a run goes on, on the server or in the container, and the next one is a whole one.
    fn assert_ended(&self) {
        assert_eq!(self.node.cluster.sessions("idkeep/"), 0);
        wait_for("pg_dump to end in the container", LONG, || (!self.runs_pg_dump()).then_some(()));
        assert!(self.node.whole().is_empty());
        assert!(self.node.files().iter().all(|file| !file.contains(".dump.")), "{:?}", self.node.files());
    }
}

/// The client that passes on what `pg_dump` writes inside.
fn client_of_the_dump(run: &Running) -> u32 {
    let is_of_the_dump = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == b"pg_dump")
    };
    let clients: Vec<u32> = children(run.pid(), "podman").into_iter().filter(is_of_the_dump).collect();
    assert_eq!(clients.len(), 1);
    clients[0]
}

#[test]
fn a_set_is_taken_inside_a_container_and_its_offsets_are_those_of_the_dumps() {
    let contained = Contained::new(410);
    let node = &contained.node;
    let outcome = node.backup(0);
    assert!(outcome.stderr.contains("dumped by a superuser"), "{outcome}");
    let set = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
    let manifest = node.manifest(&set);
    let [validator, participant] = [&manifest["databases"][0], &manifest["databases"][1]];
    assert_eq!([&validator["database"], &participant["database"]], ["validator", "participant"]);
    assert_eq!(validator["offsets"]["validator_last_ingested"], 66);
    assert_eq!(participant["offsets"]["ledger_end"], 100);
    for (dump, sql, expected) in [
        (
            validator,
            "select max(last_ingested_offset) from validator.store_last_ingested_offsets where migration_id = 3",
            "000000000000000042",
        ),
        (participant, "select ledger_end from participant.lapi_parameters", "100"),
    ] {
        let restored = format!("restored_{}", dump["name"].as_str().unwrap());
        node.restore(&node.folder().join(&set).join(dump["file"].as_str().unwrap()), &restored);
        assert_eq!(node.cluster.sql(&restored, sql), expected);
    }
    assert_eq!(node.whole(), [set]);
}

#[test]
fn a_run_that_is_told_to_end_ends_its_dump_inside_the_container() {
    let contained = Contained::new(411);
    let lock = hold(&contained.node);
    let run = held_run(&contained.node);
    assert!(contained.runs_pg_dump());
    run.signal(Signal::TERM);
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    contained.assert_ended();
    drop(lock);
    contained.node.publish();
}

#[test]
fn a_client_that_dies_outside_does_not_leave_its_dump_running_inside() {
    let contained = Contained::new(412);
    let lock = hold(&contained.node);
    let run = held_run(&contained.node);
    kill(client_of_the_dump(&run));
    let outcome = run.wait();
    assert_eq!(outcome.code, 75, "{outcome}");
    contained.assert_ended();
    drop(lock);
    contained.node.publish();
}

#[test]
fn a_container_that_is_gone_or_a_name_that_nobody_knows_is_a_mistake_of_the_configuration() {
    let mut contained = Contained::new(413);
    let whole = contained.node.databases[1].clone();
    contained.node.databases[1] = whole.replace("CANTON_PARTICIPANT_POSTGRES_DB", "CANTON_PARTICIPANT_DB");
    contained.node.configure();
    let outcome = contained.node.backup(78);
    assert!(outcome.stderr.contains("printenv CANTON_PARTICIPANT_DB"), "{outcome}");

    // Without a name the server is asked, and knows two.
    contained.node.databases[1] = format!("{}}}}}", whole.split(", database:").next().unwrap());
    contained.node.configure();
    let outcome = contained.node.backup(78);
    assert!(outcome.stderr.contains("participant-0"), "{outcome}");

    contained.node.databases[1] = whole;
    contained.node.configure();
    contained.server.stop();
    contained.node.backup(78);
    assert!(contained.node.files().iter().all(|file| !file.contains(".dump.")), "{:?}", contained.node.files());
}
