//! Versions and their tags: what is current, whose facts count, what others put there.

use super::Vault;
use crate::support::azure::{CLIENT, Version};
use crate::support::scenario::Synced;

fn warned(synced: &Synced, part: &str) {
    assert!(synced.stderr().contains(part), "{}", synced.outcome);
}

#[test]
fn facts_of_older_versions_stay_where_they_are() {
    let vault = Vault::new(20);
    vault.sync(0);
    let old = vault.azure.versions(&vault.secret());
    vault.change(21);
    vault.sync(0);
    let versions = vault.azure.versions(&vault.secret());
    assert_eq!(versions[0].tags, old[0].tags);
    assert!(versions[1].tags["idkeep_write"].ends_with(&format!(" after {}", versions[0].id)));
    assert!(versions[0].tags["idkeep_write"].ends_with(" after nothing"));
}

#[test]
fn a_version_that_somebody_else_wrote_over_ours_is_repaired() {
    let vault = Vault::new(22);
    vault.sync(0);
    for with_our_tags in [false, true] {
        vault.azure.age(&vault.secret(), 3600);
        let tags = if with_our_tags {
            vault.azure.newest(&vault.secret(), |newest| newest.tags.clone())
        } else {
            Default::default()
        };
        let foreign = Version { tags, ..Version::foreign("{}") };
        vault.azure.state().secrets.get_mut(&vault.secret().to_lowercase()).unwrap().push(foreign);
        // It may be another writer's that is at work.
        let mut young = vault.azure.versions(&vault.secret());
        vault.azure.age(&vault.secret(), 61);
        let synced = vault.sync(0);
        assert_eq!(synced.store(), "repaired", "{}", synced.outcome);
        warned(&synced, "but ");
        let versions = vault.azure.versions(&vault.secret());
        assert_eq!(versions.len(), young.len() + 1);
        assert_eq!(versions.last().unwrap().value.as_bytes(), vault.scenario.dump.json());
        assert_eq!(versions[versions.len() - 2].value, young.pop().unwrap().value, "what was there stays");
        assert_eq!(vault.sync(0).store(), "unchanged");
    }
}

#[test]
fn a_secret_that_is_there_already_is_adopted() {
    let vault = Vault::new(23);
    vault.azure.state().secrets.insert(vault.secret().to_lowercase(), vec![Version::foreign("old")]);
    vault.azure.age(&vault.secret(), 10);
    let synced = vault.sync(0);
    assert_eq!(synced.store(), "written");
    warned(&synced, "was not written by idkeep: it is kept, the next one is ours");
    let versions = vault.azure.versions(&vault.secret());
    assert_eq!((versions.len(), versions[0].value.as_str()), (2, "old"));
}

#[test]
fn what_is_disabled_or_has_expired_is_repaired() {
    let vault = Vault::new(24);
    vault.sync(0);
    let spoils: [fn(&mut Version); 2] = [|newest| newest.is_disabled = true, |newest| newest.expires = Some(1)];
    for spoil in spoils {
        vault.azure.newest(&vault.secret(), spoil);
        let synced = vault.sync(0);
        assert_eq!(synced.store(), "repaired", "{}", synced.outcome);
        assert_eq!(vault.sync(0).store(), "unchanged");
    }
}

#[test]
fn tags_of_others_are_carried_over_as_far_as_there_is_room() {
    let vault = Vault::new(25);
    vault.sync(0);
    let ours = vault.azure.newest(&vault.secret(), |newest| {
        let ours = newest.tags.len();
        for number in ours..15 {
            newest.tags.insert(format!("team-{number:02}"), "canton".into());
        }
        newest.tags.insert("file-encoding".into(), "base64".into());
        newest.tags.remove("team-14");
        ours
    });
    vault.change(26);
    let synced = vault.sync(0);
    assert!(!synced.stderr().contains("WARN"), "{}", synced.outcome);
    let newest = vault.azure.versions(&vault.secret()).pop().unwrap();
    assert_eq!(newest.tags.keys().filter(|name| name.starts_with("team-")).count(), 15 - ours - 1);
    assert!(!newest.tags.contains_key("file-encoding"), "it describes the older value");
}

#[test]
fn a_refresh_keeps_everything_but_the_facts() {
    let vault = Vault::new(27);
    vault.sync(0);
    let before = vault.azure.newest(&vault.secret(), |newest| {
        newest.tags.insert("team".into(), "canton".into());
        newest.tags.insert("idkeep_checked_at".into(), "2026-01-01T00:00:00Z".into());
        newest.tags.clone()
    });
    let synced = vault.sync(0);
    assert_eq!(synced.store(), "unchanged");
    assert!(!synced.stderr().contains("WARN"), "{}", synced.outcome);
    let versions = vault.azure.versions(&vault.secret());
    let mut after = versions[0].tags.clone();
    assert_ne!(
        after.insert("idkeep_checked_at".into(), before["idkeep_checked_at"].clone()).unwrap(),
        before["idkeep_checked_at"]
    );
    assert_eq!((after, versions.len()), (before, 1));
    // Without the right to, it is a warning.
    vault.azure.newest(&vault.secret(), |newest| {
        newest.tags.insert("idkeep_checked_at".into(), "2026-01-01T00:00:00Z".into())
    });
    vault.azure.state().grants.clear();
    vault.azure.grant(CLIENT, &vault.secret(), &["setSecret", "readMetadata"]);
    let synced = vault.sync(0);
    assert_eq!(synced.store(), "unchanged");
    warned(&synced, "the facts could not be refreshed");
}

#[test]
fn a_list_of_several_pages_is_read_to_its_end() {
    let vault = Vault::new(28);
    vault.azure.state().page = 2;
    vault.azure.state().lists_nothing = true;
    let mut old: Vec<_> = (1..=7).map(|number| Version { created: number, ..Version::foreign("old") }).collect();
    let mut digests = Vec::new();
    for seed in [281, 282] {
        digests.push(vault.change(seed).digest());
        vault.sync(0);
    }
    vault.azure.state().secrets.get_mut(&vault.secret().to_lowercase()).unwrap().append(&mut old);
    let synced = vault.sync(0);
    assert_eq!(synced.store(), "unchanged", "{}", synced.outcome);
    assert_eq!(synced.node["digest"], digests[1]);
    let first: Vec<_> = vault.azure.server.seen();
    assert!(first.iter().filter(|seen| seen.query.as_deref().unwrap_or_default().contains("skiptoken")).count() >= 4);
}
