//! What each mode makes: CronJobs, one daemon, one Job.

use serde_json::{Value, json};

use super::{example, scheduled};
use crate::support::chart::{Case, NAMESPACE, Rendered, containers, render, render_one, values};

/// A pod that ended with one of these is not tried again: somebody has to look. Every exit code but 0 and 75.
const FINAL: [u32; 7] = [2, 3, 64, 65, 70, 77, 78];

fn args(container: &Value) -> Vec<&str> {
    // After what every command is given.
    container["args"].as_array().unwrap()[4..].iter().map(|word| word.as_str().unwrap()).collect()
}

/// The tasks that are rendered, each with its command.
fn tasks(rendered: &Rendered) -> Vec<(&str, Vec<&str>)> {
    let cronjobs = rendered.of_kind("CronJob").into_iter();
    cronjobs
        .map(|cronjob| {
            let pod = &cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"];
            let name = cronjob["metadata"]["name"].as_str().unwrap();
            (name.strip_prefix("one-idkeep-").unwrap(), args(&pod["containers"][0]))
        })
        .collect()
}

#[test]
fn there_is_a_cronjob_for_each_task_that_makes_sense() {
    let backups = example("backups.yaml");
    let usual = render_one(values("cronjob", "", &backups));
    assert_eq!(tasks(&usual), [("identities", vec!["sync"]), ("backups", vec!["backup"]), ("verify", vec!["verify"])]);
    let expiring =
        render_one(values("cronjob", "cronjob: {expire: {enabled: true}, verify: {enabled: false}}", &backups));
    assert_eq!(
        tasks(&expiring),
        [("identities", vec!["sync"]), ("backups", vec!["backup"]), ("expire", vec!["expire"])]
    );
    // No node has backups, whatever is enabled.
    let without = render_one(values("cronjob", "cronjob: {expire: {enabled: true}}", &example("minimal.yaml")));
    assert_eq!(tasks(&without), [("identities", vec!["sync"])]);
}

#[test]
fn a_cronjob_never_overlaps_itself_and_ends() {
    let rendered = render_one(values("cronjob", "cronjob: {expire: {enabled: true}}", &example("backups.yaml")));
    let mut schedules = Vec::new();
    for cronjob in rendered.of_kind("CronJob") {
        let spec = &cronjob["spec"];
        assert_eq!(spec["concurrencyPolicy"], "Forbid");
        assert_eq!(spec["timeZone"], "Etc/UTC");
        for deadline in [&spec["startingDeadlineSeconds"], &spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]] {
            assert!(deadline.as_u64().unwrap() > 0, "{cronjob}");
        }
        schedules.push(spec["schedule"].as_str().unwrap());
    }
    // Hourly, and every three hours: a token each time, and an objective of four hours.
    assert_eq!(schedules[..2], ["23 * * * *", "41 */3 * * *"]);
}

#[test]
fn a_job_fails_at_once_where_a_retry_cannot_help_and_is_retried_where_it_can() {
    let both = example("backups.yaml");
    let cases = [("cronjob", both.as_str()), ("job", both.as_str()), ("job", &example("minimal.yaml"))];
    for rendered in render(cases.iter().map(|(mode, config)| Case::new(*mode, values(mode, "", config))).collect()) {
        rendered.assert_good();
        let jobs = rendered.manifests.iter().filter_map(|manifest| match manifest["kind"].as_str().unwrap() {
            "CronJob" => Some(&manifest["spec"]["jobTemplate"]["spec"]),
            "Job" => Some(&manifest["spec"]),
            _ => None,
        });
        for job in jobs {
            let pod = &job["template"]["spec"];
            assert_eq!(pod["restartPolicy"], "Never", "or the policy is not read");
            assert!(job["backoffLimit"].as_u64().unwrap() > 0);
            let rules = job["podFailurePolicy"]["rules"].as_array().unwrap();
            let names: Vec<&Value> = containers(pod).iter().map(|container| &container["name"]).collect();
            for name in &names {
                let wanted = json!({"action": "FailJob", "onExitCodes": {"containerName": name, "operator": "In", "values": FINAL}});
                assert!(rules.contains(&wanted), "{rules:?}");
            }
            let evicted =
                json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
            assert_eq!(rules.last(), Some(&evicted));
            assert_eq!(rules.len(), names.len() + 1, "75 and what is left are retried: {rules:?}");
        }
    }
}

#[test]
fn a_deployment_is_one_daemon_whose_probes_do_not_ask_the_nodes() {
    let rendered = render_one(values("deployment", "service: {enabled: true}", &scheduled(&example("backups.yaml"))));
    let deployment = rendered.one("Deployment");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    let container = &rendered.pod()["containers"][0];
    assert_eq!(args(container), ["run"]);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"], json!({"path": "/livez", "port": "http"}), "{probe}");
    }
    assert_eq!(container["ports"], json!([{"name": "http", "containerPort": 9464, "protocol": "TCP"}]));
    assert_eq!(rendered.one("Service")["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(rendered.of_kind("CronJob").len() + rendered.of_kind("Job").len(), 0);
}

#[test]
fn another_configuration_or_file_is_another_pod_and_the_same_is_not() {
    let config = scheduled(&example("minimal.yaml"));
    let changed = config.replace("10m", "20m");
    let file = "files: {ca.pem: AAAA}";
    let cases = [("", &config), ("", &config), ("", &changed), (file, &config)];
    let rendered = render(cases.map(|(others, config)| Case::new("", values("deployment", others, config))).into());
    let sums: Vec<&Value> = rendered
        .iter()
        .map(|one| &one.one("Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"])
        .collect();
    assert_eq!(sums[0], sums[1]);
    assert_ne!(sums[0], sums[2]);
    assert_ne!(sums[0], sums[3]);
}

#[test]
fn a_daemon_listens_where_it_is_told_and_has_no_probes_where_they_cannot_reach_it() {
    let config = scheduled(&example("minimal.yaml"));
    let others = "serviceMonitor: {enabled: true}\nnetworkPolicy: {scrapeFrom: [{podSelector: {}}]}";
    let listening = |at: &str| {
        Case::new(at, values("deployment", others, &format!("{config}server: {{listen: '{at}', status: all}}\n")))
    };
    let mut rendered = render(vec![listening("[::]:8080"), listening("127.0.0.1:9464"), listening("[::1]:9464")]);
    for loopback in rendered.split_off(1) {
        loopback.assert_good();
        let container = &loopback.pod()["containers"][0];
        for key in ["ports", "startupProbe", "livenessProbe", "readinessProbe"] {
            assert!(container[key].is_null(), "{key}");
        }
        assert_eq!(loopback.of_kind("Service").len() + loopback.of_kind("ServiceMonitor").len(), 0);
        assert_eq!(loopback.one("NetworkPolicy")["spec"]["ingress"], json!([]));
        assert!(loopback.notes().contains("listens on loopback"), "{}", loopback.notes());
    }
    let elsewhere = &rendered[0];
    elsewhere.assert_good();
    assert_eq!(elsewhere.pod()["containers"][0]["ports"][0]["containerPort"], 8080);
    assert_eq!(elsewhere.one("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"], 8080);
    assert_eq!(elsewhere.one("Service")["spec"]["ports"][0]["targetPort"], "http");
    assert!(elsewhere.config().contains("status: all"), "{}", elsewhere.config());
}

/// What Kubernetes takes as the name of a CronJob (52), of a Job and of a label's value (63).
#[test]
fn names_stay_short_enough_whatever_they_are_made_of() {
    let long = "n".repeat(39);
    let others = format!("fullnameOverride: {long}-{long}\ncronjob: {{expire: {{enabled: true}}}}");
    let cases = ["cronjob", "job"].map(|mode| Case::new(mode, values(mode, &others, &example("backups.yaml"))));
    for rendered in render(cases.into()) {
        rendered.assert_good();
        for manifest in &rendered.manifests {
            let name = manifest["metadata"]["name"].as_str().unwrap();
            let limit = if manifest["kind"] == "CronJob" { 52 } else { 63 };
            assert!(name.len() <= limit && !name.contains("--") && !name.ends_with('-'), "{name}");
        }
    }
}

#[test]
fn whoever_dumps_over_a_connection_gets_the_image_that_has_pg_dump() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let cases = [
        ("minimal.yaml", "", "idkeep:0.1.0".to_owned()),
        ("backups.yaml", "", "idkeep-postgres:0.1.0".to_owned()),
        ("backups-compose.yaml", "", "idkeep:0.1.0".to_owned()),
        (
            "backups.yaml",
            "image: {registry: images.acme.example/canton, tag: v2}",
            "images.acme.example/canton/idkeep-postgres:v2".to_owned(),
        ),
        ("backups.yaml", "image: {repository: images.acme.example/own}", "images.acme.example/own:0.1.0".to_owned()),
        ("minimal.yaml", &format!("image: {{tag: v2, digest: '{digest}'}}"), format!("idkeep@{digest}")),
    ];
    let asked =
        cases.iter().map(|(name, others, _)| Case::new(*others, values("job", others, &example(name)))).collect();
    for (rendered, (name, others, image)) in render(asked).iter().zip(&cases) {
        rendered.assert_good();
        for container in containers(rendered.pod()) {
            assert_eq!(container["image"], *image, "{name}, {others}");
        }
    }
}

#[test]
fn memory_is_what_a_backup_takes_unless_it_is_said() {
    let [identities, backups] = ["minimal.yaml", "backups.yaml"].map(example);
    let cases = [
        ("", &identities, "256Mi"),
        ("", &backups, "512Mi"),
        ("resources: {limits: {memory: 1Gi}}", &backups, "1Gi"),
        ("resources: {requests: {memory: 64Mi}}", &identities, "64Mi"),
    ];
    let asked = cases.map(|(others, config, _)| Case::new(others, values("job", others, config)));
    for (rendered, (_, _, memory)) in render(asked.into()).iter().zip(cases) {
        rendered.assert_good();
        for container in containers(rendered.pod()) {
            assert_eq!(container["resources"]["limits"], json!({"memory": memory}));
            assert_eq!(container["resources"]["requests"], json!({"cpu": "50m", "memory": memory}));
        }
    }
}

#[test]
fn a_job_stores_the_identities_before_it_takes_a_set_and_is_another_one_in_each_revision() {
    let backups = example("backups.yaml");
    let cases = [
        ("", backups.as_str()),
        ("job: {sync: {enabled: false}}", &backups),
        ("job: {backup: {enabled: false}}", &backups),
        ("job: {sync: {wait: 5m}}", &example("minimal.yaml")),
    ];
    let rendered = render(cases.map(|(others, config)| Case::new(others, values("job", others, config))).into());
    let commands: Vec<Vec<Vec<&str>>> =
        rendered.iter().map(|one| containers(one.pod()).into_iter().map(args).collect()).collect();
    let wait = |period| vec!["sync", "--wait", period];
    assert_eq!(
        commands,
        [vec![wait("10m"), vec!["backup"]], vec![vec!["backup"]], vec![wait("10m")], vec![wait("5m")],]
    );
    assert_eq!(rendered[0].pod()["initContainers"][0]["name"], "idkeep-sync");
    let job = rendered[0].one("Job");
    assert_eq!(job["metadata"]["name"], "one-idkeep-r7");
    assert_eq!(job["metadata"]["namespace"], NAMESPACE);
    assert!(job["spec"]["ttlSecondsAfterFinished"].as_u64().unwrap() > 0);
    // A hook of ours would fire on our own upgrades.
    assert!(
        rendered.iter().flat_map(|one| &one.manifests).all(|manifest| manifest["metadata"]["annotations"].is_null()
            || !manifest["metadata"]["annotations"].to_string().contains("helm.sh/hook"))
    );
}
