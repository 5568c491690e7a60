//! What the chart says: the next step once it is installed, and why it refuses what cannot work.

use super::{example, scheduled};
use crate::support::chart::{Case, render, render_one, values};
use crate::support::idkeep::Idkeep;

#[test]
fn the_notes_name_the_next_step_and_what_is_missing() {
    let cases = [
        ("cronjob", "minimal.yaml", "check\", \"--live"),
        ("deployment", "minimal.yaml", "idkeep check --live"),
        ("job", "backups.yaml", "job/one-idkeep-r7"),
        ("cronjob", "minimal.yaml", "No node has `backup`"),
        ("cronjob", "minimal.yaml", "Store `folder` writes to /var/lib/idkeep, where nothing is mounted"),
        ("cronjob", "minimal.yaml", "networkPolicy.peers"),
        ("deployment", "minimal.yaml", "Nobody may read its metrics"),
    ];
    let config = |mode: &str, name: &str| if mode == "deployment" { scheduled(&example(name)) } else { example(name) };
    let asked = cases.iter().map(|(mode, name, _)| Case::new(*name, values(mode, "", &config(mode, name)))).collect();
    for (rendered, (_, _, word)) in render(asked).iter().zip(&cases) {
        assert!(rendered.notes().contains(word), "{word}: {}", rendered.notes());
    }
    let others = "extraVolumeMounts: [{name: sealed, mountPath: /var/lib/idkeep}]\n\
                  networkPolicy: {peers: [{podSelector: {}}], scrapeFrom: [{podSelector: {}}]}";
    let content = render_one(values("deployment", others, &scheduled(&example("minimal.yaml"))));
    for word in ["nothing is mounted", "networkPolicy.", "Nobody may read"] {
        assert!(!content.notes().contains(word), "{word}: {}", content.notes());
    }
    // What is not there is not talked of.
    let none = "cronjob: {identities: {enabled: false}, backups: {enabled: false}, verify: {enabled: false}}\n\
                prometheusRule: {enabled: true}";
    let none = render_one(values("cronjob", none, &example("backups.yaml")));
    assert!(none.of_kind("PrometheusRule").is_empty(), "rules of nothing");
    assert!(none.pods().is_empty() && !none.notes().contains("cronjob/"), "{}", none.notes());
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let config = example("minimal.yaml");
    let shared = scheduled(&example("every-system.yaml"));
    let anywhere = format!("{}server: {{listen: '0.0.0.0:0'}}\n", scheduled(&config));
    let cases = [
        ("deployment", "", config.as_str(), "config.schedule is missing"),
        ("job", "job: {sync: {enabled: false}}", &config, "nothing is left to do"),
        ("cronjob", "resources: {requests: {memory: 64Mi}, limits: {memory: 1Gi}}", &config, "could be swapped"),
        ("cronjob", "", "stores: {}", "config.nodes is missing"),
        ("deployment", "", "nodes: {}\nschedule: {identities: {every: 1h}}", "config.nodes is missing"),
        ("deployment", "", &anywhere, "config.server.listen is \"0.0.0.0:0\""),
        ("cronjob", "vaultToken: {enabled: true}", &shared, "vaultToken.path"),
    ];
    let asked = cases.iter().map(|(mode, others, config, _)| Case::new("", values(mode, others, config))).collect();
    for (rendered, (_, others, _, reason)) in render(asked).into_iter().zip(&cases) {
        let error = rendered.error.unwrap_or_else(|| panic!("{others} is rendered"));
        assert!(error.contains(reason), "{error}");
    }
}

/// `idkeep check` refuses them too, which is the control.
#[test]
fn a_daemon_is_told_an_address_to_listen_at_and_no_name() {
    let config = scheduled(&example("minimal.yaml"));
    let listening = |at: &str| format!("{config}server: {{listen: '{at}'}}\n");
    let wrong = ["0.0.0.0", "localhost:9464", ":9464", "0.0.0.0:", "300.0.0.1:9464", "0.0.0.0:70000", "::1:9464"];
    let right = ["0.0.0.0:9464", "[::]:80", "127.0.0.1:65535", "[::ffff:10.0.0.1]:9464"];
    let all = wrong.iter().chain(&right);
    let modes = ["deployment", "cronjob", "job"].iter().cycle();
    let cases = all.clone().zip(modes).map(|(at, mode)| Case::new(*at, values(mode, "", &listening(at)))).collect();
    for (rendered, at) in render(cases).into_iter().zip(all) {
        let outcome = Idkeep::configured(&listening(at)).run(&["check", "--offline"]);
        if right.contains(at) {
            rendered.assert_good();
            assert_eq!(outcome.code, 0, "{at}: {outcome}");
        } else {
            let error = rendered.error.unwrap_or_else(|| panic!("{at} is rendered"));
            assert!(error.contains(&format!("config.server.listen is {at:?}")), "{error}");
            assert_eq!(outcome.code, 78, "{at}: {outcome}");
        }
    }
}
