//! The rendered rights, given to the agent as they are printed, and what `check --live` finds about them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use super::{Kept as _, Vault, WRITER};
use crate::support::azure::CLIENT;
use crate::support::dump::Dump;

/// Runs the printed commands with an `az` that does what they say to the stand-in; what was assigned, scope and actions.
fn assign(vault: &Vault, role: &str, to: &str) -> Vec<(String, Vec<String>)> {
    let idkeep = &vault.scenario.idkeep;
    let script = idkeep.expect(0, &["policy", "azure", "--role", role]).stdout;
    let folder = idkeep.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let said = idkeep.path("said");
    let _ = std::fs::remove_file(&said);
    std::fs::write(
        folder.join("az"),
        format!("#!/bin/sh\nprintf '%s\\0' \"$@\" >>{0}\nprintf '\\n\\0' >>{0}\n", said.display()),
    )
    .unwrap();
    std::fs::set_permissions(folder.join("az"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", &script]).env_clear().env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    command.env("SUBSCRIPTION", "s-1").env("GROUP", "acme").env("PRINCIPAL", "object-id").env("VAULT", "acme-canton");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&said).unwrap();
    let calls: Vec<Vec<&str>> =
        text.split("\n\0").map(|call| call.split('\0').filter(|word| !word.is_empty()).collect()).collect();
    let after =
        |call: &[&str], option: &str| call[call.iter().position(|word| *word == option).unwrap() + 1].to_owned();
    let mut definition = Value::Null;
    let mut assigned = Vec::new();
    for call in calls.iter().filter(|call| !call.is_empty()) {
        if call[..3] == ["role", "definition", "create"] {
            definition = serde_json::from_str(&after(call, "--role-definition")).unwrap();
            assert_eq!(definition["AssignableScopes"], serde_json::json!(["/subscriptions/s-1/resourceGroups/acme"]));
            assert_eq!((&definition["Actions"], &definition["IsCustom"]), (&serde_json::json!([]), &Value::Bool(true)));
            continue;
        }
        assert_eq!(call[..3], ["role", "assignment", "create"]);
        assert_eq!(after(call, "--role"), definition["Name"].as_str().unwrap());
        assert_eq!(after(call, "--assignee-object-id"), "object-id");
        let scope = after(call, "--scope");
        let prefix = "/subscriptions/s-1/resourceGroups/acme/providers/Microsoft.KeyVault/vaults/acme-canton";
        let scope = scope.strip_prefix(prefix).unwrap_or_else(|| panic!("{scope}")).to_lowercase();
        let actions: Vec<String> = serde_json::from_value(definition["DataActions"].clone()).unwrap();
        vault.azure.state().grants.push((to.into(), scope.clone(), actions.iter().cloned().collect()));
        assigned.push((scope, actions));
    }
    // Without the variables nothing is done at all.
    assert!(!Command::new("sh").args(["-c", &script]).env_clear().output().unwrap().status.success());
    assigned
}

fn assert_says(said: &[(String, String)], result: &str, part: &str) {
    assert!(said.iter().any(|(is, text)| is == result && text.contains(part)), "no {result} {part:?}: {said:#?}");
}

#[test]
fn the_rendered_rights_are_enough_and_of_this_secret_alone() {
    let vault = Vault::without_rights(Dump::fresh(60));
    let assigned = assign(&vault, "writer", CLIENT);
    let actions = WRITER.map(|action| format!("Microsoft.KeyVault/vaults/secrets/{action}/action"));
    assert_eq!(assigned, [(format!("/secrets/{}", vault.secret().to_lowercase()), actions.to_vec())]);
    assert_eq!(vault.sync(0).store(), "written");
    vault.change(61);
    assert_eq!(vault.sync(0).store(), "written");
    vault.azure.newest(&vault.secret(), |newest| {
        newest.tags.insert("idkeep_checked_at".into(), "2026-01-01T00:00:00Z".into())
    });
    let synced = vault.sync(0);
    assert_eq!(synced.store(), "unchanged");
    assert!(!synced.stderr().contains("WARN"), "{}", synced.outcome);
    let said = vault.check(0);
    assert!(said.iter().all(|(result, _)| result == "ok" || result == "unknown"), "{said:#?}");
    vault.scenario.idkeep.expect(0, &["list"]);
    assert_eq!(vault.azure.state().values_read, 0);
}

#[test]
fn each_of_the_rendered_rights_is_needed() {
    for (action, code, part) in [
        ("setSecret", 77, "adding a version to"),
        ("readMetadata", 77, "listing the versions of"),
        ("update", 0, "writing the facts of"),
    ] {
        let vault = Vault::without_rights(Dump::fresh(62));
        assign(&vault, "writer", CLIENT);
        vault.sync(0);
        vault.azure.newest(&vault.secret(), |newest| {
            newest.tags.insert("idkeep_checked_at".into(), "2026-01-01T00:00:00Z".into())
        });
        let full = format!("Microsoft.KeyVault/vaults/secrets/{action}/action");
        assert!(vault.azure.state().grants[0].2.remove(&full), "{full}");
        if action == "setSecret" {
            vault.change(63);
        }
        let synced = vault.sync(code);
        assert!(synced.stderr().contains(part), "{action}: {}", synced.outcome);
        assert!(synced.stderr().contains("no role of this identity allows it"), "{action}: {}", synced.outcome);
        if code == 77 {
            assert!(synced.stderr().contains("hint: `idkeep policy azure` prints the rights"), "{}", synced.outcome);
        }
        match action {
            "readMetadata" => assert_says(&vault.check(77), "fail", part),
            "update" => assert_says(&vault.check(0), "warn", "secrets/update/action"),
            _ => assert_says(&vault.check(0), "unknown", "cannot be asked without doing it"),
        }
    }
}

#[test]
fn the_restorer_reads_and_the_agent_does_not() {
    let vault = Vault::without_rights(Dump::fresh(64));
    assign(&vault, "writer", CLIENT);
    vault.sync(0);
    let client = crate::support::client::Client::new(Some(&vault.azure.ca_file));
    let secret = vault.secret();
    let ask = |method: &str, of: &str, caller: &str| {
        vault.azure.state().tokens.insert(caller.into(), caller.into());
        let url = format!("{}/secrets/{of}?api-version=7.4", vault.azure.origin);
        client.send(method, &url, &[("authorization", &format!("Bearer {caller}"))], None).unwrap()
    };
    for (method, of) in [
        ("GET", secret.clone()),
        ("POST", format!("{secret}/backup")),
        ("DELETE", secret.clone()),
        ("GET", "another".into()),
    ] {
        assert_eq!(ask(method, &of, CLIENT).status, 403, "{method} {of}");
    }
    let assigned = assign(&vault, "restorer", "a-person");
    assert_eq!(assigned[0].1.len(), 2);
    let read: Value = serde_json::from_slice(&ask("GET", &secret, "a-person").body).unwrap();
    assert_eq!(read["value"].as_str().unwrap().as_bytes(), vault.scenario.dump.json());
    assert_eq!(read["tags"]["idkeep_party_hint"], format!("acme-{}", vault.scenario.node));
    assert_eq!(ask("GET", &format!("{secret}/versions"), "a-person").status, 200);
    assert_eq!(ask("PUT", &secret, "a-person").status, 403);
}

#[test]
fn the_live_check_fails_where_the_agent_may_read_and_reads_nothing_itself() {
    for is_stored in [false, true] {
        let vault = Vault::new(65);
        if is_stored {
            vault.sync(0);
        }
        let said = vault.check(0);
        assert_says(&said, "ok", "the agent may not read it");
        assert_says(&said, "ok", "may write its facts anew");
        vault.azure.grant(CLIENT, &vault.secret(), &["getSecret"]);
        let before = vault.values();
        let said = vault.check(77);
        assert_says(
            &said,
            "fail",
            "the agent may read it, and needs not; take `Microsoft.KeyVault/vaults/secrets/getSecret/action`",
        );
        assert_says(&said, "unknown", "delete or back it up cannot be asked");
        let state = vault.azure.state();
        assert_eq!((state.values_read, state.deletes_tried, state.unguarded_bodies), (0, 0, 0));
        drop(state);
        assert_eq!(vault.values(), before);
    }
}

#[test]
fn the_live_check_warns_where_a_secret_can_be_purged() {
    let vault = Vault::new(66);
    vault.sync(0);
    vault.azure.state().recovery_level = "Recoverable+Purgeable";
    assert_says(&vault.check(0), "warn", "can remove it for good, with all its versions; az keyvault update");
    vault.azure.spoil("PATCH", 1, 503, "", &[]);
    assert_says(&vault.check(0), "unknown", "whether the agent may write its facts anew");
}

#[test]
fn a_configuration_without_a_vault_gets_no_rights() {
    let outcome = crate::support::scenario::Scenario::new(67).idkeep.expect(78, &["policy", "azure"]);
    assert!(outcome.stderr.contains("the configuration has no store of this kind"), "{outcome}");
}
