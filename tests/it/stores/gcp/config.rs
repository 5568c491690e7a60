//! What a store's entry must not say.

use crate::support::idkeep::Idkeep;

fn checked(code: i32, lines: &[&str]) -> String {
    let mut entry = vec!["project: acme-canton", "secret: 'canton-{node}-identities'"];
    for line in lines {
        let key = &line[..=line.find(':').unwrap()];
        entry.retain(|known| !known.starts_with(key));
        entry.push(line);
    }
    let entry: String = entry.iter().map(|line| format!("      {line}\n")).collect();
    let yaml = format!(
        "nodes:\n  one:\n    identity:\n      endpoint: https://node.acme.example/api/validator\n      \
         auth: {{token: {{env: TOKEN}}}}\n      stores: [google]\nstores:\n  google:\n    gcp:\n{entry}"
    );
    Idkeep::configured(&yaml).expect(code, &["check", "--offline"]).stdout
}

#[test]
fn a_mistake_is_named_where_it_stands() {
    let key = |place: &str| format!("kms_key: projects/acme-keys/locations/{place}/keyRings/r/cryptoKeys/k");
    let (global, berlin) = (key("global"), key("europe-west10"));
    let cases: [(&[&str], &str); 13] = [
        (&["project: 'Acme Canton'"], "gcp.project: `Acme Canton` is no project's id"),
        (&["project: '$(id)'"], "gcp.project: `$(id)` is no project's id"),
        (&["secret: 'canton/{node}'"], "gcp.secret: `canton/one` is no name for a secret here"),
        (&["secret: '{node}-facts'"], "a name that ends in `-facts` is for facts"),
        (&["location: Berlin"], "gcp.location: `Berlin` is no region"),
        (&["replicas: [europe-west3, 'a b']"], "gcp.replicas[1]: `a b` is no region"),
        (&["location: europe-west3", "replicas: [europe-west3]"], "a regional secret is not replicated"),
        (&["kms_key: my-key"], "gcp.kms_key: this is no name of a Cloud KMS key"),
        (
            &["location: europe-west3", &global],
            "wants a key in `europe-west3` for this secret, and this one is in `global`",
        ),
        (&[&berlin], "wants a key in `global` for this secret"),
        (&["replicas: [europe-west3, europe-west10]", &berlin], "each replica needs a key of its own region"),
        (&["labels: {Team: canton}"], "gcp.labels.Team: Google takes no such label"),
        (&["keep_versions: 9"], "gcp.keep_versions: must be at least 10"),
    ];
    for (lines, text) in cases {
        let said = checked(78, lines);
        assert!(said.contains(text), "{text:?} is not in\n{said}");
    }
    assert!(checked(78, &["endpoint: http://127.0.0.1:1"]).contains("not encrypted"));
}

#[test]
fn versions_that_are_disabled_are_warned_about() {
    let said = checked(0, &["keep_versions: 10"]);
    assert!(said.contains("warning: stores.google.gcp.keep_versions: older versions are disabled"), "{said}");
    let said = checked(0, &["location: europe-west3", "labels: {team: canton}"]);
    assert!(!said.contains("stores.google"), "{said}");
}
