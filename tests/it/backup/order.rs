//! The order of a node's databases, from the configuration to the manifest.

use crate::support::backup::Node;

#[test]
fn after_decides_the_order_whatever_that_of_the_list() {
    let mut node = Node::new(330);
    node.databases.reverse();
    node.databases[0] = node.databases[0].replace("pg_dump:", "after: [validator], pg_dump:");
    node.configure();
    let set = node.publish();
    let manifest = node.manifest(&set);
    assert_eq!(manifest["databases"][0]["name"], "validator");
    assert_eq!(manifest["databases"][1]["name"], "participant");
}

#[test]
fn a_participant_before_its_validator_is_refused() {
    let mut node = Node::new(331);
    node.databases.reverse();
    node.configure();
    let outcome = node.idkeep().expect(78, &["backup"]);
    assert!(outcome.stderr.contains("participant"), "{outcome}");
    assert!(node.files().is_empty());
}

#[test]
fn a_larger_graph_is_dumped_in_its_order() {
    let mut node = Node::new(332);
    for name in ["sv", "scan", "cantonbft", "sequencer"] {
        node.cluster.create(name, "create table t(a int); insert into t values (1);");
    }
    let like = |role: &str, after: &str| {
        let database = node.databases[0]
            .replace("name: validator, role: validator", &format!("name: {role}, role: {role}, after: [{after}]"));
        database.replace("/validator\"", &format!("/{role}\""))
    };
    let more = [like("sequencer", "cantonbft"), like("cantonbft", ""), like("sv", ""), like("scan", "sv")];
    let participant = node.databases[1].replace("pg_dump:", "after: [validator, sv, scan], pg_dump:");
    node.databases[1] = participant;
    node.databases.extend(more);
    node.configure();
    let set = node.publish();
    let manifest = node.manifest(&set);
    let names: Vec<String> = manifest["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dump| dump["name"].as_str().unwrap().to_owned())
        .collect();
    let at = |name: &str| names.iter().position(|known| known == name).unwrap();
    for (before, after) in
        [("validator", "participant"), ("sv", "scan"), ("scan", "participant"), ("cantonbft", "sequencer")]
    {
        assert!(at(before) < at(after), "{names:?}");
    }
}
