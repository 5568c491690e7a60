//! Sets of the oldest and the newest PostgreSQL that the network uses.

use crate::support::backup::Node;
use crate::support::postgres::{Cluster, NEWEST, OLDEST, Writer, packaged};

#[test]
fn a_set_of_any_major_version_says_which_it_is_and_restores_there() {
    for major in [OLDEST, NEWEST] {
        let node = Node::on(Cluster::start(major), 440 + u64::from(major), |_| {});
        node.cluster.node(&node.network);
        let writer = Writer::start((&node.cluster, "validator"), (&node.cluster, "participant"), 100);
        let outcome = node.backup(0);
        writer.stop();
        for name in ["I1", "I2", "I4"] {
            assert_eq!(outcome.json()["nodes"][0]["invariants"][name]["result"], "pass", "{major}: {outcome}");
        }
        let set = outcome.json()["nodes"][0]["set"].as_str().unwrap().to_owned();
        let manifest = node.manifest(&set);
        for dump in manifest["databases"].as_array().unwrap() {
            let version = |field: &str| -> u32 {
                let version = dump[field].as_str().unwrap();
                version.split('.').next().unwrap().parse().unwrap_or_else(|_| panic!("{field} is {version}"))
            };
            assert_eq!(version("server_version"), major);
            assert_eq!(version("pg_dump_version"), if major > packaged() { major } else { packaged() });
            let restored = format!("restored_{}", dump["name"].as_str().unwrap());
            node.restore(&node.folder().join(&set).join(dump["file"].as_str().unwrap()), &restored);
        }
        let end = node.cluster.sql("restored_participant", "select ledger_end from participant.lapi_parameters");
        assert_eq!(manifest["databases"][1]["offsets"]["ledger_end"].to_string(), end);
        assert_eq!(node.whole(), [set]);
    }
}
