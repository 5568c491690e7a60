//! The images at work: as nobody in particular, without a capability, on a root that cannot be written to.

use std::time::Duration;

use super::{Image, USER};
use crate::support::age::AgeKey;
use crate::support::backup::{Node, below};
use crate::support::podman::said;
use crate::support::scenario::Scenario;
use crate::support::server::Gate;
use crate::support::validator::Answer;
use crate::support::wait_for;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn the_image_syncs_without_a_right_and_writes_to_its_volume_alone() {
    let image = Image::build("idkeep");
    let mut scenario = Scenario::new(900);
    let age = AgeKey::new();
    scenario.config.stores = "[vault, local]".into();
    scenario.config.more_stores =
        format!("  local: {{file: {{path: /var/lib/idkeep, recipients: [{}]}}}}\n", age.recipient);
    scenario.configure();
    let gate = Gate::closed();
    scenario.validator.script([Answer::Held(gate.clone())]);
    let kept = ["-d", "-v", "kept:/var/lib/idkeep"];
    said(&mut image.run("it", scenario.idkeep.folder(), &kept, &["-o", "json", "sync"]));
    wait_for("the node to be asked", LONG, || (!scenario.validator.identity_requests().is_empty()).then_some(()));

    let pid = image.podman.must(&["inspect", "--format", "{{.State.Pid}}", "it"]);
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", pid.trim())).unwrap();
    let status = read("status");
    let words = |key: &str| -> Vec<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{status}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    let user = USER.to_string();
    assert!(words("Uid:").iter().chain(&words("Gid:")).all(|id| *id == user), "{status}");
    for sets in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(words(sets), ["0000000000000000"], "{sets}");
    }
    assert_eq!((words("NoNewPrivs:"), words("Seccomp:")), (vec!["1".to_owned()], vec!["2".to_owned()]));
    let mounts = read("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");

    gate.open();
    assert_eq!(image.podman.must(&["wait", "it"]).trim(), "0");
    scenario.assert_stored(&scenario.dump);
    let volume = image.podman.must(&["volume", "inspect", "--format", "{{.Mountpoint}}", "kept"]);
    let sealed = std::fs::read(format!("{}/{}/00000001.age", volume.trim(), scenario.node)).unwrap();
    assert_eq!(age.open(&sealed).unwrap(), scenario.dump.json());
    // Outside of it and of what podman itself makes there is nothing new.
    let changed = image.podman.must(&["diff", "it"]);
    assert!(!changed.contains("idkeep/") && !changed.contains("/tmp/"), "{changed}");
}

#[test]
fn the_demo_runs_in_both_images() {
    for target in ["idkeep", "postgres"] {
        let nothing = tempfile::tempdir().unwrap();
        let shown = said(&mut Image::build(target).run("it", nothing.path(), &[], &["demo"]));
        assert!(shown.contains("the same bytes"), "{shown}");
    }
}

#[test]
fn the_image_for_backups_takes_a_set_with_the_clients_that_it_brings() {
    let image = Image::build("postgres");
    let mut node = Node::new(901);
    let password = std::fs::read(node.cluster.secret_file()).unwrap();
    let password = node.idkeep().secret_file("db-password", &password);
    // Without `binary`: it has to find them.
    let database = |role: &str| {
        let url = node.cluster.url(role);
        format!("{{name: {role}, role: {role}, pg_dump: {{url: {url:?}, password: {{file: {password:?}}}}}}}")
    };
    node.databases = vec![database("validator"), database("participant")];
    node.configure();
    std::fs::create_dir(node.url.strip_prefix("file://").unwrap()).unwrap();
    said(&mut image.run("it", node.idkeep().folder(), &[], &["-o", "json", "backup"]));
    assert_eq!(node.whole().len(), 1);
    let dumps = below(&node.folder()).into_iter().filter(|file| file.to_str().unwrap().ends_with(".dump.zst.age"));
    assert_eq!(dumps.count(), 2);
}
