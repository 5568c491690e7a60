//! What is done in which order, and what counts as stored.

use jiff::SignedDuration;
use serde_json::json;

use super::{AGENT, Gcp, WRITER};
use crate::support::dump::Dump;
use crate::support::gcp::iam::Binding;
use crate::support::gcp::{Google, Version};

/// As if the newest version had been made so many seconds earlier.
fn age(gcp: &Gcp, seconds: i64) {
    gcp.google.change(&gcp.secret(), |versions| {
        versions.last_mut().unwrap().created_at -= SignedDuration::from_secs(seconds);
    });
}

/// A version by somebody's hand.
fn add_by_hand(gcp: &Gcp, data: &[u8]) {
    let now = jiff::Timestamp::now();
    gcp.google.change(&gcp.secret(), |versions| {
        versions.push(Version { data: data.to_vec(), state: "ENABLED", created_at: now });
    });
}

/// Rights on the project, as an agent has them that creates its own secrets.
fn grant_in_the_project(gcp: &Gcp, may_create: bool) {
    gcp.grant();
    let mut iam = gcp.google.state.iam.lock().unwrap();
    iam.unbind(AGENT);
    let mut bind = |role: &str, only: Option<String>| {
        iam.bind(Binding { member: AGENT.into(), role: role.into(), secret: None, only });
    };
    bind(WRITER, Some(format!("secrets/{}", gcp.secret())));
    bind(super::FACTS, Some(format!("secrets/{}", gcp.facts_secret())));
    if may_create {
        let role = "projects/acme-canton/roles/creator";
        iam.define(role, ["secretmanager.secrets.create".to_owned()]);
        iam.bind(Binding { member: AGENT.into(), role: role.into(), secret: None, only: None });
    }
}

#[test]
fn missing_secrets_are_created_as_configured_where_that_is_allowed() {
    let key = |place: &str| format!("projects/acme-canton/locations/{place}/keyRings/idkeep/cryptoKeys/identities");
    let encrypted = |place: &str| json!({"kmsKeyName": key(place)});
    let cases = [
        (vec![], json!({"replication": {"automatic": {}}})),
        (
            vec![format!("kms_key: {}", key("global")), "labels: {team: canton, env: prod}".into()],
            json!({"replication": {"automatic": {"customerManagedEncryption": encrypted("global")}},
                   "labels": {"team": "canton", "env": "prod"}}),
        ),
        (
            vec!["replicas: [europe-west3, europe-west4]".into()],
            json!({"replication": {"userManaged": {"replicas": [{"location": "europe-west3"}, {"location": "europe-west4"}]}}}),
        ),
        (
            vec!["replicas: [europe-west3]".into(), format!("kms_key: {}", key("europe-west3"))],
            json!({"replication": {"userManaged": {"replicas": [
                {"location": "europe-west3", "customerManagedEncryption": encrypted("europe-west3")}]}}}),
        ),
    ];
    for (lines, expected) in cases {
        let mut gcp = Gcp::bare(Google::start(), Dump::fresh(1));
        grant_in_the_project(&gcp, true);
        lines.iter().for_each(|line| gcp.store(line));
        let (outcome, said) = gcp.sync(0);
        assert_eq!(outcome, "written", "{said}");
        assert_eq!(gcp.stored(), [gcp.scenario.dump.json()]);
        for secret in [gcp.secret(), gcp.facts_secret()] {
            assert_eq!(gcp.google.secret(&secret).unwrap().made_as, expected);
        }
        assert_eq!(gcp.sync(0).0, "unchanged");
    }
}

#[test]
fn a_missing_secret_that_may_not_be_created_is_named_and_nothing_is_written() {
    for lacking in ["identities", "facts"] {
        let gcp = Gcp::bare(Google::start(), Dump::fresh(2));
        grant_in_the_project(&gcp, false);
        gcp.google.create(&if lacking == "facts" { gcp.secret() } else { gcp.facts_secret() });
        let (outcome, said) = gcp.sync(77);
        assert_eq!(outcome, "failed");
        let name = if lacking == "facts" { gcp.facts_secret() } else { gcp.secret() };
        let expected = format!(
            "adding a version to `{name}` in Google Secret Manager: it does not exist, and creating it is not allowed"
        );
        assert!(said.stderr.contains(&expected) && said.stderr.contains("`idkeep policy gcp`"), "{said}");
        // Not the data without a place for its facts.
        assert_eq!((gcp.stored().len(), gcp.google.versions(&gcp.facts_secret()).len()), (0, 0));
    }
}

#[test]
fn facts_that_may_not_be_written_are_found_out_before_the_first_version() {
    let gcp = Gcp::new(Dump::fresh(3));
    gcp.google.state.iam.lock().unwrap().take(super::FACTS, "secretmanager.versions.add");
    let (_, said) = gcp.sync(77);
    let expected = format!("adding a version to `{}` in Google Secret Manager: ", gcp.facts_secret());
    assert!(said.stderr.contains(&expected), "{said}");
    assert_eq!(gcp.stored().len(), 0);
}

#[test]
fn a_version_that_was_disabled_or_destroyed_is_written_again() {
    for state in ["DISABLED", "DESTROYED"] {
        let gcp = Gcp::new(Dump::fresh(4));
        gcp.sync(0);
        gcp.google.change(&gcp.secret(), |versions| versions[0].state = state);
        let (outcome, said) = gcp.sync(0);
        assert_eq!(outcome, "repaired");
        assert!(said.stderr.contains("version 1 was deleted, destroyed or damaged"), "{said}");
        let versions = gcp.google.versions(&gcp.secret());
        assert_eq!((versions[0].state, versions[1].state), (state, "ENABLED"));
        assert_eq!(gcp.sync(0).0, "unchanged");
    }
}

#[test]
fn a_version_by_somebody_elses_hand_is_waited_for_and_then_followed() {
    let mut gcp = Gcp::new(Dump::fresh(5));
    gcp.sync(0);
    add_by_hand(&gcp, b"something else");
    gcp.scenario.identity("deadline: 2s");
    let (_, said) = gcp.sync(75);
    assert!(said.stderr.contains("another writer seems to be at work"), "{said}");
    gcp.scenario.identity("deadline: 20s");
    age(&gcp, 61);
    let (outcome, said) = gcp.sync(0);
    assert_eq!(outcome, "repaired");
    assert!(said.stderr.contains("the facts describe version 1, but 2 is current"), "{said}");
    assert_eq!(gcp.stored()[1], b"something else");
    assert_eq!(gcp.stored()[2], gcp.scenario.dump.json());
    assert_eq!(gcp.sync(0).0, "unchanged");
}

#[test]
fn an_answer_that_was_lost_costs_a_version_and_nothing_else() {
    let mut gcp = Gcp::new(Dump::fresh(6));
    gcp.scenario.identity("deadline: 2s");
    gcp.google.trouble(|trouble| trouble.lose_adds = 1);
    gcp.sync(75);
    assert_eq!(gcp.stored().len(), 1);
    gcp.scenario.identity("deadline: 20s");
    age(&gcp, 61);
    let (outcome, _) = gcp.sync(0);
    assert_eq!(outcome, "written");
    assert_eq!(gcp.stored(), [gcp.scenario.dump.json(), gcp.scenario.dump.json()]);
}

#[test]
fn facts_of_a_slower_writer_do_not_hide_those_of_the_current_version() {
    let gcp = Gcp::new(Dump::fresh(7));
    gcp.sync(0);
    gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(71, 1).json());
    gcp.sync(0);
    // The writer of version 1 was interrupted for a while between its two calls.
    gcp.google.change(&gcp.facts_secret(), |versions| versions.push(versions[0].clone()));
    assert_eq!(gcp.sync(0).0, "unchanged");
    // Without the right to list them only the newest are known: waited for, then written again.
    gcp.google.state.iam.lock().unwrap().take(super::FACTS, "secretmanager.versions.list");
    age(&gcp, 61);
    assert_eq!(gcp.sync(0).0, "repaired");
}

#[test]
fn facts_that_were_disabled_or_spoiled_still_tell_by_older_ones_whose_identities_are_stored() {
    let spoil: [fn(&mut Version); 3] = [
        |version| version.state = "DISABLED",
        |version| version.state = "DESTROYED",
        |version| version.data = b"not JSON".to_vec(),
    ];
    for spoil in spoil {
        let gcp = Gcp::new(Dump::fresh(8));
        gcp.sync(0);
        gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(81, 1).json());
        gcp.sync(0);
        age(&gcp, 61);
        gcp.google.change(&gcp.facts_secret(), |versions| spoil(&mut versions[1]));
        gcp.scenario.validator.dump(&Dump::fresh(82).json());
        let (_, said) = gcp.sync(65);
        assert!(said.stderr.contains(&gcp.scenario.dump.id), "{said}");
        assert_eq!(gcp.stored().len(), 2);
        gcp.scenario.validator.dump(&gcp.scenario.dump.json());
        assert_eq!(gcp.sync(0).0, "repaired");
    }
}

#[test]
fn lists_that_lag_behind_cost_no_version() {
    let mut gcp = Gcp::new(Dump::fresh(15));
    gcp.sync(0);
    gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(151, 1).json());
    gcp.sync(0);
    // What is called the latest facts is not: the next number tells.
    gcp.google.trouble(|trouble| trouble.unseen = (0, 1));
    assert_eq!(gcp.sync(0).0, "unchanged");
    // And a version that facts describe is there, though it is not listed: a matter of time, not of another write.
    gcp.scenario.identity("deadline: 1s");
    for unseen in [(1, 0), (1, 1), (2, 1)] {
        gcp.google.trouble(|trouble| trouble.unseen = unseen);
        let (_, said) = gcp.sync(75);
        assert!(said.stderr.contains("a version that was added lately is not listed yet"), "{said}");
    }
    assert_eq!(gcp.stored().len(), 2);
    gcp.google.trouble(|trouble| trouble.unseen = (0, 0));
    assert_eq!(gcp.sync(0).0, "unchanged");
    // A secret that was deleted and made anew counts from 1 again; the old facts are no promise for ever.
    gcp.scenario.identity("deadline: 20s");
    gcp.google.delete(&gcp.secret());
    gcp.google.create(&gcp.secret());
    gcp.google.change(&gcp.facts_secret(), |versions| {
        for version in versions {
            let mut map: serde_json::Value = serde_json::from_slice(&version.data).unwrap();
            map["idkeep_captured_at"] = "2026-01-01T00:00:00Z".into();
            version.data = map.to_string().into_bytes();
        }
    });
    assert_eq!(gcp.sync(0).0, "written");
    assert_eq!(gcp.stored().len(), 1);
}

#[test]
fn ages_are_those_of_the_servers_clock() {
    let mut gcp = Gcp::new(Dump::fresh(9));
    gcp.scenario.identity("max_changes_per_day: 2");
    gcp.google.trouble(|trouble| trouble.ahead = SignedDuration::from_hours(-48));
    for seed in 0..2 {
        gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(90 + seed, 1).json());
        assert_eq!(gcp.sync(0).0, "written");
    }
    gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(99, 1).json());
    let (_, said) = gcp.sync(65);
    assert!(said.stderr.contains("within 24 hours"), "{said}");
}

#[test]
fn versions_are_counted_over_all_pages() {
    let mut gcp = Gcp::new(Dump::fresh(10));
    gcp.scenario.identity("max_changes_per_day: 6");
    gcp.google.trouble(|trouble| trouble.page = 2);
    for _ in 0..5 {
        add_by_hand(&gcp, b"an older one");
    }
    age(&gcp, 61);
    assert_eq!(gcp.sync(0).1.json()["nodes"][0]["stores"][0]["version"], "6");
    // All six are of today.
    gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(101, 1).json());
    let (_, said) = gcp.sync(65);
    assert!(said.stderr.contains("6 new versions") || said.stderr.contains("6 are allowed"), "{said}");
}

#[test]
fn old_versions_are_disabled_and_none_is_destroyed_where_so_many_are_kept() {
    let mut gcp = Gcp::new(Dump::fresh(11));
    gcp.store("keep_versions: 10");
    gcp.scenario.identity("max_changes_per_day: 100");
    for _ in 0..12 {
        add_by_hand(&gcp, b"an older one");
    }
    age(&gcp, 61);
    // Without the right it is a warning that names it.
    let (outcome, said) = gcp.sync(0);
    assert_eq!(outcome, "written");
    assert!(said.stderr.contains("old versions stay enabled") && said.stderr.contains("versions.disable"), "{said}");
    assert!(gcp.google.versions(&gcp.secret()).iter().all(|version| version.state == "ENABLED"));
    gcp.google.state.iam.lock().unwrap().give(WRITER, "secretmanager.versions.disable");
    gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(111, 1).json());
    assert_eq!(gcp.sync(0).0, "written");
    let states: Vec<_> = gcp.google.versions(&gcp.secret()).iter().map(|version| version.state).collect();
    assert_eq!(states, [vec!["DISABLED"; 4], vec!["ENABLED"; 10]].concat());
    assert_eq!(gcp.sync(0).0, "unchanged");
}

#[test]
fn facts_are_refreshed_once_a_week_since_each_is_a_version_that_costs() {
    let mut gcp = Gcp::new(Dump::fresh(12));
    gcp.sync(0);
    let facts = || gcp.google.versions(&gcp.facts_secret());
    let checked = |days: i64| {
        gcp.google.change(&gcp.facts_secret(), |versions| {
            let newest = versions.last_mut().unwrap();
            let mut map: serde_json::Value = serde_json::from_slice(&newest.data).unwrap();
            let at = jiff::Timestamp::now() - SignedDuration::from_hours(24 * days);
            map["idkeep_checked_at"] = at.to_string().into();
            newest.data = map.to_string().into_bytes();
        });
    };
    checked(6);
    assert_eq!(gcp.sync(0).0, "unchanged");
    assert_eq!(facts().len(), 1);
    checked(8);
    assert_eq!(gcp.sync(0).0, "unchanged");
    assert_eq!(facts().len(), 2);
    assert_eq!(gcp.sync(0).0, "unchanged");
    assert_eq!(facts().len(), 2);
    // What the configuration has learnt is written at once.
    let yaml = gcp.scenario.yaml().replace("party_hint: acme-", "party_hint: renamed-");
    gcp.scenario.idkeep.config(&yaml);
    assert_eq!(gcp.sync(0).0, "unchanged");
    let newest: serde_json::Value =
        serde_json::from_slice(&gcp.google.versions(&gcp.facts_secret()).last().unwrap().data).unwrap();
    assert_eq!(newest["idkeep_party_hint"], format!("renamed-{}", gcp.scenario.node));
    assert_eq!(gcp.stored().len(), 1);
}

#[test]
fn a_regional_secret_lies_in_its_region_and_has_no_replication() {
    let gcp = Gcp::bare(Google::regional("europe-west3"), Dump::fresh(13));
    {
        let mut iam = gcp.google.state.iam.lock().unwrap();
        iam.bind(Binding { member: AGENT.into(), role: "roles/owner".into(), secret: None, only: None });
    }
    assert_eq!(gcp.sync(0).0, "written");
    assert_eq!(gcp.google.secret(&gcp.secret()).unwrap().made_as, json!({}));
    assert_eq!(gcp.sync(0).0, "unchanged");
    let prefix = format!("/v1/projects/acme-canton/locations/europe-west3/secrets/{}", gcp.secret());
    assert!(gcp.google.calls(":addVersion").iter().any(|seen| seen.path.starts_with(&prefix)));
}

#[test]
fn an_emulator_is_shown_no_credentials() {
    let gcp = Gcp::bare(Google::emulator(), Dump::fresh(14));
    assert_eq!(gcp.sync(0).0, "written");
    assert_eq!(gcp.sync(0).0, "unchanged");
    assert_eq!(gcp.stored(), [gcp.scenario.dump.json()]);
    let live = gcp.live(0);
    assert!(live.contains("unknown: ") && live.contains("the server does not say"), "{live}");
    assert!(gcp.google.metadata.seen().is_empty());
}
