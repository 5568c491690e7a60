//! What the configuration refers to: files and variables are looked for, unless `--offline`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::{GOOD, check, place, with};
use crate::support::idkeep::Idkeep;

/// The good configuration with files that are there, in the folder of its own.
fn present() -> (Idkeep, String) {
    let mut idkeep = Idkeep::new();
    let secret = idkeep.secret_file("client-secret", b"s3cret\n");
    let token = idkeep.file("token", b"service account");
    let yaml = GOOD
        .replace("/nowhere/client-secret", secret.to_str().unwrap())
        .replace("/nowhere/token", token.to_str().unwrap());
    idkeep.config(&yaml);
    (idkeep, yaml)
}

#[test]
fn files_that_are_there_are_fine_and_their_content_is_not_said() {
    let (idkeep, _) = present();
    let outcome = idkeep.expect(0, &["check"]);
    assert!(!outcome.output().contains("s3cret") && !outcome.output().contains("service account"), "{outcome}");
    assert!(outcome.stdout.contains("no mistakes: 1 node, 2 stores"), "{outcome}");
}

#[test]
fn missing_files_are_named_all_at_once_and_offline_skips_them() {
    let tls = "tls: {ca_file: /nowhere/ca, client_cert_file: /nowhere/cert, client_key_file: /nowhere/key}";
    let yaml = with("      stores: [vault", &format!("      {tls}\n      stores: [vault"));
    assert_eq!(check(&yaml, &["--offline"]).mistakes(), [""; 0]);
    let mistakes = check(&yaml, &[]).mistakes();
    let identity = "nodes.one.identity";
    let expected = [
        ("client_secret", format!("{identity}.auth.oauth2.client_secret"), "client-secret"),
        ("ca_file", format!("{identity}.tls.ca_file"), "ca"),
        ("client_cert_file", format!("{identity}.tls.client_cert_file"), "cert"),
        ("client_key_file", format!("{identity}.tls.client_key_file"), "key"),
        ("token_file", "stores.vault.vault.auth.kubernetes.token_file".into(), "token"),
    ];
    for (mistake, (at, path, file)) in mistakes.iter().zip(&expected) {
        let at = place(&yaml, &format!("{at}: "));
        let says = format!(
            "{at} {path}: reading /nowhere/{file}: No such file or directory (os error 2); is the secret mounted"
        );
        assert!(mistake.starts_with(&says), "{mistake}, expected {says}");
    }
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
}

#[test]
fn a_secret_that_others_may_read_is_refused_and_one_that_a_group_may_read_is_not() {
    let (idkeep, _) = present();
    for (mode, code) in
        [(0o600, 0), (0o400, 0), (0o440, 0), (0o640, 0), (0o660, 0), (0o644, 78), (0o604, 78), (0o444, 78)]
    {
        std::fs::set_permissions(idkeep.path("client-secret"), Permissions::from_mode(mode)).unwrap();
        let outcome = idkeep.expect(code, &["check"]);
        if code != 0 {
            assert!(
                outcome.stdout.contains(&format!("may be read by others (mode {mode:04o}); chmod o-rwx ")),
                "{outcome}"
            );
        }
        idkeep.expect(0, &["check", "--offline"]);
    }
}

#[test]
fn the_rule_of_modes_holds_for_private_keys_but_not_for_certificates_and_service_accounts() {
    let (mut idkeep, yaml) = present();
    let cert = idkeep.file("cert.pem", b"certificate");
    let key = idkeep.secret_file("key.pem", b"key");
    let tls = format!(
        "      tls: {{ca_file: {cert:?}, client_cert_file: {cert:?}, client_key_file: {key:?}}}\n      stores: [vault"
    );
    idkeep.config(&yaml.replace("      stores: [vault", &tls));
    idkeep.expect(0, &["check"]);
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let outcome = idkeep.expect(78, &["check"]);
    assert!(outcome.stdout.contains("nodes.one.identity.tls.client_key_file: "), "{outcome}");
}

#[test]
fn nothing_in_a_file_is_not_a_secret() {
    let (mut idkeep, yaml) = present();
    idkeep.secret_file("client-secret", b"");
    assert!(idkeep.expect(78, &["check"]).stdout.contains("client-secret is empty"));
    let folder = yaml.replace("/client-secret}", "}");
    idkeep.config(&folder);
    let outcome = idkeep.expect(78, &["check"]);
    assert!(outcome.stdout.contains("client_secret: reading "), "{outcome}");
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let (mut idkeep, yaml) = present();
    let start = yaml.find("{file: ").unwrap();
    let end = start + yaml[start..].find('}').unwrap() + 1;
    let mut with_env = yaml.clone();
    with_env.replace_range(start..end, "{env: IDKEEP_CLIENT_SECRET}");
    idkeep.config(&with_env);
    let outcome = idkeep.expect(78, &["check"]);
    assert!(
        outcome.stdout.contains("the environment variable IDKEEP_CLIENT_SECRET is not set; set it, or better")
            || outcome
                .stdout
                .contains("the environment variable IDKEEP_CLIENT_SECRET is not set; set IDKEEP_CLIENT_SECRET"),
        "{outcome}"
    );
    idkeep.expect(0, &["check", "--offline"]);
    idkeep.env("IDKEEP_CLIENT_SECRET", "");
    assert!(idkeep.expect(78, &["check"]).stdout.contains("IDKEEP_CLIENT_SECRET is empty"));
    idkeep.env("IDKEEP_CLIENT_SECRET", "s3cret");
    let outcome = idkeep.expect(0, &["check"]);
    assert!(!outcome.output().contains("s3cret"), "{outcome}");
}

/// The client secret in Vault, there by this path.
fn in_vault(store: &str, path: &str) -> String {
    let reference = format!("{{vault: {{store: {store}, path: {path}, field: client-secret}}}}");
    with("{file: /nowhere/client-secret}", &reference)
}

#[test]
fn a_secret_in_vault_needs_a_vault_store_and_a_path_of_the_api() {
    let at = "nodes.one.identity.auth.oauth2.client_secret.vault";
    assert_eq!(check(&in_vault("vault", "secret/data/canton/oauth"), &["--offline"]).mistakes(), [""; 0]);
    for (store, path, key, says) in [
        ("valut", "kv/x", "store", "there is no store `valut`; known: folder, vault"),
        ("folder", "kv/x", "store", "`folder` is no `vault` store; name one that is"),
        ("vault", "v1/kv/x", "path", "a path reads `MOUNT/data/PATH`, without `v1/`"),
        ("vault", "/kv/x", "path", "a path reads `MOUNT/data/PATH`"),
        ("vault", "kv//x", "path", "a path reads `MOUNT/data/PATH`"),
        ("vault", "kv/../x", "path", "a path reads `MOUNT/data/PATH`"),
        ("vault", "'kv/*'", "path", "a path reads `MOUNT/data/PATH`"),
        ("vault", "'kv/x?version=1'", "path", "a path reads `MOUNT/data/PATH`"),
        (
            "vault",
            "secret/canton/oauth",
            "path",
            "`secret` is a KV engine of version 2, whose secrets are read at `secret/data/…`; write `secret/data/canton/oauth`",
        ),
        ("vault", "secret/metadata/oauth", "path", "write `secret/data/oauth`"),
        (
            "vault",
            "secret/data/canton/one/identities",
            "path",
            "the identities of `one` lie there, and the agent must not be able to read them",
        ),
    ] {
        let yaml = in_vault(store, path);
        let mistake = check(&yaml, &["--offline"]).mistake();
        let place = place(&yaml, &format!("{key}: {}", if key == "store" { store } else { path }));
        assert!(mistake.starts_with(&format!("{place} {at}.{key}: ")) && mistake.contains(says), "{path}: {mistake}");
    }
    let missing = with("{file: /nowhere/client-secret}", "{vault: {store: vault, path: kv/x}}");
    assert!(check(&missing, &["--offline"]).mistake().contains(&format!("{at}.field: `field` is missing")));
}

/// Which would be a circle: what a server is read with cannot be read from it, nor from another that needs the same.
#[test]
fn a_login_cannot_be_kept_in_vault() {
    let reference = "{vault: {store: vault, path: kv/x, field: key}}";
    for (login, at) in [
        (format!("token: {reference}"), "token"),
        (format!("jwt: {{role: r, token: {reference}}}"), "jwt.token"),
        (format!("approle: {{role_id: r, secret_id: {reference}}}"), "approle.secret_id"),
    ] {
        let yaml = with("kubernetes: {role: idkeep, token_file: /nowhere/token}", &login);
        let mistake = check(&yaml, &["--offline"]).mistake();
        assert!(mistake.contains(&format!(" stores.vault.vault.auth.{at}.vault: a login's own secret")), "{mistake}");
        assert!(mistake.starts_with(&place(&yaml, "vault: {store")), "{mistake}");
        Idkeep::configured(&yaml).expect(78, &["sync"]);
    }
}

#[test]
fn mistakes_of_shape_and_missing_files_are_named_together_in_the_files_order() {
    let yaml = with("path: canton/{node}/identities", "path: canton/{nodes}");
    let mistakes = check(&yaml, &[]).mistakes();
    let paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.split([' ', ':']).nth(2).unwrap()).collect();
    let expected = [
        "nodes.one.identity.auth.oauth2.client_secret",
        "stores.vault.vault.path",
        "stores.vault.vault.auth.kubernetes.token_file",
    ];
    assert_eq!(paths, expected, "{mistakes:?}");
}

#[test]
fn the_route_of_every_address_is_printed() {
    let (mut idkeep, _) = present();
    let direct = idkeep.expect(0, &["check"]);
    let route = |path: &str, address: &str, way: &str| format!("route: {path}: {address}: {way}\n");
    let node = ("nodes.one.identity.endpoint", "https://node.acme.example/api/validator");
    let issuer = ("nodes.one.identity.auth.oauth2.issuer", "https://issuer.acme.example");
    let vault = ("stores.vault.vault.address", "https://vault.acme.example:8200");
    for (path, address) in [node, issuer, vault] {
        assert!(direct.stdout.contains(&route(path, address, "direct")), "{direct}");
    }
    idkeep.env("HTTPS_PROXY", "http://user:hunter2@proxy.acme.example:3128").env("NO_PROXY", "vault.acme.example");
    let proxied = idkeep.expect(0, &["check"]);
    let through = "through the proxy http://proxy.acme.example:3128 (environment)";
    for (path, address) in [node, issuer] {
        assert!(proxied.stdout.contains(&route(path, address, through)), "{proxied}");
    }
    assert!(proxied.stdout.contains(&route(vault.0, vault.1, "direct")), "{proxied}");
    assert!(!proxied.output().contains("hunter2"), "{proxied}");
    let json = idkeep.expect(0, &["-o", "json", "check"]).json();
    assert_eq!(json["routes"].as_array().unwrap().len(), 3);
    assert_eq!(json["routes"][0]["path"], node.0);
    assert_eq!(json["routes"][0]["address"], node.1);
    assert_eq!(json["routes"][0]["route"], through);
}

#[test]
fn plain_addresses_never_go_through_the_environments_proxy() {
    let (mut idkeep, yaml) = present();
    let plain = yaml
        .replace("https://vault", "http://vault")
        .replace("      path: canton", "      allow_http: true\n      path: canton");
    idkeep.config(&plain);
    idkeep.env("HTTP_PROXY", "http://proxy:1").env("HTTPS_PROXY", "http://proxy:2").env("ALL_PROXY", "http://proxy:3");
    let outcome = idkeep.expect(0, &["check"]);
    assert!(
        outcome.stdout.contains("route: stores.vault.vault.address: http://vault.acme.example:8200: direct\n"),
        "{outcome}"
    );
    assert!(
        outcome.stdout.contains("warning: stores.vault.vault.address: keys or tokens cross the network in clear"),
        "{outcome}"
    );
}

#[test]
fn as_json_check_has_file_mistakes_warnings_and_routes() {
    let (idkeep, _) = present();
    let json = idkeep.expect(0, &["-o", "json", "check"]).json();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["file", "mistakes", "routes", "tokens", "warnings"]);
    assert_eq!(json["file"], idkeep.path("idkeep.yaml").to_str().unwrap());
    let broken = check(&with("network:", "netwrok:"), &["--offline"]);
    let mistake = &broken.json["mistakes"][0];
    let expected = serde_json::json!({
        "line": 3, "column": 5, "path": "nodes.one.netwrok",
        "message": "this key is not known", "fix": "did you mean `network`?",
    });
    assert_eq!(*mistake, expected);
    assert_eq!(broken.outcome.stderr, "");
}
