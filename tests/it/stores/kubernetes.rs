//! A Kubernetes Secret keeps the contract of all stores, replaces nothing of others, and is never looked into.
//!
//! Run against a strict stand-in: no API server installs here.

mod cluster;
mod rights;

use std::collections::BTreeMap;

use serde_json::json;

use super::contract::{Kept, contract};
use crate::support::age::AgeKey;
use crate::support::dump::Dump;
use crate::support::kubernetes::{Kubernetes, NAMESPACE, Rule, TOKEN};
use crate::support::memory::scan_for;
use crate::support::scenario::Scenario;
use crate::support::server::Gate;

/// What a Secret's values may have together.
const MAX: usize = 1024 * 1024;

/// A node that is kept in a Secret and nowhere else.
struct Cluster {
    scenario: Scenario,
    api: Kubernetes,
}

impl Cluster {
    fn name(&self) -> String {
        format!("{}-identities", self.scenario.node)
    }

    /// What the agent may do, and nothing else.
    fn allow(&self, verbs: &[&str]) {
        self.api.allow(TOKEN, vec![Rule::new(verbs, Some(&[&self.name()]))]);
    }

    fn kubeconfig(&self, text: &str) {
        self.scenario.idkeep.secret_file("kubeconfig", text.as_bytes());
    }

    /// The only sync of its node, which has to end so, with nothing read and none of the server's words said.
    fn sync(&self, code: i32) -> crate::support::scenario::Synced {
        let synced = self.scenario.sync(code);
        assert_eq!(self.api.reads(), 0, "{}", synced.outcome);
        assert!(!synced.outcome.output().contains("canary"), "{}", synced.outcome);
        synced
    }

    fn content(&self) -> Option<Vec<u8>> {
        self.api.data(&self.name()).and_then(|mut data| data.remove("content"))
    }
}

impl Kept for Cluster {
    // A Secret holds what it holds.
    const KEEPS_VERSIONS: bool = false;

    fn start(dump: Dump) -> Self {
        let mut cluster = Self { scenario: Scenario::of(dump), api: Kubernetes::start() };
        cluster.allow(&["get", "patch", "create"]);
        cluster.kubeconfig(&cluster.api.kubeconfig(&format!("{{token: {TOKEN}}}")));
        let scenario = &mut cluster.scenario;
        scenario.config.stores = "[cluster]".into();
        scenario.config.more_stores = format!(
            "  cluster:\n    kubernetes: {{namespace: {NAMESPACE}, secret: '{{node}}-identities', kubeconfig: {:?}}}\n",
            scenario.idkeep.path("kubeconfig")
        );
        scenario.configure();
        cluster
    }

    fn scenario(&mut self) -> &mut Scenario {
        &mut self.scenario
    }

    fn misdirect(&mut self, address: &str) {
        let user = format!("{{token: {TOKEN}}}");
        self.kubeconfig(&self.api.kubeconfig_at(&format!("https://{address}"), &user));
    }

    fn values(&self) -> Vec<Vec<u8>> {
        self.content().into_iter().collect()
    }

    fn facts(&self) -> BTreeMap<String, String> {
        self.api.annotations(&self.name())
    }

    fn deny(&mut self) {
        self.allow(&["get"]);
    }

    fn throttle(&mut self, writes: usize) -> bool {
        self.api.throttle(writes);
        true
    }

    fn reads(&self) -> usize {
        self.api.reads()
    }

    fn max_bytes(&self) -> usize {
        MAX
    }
}

contract!(Cluster);

#[test]
fn the_secret_is_as_the_splice_chart_imports_it_and_says_whose_it_is() {
    let cluster = Cluster::start(Dump::fresh(401));
    cluster.sync(0);
    let object = cluster.api.object(&cluster.name()).unwrap();
    assert_eq!(object["type"], "Opaque");
    assert_eq!(object["data"].as_object().unwrap().len(), 1);
    assert_eq!(object["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "idkeep"}));
    assert_eq!(cluster.content().unwrap(), cluster.scenario.dump.json());
    let facts = cluster.facts();
    assert_eq!([&facts["idkeep_stored_version"], &facts["idkeep_noted_version"]], ["1", "1"]);
}

#[test]
fn of_several_writers_at_once_one_writes_the_data() {
    let cluster = Cluster::start(Dump::fresh(402));
    let gate = Gate::closed();
    cluster.api.hold_writes(Some(gate.clone()));
    let runs: Vec<_> = (0..4).map(|_| cluster.scenario.idkeep.spawn(&["-o", "json", "sync"])).collect();
    // Each has seen that there is nothing, and has made the Secret, before any goes on.
    cluster.api.server.wait_for_requests(8);
    cluster.api.hold_writes(None);
    gate.open();
    for run in runs {
        let outcome = run.wait();
        assert_eq!(outcome.code, 0, "{outcome}");
    }
    assert_eq!(cluster.api.writes(), 1);
    assert_eq!(cluster.facts()["idkeep_stored_version"], "1");
    assert_eq!(cluster.sync(0).store(), "unchanged");
}

#[test]
fn a_change_between_look_and_write_is_looked_at_again() {
    let cluster = Cluster::start(Dump::fresh(403));
    cluster.sync(0);
    cluster.scenario.validator.dump(&cluster.scenario.dump.clone().rotated(4031, 1).json());
    cluster.api.script("PATCH", 409, json!({}));
    assert_eq!(cluster.sync(0).store(), "written");
    assert_eq!(cluster.facts()["idkeep_stored_version"], "2");
    // A Secret that is made anew in between has another uid.
    cluster.scenario.validator.dump(&cluster.scenario.dump.json());
    cluster.api.script("PATCH", 422, json!({"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]}));
    assert_eq!(cluster.sync(0).store(), "written");
}

#[test]
fn labels_and_annotations_of_others_stay() {
    let cluster = Cluster::start(Dump::fresh(404));
    cluster.sync(0);
    let fields = [("metadata|labels|team", Some(json!("canton"))), ("metadata|annotations|note", Some(json!("keep")))];
    cluster.api.edit("kubectl-label", &cluster.name(), &fields);
    assert_eq!(cluster.sync(0).store(), "unchanged");
    cluster.scenario.validator.dump(&cluster.scenario.dump.clone().rotated(4041, 1).json());
    assert_eq!(cluster.sync(0).store(), "written");
    let object = cluster.api.object(&cluster.name()).unwrap();
    assert_eq!(object["metadata"]["labels"]["team"], "canton");
    assert_eq!(object["metadata"]["annotations"]["note"], "keep");
}

#[test]
fn the_facts_of_older_versions_and_of_older_participants_stay() {
    let cluster = Cluster::start(Dump::fresh(405));
    cluster.sync(0);
    let other = Dump::fresh(4051);
    cluster.scenario.validator.dump(&other.json());
    let accept = format!("--accept-new-identity={}", other.id);
    cluster.scenario.sync_with(0, &[&accept]);
    let facts = cluster.facts();
    let old: serde_json::Value = serde_json::from_str(&facts["idkeep_v1"]).unwrap();
    assert_eq!(old["participant_id"], cluster.scenario.dump.id);
    assert_eq!(old["party_hint"], format!("acme-{}", cluster.scenario.node));
    assert_eq!(facts["idkeep_written_at"].split(',').count(), 2);
}

#[test]
fn the_changes_of_a_day_are_limited_though_one_version_is_kept() {
    let mut cluster = Cluster::start(Dump::fresh(418));
    cluster.scenario.identity("max_changes_per_day: 2");
    cluster.sync(0);
    for (seed, code) in [(4181, 0), (4182, 65)] {
        cluster.scenario.validator.dump(&cluster.scenario.dump.clone().rotated(seed, 1).json());
        cluster.sync(code);
    }
    let kept = cluster.scenario.dump.clone().rotated(4181, 1).json();
    assert_eq!(cluster.content().unwrap(), kept);
}

#[test]
fn what_the_configuration_learns_is_written_without_touching_the_data() {
    let mut cluster = Cluster::start(Dump::fresh(406));
    cluster.sync(0);
    let yaml = cluster.scenario.yaml().replace("party_hint: acme-", "party_hint: renamed-");
    cluster.scenario.idkeep.config(&yaml);
    let before = cluster.content();
    assert_eq!(cluster.sync(0).store(), "unchanged");
    assert_eq!(cluster.facts()["idkeep_party_hint"], format!("renamed-{}", cluster.scenario.node));
    assert_eq!((cluster.content(), cluster.api.writes()), (before, 1));
    // The next version takes it along.
    cluster.scenario.validator.dump(&cluster.scenario.dump.clone().rotated(4061, 1).json());
    assert_eq!(cluster.sync(0).store(), "written");
    assert_eq!(cluster.facts()["idkeep_party_hint"], format!("renamed-{}", cluster.scenario.node));
}

#[test]
fn notes_that_could_not_be_written_are_not_believed_and_come_with_the_next_pass() {
    let mut cluster = Cluster::start(Dump::fresh(407));
    cluster.sync(0);
    let other = Dump::fresh(4071);
    cluster.scenario.validator.dump(&other.json());
    // The data is written, and then the right is gone.
    let yaml = cluster.scenario.yaml().replace("party_hint: acme-", "party_hint: renamed-");
    cluster.scenario.idkeep.config(&yaml);
    let accept = format!("--accept-new-identity={}", other.id);
    let gate = Gate::closed();
    cluster.api.hold_writes(Some(gate.clone()));
    let run = cluster.scenario.idkeep.spawn(&["-o", "json", "sync", &accept]);
    crate::support::wait_for("the data to be written", std::time::Duration::from_secs(30), || {
        (cluster.api.writes() == 2).then_some(())
    });
    cluster.allow(&["get"]);
    cluster.api.hold_writes(None);
    gate.open();
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(outcome.stderr.contains("the facts are not complete"), "{outcome}");
    assert_eq!(cluster.content().unwrap(), other.json());
    assert_eq!(cluster.facts()["idkeep_noted_version"], "1");
    cluster.allow(&["get", "patch"]);
    assert_eq!(cluster.sync(0).store(), "unchanged");
    let facts = cluster.facts();
    assert_eq!(facts["idkeep_noted_version"], "2");
    assert_eq!(facts["idkeep_party_hint"], format!("renamed-{}", cluster.scenario.node));
}

#[test]
fn an_empty_secret_is_filled_without_the_right_to_create() {
    let cluster = Cluster::start(Dump::fresh(408));
    cluster.allow(&["get", "patch"]);
    let denied = cluster.sync(77);
    assert!(denied.stderr().contains("permission denied (`create` and `patch` on this Secret)"), "{}", denied.outcome);
    cluster.api.edit("kubectl-create", &cluster.name(), &[("type", Some(json!("Opaque")))]);
    assert_eq!(cluster.sync(0).store(), "written");
    assert_eq!(cluster.content().unwrap(), cluster.scenario.dump.json());
}

#[test]
fn a_deleted_secret_and_a_removed_value_are_written_again() {
    let cluster = Cluster::start(Dump::fresh(409));
    cluster.sync(0);
    cluster.api.delete(&cluster.name());
    assert_eq!(cluster.sync(0).store(), "written");
    cluster.api.edit("kubectl-edit", &cluster.name(), &[("data|content", None)]);
    let repaired = cluster.sync(0);
    assert_eq!(repaired.store(), "repaired", "{}", repaired.outcome);
    assert_eq!(cluster.content().unwrap(), cluster.scenario.dump.json());
}

/// Refused (78), with these words, and what is stored stays.
fn is_refused(cluster: &Cluster, says: &str) {
    let before = cluster.api.object(&cluster.name());
    let refused = cluster.sync(78);
    assert!(refused.stderr().contains(says), "{says}: {}", refused.outcome);
    assert!(refused.stderr().contains("\nhint: use a name of its own"), "{}", refused.outcome);
    assert_eq!(cluster.api.object(&cluster.name()), before);
}

#[test]
fn what_others_wrote_is_not_replaced() {
    let content = || Some(json!("eyJ9"));
    for (fields, says) in [
        (
            [("data|content", content())],
            "its data was written by the field manager `kubectl-create`, and would be lost",
        ),
        ([("data|password", content())], "its data was written by the field manager `kubectl-create`"),
    ] {
        let cluster = Cluster::start(Dump::fresh(410));
        cluster.api.edit("kubectl-create", &cluster.name(), &fields);
        is_refused(&cluster, says);
    }
    // Over ours, too: what it is cannot be known without reading it.
    let cluster = Cluster::start(Dump::fresh(411));
    cluster.sync(0);
    cluster.api.edit("an evil \u{1b}[31mname", &cluster.name(), &[("data|content", content())]);
    is_refused(&cluster, "its data was written by the field manager somebody else");
}

#[test]
fn what_belongs_to_others_is_not_taken() {
    let kept = || {
        let cluster = Cluster::start(Dump::fresh(412));
        cluster.sync(0);
        cluster
    };
    let cluster = kept();
    cluster.api.metadata(
        &cluster.name(),
        "ownerReferences",
        json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1"}]),
    );
    is_refused(&cluster, "another object owns it (`ownerReferences`)");
    let cluster = kept();
    cluster.api.metadata(&cluster.name(), "deletionTimestamp", json!("2026-11-22T22:00:00Z"));
    is_refused(&cluster, "it is being deleted");
    let cluster = kept();
    cluster.api.edit("helm", &cluster.name(), &[("metadata|labels|app.kubernetes.io/managed-by", Some(json!("Helm")))]);
    is_refused(&cluster, "its label `app.kubernetes.io/managed-by` names `Helm`");
    let cluster = kept();
    cluster.api.forget_managers(&cluster.name());
    is_refused(&cluster, "nobody knows who wrote what is in it");
    let cluster = kept();
    cluster.api.edit("kubectl-annotate", &cluster.name(), &[("metadata|annotations|idkeep_digest", Some(json!("x")))]);
    is_refused(&cluster, "its `idkeep_…` annotations were changed by the field manager `kubectl-annotate`");
    let cluster = kept();
    cluster.api.edit("kubectl-annotate", &cluster.name(), &[("metadata|annotations|idkeep_digest", None)]);
    is_refused(&cluster, "it is not known whose identities it holds");
    let cluster = kept();
    cluster.scenario.validator.dump(&cluster.scenario.dump.clone().rotated(4121, 1).json());
    cluster.api.freeze(&cluster.name());
    is_refused(&cluster, "it is immutable (`immutable: true`)");
    // The server refuses by itself what is not seen: another type, and owners that came in between.
    let cluster = Cluster::start(Dump::fresh(413));
    cluster.api.edit("kubectl-create", &cluster.name(), &[("type", Some(json!("kubernetes.io/tls")))]);
    let refused = cluster.sync(78);
    assert!(refused.stderr().contains("another field manager owns what idkeep writes there"), "{}", refused.outcome);
}

#[test]
fn each_status_says_who_has_to_act() {
    let cluster = Cluster::start(Dump::fresh(414));
    let causes = |reason: &str| json!({"causes": [{"reason": reason, "field": ""}]});
    for (method, status, details, code, says) in [
        ("GET", 401, json!({}), 77, "the credentials are not accepted"),
        ("GET", 403, json!({}), 77, "permission denied (`get` on this Secret)"),
        ("GET", 302, json!({}), 78, "a redirect"),
        ("GET", 400, json!({}), 78, "cannot make sense of the request"),
        ("PATCH", 403, causes("NamespaceTerminating"), 78, "the namespace is being deleted"),
        ("PATCH", 404, json!({}), 78, "there is no such namespace"),
        ("PATCH", 415, json!({}), 78, "knows no server-side apply"),
        ("PATCH", 413, json!({}), 65, "too large for this store"),
    ] {
        cluster.api.script(method, status, details);
        let failed = cluster.sync(code);
        assert!(failed.stderr().contains(says), "{status}: {}", failed.outcome);
        assert!(failed.stderr().contains("\nhint: "), "{status}: {}", failed.outcome);
    }
    for status in [500, 503, 504, 408] {
        cluster.api.script("GET", status, json!({}));
        assert_eq!(cluster.sync(0).node["error"], json!(null));
    }
}

#[test]
fn a_server_that_answers_with_the_data_is_not_believed() {
    let cluster = Cluster::start(Dump::fresh(415));
    cluster.sync(0);
    cluster.api.be_verbose();
    let refused = cluster.scenario.sync(78);
    assert!(refused.stderr().contains("the answer is not what the API says"), "{}", refused.outcome);
}

#[test]
fn a_dump_as_large_as_a_node_gives_fits_and_what_is_larger_is_not_sent() {
    let mut cluster = Cluster::start(Dump::fresh(416).padded_to(MAX - 8));
    let synced = cluster.sync(0);
    assert_eq!(synced.store(), "written");
    assert!(synced.stderr().contains("nearly fill what this store takes"), "{}", synced.outcome);
    assert_eq!(cluster.content().unwrap(), cluster.scenario.dump.json());
    // Sealed it is text, a third larger.
    cluster.scenario.identity(&format!("recipients: [{}]", AgeKey::new().recipient));
    let refused = cluster.sync(65);
    assert!(refused.stderr().contains("too large for this store, which takes 1048576"), "{}", refused.outcome);
    assert_eq!(cluster.api.server.seen().last().unwrap().method, "GET");
    assert_eq!(cluster.content().unwrap(), cluster.scenario.dump.json());
}

#[test]
fn no_key_is_left_in_memory_after_a_sync_and_the_token_neither() {
    let mut cluster = Cluster::start(Dump::fresh(417));
    let mut secrets = cluster.scenario.dump.secrets();
    secrets.push(("kubernetes token".into(), TOKEN.as_bytes().to_vec()));
    // The same search finds them while the server hangs with the data.
    let gate = Gate::closed();
    cluster.scenario.identity("deadline: 60s");
    cluster.scenario.sync(0);
    cluster.scenario.validator.dump(&cluster.scenario.dump.clone().rotated(4171, 1).json());
    let rotated = cluster.scenario.dump.clone().rotated(4171, 1).secrets();
    cluster.api.hold_writes(Some(gate.clone()));
    let run = cluster.scenario.idkeep.spawn(&["-o", "json", "--log-level", "trace", "sync"]);
    crate::support::wait_for("the data to arrive", std::time::Duration::from_secs(30), || {
        (cluster.api.writes() == 2).then_some(())
    });
    let hits = scan_for(run.pid(), &rotated);
    assert!(rotated.iter().any(|(name, _)| hits.iter().any(|hit| hit.needle.starts_with(name.as_str()))), "{hits:?}");
    cluster.api.hold_writes(None);
    gate.open();
    let outcome = run.wait();
    assert_eq!(outcome.code, 0, "{outcome}");
    assert!(!outcome.output().contains(TOKEN), "{outcome}");
    cluster.scenario.validator.dump(&cluster.scenario.dump.json());
    let run = cluster.scenario.idkeep.spawn_with_blocked_stdout(&["-o", "json", "sync"]);
    let hits = scan_for(run.pid(), &secrets);
    assert!(hits.is_empty(), "secrets are left in memory: {hits:#?}");
    let outcome = run.release();
    assert_eq!(outcome.json()["nodes"][0]["stores"][0]["outcome"], "written", "{outcome}");
}
