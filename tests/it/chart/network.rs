//! Whom the pods may talk to: the ports of the configuration's addresses, and what a real pass connects to.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::json;
use url::Url;

use super::{example, examples, scheduled};
use crate::support::backup::Node;
use crate::support::chart::{Case, Rendered, render, render_one, values};
use crate::support::dump::Dump;
use crate::support::idkeep::Idkeep;
use crate::support::parts::tool;
use crate::support::s3::S3;
use crate::support::scenario::Scenario;

/// What each example talks to, read by hand.
const PORTS: [(&str, &[u64]); 11] = [
    ("backups-compose.yaml", &[80, 443]),
    ("backups.yaml", &[443, 5432, 8200]),
    ("compose-no-auth.yaml", &[80]),
    ("daemon.yaml", &[443, 5432, 8200]),
    ("every-system.yaml", &[443, 5432, 6443, 8200]),
    ("minimal.yaml", &[443]),
    ("reference.yaml", &[80, 443, 3128, 5432, 6443, 8200]),
    ("several-nodes-and-stores.yaml", &[443, 8200]),
    ("vault-approle.yaml", &[443, 8200]),
    ("vault-kubernetes.yaml", &[443, 5003, 8200]),
    ("vault-only.yaml", &[443, 5432, 8200]),
];

#[test]
fn the_ports_of_the_policy_are_those_of_the_addresses() {
    let names: Vec<String> = examples().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, PORTS.map(|(name, _)| name), "an example without its ports here");
    let cases = PORTS.map(|(name, _)| Case::new(name, values("cronjob", "", &example(name))));
    for (rendered, (name, ports)) in render(cases.into()).iter().zip(PORTS) {
        rendered.assert_good();
        assert_eq!(rendered.egress_ports(), ports, "{name}");
    }
}

#[test]
fn every_form_of_an_address_has_its_port() {
    let database = "postgres://idkeep_backup@postgres.validator.acme.example/cantonnet_validator?";
    let node = "https://wallet.validator.acme.example/api/validator";
    let cases: [(&str, &str, &[u64]); 10] = [
        (node, "https://wallet.acme.example:8443/api/validator", &[443, 5432, 8200, 8443]),
        (node, "https://[fd00::1]/api/validator", &[443, 5432, 8200]),
        (node, "https://[fd00::1]:9443/api/validator?a=b:1", &[443, 5432, 8200, 9443]),
        (database, "postgres://idkeep_backup@db:6543/cantonnet_validator?", &[443, 5432, 6543, 8200]),
        (database, "postgresql://idkeep_backup@[fd00::1]:6543/cantonnet_validator?", &[443, 5432, 6543, 8200]),
        (database, "postgres://idkeep_backup@[fd00::1]/cantonnet_validator?", &[443, 5432, 8200]),
        (database, "postgres://db/cantonnet_validator?port=7432&", &[443, 5432, 7432, 8200]),
        (database, "postgres:///cantonnet_validator?host=/run/postgresql&port=7432&", &[443, 5432, 8200]),
        (database, "postgres://%2Frun%2Fpostgresql/cantonnet_validator?", &[443, 5432, 8200]),
        (
            "s3://acme-canton-dr/idkeep",
            "s3://a/b\n    endpoint: https://s3.acme.example:9000",
            &[443, 5432, 8200, 9000],
        ),
    ];
    let config = example("backups.yaml");
    let asked = cases.map(|(from, to, _)| {
        assert!(config.contains(from));
        Case::new(to, values("cronjob", "", &config.replacen(from, to, 1)))
    });
    for (rendered, (_, to, ports)) in render(asked.into()).iter().zip(cases) {
        rendered.assert_good();
        assert_eq!(rendered.egress_ports(), ports, "{to}");
    }
}

/// The ports that a run of the rendered configuration connects to, with those of its children.
fn connected(idkeep: &Idkeep, rendered: &Rendered, command: &str, environment: &[(&str, &str)]) -> BTreeSet<u64> {
    let config = idkeep.file("rendered.yaml", rendered.config().as_bytes());
    let trace = idkeep.path("trace");
    let output = Command::new(tool("strace"))
        .args(["-f", "-e", "trace=connect,sendto,sendmsg", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_idkeep"))
        .args(["--log-format", "json", command])
        .env_clear()
        .env("IDKEEP_CONFIG", config)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ports_of(&std::fs::read_to_string(trace).unwrap())
}

fn port(address: &str) -> u64 {
    u64::from(Url::parse(address).unwrap().port().unwrap())
}

/// Everything that was seen is allowed; and what it is known to talk to was seen, or nothing would be proven.
fn assert_allowed(rendered: &Rendered, seen: &BTreeSet<u64>, known: &[u64]) {
    let known = BTreeSet::from_iter(known.iter().copied());
    assert!(seen.is_superset(&known), "{seen:?} should have {known:?}");
    let allowed = BTreeSet::from_iter(rendered.egress_ports().into_iter().chain([53]));
    assert!(seen.is_subset(&allowed), "{seen:?} are not all of {allowed:?}");
    // 443 is the cloud's own, for a bucket's credentials.
    let spare: Vec<_> = allowed.difference(&known).filter(|port| ![53, 443].contains(*port)).collect();
    assert!(spare.is_empty(), "nothing needs {spare:?}");
}

#[test]
fn a_pass_connects_to_nothing_that_the_policy_does_not_allow() {
    let scenario = Scenario::new(5101);
    let rendered = render_one(values("cronjob", "", &scenario.yaml()));
    let seen = connected(&scenario.idkeep, &rendered, "sync", &[]);
    scenario.assert_stored(&Dump::fresh(5101));
    let known =
        [&scenario.validator.endpoint(), &scenario.issuer.url(), &scenario.bao.address].map(|address| port(address));
    assert_allowed(&rendered, &seen, &known);
}

#[test]
fn a_backup_connects_to_nothing_that_the_policy_does_not_allow() {
    let mut node = Node::new(5103);
    let bucket = S3::shared().bucket();
    node.url = format!("s3://{}/prefix", bucket.name);
    node.repository = vec![format!("endpoint: {}", bucket.s3.endpoint()), "allow_http: true".into()];
    node.configure();
    node.scenario.idkeep.sync(0);
    let rendered = render_one(values("cronjob", "", &node.yaml()));
    let environment = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "synthetic")];
    let seen = connected(node.idkeep(), &rendered, "backup", &environment);
    assert!(bucket.keys().iter().any(|key| key.ends_with("/manifest.json")), "no set was published");
    let database = port(&node.cluster.url("validator"));
    assert!(seen.contains(&database) && seen.contains(&port(&bucket.s3.endpoint())), "{seen:?}");
    // It shares the configuration with `sync`, whose addresses it does not all need.
    let scenario = &node.scenario;
    let others =
        [&scenario.validator.endpoint(), &scenario.issuer.url(), &scenario.bao.address].map(|address| port(address));
    let all = BTreeSet::from_iter(seen.iter().copied().chain(others));
    assert_allowed(&rendered, &all, &Vec::from_iter(all.iter().copied().filter(|port| *port != 53)));
}

/// The ports in `sin_port=htons(N)` and `sin6_port=…`; 0 is how libc asks the kernel for a route, and sends nothing.
fn ports_of(trace: &str) -> BTreeSet<u64> {
    let ports = trace.split("_port=htons(").skip(1).filter_map(|rest| rest.split_once(')')?.0.parse().ok());
    ports.filter(|port| *port != 0).collect()
}

#[test]
fn nobody_is_let_in_but_who_reads_the_daemons_metrics() {
    let config = scheduled(&example("minimal.yaml"));
    let from = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    let scraped = format!("networkPolicy: {{scrapeFrom: {from}}}");
    let cases = [("deployment", scraped.as_str()), ("deployment", ""), ("cronjob", &scraped), ("job", &scraped)];
    let rendered = render(cases.map(|(mode, others)| Case::new(mode, values(mode, others, &config))).into());
    for (number, one) in rendered.iter().enumerate() {
        let policy = one.one("NetworkPolicy");
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        let wanted =
            if number == 0 { json!([{"from": from, "ports": [{"protocol": "TCP", "port": 9464}]}]) } else { json!([]) };
        assert_eq!(policy["spec"]["ingress"], wanted, "{}", one.name);
    }
}

#[test]
fn peers_narrow_the_ports_and_the_metadata_addresses_are_named_only_when_asked_for() {
    let config = example("vault-only.yaml");
    let peers = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]);
    let dns = json!([{"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
    let others = format!("networkPolicy: {{peers: {peers}, dnsPeers: {dns}, metadata: true, extraPorts: [3128, 443]}}");
    let cases = [Case::new("", values("cronjob", &others, &config)), Case::new("", values("cronjob", "", &config))];
    let rendered = render(cases.into());
    let egress = &rendered[0].one("NetworkPolicy")["spec"]["egress"];
    assert_eq!([&egress[0]["to"], &egress[1]["to"]], [&dns, &peers]);
    assert_eq!(rendered[0].egress_ports(), [443, 3128, 5432, 8200]);
    let blocks: Vec<&str> = egress.as_array().unwrap()[2..]
        .iter()
        .flat_map(|rule| rule["to"].as_array().unwrap())
        .map(|peer| peer["ipBlock"]["cidr"].as_str().unwrap())
        .collect();
    assert_eq!(blocks, ["169.254.169.254/32", "169.254.170.23/32", "169.254.169.252/32"]);
    let narrow = rendered[1].one("NetworkPolicy");
    assert!(!narrow.to_string().contains("169.254"), "{narrow}");
    assert_eq!(narrow["spec"]["egress"].as_array().unwrap().len(), 2);
}

#[test]
fn the_policy_holds_for_every_pod_of_the_chart() {
    for (mode, config) in [("cronjob", example("backups.yaml")), ("deployment", scheduled(&example("backups.yaml")))] {
        let rendered = render_one(values(mode, "", &config));
        let selected = rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].as_object().unwrap().clone();
        for manifest in &rendered.manifests {
            let template = match manifest["kind"].as_str().unwrap() {
                "Deployment" => &manifest["spec"]["template"],
                "CronJob" => &manifest["spec"]["jobTemplate"]["spec"]["template"],
                _ => continue,
            };
            assert!(selected.iter().all(|(label, value)| template["metadata"]["labels"][label] == *value));
        }
    }
}
