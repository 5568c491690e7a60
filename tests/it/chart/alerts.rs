//! The alerts: each fires where its words are true, alone, and none does while all is well. Prometheus's own `promtool`
//! decides.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};

use super::example;
use crate::support::chart::{NAMESPACE, Rendered, render_one, values};
use crate::support::idkeep::Idkeep;
use crate::support::parts::tool;

/// Samples by series, every quarter of an hour for fifty hours. The alerts are read after [`AT`].
type Series = BTreeMap<String, String>;

const AT: &str = "45h";
/// A clock, which is what a time stamp shows that is always fresh.
const NOW: &str = "0+900x200";

/// What differs from a world in which all is well, and the alerts that this has to raise.
struct Trouble {
    series: Vec<(String, Option<&'static str>)>,
    alerts: &'static [&'static str],
}

fn trouble(alerts: &'static [&'static str], series: &[(&str, Option<&'static str>)]) -> Trouble {
    Trouble { series: series.iter().map(|(name, samples)| ((*name).to_owned(), *samples)).collect(), alerts }
}

pub fn rules(rendered: &Rendered) -> Value {
    rendered.one("PrometheusRule")["spec"].clone()
}

fn names(rules: &Value) -> BTreeSet<String> {
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

/// Runs `promtool`, which has to be content.
pub fn promtool(arguments: &[&str], folder: &std::path::Path) -> String {
    let output = Command::new(tool("promtool")).args(arguments).current_dir(folder).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
    said
}

/// In each trouble exactly its alerts fire; every alert of the rules has a trouble.
fn assert_fires(rules: &Value, well: &Series, troubles: &[Trouble]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), rules.to_string()).unwrap();
    promtool(&["check", "rules", "rules.yaml"], folder.path());
    let quiet = trouble(&[], &[]);
    let tests: Vec<Value> = std::iter::once(&quiet)
        .chain(troubles)
        .map(|trouble| {
            let mut series = well.clone();
            for (name, samples) in &trouble.series {
                let found: Vec<String> = series.keys().filter(|series| series.starts_with(name)).cloned().collect();
                assert!(!found.is_empty() || samples.is_some(), "{name} is no series");
                match samples {
                    None => series.retain(|series, _| !found.contains(series)),
                    Some(samples) if found.is_empty() => drop(series.insert(name.clone(), (*samples).to_owned())),
                    Some(samples) => {
                        found.iter().for_each(|name| drop(series.insert(name.clone(), (*samples).to_owned())))
                    }
                }
            }
            let inputs: Vec<Value> =
                series.iter().map(|(series, values)| json!({"series": series, "values": values})).collect();
            let firing: Vec<Value> = trouble
                .alerts
                .iter()
                .map(|alert| json!({"labels": format!("{{alertname={alert:?}}}"), "value": 1}))
                .collect();
            json!({
                "interval": "15m",
                "input_series": inputs,
                "promql_expr_test": [{
                    "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
                    "eval_time": AT,
                    "exp_samples": firing,
                }],
            })
        })
        .collect();
    let suite = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "15m", "tests": tests});
    std::fs::write(folder.path().join("tests.yaml"), suite.to_string()).unwrap();
    promtool(&["test", "rules", "tests.yaml"], folder.path());
    let tried: BTreeSet<String> =
        troubles.iter().flat_map(|trouble| trouble.alerts).map(|alert| (*alert).to_owned()).collect();
    assert_eq!(tried, names(rules), "an alert that no trouble raises, or the other way round");
}

/// The daemon's metrics of a world in which all is well.
fn well() -> Series {
    let labels = format!("namespace={NAMESPACE:?},job=\"one-idkeep\",instance=\"10.0.0.1:9464\"");
    let mut series = Series::new();
    let mut add = |name: &str, more: &str, samples: &str| {
        series.insert(format!("{name}{{{more}{labels}}}"), samples.to_owned());
    };
    add("idkeep_build_info", "version=\"0.1.0\",", "1x200");
    add("idkeep_config_last_reload_successful", "", "1x200");
    add("idkeep_config_reload_total", "outcome=\"failed\",", "0x200");
    add("idkeep_schedule_interval_seconds", "task=\"identities\",", "660x200");
    add("idkeep_schedule_interval_seconds", "task=\"backups\",", "10800x200");
    add("idkeep_schedule_interval_seconds", "task=\"verify\",", "43200x200");
    for node in ["validator-1", "validator-2"] {
        let node = format!("node={node:?},");
        add("idkeep_sync_last_success_timestamp_seconds", &node, NOW);
        add("idkeep_sync_refused_total", &node, "3x200");
        add("idkeep_identity_info", &format!("{node}participant_id=\"PAR::a\","), "1x200");
        add("idkeep_store_fill_ratio", &format!("{node}store=\"vault\","), "0.1x200");
    }
    let node = "node=\"validator-1\",";
    add("idkeep_backup_last_success_timestamp_seconds", node, NOW);
    add("idkeep_backup_objective_seconds", node, "14400x200");
    add("idkeep_backup_total", &format!("{node}outcome=\"rejected\","), "1x200");
    add("idkeep_backup_gap_seconds", node, "11000x200");
    add("idkeep_backup_pruning_retention_seconds", node, "2592000x200");
    add("idkeep_verify_last_success_timestamp_seconds", node, NOW);
    add("idkeep_verify_total", &format!("{node}outcome=\"fail\","), "0x200");
    add("idkeep_verify_total", &format!("{node}outcome=\"unknown\","), "0x200");
    series
}

#[test]
fn each_alert_on_the_daemons_metrics_fires_for_its_reason_alone() {
    let rendered = render_one(values("deployment", "prometheusRule: {enabled: true}", &two_nodes()));
    let rules = rules(&rendered);
    let new = "namespace=\"canton\",job=\"one-idkeep\",instance=\"10.0.0.2:9464\"";
    let refused = format!("idkeep_sync_refused_total{{node=\"validator-3\",{new}}}");
    let verified = |outcome: &str| format!("idkeep_verify_total{{node=\"validator-1\",outcome={outcome:?}");
    let other = format!("idkeep_identity_info{{node=\"validator-1\",participant_id=\"PAR::b\",{new}}}");
    let troubles = [
        trouble(&["IdkeepDown"], &[("idkeep_build_info", None)]),
        trouble(&["IdkeepConfigReloadFailed"], &[("idkeep_config_last_reload_successful", Some("1x166 0x40"))]),
        trouble(&["IdkeepConfigReloadUnknown"], &[("idkeep_config_last_reload_successful", None)]),
        trouble(
            &["IdkeepIdentitiesStale"],
            &[("idkeep_sync_last_success_timestamp_seconds{node=\"validator-2\"", Some("0x200"))],
        ),
        trouble(
            &["IdkeepIdentitiesUnknown"],
            &[("idkeep_sync_last_success_timestamp_seconds{node=\"validator-2\"", None)],
        ),
        trouble(&["IdkeepIdentitiesUnknown"], &[("idkeep_schedule_interval_seconds{task=\"identities\"", None)]),
        trouble(&["IdkeepIdentityRefused"], &[("idkeep_sync_refused_total{node=\"validator-2\"", Some("3x178 4x20"))]),
        // A process that has just begun to count.
        trouble(&["IdkeepIdentityRefused"], &[(&refused, Some("_x178 1x20"))]),
        trouble(&["IdkeepIdentityRefusedUnknown"], &[("idkeep_sync_refused_total{node=\"validator-2\"", None)]),
        trouble(&["IdkeepParticipantChanged"], &[(&other, Some("_x166 1x20"))]),
        trouble(&["IdkeepParticipantUnknown"], &[("idkeep_identity_info{node=\"validator-2\"", None)]),
        trouble(&["IdkeepStoreNearlyFull"], &[("idkeep_store_fill_ratio{node=\"validator-2\"", Some("0.81x200"))]),
        trouble(&["IdkeepStoreFillUnknown"], &[("idkeep_store_fill_ratio{node=\"validator-2\"", None)]),
        trouble(&["IdkeepBackupOld"], &[("idkeep_backup_last_success_timestamp_seconds", Some("0+900x160 144000x40"))]),
        trouble(&["IdkeepBackupUnknown"], &[("idkeep_backup_last_success_timestamp_seconds", None)]),
        trouble(&["IdkeepBackupUnknown"], &[("idkeep_backup_objective_seconds", None)]),
        trouble(&["IdkeepBackupRejected"], &[("idkeep_backup_total", Some("1x166 2x40"))]),
        trouble(&["IdkeepBackupRejectedUnknown"], &[("idkeep_backup_total", None)]),
        trouble(&["IdkeepBackupGap"], &[("idkeep_backup_gap_seconds", Some("2100000x200"))]),
        trouble(&["IdkeepBackupGapUnknown"], &[("idkeep_backup_gap_seconds", None)]),
        trouble(&["IdkeepBackupGapUnknown"], &[("idkeep_backup_pruning_retention_seconds", None)]),
        trouble(&["IdkeepVerifyFailed"], &[(&verified("fail"), Some("0x100 1x100"))]),
        trouble(&["IdkeepVerifyUndecided"], &[(&verified("unknown"), Some("0x20 1x180"))]),
        trouble(&["IdkeepVerifyOutcomeUnknown"], &[(&verified("fail"), None)]),
        trouble(&["IdkeepVerifyOutcomeUnknown"], &[(&verified("unknown"), None)]),
        trouble(&["IdkeepVerifyOverdue"], &[("idkeep_verify_last_success_timestamp_seconds", Some("0x200"))]),
        trouble(&["IdkeepVerifyUnknown"], &[("idkeep_verify_last_success_timestamp_seconds", None)]),
        trouble(&["IdkeepVerifyUnknown"], &[("idkeep_schedule_interval_seconds{task=\"verify\"", None)]),
    ];
    assert_fires(&rules, &well(), &troubles);
}

/// Two nodes, of which the second has no backups.
pub fn two_nodes() -> String {
    let second = "  validator-2:
    network: mainnet
    identity:
      endpoint: https://wallet.validator-2.acme.example/api/validator
      auth: {token: {file: /etc/idkeep/token}}
      stores: [vault]
";
    let schedule = "schedule: {identities: {every: 10m, jitter: 1m}, backups: {every: 3h}, verify: {every: 12h}}\n";
    format!("{}{schedule}", example("backups.yaml").replacen("\nstores:\n", &format!("\n{second}stores:\n"), 1))
}

#[test]
fn each_alert_on_cronjobs_fires_for_its_reason_alone() {
    let others = "prometheusRule: {enabled: true}\ncronjob: {expire: {enabled: true}}";
    let rendered = render_one(values("cronjob", others, &example("backups.yaml")));
    let last = |task: &str| {
        format!("kube_cronjob_status_last_successful_time{{namespace={NAMESPACE:?},cronjob=\"one-idkeep-{task}\"")
    };
    let mut well = Series::new();
    for task in ["identities", "backups", "verify", "expire"] {
        well.insert(format!("{},instance=\"kube-state-metrics\"}}", last(task)), NOW.into());
    }
    let failed = |job: &str| format!("kube_job_failed{{namespace={NAMESPACE:?},job_name={job:?},condition=\"true\"}}");
    well.insert(failed("one-idkeep-backups-29000000"), "0x200".into());
    let started = format!("kube_job_info{{namespace={NAMESPACE:?},job_name=\"one-idkeep-backups-29000000\"}}");
    well.insert(started.clone(), "1x200".into());
    // Another's, which is none of ours.
    well.insert(failed("one-idkeep-other-29000000"), "1x200".into());
    let [identities, backups, verify, expire] = ["identities", "backups", "verify", "expire"].map(last);
    let late = Some("0+900x160 144000x40");
    let troubles = [
        trouble(&["IdkeepIdentitiesStale"], &[(&identities, late)]),
        trouble(&["IdkeepIdentitiesUnknown"], &[(&identities, None)]),
        trouble(&["IdkeepBackupOld"], &[(&backups, late)]),
        trouble(&["IdkeepBackupUnknown"], &[(&backups, None)]),
        trouble(&["IdkeepVerifyOverdue"], &[(&verify, Some("-30000x200"))]),
        trouble(&["IdkeepExpireOverdue"], &[(&expire, Some("-30000x200"))]),
        trouble(
            &["IdkeepJobFailed"],
            &[("kube_job_failed{namespace=\"canton\",job_name=\"one-idkeep-backups", Some("1x200"))],
        ),
        trouble(&["IdkeepJobFailed"], &[(&failed("one-idkeep-identities-29000000"), Some("1x200"))]),
        // Jobs that did not fail have no series of that name, so what is missed is what tells of any.
        trouble(&["IdkeepJobsUnknown"], &[(&started, None)]),
        // After fifty hours without: the two are awaited for that long.
        trouble(&[], &[(&verify, late)]),
    ];
    let mut rules = rules(&rendered);
    // Fifty hours are longer than what is tried here.
    for rule in rules["groups"][0]["rules"].as_array_mut().unwrap() {
        if rule["for"] == "180000s" {
            rule["for"] = json!("43h");
        }
    }
    let unknown =
        [trouble(&["IdkeepVerifyUnknown"], &[(&verify, None)]), trouble(&["IdkeepExpireUnknown"], &[(&expire, None)])];
    assert_fires(&rules, &well, &troubles.into_iter().chain(unknown).collect::<Vec<_>>());
}

/// One sync of many that failed is no alarm: the next one makes up for it, and `IdkeepIdentitiesStale` fires if none does.
#[test]
fn a_failed_job_is_as_bad_as_what_it_leaves_undone() {
    let others = "prometheusRule: {enabled: true}\ncronjob: {expire: {enabled: true}}";
    let rendered = render_one(values("cronjob", others, &example("backups.yaml")));
    let rules = rules(&rendered);
    let all = rules["groups"][0]["rules"].as_array().unwrap();
    let severity = |alert: &str, task: &str| {
        let is_of = |rule: &&Value| rule["alert"] == alert && rule["expr"].as_str().unwrap().contains(task);
        let found: Vec<_> = all.iter().filter(is_of).map(|rule| rule["labels"]["severity"].as_str().unwrap()).collect();
        assert_eq!(found.len(), 1, "{alert} {task}");
        found[0]
    };
    for (task, wanted) in
        [("identities", "warning"), ("backups", "critical"), ("verify", "critical"), ("expire", "warning")]
    {
        assert_eq!(severity("IdkeepJobFailed", task), wanted, "{task}");
    }
    assert_eq!(severity("IdkeepIdentitiesStale", "identities"), "critical");
    // Without a node that has backups there is no Job of theirs.
    let alone = render_one(values("cronjob", "prometheusRule: {enabled: true}", &example("minimal.yaml")));
    let failed = alone.one("PrometheusRule").to_string().matches("IdkeepJobFailed").count();
    assert_eq!(failed, 1);
}

/// What is said to be nothing is nothing.
#[test]
fn a_node_whose_backup_is_null_has_no_backups() {
    let config = two_nodes().replacen("  validator-2:\n", "  validator-2:\n    backup:\n", 1);
    for mode in ["deployment", "cronjob", "job"] {
        let rendered = render_one(values(mode, "prometheusRule: {enabled: true}", &config));
        let without = render_one(values(mode, "prometheusRule: {enabled: true}", &two_nodes()));
        assert_eq!(rendered.of_kind("PrometheusRule"), without.of_kind("PrometheusRule"), "{mode}");
    }
    let nothing = "    backup:\n    identity:\n      proxy:";
    let config = example("minimal.yaml").replacen("    identity:", nothing, 1);
    let config = format!("{config}schedule: {{identities: {{every: 1h}}, backups: null}}\nheartbeat:\n");
    assert_eq!(Idkeep::configured(&config).run(&["check", "--offline"]).code, 0);
    for mode in ["deployment", "cronjob", "job"] {
        let rendered = render_one(values(mode, "prometheusRule: {enabled: true}", &config));
        let said = serde_json::to_string(&rendered.of_kind("PrometheusRule")).unwrap();
        assert!(!said.contains("Backup"), "{said}");
        assert!(rendered.pods().iter().all(|(name, _)| !name.ends_with("backups")), "{mode}");
    }
}
