//! Every example in every mode, with and without everything that can be turned on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{examples, scheduled};
use crate::support::chart::{Case, Rendered, containers, render, values};
use crate::support::idkeep::Idkeep;

const MODES: [&str; 3] = ["cronjob", "deployment", "job"];

/// Everything that is off by default.
const EVERYTHING: &str = "
image: {digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}
imagePullSecrets: [{name: registry}]
commonAnnotations: {example.com/team: canton}
commonLabels: {example.com/tier: keys}
serviceAccount: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::123456789012:role/idkeep'}}
files:
  vault-ca.pem: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
secrets:
  - {name: oauth, existingSecret: splice-app-validator-ledger-api-auth, items: [client-secret]}
  - {name: postgres, existingSecret: postgres-secrets}
extraArgs: [--output, json]
extraEnv: [{name: HTTPS_PROXY, value: 'http://proxy.acme.example:3128'}]
extraVolumes: [{name: sealed, persistentVolumeClaim: {claimName: sealed}}]
extraVolumeMounts: [{name: sealed, mountPath: /var/lib/idkeep}]
resources: {requests: {cpu: 100m}, limits: {cpu: '1', memory: 512Mi}}
podAnnotations: {example.com/a: b}
podLabels: {example.com/c: d}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: canton, operator: Exists}]
affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: validator-app}}}}]}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: idkeep}}}]
priorityClassName: system-cluster-critical
cronjob: {expire: {enabled: true}}
networkPolicy:
  peers: [{ipBlock: {cidr: 10.0.0.0/8}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: vault}}}]
  extraPorts: [3128]
  dnsPeers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
  metadata: true
  scrapeFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  extraEgress: [{ports: [{protocol: TCP, port: 4317}]}]
service: {enabled: true, annotations: {example.com/e: f}}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}, alertLabels: {team: canton}}
";

fn all() -> Vec<Rendered> {
    let mut cases = Vec::new();
    for (file, config) in examples() {
        for mode in MODES {
            let config = if mode == "cronjob" { config.clone() } else { scheduled(&config) };
            cases.push(Case::new(format!("{file}, {mode}"), values(mode, "", &config)).linted());
            cases.push(Case::new(format!("{file}, {mode}, everything"), values(mode, EVERYTHING, &config)));
        }
    }
    render(cases)
}

/// One test, since rendering is what takes time.
#[test]
fn every_example_is_rendered_in_every_mode_without_fault_and_keeps_its_configuration() {
    let rendered = all();
    assert!(rendered.len() >= 54);
    let configs: BTreeMap<String, String> = examples().into_iter().collect();
    let mut checked = BTreeSet::new();
    let mut tried = BTreeSet::new();
    for one in &rendered {
        one.assert_good();
        assert_is_verbatim(one, &configs[one.name.split(',').next().unwrap()]);
        if checked.insert(one.config().to_owned()) {
            let outcome = Idkeep::configured(one.config()).run(&["check", "--offline"]);
            assert_eq!(outcome.code, 0, "{}\n{outcome}\n{}", one.name, one.config());
        }
        assert!(!one.pods().is_empty(), "{}", one.name);
        for (name, pod) in one.pods() {
            let complaints = super::pods::complaints(pod);
            assert!(complaints.is_empty(), "{}: {name}: {complaints:#?}", one.name);
            assert_commands_are_known(pod, &mut tried);
        }
        let names = one.manifests.iter().map(|manifest| (&manifest["kind"], &manifest["metadata"]["name"]));
        let mut names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{}: {names:#?}", one.name);
    }
}

/// The configuration that was written, but for where a daemon listens and what it does when.
fn assert_is_verbatim(rendered: &Rendered, written: &str) {
    let mut found: Value = serde_saphyr::from_str(rendered.config()).unwrap();
    let is_daemon = rendered.name.contains("deployment");
    let mut written: Value = serde_saphyr::from_str(&if rendered.name.contains("cronjob") {
        written.to_owned()
    } else {
        scheduled(written)
    })
    .unwrap();
    if is_daemon {
        let listens = written.as_object_mut().unwrap().remove("server");
        let wanted = listens.and_then(|server| server["listen"].as_str().map(str::to_owned));
        assert_eq!(found["server"]["listen"], wanted.as_deref().unwrap_or("0.0.0.0:9464"), "{}", rendered.name);
        found.as_object_mut().unwrap().remove("server");
    }
    assert_eq!(found, written, "{}", rendered.name);
}

/// The arguments are ones that the program takes, and its configuration lies where it looks for it.
fn assert_commands_are_known(pod: &Value, tried: &mut BTreeSet<Vec<String>>) {
    for container in containers(pod) {
        assert!(container["command"].is_null(), "the image says what runs");
        let words: Vec<&str> =
            container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert!(words.starts_with(&["--log-format", "json", "--log-level", "info"]), "{words:?}");
        if tried.insert(words.iter().map(|word| (*word).to_owned()).collect()) {
            // No file: 78. What it does not understand would be 64.
            Idkeep::new().expect(78, &[&words[..], &["--config", "/nowhere/idkeep.yaml"]].concat());
        }
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/idkeep"), "{mounts:?}");
    }
}

/// The positive control: what would be wrong with a manifest is seen.
#[test]
fn a_manifest_that_an_api_server_would_refuse_is_seen() {
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: a}]}}}\n";
    let cases = [
        (good.to_owned(), ""),
        (job.to_owned(), ""),
        (good.replace("v1", "v7"), "no schema"),
        (good.replace("ConfigMap", "ConfigMaps"), "no schema"),
        (good.replace("metadata:", "date: {}\nmetadata:"), "date"),
        (job.replace("containers: [", "containers: [{nam: b}, "), "nam"),
        (job.replace("restartPolicy: Never", "restartPolicy: 1"), "is not of type"),
        (format!("{good}data: {{a: b, a: c}}\n"), "stand twice"),
        (format!("{good}data: {{a: 1}}\n"), "is not of type"),
    ];
    let charts: Vec<_> = cases.iter().map(|_| tempfile::tempdir().unwrap()).collect();
    for (chart, (manifest, _)) in charts.iter().zip(&cases) {
        std::fs::create_dir(chart.path().join("templates")).unwrap();
        std::fs::write(chart.path().join("Chart.yaml"), "apiVersion: v2\nname: a\nversion: 1.0.0\n").unwrap();
        std::fs::write(chart.path().join("templates/a.yaml"), manifest).unwrap();
    }
    let asked = charts.iter().map(|chart| Case::new("", "{}").of(chart.path())).collect();
    for (rendered, (manifest, word)) in render(asked).iter().zip(&cases) {
        let problems = rendered.problems.join("\n");
        assert_eq!(problems.is_empty(), word.is_empty(), "{manifest}{problems}");
        assert!(problems.to_lowercase().contains(word), "{manifest}{problems}");
    }
}

/// Helm reads and writes YAML on the way.
#[test]
fn text_that_looks_like_something_else_stays_text() {
    let written = super::example("minimal.yaml")
        .replace("network: mainnet", "network: \"1e3\"")
        .replace("party_hint: acme-validator-1", "party_hint: \"2026-11-28\"")
        .replace(
            "client_id: idkeep",
            "client_id: \"0123\"\n          scope: \"on\"\n          resource: '{{ .Values }}'",
        )
        + "process: {lock_memory: \"off\"}\n";
    let rendered = crate::support::chart::render_one(values("cronjob", "", &written));
    assert_is_verbatim(&Rendered { name: "cronjob".into(), ..rendered }, &written);
}
