//! What the pods are given: tokens, Secrets and rights, each only where the configuration uses it.

use serde_json::{Value, json};

use super::example;
use crate::support::chart::{Case, NAMESPACE, Rendered, containers, render, render_one, values};
use crate::support::idkeep::Idkeep;

/// The volume of this name.
fn volume<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a Value> {
    rendered.pod()["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == name)
}

/// Where the volume of this name is mounted in the first container.
fn mounted<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a str> {
    let mounts = rendered.pod()["containers"][0]["volumeMounts"].as_array().unwrap();
    mounts.iter().find(|mount| mount["name"] == name)?["mountPath"].as_str()
}

#[test]
fn the_api_servers_token_is_there_only_where_it_is_used() {
    let other_cluster = example("every-system.yaml")
        .replace("namespace: canton-backup", "namespace: canton-backup\n      kubeconfig: /etc/idkeep/kubeconfig");
    let kubectl = example("backups-compose.yaml").replace("docker, exec, -i,", "/usr/bin/kubectl, exec, -i,");
    let cases = [
        (example("minimal.yaml"), "", false),
        (example("vault-kubernetes.yaml"), "", false),
        (example("every-system.yaml"), "", true),
        (other_cluster, "", false),
        (kubectl, "", true),
        (example("minimal.yaml"), "serviceAccount: {automount: true}", true),
        (example("every-system.yaml"), "serviceAccount: {automount: false}", false),
    ];
    let asked = cases.iter().map(|(config, others, _)| Case::new("", values("job", others, config))).collect();
    for (rendered, (config, others, wanted)) in render(asked).iter().zip(&cases) {
        rendered.assert_good();
        assert_eq!(rendered.pod()["automountServiceAccountToken"], *wanted, "{others}\n{config}");
        assert_eq!(rendered.one("ServiceAccount")["automountServiceAccountToken"], false);
    }
}

#[test]
fn a_vault_that_trusts_the_service_account_gets_a_token_of_its_own() {
    let config = example("vault-kubernetes.yaml");
    let elsewhere = config.replace("role: idkeep", "role: idkeep\n          token_file: /var/run/secrets/vault/token");
    let path = "vaultToken: {path: /var/run/secrets/vault/token, audience: https://vault.acme.example, expirationSeconds: 600}";
    let by_jwt = config.replace(
        "kubernetes:\n          role: idkeep",
        "jwt:\n          role: idkeep\n          token: {file: /var/run/secrets/vault/token}",
    );
    let cases = [
        ("", config.clone(), Some(("/var/run/secrets/kubernetes.io/serviceaccount", "vault", 3600))),
        (path, elsewhere.clone(), Some(("/var/run/secrets/vault", "https://vault.acme.example", 600))),
        (path, by_jwt, Some(("/var/run/secrets/vault", "https://vault.acme.example", 600))),
        // A token that lies elsewhere is somebody else's to mount.
        ("", elsewhere, None),
        ("vaultToken: {enabled: false}", config, None),
        ("", example("vault-approle.yaml"), None),
        // The API server's own is there, and in the same place.
        ("", example("every-system.yaml"), None),
    ];
    let asked = cases.iter().map(|(others, config, _)| Case::new("", values("job", others, config))).collect();
    for (rendered, (others, config, wanted)) in render(asked).iter().zip(&cases) {
        rendered.assert_good();
        let found = volume(rendered, "idkeep-vault-token").map(|volume| {
            let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
            let place = mounted(rendered, "idkeep-vault-token").unwrap();
            assert_eq!(token["path"], "token");
            (place, token["audience"].as_str().unwrap(), token["expirationSeconds"].as_u64().unwrap())
        });
        assert_eq!(found, *wanted, "{others}\n{config}");
    }
}

#[test]
fn splices_own_secrets_are_mounted_as_files_that_idkeep_may_read() {
    let secrets = "secrets:
  - {name: oauth, existingSecret: splice-app-validator-ledger-api-auth, items: [client-secret]}
  - {name: postgres, existingSecret: postgres-secrets}";
    let rendered = render_one(values("job", secrets, &example("backups.yaml")));
    assert_eq!(
        volume(&rendered, "idkeep-secret-oauth").unwrap()["secret"],
        json!({"secretName": "splice-app-validator-ledger-api-auth", "defaultMode": 0o440,
               "items": [{"key": "client-secret", "path": "client-secret"}]})
    );
    let postgres = volume(&rendered, "idkeep-secret-postgres").unwrap();
    assert_eq!(postgres["secret"], json!({"secretName": "postgres-secrets", "defaultMode": 0o440}));
    for container in containers(rendered.pod()) {
        let mounts = container["volumeMounts"].as_array().unwrap();
        for (name, path) in
            [("oauth", "/var/run/secrets/idkeep/oauth"), ("postgres", "/var/run/secrets/idkeep/postgres")]
        {
            let wanted = json!({"name": format!("idkeep-secret-{name}"), "mountPath": path, "readOnly": true});
            assert!(mounts.contains(&wanted), "{mounts:?}");
        }
    }
    // The mode is one that idkeep itself takes: others may not read it.
    let idkeep = Idkeep::new();
    let file = idkeep.file("client-secret", b"secret");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o440)).unwrap();
    let config = example("minimal.yaml").replace("/etc/idkeep/client-secret", file.to_str().unwrap());
    let outcome = Idkeep::configured(&config).run(&["check"]);
    assert!(!outcome.output().contains("others may read"), "{outcome}");
}

#[test]
fn the_rights_in_kubernetes_are_those_that_are_printed() {
    let config = example("every-system.yaml");
    let rendered = render_one(values("cronjob", "", &config));
    let printed = Idkeep::configured(&config).expect(0, &["policy", "kubernetes"]).stdout;
    let printed: Vec<Value> = printed
        .split("\n---\n")
        .filter(|text| text.contains("apiVersion"))
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect();
    let [role, binding] = [rendered.one("Role"), rendered.one("RoleBinding")];
    assert_eq!(role["rules"], printed[0]["rules"]);
    assert_eq!(role["metadata"]["namespace"], printed[0]["metadata"]["namespace"]);
    assert_eq!(binding["metadata"]["namespace"], printed[1]["metadata"]["namespace"]);
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let account = rendered.one("ServiceAccount")["metadata"]["name"].clone();
    assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]));
    let cases = [("rbac: {create: false}", config), ("", example("vault-kubernetes.yaml"))];
    let without = render(cases.map(|(others, config)| Case::new("", values("cronjob", others, &config))).into());
    assert!(without.iter().all(|one| one.of_kind("Role").is_empty() && one.of_kind("RoleBinding").is_empty()));
}

/// Whoever names no service account is `default`, and would have the identities, too.
#[test]
fn the_account_of_everybody_else_gets_no_right_on_the_identities() {
    let config = example("every-system.yaml");
    for others in [
        "serviceAccount: {create: false}",
        "serviceAccount: {create: false, name: default}",
        "serviceAccount: {create: true, name: default}",
    ] {
        let rendered = render(vec![Case::new("", values("cronjob", others, &config))]).remove(0);
        let error = rendered.error.unwrap_or_else(|| panic!("{others} is rendered"));
        assert!(error.contains("serviceAccount.name is `default`"), "{error}");
    }
    let own = render_one(values("cronjob", "serviceAccount: {create: false, name: idkeep}", &config));
    assert_eq!(own.one("RoleBinding")["subjects"][0]["name"], "idkeep");
    let elsewhere = "serviceAccount: {create: false}\nrbac: {create: false}";
    for (others, config) in [(elsewhere, config), ("serviceAccount: {create: false}", example("vault-kubernetes.yaml"))]
    {
        let rendered = render_one(values("cronjob", others, &config));
        assert!(rendered.of_kind("RoleBinding").is_empty(), "{others}");
    }
}
