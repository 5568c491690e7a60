//! The rendered policies, loaded as they are printed, and what `check --live` finds about rights.

use serde_json::{Value, json};

use super::own_bao;
use crate::support::dump::Dump;
use crate::support::scenario::Scenario;

/// A scenario whose role has the rendered policy and nothing else, not even the default one.
fn with_rendered_policy() -> Scenario {
    let scenario = Scenario::on(own_bao(), Dump::fresh(1));
    let policy = rendered(&scenario, "writer");
    scenario.bao.policy(&scenario.node, &policy);
    only(&scenario);
    scenario
}

/// The node's role gets the policy of its name, and no default one beside it.
pub(super) fn only(scenario: &Scenario) {
    let role = json!({"token_policies": [scenario.node], "token_no_default_policy": true, "token_ttl": "10m"});
    scenario.bao.must("POST", &format!("auth/approle/role/{}", scenario.node), role);
}

pub(super) fn rendered(scenario: &Scenario, role: &str) -> String {
    scenario.idkeep.expect(0, &["policy", "vault", "--role", role]).stdout
}

/// A token with the rendered policy alone.
fn token_of(scenario: &Scenario, policy: &str) -> String {
    let body = json!({"policies": [policy], "ttl": "300s", "no_default_policy": true});
    let answer = scenario.bao.must("POST", "auth/token/create", body);
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

/// What `check --live` says about the store, as `(result, message)`, and its exit code.
pub(super) fn check(scenario: &Scenario, code: i32) -> Vec<(String, String)> {
    let report = scenario.idkeep.expect(code, &["-o", "json", "check", "--live"]).json();
    let about_store = |tried: &&Value| tried["what"] == format!("{}: store vault", scenario.node);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let live = report["live"].as_array().unwrap();
    live.iter().filter(about_store).map(|tried| (text(&tried["result"]), text(&tried["message"]))).collect()
}

pub(super) fn assert_says(said: &[(String, String)], result: &str, part: &str) {
    assert!(said.iter().any(|(is, message)| is == result && message.contains(part)), "no {result} {part:?}: {said:#?}");
}

#[test]
fn the_rendered_policy_is_enough_for_a_sync_and_for_the_live_check() {
    let scenario = with_rendered_policy();
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"max_versions": 50}));
    assert_eq!(scenario.sync(0).store(), "written");
    scenario.validator.dump(&scenario.dump.clone().rotated(5, 1).json());
    assert_eq!(scenario.sync(0).store(), "written");
    let synced = scenario.sync(0);
    assert_eq!(synced.store(), "unchanged");
    assert!(!synced.stderr().contains("WARN"), "{}", synced.outcome);
    let said = check(&scenario, 0);
    assert!(said.iter().all(|(result, _)| result == "ok"), "{said:#?}");
    assert_eq!(said.len(), 2, "{said:#?}");
}

#[test]
fn the_rendered_policy_lets_nobody_read_or_erase() {
    let scenario = with_rendered_policy();
    scenario.sync(0);
    let path = scenario.path();
    let token = token_of(&scenario, &scenario.node);
    let before = scenario.metadata();
    let ask = |method: &str, path: String, body: Value| scenario.bao.api_as(&token, None, method, &path, body).0;
    for parameter in [
        json!({"max_versions": 1}),
        json!({"delete_version_after": "1s"}),
        json!({"cas_required": true}),
        json!({"metadata_cas_required": true}),
        json!({"custom_metadata": {"a": "b"}, "max_versions": 1}),
    ] {
        assert_eq!(ask("POST", format!("secret/metadata/{path}"), parameter.clone()), 403, "{parameter}");
    }
    for (method, path) in [
        ("GET", format!("secret/data/{path}")),
        ("GET", format!("secret/subkeys/{path}")),
        ("DELETE", format!("secret/data/{path}")),
        ("DELETE", format!("secret/metadata/{path}")),
        ("POST", format!("secret/delete/{path}")),
        ("POST", format!("secret/destroy/{path}")),
        ("POST", format!("secret/undelete/{path}")),
        ("POST", "secret/data/canton/another/identities".into()),
        ("GET", "secret/metadata/canton/another/identities".into()),
        ("LIST", "secret/metadata/canton".into()),
        ("POST", "secret/config".into()),
        ("POST", "auth/token/create".into()),
    ] {
        assert_eq!(ask(method, path.clone(), json!({"versions": [1]})), 403, "{method} {path}");
    }
    assert_eq!(scenario.metadata(), before);
    scenario.assert_stored(&scenario.dump);
}

#[test]
fn the_restorer_reads_and_does_nothing_else() {
    let scenario = with_rendered_policy();
    scenario.sync(0);
    let path = scenario.path();
    scenario.bao.policy("restorer", &rendered(&scenario, "restorer"));
    let token = token_of(&scenario, "restorer");
    let ask = |method: &str, kind: &str| {
        scenario.bao.api_as(
            &token,
            None,
            method,
            &format!("secret/{kind}/{path}"),
            json!({"data": {}, "versions": [1]}),
        )
    };
    let (status, answer) = ask("GET", "data");
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["data"]["content"].as_str().unwrap().as_bytes(), scenario.dump.json());
    let (status, answer) = ask("GET", "metadata");
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["custom_metadata"]["idkeep_party_hint"], format!("acme-{}", scenario.node));
    for (method, kind) in [("POST", "data"), ("DELETE", "data"), ("POST", "metadata"), ("POST", "destroy")] {
        assert_eq!(ask(method, kind).0, 403, "{method} {kind}");
    }
}

/// One block of the rendered policy, or one of its capabilities, taken out.
pub(super) fn without(policy: &str, path: &str, capability: Option<&str>) -> String {
    let start = policy.find(&format!("path \"{path}\"")).unwrap_or_else(|| panic!("no block for {path}:\n{policy}"));
    let end = start + policy[start..].find("\n}\n").unwrap() + 3;
    let block = match capability {
        None => String::new(),
        Some(capability) => {
            let quoted = format!("\"{capability}\"");
            let block = &policy[start..end];
            assert!(block.contains(&quoted), "{block}");
            block.replace(&format!("{quoted}, "), "").replace(&format!(", {quoted}"), "").replace(&quoted, "")
        }
    };
    format!("{}{block}{}", &policy[..start], &policy[end..])
}

#[test]
fn each_line_of_the_rendered_policy_is_needed() {
    let scenario = with_rendered_policy();
    let full = rendered(&scenario, "writer");
    let path = scenario.path();
    let (data, metadata) = (format!("secret/data/{path}"), format!("secret/metadata/{path}"));
    let fresh = || {
        scenario.bao.must("DELETE", &metadata, None);
    };
    let set = |path: &str, capability| scenario.bao.policy(&scenario.node, &without(&full, path, capability));
    let denied = |what: &str| {
        let synced = scenario.sync(77);
        assert!(synced.stderr().contains(what), "{what}: {}", synced.outcome);
        assert!(
            synced.stderr().contains("`idkeep policy vault` prints the policy that is needed"),
            "{}",
            synced.outcome
        );
    };

    // OpenBao asks for `create` or `update` on KV by whether the secret is there.
    set(&data, Some("create"));
    assert_says(&check(&scenario, 77), "fail", "create is missing");
    set(&data, Some("update"));
    assert_says(&check(&scenario, 77), "fail", "update is missing");
    set(&data, None);
    denied(&format!("writing {}/v1/{data}: status 403, permission denied", scenario.bao.address));
    set(&metadata, Some("read"));
    denied(&format!("reading the metadata of {}/v1/{metadata}: status 403", scenario.bao.address));
    set(&metadata, Some("create"));
    assert_says(&check(&scenario, 77), "fail", "create is missing");
    set(&metadata, Some("update"));
    assert_says(&check(&scenario, 77), "fail", "update is missing");
    denied(&format!("writing the facts of {}/v1/{metadata}: status 403", scenario.bao.address));
    fresh();

    // Without the right to look itself up, a missing right costs a login more.
    let logins = || scenario.bao.audited().iter().filter(|(_, path)| path == "auth/approle/login").count();
    for (path, expected) in [(None, 1), (Some("auth/token/lookup-self"), 2)] {
        let policy = without(&full, &data, None);
        let policy = path.map_or(policy.clone(), |path| without(&policy, path, None));
        scenario.bao.policy(&scenario.node, &policy);
        let before = logins();
        scenario.sync(77);
        assert_eq!(logins() - before, expected, "{path:?}");
    }

    // Without the right to ask, nothing is claimed.
    set("sys/capabilities-self", None);
    assert_says(&check(&scenario, 0), "unknown", &format!("the rights on {data}"));
    assert_says(&check(&scenario, 0), "unknown", &format!("the rights on {metadata}"));

    // Without the right to give it back, the token stays, and that is said.
    let before = scenario.bao.tokens();
    set("auth/token/revoke-self", None);
    let synced = scenario.sync(0);
    assert_eq!(synced.store(), "written");
    assert!(synced.stderr().contains("could not be revoked and lives on"), "{}", synced.outcome);
    assert_eq!(scenario.bao.tokens(), before + 1);
    scenario.bao.policy(&scenario.node, &full);
    assert_eq!(scenario.sync(0).store(), "unchanged");
    assert_eq!(scenario.bao.tokens(), before + 1);
}

#[test]
fn the_live_check_fails_where_the_agent_may_read_the_keys() {
    let mut scenario = Scenario::on(own_bao(), Dump::fresh(1));
    scenario.sync(0);
    let before = scenario.metadata();
    let path = scenario.path();
    let wide = format!(
        "path \"secret/data/{path}\" {{ capabilities = [\"create\", \"update\", \"read\"] }}\n\
         path \"secret/metadata/{path}\" {{ capabilities = [\"create\", \"update\", \"read\", \"delete\"] }}\n"
    );
    scenario.bao.policy(&scenario.node, &wide);
    let said = check(&scenario, 77);
    assert_says(&said, "fail", &format!("secret/data/{path}: the agent may read, and needs not"));
    assert_says(&said, "fail", &format!("secret/metadata/{path}: the agent may delete, and needs not"));
    // Rights that come along with a star: they erase what was written.
    scenario.bao.policy(&scenario.node, "path \"secret/*\" { capabilities = [\"create\", \"update\"] }");
    let said = check(&scenario, 77);
    for path in
        ["delete", "undelete", "destroy"].map(|kind| format!("{kind}/{path}")).into_iter().chain(["config".into()])
    {
        assert_says(&said, "fail", &format!("secret/{path}: the agent may create, update, and needs not"));
    }
    assert_says(&said, "fail", &format!("secret/metadata/{path}: read is missing"));
    let root = scenario.idkeep.secret_file("root", scenario.bao.root_token.as_bytes());
    scenario.config.vault_auth = format!("{{token: {{file: {root:?}}}}}");
    scenario.configure();
    assert_says(&check(&scenario, 77), "fail", "the agent may root, and needs not");
    assert_eq!(scenario.metadata(), before, "the check changed something");
}

/// No server says which parameters a policy allows: found out by a request that is refused in any case.
#[test]
fn the_live_check_fails_where_the_agent_may_set_what_erases_history() {
    let scenario = with_rendered_policy();
    let full = rendered(&scenario, "writer");
    let metadata = format!("secret/metadata/{}", scenario.path());
    let parameters = "  allowed_parameters = {\n    \"custom_metadata\" = []\n  }\n";
    assert!(full.contains(parameters), "{full}");
    let with = |other: &str| full.replace(parameters, other);
    let both = "the agent may set max_versions and delete_version_after, and so erase history";
    let cases = [
        (String::new(), both),
        ("  allowed_parameters = {}\n".into(), both),
        ("  allowed_parameters = { \"*\" = [] }\n".into(), both),
        ("  denied_parameters = { \"max_versions\" = [] }\n".into(), "the agent may set delete_version_after, and"),
        (parameters.replace("= []", "= []\n    \"max_versions\" = []"), "the agent may set max_versions, and so"),
    ];
    // While there is no secret yet, and of one that is there: nothing of it changes.
    for is_there in [false, true] {
        scenario.bao.policy(&scenario.node, &full);
        if is_there {
            assert_eq!(scenario.sync(0).store(), "written");
            let team = json!({"custom_metadata": {"team": "x"}, "max_versions": 50, "delete_version_after": "720h"});
            scenario.bao.kv_put_metadata("canton/other", team);
        }
        let before = scenario.metadata();
        for (other, says) in &cases {
            scenario.bao.policy(&scenario.node, &with(other));
            assert_says(&check(&scenario, 77), "fail", &format!("{metadata}: {says}"));
        }
        let text = scenario.idkeep.expect(77, &["check", "--live"]).stdout;
        let fix = format!(
            "; add `allowed_parameters = {{ \"custom_metadata\" = [] }}` to the policy's `path \"{metadata}\"`"
        );
        assert!(text.contains(&fix), "{text}");
        scenario.bao.policy(&scenario.node, &full);
        assert!(check(&scenario, 0).iter().all(|(result, _)| result != "fail"));
        assert_eq!(scenario.metadata(), before, "the check changed something");
    }
}

#[test]
fn the_live_check_warns_where_history_is_short_or_deletes_itself() {
    let scenario = with_rendered_policy();
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"custom_metadata": {"team": "x"}}));
    assert_says(&check(&scenario, 0), "warn", "10 versions are kept (the server's default");
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"max_versions": 49, "delete_version_after": "1h"}));
    scenario.sync(0);
    let before = scenario.metadata();
    let said = check(&scenario, 0);
    assert_says(&said, "warn", "49 versions are kept (as set for this secret)");
    assert_says(&said, "warn", "deleted by themselves after 1h");
    let text = scenario.idkeep.expect(0, &["check", "--live"]).stdout;
    assert!(text.contains(&format!("; vault kv metadata put -max-versions=50 secret/{}\n", scenario.path())), "{text}");
    assert!(text.contains("; vault kv metadata put -delete-version-after=0s"), "{text}");
    assert_eq!(scenario.metadata(), before);
    scenario.bao.kv_put_metadata(&scenario.path(), json!({"max_versions": 50, "delete_version_after": "0s"}));
    let said = check(&scenario, 0);
    assert!(said.iter().all(|(result, _)| result == "ok"), "{said:#?}");
}

#[test]
fn the_live_check_of_a_new_secret_writes_nothing() {
    let scenario = with_rendered_policy();
    assert_says(&check(&scenario, 0), "ok", "secret/data/");
    assert!(scenario.bao.kv_metadata(&scenario.path()).is_none());
    let writes = scenario.bao.audited();
    assert!(writes.iter().all(|(_, path)| !path.starts_with("secret/data/")), "{writes:?}");
}
