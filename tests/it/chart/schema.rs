//! The schema of the values: it knows the configuration as `idkeep schema` prints it, and refuses what nobody reads.

use serde_json::Value;

use super::{example, scheduled};
use crate::support::chart::{Case, folder, render, render_one, values};
use crate::support::idkeep::Idkeep;

#[test]
fn the_schema_of_the_values_holds_the_schema_that_is_printed() {
    let file = folder().join("values.schema.json");
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mut printed = Idkeep::new().expect(0, &["schema"]).json();
    let config = printed.as_object_mut().unwrap();
    // References count from the root of a document.
    let definitions = config.remove("$defs").unwrap();
    for key in ["$id", "$schema"] {
        config.remove(key).unwrap();
    }
    // A chart without values has to be one that can be looked at; a template says what is missing.
    assert_eq!(config.remove("required").unwrap(), serde_json::json!(["nodes"]));
    let mut wanted = found.clone();
    wanted["$defs"] = definitions;
    wanted["properties"]["config"] = printed;
    if std::env::var_os("IDKEEP_RENDER").is_some() {
        std::fs::write(&file, serde_json::to_string_pretty(&wanted).unwrap() + "\n").unwrap();
        return;
    }
    assert!(
        found == wanted,
        "{} does not hold what `idkeep schema` prints; run this test with IDKEEP_RENDER=1 to write it anew",
        file.display()
    );
}

#[test]
fn every_value_that_is_there_is_in_the_schema_and_the_other_way_round() {
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(folder().join("values.schema.json")).unwrap()).unwrap();
    let values: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(folder().join("values.yaml")).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut known = keys(&schema["properties"]);
    // Those a chart that has this one as a dependency sets.
    known.retain(|key| !["global", "enabled"].contains(&key.as_str()));
    assert_eq!(keys(&values), known);
}

#[test]
fn a_misspelt_key_and_a_wrong_value_are_refused_by_name() {
    let config = example("vault-kubernetes.yaml");
    let cases = [
        ("mod: cronjob", config.clone(), "mod"),
        ("networkPolicy: {peer: []}", config.clone(), "peer"),
        ("cronjob: {identities: {shedule: '0 * * * *'}}", config.clone(), "shedule"),
        ("secrets: [{name: oauth, secret: b}]", config.clone(), "secrets"),
        ("secrets: [{name: oauth, existingSecret: 'a: b'}]", config.clone(), "existingSecret"),
        ("serviceAccount: {name: 'a, b'}", config.clone(), "name"),
        ("priorityClassName: 'a #b'", config.clone(), "priorityClassName"),
        ("image: {digest: latest}", config.clone(), "digest"),
        ("files: {idkeep.yaml: a}", config.clone(), "idkeep.yaml"),
        ("files: {a/b: a}", config.clone(), "a/b"),
        ("serviceAccount: {annotations: {a: 1}}", config.clone(), "annotations"),
        ("", config.replace("endpoint:", "endpiont:"), "endpiont"),
        ("", config.replace("party_hint: acme-validator-1", "party_hint: [a]"), "party_hint"),
        ("", config.replace("{file: /var/run/secrets/idkeep/client-secret}", "s3cret"), "client_secret"),
    ];
    let asked = cases.iter().map(|(others, config, _)| Case::new("", values("cronjob", others, config))).collect();
    for (rendered, (others, _, word)) in render(asked).into_iter().zip(&cases) {
        let error = rendered.error.unwrap_or_else(|| panic!("{others:?} is taken, {word}"));
        assert!(error.contains("- at '") && error.contains(word), "{error}");
        assert!(!error.contains("s3cret"), "the error repeats what was written: {error}");
    }
}

#[test]
fn a_mode_that_there_is_not_is_refused() {
    let rendered = render(vec![Case::new("", values("daemonset", "", &example("minimal.yaml")))]).remove(0);
    let error = rendered.error.expect("another mode is taken");
    assert!(error.contains("mode") && error.contains("deployment"), "{error}");
}

#[test]
fn the_chart_without_values_says_what_is_missing() {
    let rendered = render(vec![Case::new("", "{}").linted()]).remove(0);
    assert!(rendered.lint.is_empty(), "{:?}", rendered.lint);
    let error = rendered.error.expect("a chart without a configuration is rendered");
    assert!(error.contains("config is missing"), "{error}");
}

#[test]
fn the_chart_installs_the_version_that_it_comes_with() {
    let chart: Value = serde_saphyr::from_str(&std::fs::read_to_string(folder().join("Chart.yaml")).unwrap()).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// YAML takes each of these for a number, a boolean or nothing where it stands without quotes.
#[test]
fn a_name_that_looks_like_something_else_stays_a_name() {
    for name in ["123", "1e3", "true", "null", "off"] {
        let others = format!(
            "fullnameOverride: {name:?}\nnameOverride: {name:?}\npriorityClassName: {name:?}\nserviceAccount: {{name: {name:?}}}\n\
             secrets: [{{name: {name:?}, existingSecret: {name:?}}}]\ntmp: {{sizeLimit: '16777216'}}\n\
             serviceMonitor: {{enabled: true}}\nprometheusRule: {{enabled: true}}"
        );
        for mode in ["cronjob", "deployment", "job"] {
            let rendered = render_one(values(mode, &others, &scheduled(&example("every-system.yaml"))));
            let pod = rendered.pods()[0].1;
            for found in
                [&pod["serviceAccountName"], &pod["priorityClassName"], &rendered.one("ConfigMap")["metadata"]["name"]]
            {
                assert_eq!(found, name);
            }
            assert_eq!(rendered.one("RoleBinding")["subjects"][0]["name"], name);
            let secret =
                pod["volumes"].as_array().unwrap().iter().find_map(|volume| volume["secret"]["secretName"].as_str());
            assert_eq!(secret, Some(name));
        }
    }
}
