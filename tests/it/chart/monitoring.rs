//! What the alerts watch is served, scraped and explained.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::alerts::{rules, two_nodes};
use crate::support::chart::{render_one, values};
use crate::support::daemon::Daemon;
use crate::support::scenario::Scenario;

/// The names are those of the real daemon, which the rendered configuration runs as it is.
#[test]
fn the_daemon_serves_every_metric_that_an_alert_watches() {
    let mut scenario = Scenario::new(5102);
    scenario.top("schedule: {identities: {every: 1h}}");
    let rendered = render_one(values("deployment", "", &scenario.yaml()));
    scenario.idkeep.config(rendered.config());
    let daemon = Daemon::start(&scenario.idkeep);
    let metrics = daemon.wait_for_passes(&scenario.node, &["written"], 1);
    let served: BTreeSet<&str> = metrics.names().collect();
    let alerts = render_one(values("deployment", "prometheusRule: {enabled: true}", &two_nodes()));
    let rules = rules(&alerts);
    let expressions = rules["groups"][0]["rules"].as_array().unwrap().iter().map(|rule| rule["expr"].as_str().unwrap());
    let is_of_a_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = expressions.flat_map(|expr| expr.split(move |c| !is_of_a_name(c)));
    let watched: BTreeSet<&str> = words.filter(|word| word.starts_with("idkeep_")).collect();
    assert!(watched.len() > 10, "{watched:?}");
    let missing: Vec<_> = watched.difference(&served).collect();
    assert!(missing.is_empty(), "not served: {missing:?}\n{}", metrics.text);
}

#[test]
fn every_alert_says_what_it_means_and_what_to_run_and_stands_in_the_how_to() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/how-to/alerts.md")).unwrap();
    let others = "prometheusRule: {enabled: true, alertLabels: {team: canton}}\ncronjob: {expire: {enabled: true}}";
    let mut all = BTreeSet::new();
    for mode in ["deployment", "cronjob"] {
        let rendered = render_one(values(mode, others, &two_nodes()));
        let rules = rules(&rendered);
        for rule in rules["groups"][0]["rules"].as_array().unwrap() {
            let alert = rule["alert"].as_str().unwrap();
            assert!(page.contains(&format!("`{alert}`")), "{alert} is not in alerts.md");
            assert_eq!(rule["labels"]["team"], "canton");
            assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()));
            assert!(rule["annotations"]["summary"].as_str().unwrap().ends_with('.'), "{rule}");
            let description = rule["annotations"]["description"].as_str().unwrap();
            let has_next_step = description.contains('`') || description.contains("docs/src/");
            assert!(has_next_step && description.ends_with('.'), "{rule}");
            let missing: Vec<_> = unwatched(rule["expr"].as_str().unwrap(), &rules).collect();
            assert!(missing.is_empty(), "{alert} has no twin for {missing:?}");
            all.insert(alert.to_owned());
        }
    }
    let named: BTreeSet<String> = page
        .split('`')
        .filter(|word| word.starts_with("Idkeep") && word.chars().all(|c| c.is_ascii_alphanumeric()))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, all, "alerts.md names an alert that there is not");
}

/// The series of this expression that no rule misses: what is not there raises no alert that watches it, so another has to.
fn unwatched<'a>(expr: &'a str, rules: &Value) -> impl Iterator<Item = &'a str> {
    let absent = |expr: &str, series: &str| {
        ["absent", "absent_over_time"].iter().any(|function| expr.contains(&format!("{function}({series}{{")))
    };
    let rules: Vec<String> = rules["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["expr"].as_str().unwrap().to_owned())
        .collect();
    let selectors =
        expr.match_indices('{').map(|(at, _)| expr[..at].rsplit(|c: char| !c.is_alphanumeric() && c != '_'));
    selectors.filter_map(|mut words| words.next()).filter(move |series| {
        // Only a Job that failed has this one.
        let twin = if *series == "kube_job_failed" { "kube_job_info" } else { series };
        !rules.iter().any(|rule| absent(rule, twin))
    })
}

/// The positive control.
#[test]
fn a_series_that_nothing_misses_is_seen() {
    let rules = |expr: &str| json!({"groups": [{"rules": [{"expr": "a{b=\"c\"} > 0"}, {"expr": expr}]}]});
    let found = |expr: &str| unwatched("a{b=\"c\"} > on () max(d{})", &rules(expr)).collect::<Vec<_>>();
    assert_eq!(found("absent(a{b=\"c\"})"), ["d"]);
    assert_eq!(found("absent(d{}) or absent_over_time(a{}[1d])"), Vec::<&str>::new());
    assert_eq!(found("absent(aa{}) or d{}"), ["a", "d"]);
}

#[test]
fn the_daemon_is_scraped_where_a_service_monitor_looks() {
    let rendered = render_one(values("deployment", "serviceMonitor: {enabled: true}", &two_nodes()));
    let monitor = &rendered.one("ServiceMonitor")["spec"];
    assert_eq!(monitor["endpoints"], json!([{"port": "http", "path": "/metrics", "interval": "60s"}]));
    let service = rendered.one("Service");
    assert_eq!(service["spec"]["ports"][0]["name"], "http");
    let selected = monitor["selector"]["matchLabels"].as_object().unwrap();
    assert!(selected.iter().all(|(label, value)| service["metadata"]["labels"][label] == *value));
    // The label `job` of its series, which the alerts select by, is the Service's name.
    let alerts = render_one(values("deployment", "prometheusRule: {enabled: true}", &two_nodes()));
    let job = format!("job=\\\"{}\\\"", service["metadata"]["name"].as_str().unwrap());
    assert!(alerts.one("PrometheusRule").to_string().contains(&job));
}
