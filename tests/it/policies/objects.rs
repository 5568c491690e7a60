//! Rights in the clouds' object stores.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{DATABASES, configured};
use crate::support::idkeep::Idkeep;

/// Both nodes in one bucket under a prefix, and a second bucket that only the second one uses.
fn of(scheme: &str) -> Idkeep {
    let repositories = format!(
        "  first: {{url: '{scheme}://acme-dr/idkeep/main'}}\n  second: {{url: '{scheme}://acme-other'}}\n  \
         unused: {{url: '{scheme}://acme-unused'}}\n"
    );
    configured(&repositories, "first", "second", DATABASES)
}

fn printed(idkeep: &Idkeep, system: &str, role: &str) -> String {
    idkeep.expect(0, &["policy", system, "--role", role]).stdout
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned());
    texts.collect()
}

#[test]
fn the_iam_policy_names_each_nodes_folder_and_only_the_expirer_deletes() {
    let idkeep = of("s3");
    for (role, expected) in [
        ("writer", vec!["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]),
        ("expirer", vec!["s3:DeleteObject", "s3:GetObject", "s3:ListBucket"]),
        ("restorer", vec!["s3:GetObject", "s3:ListBucket"]),
    ] {
        let policy: Value = serde_json::from_str(&printed(&idkeep, "s3", role)).unwrap();
        assert_eq!(policy["Version"], "2012-10-17");
        let (mut actions, mut names, mut listed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for statement in policy["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow");
            let name = statement["Sid"].as_str().unwrap();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && name.len() > 5, "{name}");
            assert!(names.insert(name.to_owned()), "{name} stands there twice");
            let action = texts(&statement["Action"]).join(" ");
            let resources = texts(&statement["Resource"]);
            if action == "s3:ListBucket" {
                let prefixes = texts(&statement["Condition"]["StringLike"]["s3:prefix"]);
                listed.insert(format!("{resources:?} {prefixes:?}"));
            } else {
                let folder = ["arn:aws:s3:::acme-dr/idkeep/main/one/*", "arn:aws:s3:::acme-other/two/*"];
                assert!(resources.len() == 1 && folder.contains(&resources[0].as_str()), "{resources:?}");
                assert_eq!(statement["Condition"], Value::Null);
            }
            actions.insert(action);
        }
        assert_eq!(actions.into_iter().collect::<Vec<_>>(), expected, "{role}");
        let expected = [
            r#"["arn:aws:s3:::acme-dr"] ["idkeep/main/one/*"]"#.to_owned(),
            r#"["arn:aws:s3:::acme-other"] ["two/*"]"#.to_owned(),
        ];
        assert_eq!(listed, BTreeSet::from(expected), "{role}");
    }
}

#[test]
fn nodes_that_share_a_bucket_share_its_statements() {
    let idkeep = configured("  bucket: {url: 's3://acme-dr/idkeep'}\n", "bucket", "bucket", DATABASES);
    let policy: Value = serde_json::from_str(&printed(&idkeep, "s3", "restorer")).unwrap();
    let folders = json!(["arn:aws:s3:::acme-dr/idkeep/one/*", "arn:aws:s3:::acme-dr/idkeep/two/*"]);
    assert_eq!(policy["Statement"][0]["Resource"], folders);
    assert_eq!(policy["Statement"][0]["Sid"], "ReadsSets");
}

/// Runs the printed script with a `gcloud` that writes down what it is asked for, and what it is given to read.
fn asked_of_gcloud(idkeep: &Idkeep, script: &str) -> Vec<String> {
    let folder = idkeep.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let said = idkeep.path("said");
    let gcloud = folder.join("gcloud");
    let program =
        format!("#!/bin/sh\n{{ printf '%s ' \"$@\"; [ \"$1\" = iam ] || tr '\\n' ' '; echo; }} >>{}\n", said.display());
    std::fs::write(&gcloud, program).unwrap();
    std::fs::set_permissions(&gcloud, std::fs::Permissions::from_mode(0o755)).unwrap();
    let _ = std::fs::remove_file(&said);
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", script]).env_clear().env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    command.env("PROJECT", "acme-project").env("MEMBER", "serviceAccount:idkeep@acme.example");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    read(&said).lines().map(str::to_owned).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_gcloud_commands_run_and_bind_each_role_to_its_folders() {
    let idkeep = of("gs");
    for (role, roles) in [("writer", 2), ("expirer", 1), ("restorer", 1)] {
        let script = printed(&idkeep, "gs", role);
        let asked = asked_of_gcloud(&idkeep, &script);
        let (created, bound): (Vec<_>, Vec<_>) = asked.iter().partition(|line| line.starts_with("iam roles create "));
        assert_eq!((created.len(), bound.len()), (roles, 2 * roles), "{asked:#?}");
        for line in &created {
            assert!(line.contains("--project=acme-project"), "{line}");
            let deletes = line.contains("storage.objects.delete");
            assert_eq!(deletes, role == "expirer" || line.contains("idkeepLock"), "{line}");
            assert_eq!(line.contains("storage.objects.create"), line.contains("idkeepWriter"), "{line}");
        }
        for (bucket, folder) in [("acme-dr", "idkeep/main/one/"), ("acme-other", "two/")] {
            let of_bucket: Vec<_> = bound.iter().filter(|line| line.contains(&format!(" gs://{bucket} "))).collect();
            assert_eq!(of_bucket.len(), roles, "{bound:#?}");
            for line in of_bucket {
                let named = format!("resource.name.startsWith('projects/_/buckets/{bucket}/objects/{folder}");
                assert!(
                    line.contains(&named) && line.contains("--member=serviceAccount:idkeep@acme.example"),
                    "{line}"
                );
                // What may delete does so to a lock and a note, never to a set.
                if line.contains("idkeepLock") {
                    assert!(line.contains(&format!("{named}lock/')")), "{line}");
                    assert!(line.contains("') && resource.name.endsWith('/pending.json')"), "{line}");
                } else {
                    assert!(line.contains(&format!("objectListPrefix', '').startsWith('{folder}')")), "{line}");
                }
            }
        }
        assert!(!script.contains("unused"), "{script}");
        // Without a project nothing is done at all.
        let unset = Command::new("sh").args(["-c", &script]).env_clear().output().unwrap();
        assert!(!unset.status.success());
    }
}

#[test]
fn the_azure_role_has_data_actions_alone_and_its_assignments_are_bound_to_folders() {
    let idkeep = of("az");
    let blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs";
    for (role, expected) in
        [("writer", &["read", "write"][..]), ("expirer", &["read", "delete"]), ("restorer", &["read"])]
    {
        let policy: Value = serde_json::from_str(&printed(&idkeep, "az", role)).unwrap();
        let definition = &policy["roleDefinition"];
        let expected: Vec<String> = expected.iter().map(|action| format!("{blobs}/{action}")).collect();
        assert_eq!(texts(&definition["DataActions"]), expected);
        assert_eq!((&definition["Actions"], &definition["IsCustom"]), (&json!([]), &json!(true)));
        let assignments = policy["roleAssignments"].as_array().unwrap();
        assert_eq!(assignments.len(), 2);
        for (assignment, (container, folder)) in
            assignments.iter().zip([("acme-dr", "idkeep/main/one/"), ("acme-other", "two/")])
        {
            let scope = assignment["scope"].as_str().unwrap();
            assert!(scope.ends_with(&format!("/blobServices/default/containers/{container}")), "{scope}");
            let condition = assignment["condition"].as_str().unwrap();
            assert_eq!(condition.matches('(').count(), condition.matches(')').count());
            assert!(condition.contains(&format!("@Resource[{blobs}:path] StringStartsWith '{folder}'")), "{condition}");
            assert!(
                condition.contains(&format!("@Request[{blobs}:prefix] StringStartsWith '{folder}'")),
                "{condition}"
            );
            // An action that the condition does not name would be allowed everywhere.
            for action in &expected {
                assert!(condition.contains(&format!("ActionMatches{{'{action}'}}")), "{condition}");
            }
        }
    }
}
