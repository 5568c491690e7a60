//! Least rights: what `policy kubernetes` prints is enough and no more, and `check --live` sees the rest.

use serde_json::Value;

use super::{Cluster, Kept as _};
use crate::support::client::Client;
use crate::support::dump::Dump;
use crate::support::idkeep::Outcome;
use crate::support::kubernetes::{NAMESPACE, RESTORER, Rule, TOKEN};

/// The Role that is printed for this role, as rules.
fn rendered(cluster: &Cluster, role: &str) -> Vec<Rule> {
    let printed = cluster.scenario.idkeep.expect(0, &["policy", "kubernetes", "--role", role]).stdout;
    let documents: Vec<Value> = printed
        .split("\n---\n")
        .filter(|text| text.contains("apiVersion"))
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect();
    assert_eq!(documents.len(), 2, "{printed}");
    assert_eq!([&documents[0]["kind"], &documents[1]["kind"]], ["Role", "RoleBinding"]);
    assert_eq!(documents[0]["metadata"]["namespace"], NAMESPACE);
    assert_eq!(documents[1]["roleRef"]["name"], documents[0]["metadata"]["name"]);
    let texts = |value: &Value| {
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let rules = documents[0]["rules"].as_array().unwrap().iter();
    rules
        .map(|rule| {
            assert_eq!(
                (texts(&rule["apiGroups"]), texts(&rule["resources"])),
                (vec![String::new()], vec!["secrets".into()])
            );
            Rule { verbs: texts(&rule["verbs"]), names: Some(texts(&rule["resourceNames"])) }
        })
        .collect()
}

/// What `check --live` says, reading nothing.
fn check(cluster: &Cluster, code: i32) -> Outcome {
    let outcome = cluster.scenario.idkeep.expect(code, &["check", "--live"]);
    assert_eq!(cluster.api.reads(), 0, "{outcome}");
    outcome
}

#[test]
fn what_is_printed_is_enough_and_each_verb_is_needed() {
    let cluster = Cluster::start(Dump::fresh(431));
    let rules = rendered(&cluster, "writer");
    assert_eq!(rules, [Rule::new(&["get", "patch", "create"], Some(&[&cluster.name()]))]);
    cluster.api.allow(TOKEN, rules);
    check(&cluster, 0);
    assert_eq!(cluster.sync(0).store(), "written");
    check(&cluster, 0);
    cluster.scenario.idkeep.expect(0, &["list"]);
    for (without, left, needs) in [
        ("get", ["patch", "create"], "permission denied (`get` on this Secret)"),
        ("patch", ["get", "create"], "permission denied (`create` and `patch` on this Secret)"),
        ("create", ["get", "patch"], "permission denied (`create` and `patch` on this Secret)"),
    ] {
        cluster.api.delete(&cluster.name());
        cluster.allow(&left);
        let denied = cluster.sync(77);
        assert!(denied.stderr().contains(needs), "without {without}: {}", denied.outcome);
        let checked = check(&cluster, 77);
        assert!(checked.stdout.contains(&format!("{}: {without} is missing", cluster.name())), "{checked}");
    }
}

#[test]
fn a_restorer_reads_and_nobody_else_is_let_in() {
    let cluster = Cluster::start(Dump::fresh(432));
    cluster.sync(0);
    let rules = rendered(&cluster, "restorer");
    assert_eq!(rules, [Rule::new(&["get"], Some(&[&cluster.name()]))]);
    cluster.api.allow(RESTORER, rules);
    let get = |token: &str, name: &str| {
        let url = format!("{}/api/v1/namespaces/{NAMESPACE}/secrets/{name}", cluster.api.server.origin());
        Client::new(Some(&cluster.api.pki.ca_file())).get_with_token(&url, token).unwrap()
    };
    let read = get(RESTORER, &cluster.name());
    assert_eq!(read.status, 200);
    assert!(read.json()["data"]["content"].is_string());
    assert_eq!(get(RESTORER, "another").status, 403);
    assert_eq!(get("nobody", &cluster.name()).status, 401);
    assert_eq!(cluster.api.reads(), 1);
}

#[test]
fn a_live_check_says_what_the_rights_come_to_and_reads_nothing() {
    let cluster = Cluster::start(Dump::fresh(433));
    let (name, secret) = (cluster.name(), format!("{NAMESPACE}/{}", cluster.name()));
    let fine = check(&cluster, 0);
    let what = format!("{}: store cluster: {secret}", cluster.scenario.node);
    assert!(fine.stdout.contains(&format!("ok: {what}: get, patch, create\n")), "{fine}");
    assert!(fine.stdout.contains(&format!("warn: {what}: whoever may write it may read it")), "{fine}");
    assert!(!cluster.api.server.seen().iter().any(|seen| seen.method == "PATCH"), "it changes nothing");

    let needed = ["get", "patch", "create"];
    for verb in ["list", "watch", "update", "delete", "deletecollection"] {
        cluster.allow(&[&needed[..], &[verb]].concat());
        let wide = check(&cluster, 77);
        assert!(wide.stdout.contains(&format!("fail: {what}: the agent may {verb}, and needs not")), "{wide}");
        assert!(wide.stdout.contains(&format!("take `{verb}` out of the Role")), "{wide}");
    }
    cluster.api.allow(TOKEN, vec![Rule::new(&needed, None)]);
    let wide = check(&cluster, 77);
    let says =
        format!("the agent may get, patch, create every Secret of the namespace `{NAMESPACE}`, not only `{name}`");
    assert!(wide.stdout.contains(&says), "{wide}");
    assert!(wide.stdout.contains(&format!("put `resourceNames: [{name}]` beside `resources: [secrets]`")), "{wide}");
    cluster.api.allow(TOKEN, vec![Rule::new(&["*"], None)]);
    check(&cluster, 77);

    cluster.allow(&needed);
    cluster.api.refuse_reviews();
    let unknown = check(&cluster, 0);
    assert!(
        unknown.stdout.contains(&format!("unknown: {}: store cluster: the rights on {secret}", cluster.scenario.node))
    );
}

#[test]
fn a_node_that_is_kept_in_a_secret_alone_is_warned_about() {
    let mut cluster = Cluster::start(Dump::fresh(434));
    let warned = cluster.scenario.idkeep.expect(0, &["check"]);
    assert!(warned.stdout.contains("a Kubernetes Secret is all that keeps these identities"), "{warned}");
    cluster.scenario.config.stores = "[cluster, vault]".into();
    cluster.scenario.configure();
    let fine = cluster.scenario.idkeep.expect(0, &["check"]);
    assert!(!fine.stdout.contains("is all that keeps"), "{fine}");
}
