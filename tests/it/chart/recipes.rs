//! The commands that the guides and the notes give to people: they do what the text around them says.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use idkeep::backup::repository::part_bytes;
use serde_json::{Value, json};

use super::{example, scheduled};
use crate::docs::blocks;
use crate::support::chart::{Case, Rendered, containers, folder, render, render_one, values};
use crate::support::idkeep::Idkeep;
use crate::support::parts::tool;

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/how-to").join(name)).unwrap()
}

/// The only block of commands on this page with these words in it.
fn commands(name: &str, words: &str) -> String {
    let mut found: Vec<String> = blocks(&page(name))
        .into_iter()
        .filter(|block| block.info == "sh" && block.text.contains(words))
        .map(|block| block.text)
        .collect();
    assert_eq!(found.len(), 1, "{name}: {words}");
    found.remove(0)
}

/// Runs commands among which these words stand for scripts: all that they are given goes into the file `said`.
fn run(text: &str, programs: &[(&str, &str)], folder: &Path) -> Output {
    for (name, script) in programs {
        let file = folder.join(name);
        std::fs::write(&file, format!("#!/bin/sh\necho \"{name} $*\" >> said\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    Command::new(tool("sh")).args(["-c", text]).current_dir(folder).env("PATH", path).output().unwrap()
}

/// A Job that its CronJob owns counts as a run of it, and the alerts on freshness go by the last one that succeeded.
#[test]
fn the_check_before_the_first_sync_counts_as_no_sync() {
    let rendered = render_one(values("cronjob", "", &example("minimal.yaml")));
    let program = rendered.notes().split("jq '").nth(1).unwrap().split('\'').next().unwrap();
    let template = &rendered.one("CronJob")["spec"]["jobTemplate"]["spec"];
    let owner = json!([{"kind": "CronJob", "name": "one-idkeep-identities", "controller": true}]);
    let job = json!({"kind": "Job", "metadata": {"name": "first", "ownerReferences": owner}, "spec": template});
    let output = Command::new(tool("jq"))
        .args(["-n", "--argjson", "job", &job.to_string()])
        .arg(format!("$job | {program}"))
        .output()
        .unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut wanted = job.clone();
    wanted["metadata"] = json!({"name": "first"});
    wanted["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["check", "--live"]);
    assert_eq!(made, wanted);
}

#[test]
fn the_node_is_upgraded_once_the_set_is_taken_and_never_when_its_job_failed() {
    let text = commands("before-an-upgrade.md", "helm upgrade validator");
    for (condition, is_upgraded) in [("SuccessCriteriaMet Complete", true), ("FailureTarget Failed", false)] {
        let folder = tempfile::tempdir().unwrap();
        let kubectl =
            format!("case \"$*\" in *' get '*) echo '{condition}';; *' wait '*) test '{is_upgraded}' = true;; esac");
        let helm = "case \"$*\" in *history*) echo '[{\"revision\": 4}]';; esac";
        let output = run(&text, &[("kubectl", &kubectl), ("helm", helm)], folder.path());
        let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
        assert_eq!(output.status.success(), is_upgraded, "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.contains("helm upgrade validator"), is_upgraded, "{said}");
        assert!(said.contains("job/idkeep-before-r4") && !said.contains("--timeout=4h"), "{said}");
    }
}

/// What Vault and the clouds trust is one service account. The first recipe says so by flags, the others by values.
#[test]
fn what_runs_before_an_upgrade_is_the_service_account_that_the_stores_know() {
    let flags = commands("before-an-upgrade.md", "idkeep-before helm/idkeep");
    let flags: Vec<&str> = flags.split_whitespace().filter(|word| word.contains('=')).collect();
    assert!(
        flags.contains(&"serviceAccount.create=false") && flags.contains(&"serviceAccount.name=idkeep"),
        "{flags:?}"
    );
    let found = blocks(&page("before-an-upgrade.md")).into_iter().filter(|block| block.info == "yaml,values");
    let cases: Vec<Case> = found.map(|block| Case::new("before-an-upgrade.md", block.text)).collect();
    assert_eq!(cases.len(), 2);
    for rendered in render(cases) {
        rendered.assert_good();
        assert!(rendered.of_kind("ServiceAccount").is_empty());
        assert_eq!(rendered.pod()["serviceAccountName"], "idkeep");
    }
    let guide = commands("helm.md", "auth/kubernetes/role/idkeep");
    assert!(guide.contains("bound_service_account_names=idkeep "), "{guide}");
}

#[test]
fn the_role_in_the_guide_is_the_one_that_the_policy_asks_for() {
    let guide = commands("helm.md", "auth/kubernetes/role/idkeep");
    let policy = Idkeep::configured(&example("vault-kubernetes.yaml")).expect(0, &["policy", "vault"]).stdout;
    let asked: Vec<&str> =
        policy.lines().find(|line| line.contains("token_ttl=")).unwrap()[1..].split_whitespace().collect();
    assert!(asked.len() >= 4, "{asked:?}");
    for parameter in asked {
        assert!(guide.split_whitespace().any(|word| word == parameter), "{parameter} is not in\n{guide}");
    }
    assert!(!guide.contains(" policies="), "{guide}");
}

/// The images that the chart pulls from this registry.
fn pulled(config: &str) -> Rendered {
    render_one(values("job", "image: {registry: images.acme.example}", config))
}

#[test]
fn the_images_that_are_pushed_are_those_that_the_chart_pulls() {
    let text = commands("image.md", "docker push");
    for (file, target) in [("minimal.yaml", ""), ("backups.yaml", "--target postgres ")] {
        let rendered = pulled(&example(file));
        let image = containers(rendered.pod())[0]["image"].as_str().unwrap();
        for wanted in [format!("docker build -t {image} {target}.\n"), format!("docker push {image}\n")] {
            assert!(text.contains(&wanted), "{wanted} is not in\n{text}");
            assert!(page("helm.md").contains(&wanted), "{wanted} is not in helm.md");
        }
    }
}

#[test]
fn the_values_can_be_checked_before_they_are_installed() {
    let text = commands("helm.md", "helm template");
    let rendered = render_one(values("deployment", "", &scheduled(&example("minimal.yaml"))));
    assert!(folder().join("templates/configmap.yaml").exists() && text.contains("-s templates/configmap.yaml"));
    assert!(!rendered.config().is_empty() && text.contains(".data[\"idkeep.yaml\"]"));
    let folder = tempfile::tempdir().unwrap();
    let helm = ("helm", "echo 'data: {idkeep.yaml: it}'");
    let yq = ("yq", "cat");
    let output = run(&text, &[helm, yq, ("docker", "")], folder.path());
    let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.path().join("idkeep.yaml").exists(), "{said}");
    let image = pulled(&example("minimal.yaml"));
    let image = containers(image.pod())[0]["image"].as_str().unwrap().to_owned();
    let last = said.lines().find(|line| line.starts_with("docker")).unwrap();
    assert!(last.ends_with(&format!(":/etc/idkeep/idkeep.yaml:ro {image} check --offline")), "{last}");
}

/// A part is filled while two are sent; the 60 MiB that were measured have three of the smallest in them.
#[test]
fn the_memory_in_the_guide_is_what_the_parts_come_to() {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let guide = page("helm.md");
    for (size, bytes) in [("100 GB", 100_000_000_000), ("500 GB", 500_000_000_000), ("1 TB", 1_000_000_000_000)] {
        let part = part_bytes(bytes) as u64;
        let row = format!("| {size} | {} MiB | {} MiB |", mib(part), 60 - 3 * 8 + mib(3 * part));
        assert!(guide.contains(&row), "{row}");
    }
}
