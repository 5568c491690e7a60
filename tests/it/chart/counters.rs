//! The alerts on counters, over a stretch in which nobody looked: a gap tells nothing, and hides nothing.

use serde_json::{Value, json};

use super::alerts::{promtool, rules, two_nodes};
use crate::support::chart::{NAMESPACE, render_one, values};

/// The alerts on a counter that went up, the counter, and for how many minutes they fire.
const COUNTERS: [(&str, &str, u32); 4] = [
    ("IdkeepIdentityRefused", "idkeep_sync_refused_total{NODE}", 60),
    ("IdkeepBackupRejected", "idkeep_backup_total{NODE,outcome=\"rejected\"}", 240),
    ("IdkeepVerifyFailed", "idkeep_verify_total{NODE,outcome=\"fail\"}", 1440),
    ("IdkeepVerifyUndecided", "idkeep_verify_total{NODE,outcome=\"unknown\"}", 2880),
];

/// When the alerts are read, in minutes, which is one sample each: four days on.
const AT: u32 = 5760;

/// What was counted until the gap of ten minutes and what after it, and whether the alert fires.
const CASES: [(&str, &str, bool); 6] = [
    ("0x300 1xBEFORE", "1xAFTER", false),
    ("0x300 1xBEFORE", "2xAFTER", true),
    // A daemon that was started anew while nobody looked, once with and once without something to tell.
    ("0x300 5xBEFORE", "1xAFTER", true),
    ("0x300 5xBEFORE", "0xAFTER", false),
    ("_x301 _ _xBEFORE", "1xAFTER", true),
    ("_x301 1xBEFORE", "1xAFTER", false),
];

#[test]
fn a_gap_where_an_alert_looks_back_to_raises_it_only_for_what_was_counted_since() {
    let rendered = render_one(values("deployment", "prometheusRule: {enabled: true}", &two_nodes()));
    let rules = rules(&rendered);
    let labels = format!("node=\"validator-1\",namespace={NAMESPACE:?},job=\"one-idkeep\",instance=\"10.0.0.1:9464\"");
    let mut tests = Vec::new();
    for (alert, counter, minutes) in COUNTERS {
        let all = rules["groups"][0]["rules"].as_array().unwrap();
        let rule = all.iter().find(|rule| rule["alert"] == alert).unwrap();
        let series = counter.replace("NODE", &labels);
        // The gap ends two minutes after the one that is looked back to, and so is older than what still counts as now.
        let gap_ends = AT - minutes + 2;
        // `1x300` are 301 samples, `_x10` ten.
        let until = (gap_ends - 10 - 301 - 1).to_string();
        for (before, after, fires) in CASES {
            let samples = format!("{before} _x10 {after}").replace("BEFORE", &until).replace("AFTER", "2980");
            let is_there = |expr: &str, is_so: bool| {
                let samples = if is_so { json!([{"labels": "{}", "value": 1}]) } else { json!([]) };
                json!({"expr": expr, "eval_time": format!("{AT}m"), "exp_samples": samples})
            };
            tests.push(json!({
                "name": format!("{alert}: {samples}"),
                "interval": "1m",
                "input_series": [{"series": series, "values": samples}],
                "promql_expr_test": [
                    is_there(&format!("count({})", rule["expr"].as_str().unwrap()), fires),
                    // The controls: there is a gap, and an end to it.
                    is_there(&format!("count({series} offset {minutes}m)"), false),
                    is_there(&format!("count({series})"), true),
                ],
            }));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let suite: Value = json!({"evaluation_interval": "1m", "tests": tests});
    std::fs::write(folder.path().join("tests.yaml"), suite.to_string()).unwrap();
    promtool(&["test", "rules", "tests.yaml"], folder.path());
}
