//! Another chart that has this one as a dependency, and holds a pod of its own until the identities are stored.

use std::path::Path;

use super::example;
use crate::support::chart::{Case, containers, folder, render};

/// A chart with one Deployment, whose pod depends on the node.
fn parent(at: &Path) {
    let templates = at.join("templates");
    std::fs::create_dir_all(&templates).unwrap();
    std::fs::write(
        at.join("Chart.yaml"),
        "apiVersion: v2\nname: wallet\nversion: 1.0.0\ndependencies:\n  - {name: idkeep, version: '*', condition: idkeep.enabled}\n",
    )
    .unwrap();
    std::fs::write(templates.join("deployment.yaml"), DEPLOYMENT).unwrap();
    copy(&folder(), &at.join("charts/idkeep"));
}

const DEPLOYMENT: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: wallet}
spec:
  selector: {matchLabels: {app: wallet}}
  template:
    metadata: {labels: {app: wallet}}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      {{- with .Subcharts.idkeep }}
      securityContext: {fsGroup: 65532}
      initContainers:
        {{- include "idkeep.initContainer" . | nindent 8 }}
      volumes:
        {{- include "idkeep.volumes" . | nindent 8 }}
      {{- end }}
      containers:
        - {name: wallet, image: "wallet:1"}
"#;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_parent_chart_takes_the_init_container_and_its_volumes() {
    let chart = tempfile::tempdir().unwrap();
    parent(chart.path());
    let config: String = example("vault-kubernetes.yaml").lines().map(|line| format!("    {line}\n")).collect();
    let values = format!(
        "idkeep:\n  enabled: true\n  initContainer: {{wait: 3m, nodes: [validator-1]}}\n  \
         secrets: [{{name: oauth, existingSecret: splice-app-validator-ledger-api-auth}}]\n  config:\n{config}"
    );
    let rendered = render(vec![Case::new("wallet", values).of(chart.path()).linted()]).remove(0);
    rendered.assert_good();
    let pod = &rendered.one("Deployment")["spec"]["template"]["spec"];
    let init = &pod["initContainers"][0];
    let args: Vec<&str> = init["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(args[4..], ["sync", "--wait", "3m", "validator-1"]);
    // As every pod of this chart, but for the parent's own container.
    let mut ours = pod.clone();
    ours.as_object_mut().unwrap().remove("containers");
    assert_eq!(super::pods::complaints(&ours), Vec::<String>::new());
    // Nor is anything said of who that one runs as.
    assert_eq!(pod["securityContext"].as_object().unwrap().len(), 1);
    let names: Vec<_> =
        pod["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    for mount in containers(&ours)[0]["volumeMounts"].as_array().unwrap() {
        assert!(names.contains(&mount["name"].as_str().unwrap()), "{mount} is of no volume");
    }
    let config = rendered.one("ConfigMap")["metadata"]["name"].as_str().unwrap();
    assert_eq!(pod["volumes"][0]["configMap"]["name"], config, "the subchart's own ConfigMap");
}

#[test]
fn a_parent_chart_can_leave_it_out() {
    let chart = tempfile::tempdir().unwrap();
    parent(chart.path());
    let rendered = render(vec![Case::new("wallet", "idkeep: {enabled: false}").of(chart.path())]).remove(0);
    rendered.assert_good();
    assert_eq!(rendered.manifests.len(), 1);
    assert!(rendered.one("Deployment")["spec"]["template"]["spec"]["initContainers"].is_null());
}

/// An umbrella chart whose upgrade is the node's: there a hook is right, and all that the Job needs has to be one.
#[test]
fn an_umbrella_chart_can_make_all_of_it_a_hook() {
    let chart = tempfile::tempdir().unwrap();
    parent(chart.path());
    let config: String = example("backups.yaml").lines().map(|line| format!("    {line}\n")).collect();
    let values = format!(
        "idkeep:\n  mode: job\n  commonAnnotations: {{helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: before-hook-creation}}\n  \
         job: {{annotations: {{helm.sh/hook-weight: '1'}}}}\n  config:\n{config}"
    );
    let rendered = render(vec![Case::new("umbrella", values).of(chart.path())]).remove(0);
    rendered.assert_good();
    for kind in ["ConfigMap", "ServiceAccount", "NetworkPolicy", "Job"] {
        assert_eq!(rendered.one(kind)["metadata"]["annotations"]["helm.sh/hook"], "pre-upgrade", "{kind}");
        let weight = &rendered.one(kind)["metadata"]["annotations"]["helm.sh/hook-weight"];
        assert_eq!(weight.as_str(), (kind == "Job").then_some("1"), "{kind}");
    }
}
