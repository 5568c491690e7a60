//! The whole path: token, identities, proof, store.

use crate::support::scenario::Scenario;

#[test]
fn a_node_is_brought_into_the_store_once() {
    let scenario = Scenario::new(1);
    let first = scenario.sync(0);
    assert_eq!(first.store(), "written");
    scenario.assert_stored(&scenario.dump);
    let facts = scenario.facts();
    assert_eq!(facts["idkeep_digest"], scenario.dump.digest());
    assert_eq!(facts["idkeep_participant_id"], scenario.dump.id.as_str());
    assert_eq!(facts["idkeep_party_hint"], format!("acme-{}", scenario.node));
    assert_eq!(facts["idkeep_network"], "testnet");
    assert_eq!(facts["idkeep_key_kind"], "software");
    assert_eq!(facts["idkeep_key_proof"], "proven");
    assert_eq!(facts["idkeep_stored_version"], "1");
    let second = scenario.sync(0);
    assert_eq!(second.store(), "unchanged");
    assert_eq!(scenario.versions(), 1);
}
