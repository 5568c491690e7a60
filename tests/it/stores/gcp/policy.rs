//! What `policy gcp` prints is what is needed, line by line, and no more.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::{AGENT, Gcp};
use crate::support::dump::Dump;
use crate::support::gcp::iam::Binding;
use crate::support::gcp::{Google, NUMBER, PROJECT, RESTORER};

/// A node with nothing but what the printed commands create and bind.
fn with_policy(seed: u64, lines: &[&str]) -> Gcp {
    let mut gcp = Gcp::bare(Google::start(), Dump::fresh(seed));
    lines.iter().for_each(|line| gcp.store(line));
    let script = printed(&gcp, "writer");
    apply(&gcp, AGENT, &script);
    gcp
}

fn printed(gcp: &Gcp, role: &str) -> String {
    gcp.scenario.idkeep.expect(0, &["policy", "gcp", "--role", role]).stdout
}

/// The same with the optional lines in place of those that create secrets.
fn optional(script: &str) -> String {
    let lines = script.lines().filter(|line| !line.contains("gcloud secrets ") || line.starts_with('#'));
    // What goes on below such a line goes with it.
    let lines = lines.filter(|line| !line.starts_with("  --role="));
    let lines = lines.map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs the script with a `gcloud` that writes down what it is asked for, and does that to the stand-in.
fn apply(gcp: &Gcp, member: &str, script: &str) {
    for asked in asked_of_gcloud(gcp, member, script) {
        let words: Vec<&str> = asked.split('\x1f').collect();
        let flag = |name: &str| {
            let named = format!("--{name}=");
            words.iter().find_map(|word| word.strip_prefix(&named)).map(str::to_owned)
        };
        let need = |name: &str| flag(name).unwrap_or_else(|| panic!("--{name} of {words:?}"));
        let mut iam = gcp.google.state.iam.lock().unwrap();
        let binding = |secret: Option<String>, only: Option<String>| Binding {
            member: need("member"),
            role: need("role"),
            secret,
            only,
        };
        match &words[..] {
            ["iam", "roles", "create", role, ..] => {
                assert_eq!((need("project").as_str(), need("stage").as_str()), (PROJECT, "GA"));
                let rights = need("permissions");
                iam.define(&format!("projects/{PROJECT}/roles/{role}"), rights.split(',').map(str::to_owned));
            }
            ["secrets", "create", name, ..] => {
                assert_eq!(need("project"), PROJECT);
                drop(iam);
                gcp.google.create(name);
            }
            ["secrets", "add-iam-policy-binding", name, ..] => {
                assert_eq!(need("project"), PROJECT);
                let binding = binding(Some(format!("secrets/{name}")), None);
                iam.bind(binding);
            }
            ["projects", "add-iam-policy-binding", PROJECT, ..] => {
                let condition = need("condition");
                let only = condition.split_once("resource.name == 'projects/").map(|(_, rest)| {
                    let resource = rest.split('\'').next().unwrap();
                    let whole = format!("startsWith('projects/{resource}/versions/')");
                    assert!(condition.ends_with(&whole), "{condition}");
                    resource.strip_prefix(&format!("{NUMBER}/")).unwrap().to_owned()
                });
                assert!(only.is_some() || condition == "None", "{condition}");
                let binding = binding(None, only);
                iam.bind(binding);
            }
            _ => panic!("gcloud is asked for something else: {words:?}"),
        }
    }
}

fn asked_of_gcloud(gcp: &Gcp, member: &str, script: &str) -> Vec<String> {
    let idkeep = &gcp.scenario.idkeep;
    let folder = idkeep.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let said = idkeep.path("said");
    let _ = std::fs::remove_file(&said);
    let gcloud = folder.join("gcloud");
    let program = format!(
        "#!/bin/sh\nfirst=$1; printf '%s' \"$1\" >>{said}; shift; for word; do printf '\\037%s' \"$word\" >>{said}; done; echo >>{said}\n",
        said = said.display()
    );
    std::fs::write(&gcloud, program).unwrap();
    std::fs::set_permissions(&gcloud, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", script]).env_clear().env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    command.env("MEMBER", member).env("PROJECT_NUMBER", NUMBER);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(&said).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn with_the_printed_rights_everything_passes_and_a_read_is_denied() {
    let gcp = with_policy(1, &[]);
    assert_eq!(gcp.sync(0).0, "written");
    gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(11, 1).json());
    assert_eq!(gcp.sync(0).0, "written");
    assert_eq!(gcp.sync(0).0, "unchanged");
    let live = gcp.live(0);
    let (secret, facts) = (gcp.secret(), gcp.facts_secret());
    assert!(live.contains(&format!("{secret}: secretmanager.versions.add, secretmanager.versions.list")), "{live}");
    assert!(live.contains(&format!("{facts}: secretmanager.versions.add, ")), "{live}");
    let listed = gcp.scenario.idkeep.expect(0, &["-o", "json", "list"]).json();
    assert_eq!(listed["nodes"][0]["identities"][0]["version"], "2");
    // The facts yes, the keys no.
    assert_eq!(gcp.google.read_as(AGENT, &facts, "latest").status, 200);
    assert_eq!(gcp.google.read_as(AGENT, &secret, "latest").status, 403);
}

#[test]
fn each_printed_right_is_needed() {
    // Which rights there are is what is printed, so that a new one without a reason fails here.
    let whole = with_policy(2, &["keep_versions: 10"]);
    let rights: Vec<(String, String)> = whole
        .google
        .state
        .iam
        .lock()
        .unwrap()
        .custom()
        .into_iter()
        .flat_map(|(role, rights)| rights.into_iter().map(move |right| (role.clone(), right)))
        .collect();
    let mut broken = BTreeSet::new();
    for (role, right) in rights {
        let gcp = with_policy(3, &["keep_versions: 10"]);
        gcp.scenario.sync(0);
        assert!(gcp.google.state.iam.lock().unwrap().take(&role, &right));
        // `check --live` names it, and what needs it breaks.
        let live = gcp.live(77);
        assert!(live.contains(&format!("{right} is missing")) || live.contains("may do nothing with it"), "{live}");
        let role = role.rsplit('/').next().unwrap().to_owned();
        gcp.scenario.validator.dump(&gcp.scenario.dump.clone().rotated(31, 1).json());
        match (role.as_str(), right.rsplit('.').next().unwrap()) {
            ("idkeepIdentities", "add" | "list") | ("idkeepFacts", "access") => assert_eq!(gcp.sync(77).0, "failed"),
            // What was written stays written, and the next pass tells why.
            ("idkeepFacts", "add") => assert_eq!(gcp.sync(77).0, "failed"),
            // See `facts_of_a_slower_writer_do_not_hide_those_of_the_current_version`.
            ("idkeepFacts", "list") => assert_eq!(gcp.sync(0).0, "written"),
            // See `old_versions_are_disabled_and_none_is_destroyed_where_so_many_are_kept`.
            ("idkeepKeep", "disable") => assert_eq!(gcp.sync(0).0, "written"),
            other => panic!("{other:?} is printed, and nobody knows why"),
        }
        broken.insert((role, right));
    }
    assert_eq!(broken.len(), 6, "{broken:?}");
}

#[test]
fn the_optional_lines_let_the_agent_create_its_secrets_and_touch_no_other() {
    let gcp = Gcp::bare(Google::start(), Dump::fresh(4));
    let script = optional(&printed(&gcp, "writer"));
    apply(&gcp, AGENT, &script);
    assert_eq!(gcp.sync(0).0, "written");
    assert_eq!(gcp.sync(0).0, "unchanged");
    gcp.live(0);
    gcp.google.create("somebody-elses");
    let iam = gcp.google.state.iam.lock().unwrap();
    for right in ["add", "list", "access"] {
        assert!(!iam.may(AGENT, &format!("secretmanager.versions.{right}"), Some("secrets/somebody-elses"), true));
    }
}

#[test]
fn before_the_secrets_are_there_the_live_check_says_so() {
    let gcp = Gcp::bare(Google::start(), Dump::fresh(5));
    let live = gcp.live(77);
    assert!(live.contains("the agent may do nothing with it, or it does not exist; run the commands"), "{live}");
    apply(&gcp, AGENT, &optional(&printed(&gcp, "writer")));
    let live = gcp.live(0);
    assert!(live.contains(&format!("unknown: {}: store gcp: {} is not there yet", gcp.scenario.node, gcp.secret())));
}

#[test]
fn rights_that_nobody_needs_fail_the_live_check_and_are_named() {
    let cases: [(&str, bool, &[&str]); 4] = [
        (
            "roles/secretmanager.secretAccessor",
            false,
            &["may read what it wrote", "take `secretmanager.versions.access` from it"],
        ),
        ("roles/secretmanager.secretVersionManager", false, &["destroy versions", "secretmanager.versions.disable"]),
        ("roles/secretmanager.secretVersionManager", true, &["destroy versions"]),
        ("roles/owner", false, &["let it expire, give itself any right", "`secretmanager.secrets.delete`"]),
    ];
    for (role, on_facts, texts) in cases {
        let gcp = with_policy(6, &[]);
        assert_eq!(gcp.sync(0).0, "written");
        let secret = if on_facts { gcp.facts_secret() } else { gcp.secret() };
        gcp.google.state.iam.lock().unwrap().allow(AGENT, role, &format!("secrets/{secret}"));
        let live = gcp.live(77);
        for text in texts {
            assert!(live.contains(text), "{text:?} is not in\n{live}");
        }
        assert!(live.contains(&format!("`gcloud secrets get-iam-policy {secret}`")), "{live}");
        // It still does its work: the check is what fails.
        assert_eq!(gcp.sync(0).0, "unchanged");
    }
}

#[test]
fn the_restorer_reads_what_the_agent_wrote_and_writes_nothing() {
    let gcp = with_policy(7, &[]);
    assert_eq!(gcp.sync(0).0, "written");
    apply(&gcp, RESTORER, &printed(&gcp, "restorer"));
    let answer = gcp.google.read_as(RESTORER, &gcp.secret(), "latest");
    assert_eq!(answer.status, 200, "{}", answer.text());
    use base64::Engine as _;
    let data = answer.json()["payload"]["data"].as_str().unwrap().to_owned();
    let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    assert_eq!(data, gcp.scenario.dump.json());
    assert_eq!(gcp.google.read_as(RESTORER, &gcp.facts_secret(), "1").status, 200);
    let iam = gcp.google.state.iam.lock().unwrap();
    for secret in [gcp.secret(), gcp.facts_secret()] {
        let secret = format!("secrets/{secret}");
        let may = |right: &str| iam.may(RESTORER, &format!("secretmanager.versions.{right}"), Some(&secret), true);
        assert!(may("access") && may("list") && !may("add") && !may("disable") && !may("destroy"));
    }
}

#[test]
fn secrets_are_made_by_hand_as_the_agent_would_make_them() {
    let key = "projects/acme-canton/locations/europe-west3/keyRings/r/cryptoKeys/k";
    let kms_key = format!("kms_key: {key}");
    let cases: [(&[&str], &str); 4] = [
        (&["labels: {team: canton, env: prod}"], "--labels=env=prod,team=canton --replication-policy=automatic\n"),
        (
            &["replicas: [europe-west3, europe-west4]"],
            "--replication-policy=user-managed --locations=europe-west3,europe-west4\n",
        ),
        (&["replicas: [europe-west3]", &kms_key], "--replication-policy-file=/dev/stdin\n"),
        (&["location: europe-west3", &kms_key], &format!("--location=europe-west3 --regional-kms-key-name={key}\n")),
    ];
    for (lines, text) in cases {
        let mut gcp = Gcp::bare(Google::start(), Dump::fresh(8));
        lines.iter().for_each(|line| gcp.store(line));
        let script = printed(&gcp, "writer");
        for secret in [gcp.secret(), gcp.facts_secret()] {
            let expected = format!("gcloud secrets create {secret} --project=acme-canton {text}");
            assert!(script.contains(&expected), "{expected:?} is not in\n{script}");
        }
        // Whatever is configured, a shell understands it.
        asked_of_gcloud(&gcp, AGENT, &script);
        asked_of_gcloud(&gcp, AGENT, &optional(&script));
    }
}
