//! A secret that somebody wrote into the file by mistake is a mistake, and is never repeated.

use super::{check, place, with};
use crate::support::idkeep::Idkeep;

pub const SECRET: &str = "hunter2";

/// `check` and `sync` refuse the file, and neither says the secret in any format.
pub fn is_never_said(yaml: &str, secret: &str) -> String {
    assert!(yaml.contains(secret));
    let idkeep = Idkeep::configured(yaml);
    let mut said = String::new();
    for arguments in [
        &["check", "--offline"][..],
        &["check"],
        &["check", "--live"],
        &["check", "-o", "json"],
        &["sync", "--log-level", "trace"],
        &["sync", "--log-format", "json"],
        &["policy", "vault"],
    ] {
        let outcome = idkeep.expect(78, arguments);
        assert!(!outcome.output().contains(secret), "{arguments:?} said it: {outcome}");
        said.push_str(&outcome.output());
    }
    said
}

/// Every way to write a secret in place of a reference.
pub const SHAPES: [&str; 15] = [
    "hunter2",
    "'hunter2'",
    "\"hunter2\"",
    "!secret hunter2",
    "[hunter2]",
    "{hunter2}",
    "{hunter2: }",
    "{hunter2: x}",
    "{value: hunter2}",
    "{value: {hunter2: x}}",
    "{file: {hunter2: x}}",
    "{file: [hunter2]}",
    "{vault: hunter2}",
    "{vault: [hunter2]}",
    "{vault: {store: vault, path: kv/x, field: key, hunter-two: hunter2}}",
];

/// Every place where the configuration has a secret.
fn positions(value: &str) -> Vec<(&'static str, String)> {
    let auth = "auth:\n        oauth2:\n          issuer: https://issuer.acme.example/\n          client_id: idkeep\n          client_secret: {file: /nowhere/client-secret}\n          client_auth: basic\n";
    let secret = "client_secret: {file: /nowhere/client-secret}";
    let vault = "kubernetes: {role: idkeep, token_file: /nowhere/token}";
    vec![
        ("nodes.one.identity.auth.oauth2.client_secret", with(secret, &format!("client_secret: {value}"))),
        (
            "nodes.one.identity.auth.oauth2.private_key",
            with(secret, &format!("{secret}\n          private_key: {value}")),
        ),
        (
            "nodes.one.identity.auth.unsafe_hs256.secret",
            with(auth, &format!("auth: {{unsafe_hs256: {{secret: {value}}}}}\n")),
        ),
        ("nodes.one.identity.auth.token", with(auth, &format!("auth: {{token: {value}}}\n"))),
        (
            "stores.vault.vault.auth.approle.secret_id",
            with(vault, &format!("approle: {{role_id: r, secret_id: {value}}}")),
        ),
        ("stores.vault.vault.auth.jwt.token", with(vault, &format!("jwt: {{role: r, token: {value}}}"))),
        ("stores.vault.vault.auth.token", with(vault, &format!("token: {value}"))),
    ]
}

#[test]
fn a_secret_in_any_place_and_shape_is_refused_and_never_said() {
    for shape in SHAPES {
        for (path, yaml) in positions(shape) {
            let checked = check(&yaml, &["--offline"]);
            let mistake = checked.mistake();
            assert!(mistake.contains(&format!(" {path}")), "{shape}: {mistake}");
            assert!(!checked.outcome.output().contains(SECRET), "{shape}: {}", checked.outcome);
        }
    }
    // The fuller look, with every command, once for each place.
    for (_, yaml) in positions("hunter2") {
        let said = is_never_said(&yaml, SECRET);
        assert!(said.contains("a secret is never written in the file; replace it by a reference"));
        assert!(said.contains("and change the secret"));
    }
}

#[test]
fn a_secret_stands_where_the_mistake_says() {
    let yaml = with("{file: /nowhere/client-secret}", "hunter2");
    assert!(check(&yaml, &["--offline"]).mistake().starts_with(&format!("{} ", place(&yaml, "hunter2"))));
    let block =
        with("{file: /nowhere/client-secret}", "|\n            -----BEGIN PRIVATE KEY-----\n            hunter2\n");
    let mistake = check(&block, &["--offline"]).mistake();
    assert!(mistake.starts_with(&format!("{} ", place(&block, "-----BEGIN"))), "{mistake}");
    is_never_said(&block, SECRET);
}

#[test]
fn an_empty_place_of_a_secret_is_not_called_a_secret() {
    for (path, yaml) in positions("") {
        let mistakes = check(&yaml, &["--offline"]).mistakes();
        // Where the key may be left out, nothing but what then is missing is a mistake.
        assert!(mistakes.iter().all(|mistake| !mistake.contains("never written")), "{path}: {mistakes:?}");
    }
    for (_, yaml) in positions("{}") {
        assert!(check(&yaml, &["--offline"]).mistake().contains("this is empty"));
    }
}

#[test]
fn a_syntax_error_on_the_line_of_a_secret_does_not_say_it() {
    for line in [
        "hunter2: x",
        "hunter2 }",
        "*hunter2",
        "&hunter2 *hunter2",
        "!hunter2!x y",
        "@hunter2",
        "`hunter2",
        "%hunter2",
        "'hunter2",
        "\"hunter2",
        "\"hunter2\\q\"",
        "\"\\uhunter2\"",
        "[hunter2",
        "{hunter2",
        "{file: hunter2, file: x",
        "|9hunter2",
        "hunter2\n  hunter2",
        "hunter2\n\thunter2: x",
        "!!int hunter2",
        "!!float hunter2",
        "!!bool hunter2",
        "!!binary hunter2",
        "{? [hunter2] : x}",
        "{? {hunter2: x} : y}",
        "{<<: hunter2}",
        "{<<: *hunter2}",
    ] {
        for (_, yaml) in positions(line) {
            let idkeep = Idkeep::configured(&yaml);
            let outcome = idkeep.expect(78, &["check", "--offline"]);
            assert!(!outcome.output().contains(SECRET), "{line}: {outcome}");
            let outcome = idkeep.expect(78, &["sync"]);
            assert!(!outcome.output().contains(SECRET), "{line}: {outcome}");
        }
    }
}

#[test]
fn a_secret_after_a_key_that_stands_there_twice_is_not_said() {
    for value in ["{file: x, file: hunter2}", "{hunter2: x, hunter2: y}", "{file: hunter2, file: x}"] {
        for (_, yaml) in positions(value) {
            let checked = check(&yaml, &["--offline"]);
            assert!(
                checked.mistakes()[0].contains("stands here twice") || checked.mistakes()[0].contains("not known here")
            );
            assert!(!checked.outcome.output().contains(SECRET), "{}", checked.outcome);
        }
    }
    let twice = with("client_auth: basic", "client_secret: hunter2");
    is_never_said(&twice, SECRET);
}

#[test]
fn a_user_name_and_password_in_an_address_are_refused_and_never_said() {
    for (from, to) in [
        ("https://node.", "https://user:hunter2@node."),
        ("https://issuer.", "https://hunter2@issuer."),
        ("https://vault.", "https://user:hunter2@vault."),
        ("      stores:", "      proxy: {url: 'http://user:hunter2@proxy:3128'}\n      stores:"),
    ] {
        let said = is_never_said(&with(from, to), SECRET);
        assert!(said.contains("take the user name and password out of the address"), "{said}");
    }
}

#[test]
fn private_keys_and_vaults_tokens_are_refused_wherever_they_stand() {
    let age = "AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQQQQQQQ";
    let recipient = super::GOOD.lines().find_map(|line| line.trim().strip_prefix("recipients: [")).unwrap();
    let recipient = recipient.trim_end_matches(']');
    for secret in [age.to_owned(), age.to_lowercase()] {
        let said = is_never_said(&with(recipient, &secret), &secret);
        assert!(said.contains("recipients[0]"), "{said}");
    }
    let key = "-----BEGIN PRIVATE KEY-----MC4CAQAwBQYDK2VwBCIEIHunter2-----END PRIVATE KEY-----";
    for secret in [key, "hvs.CAESIJhunter2", age] {
        for from in ["/nowhere/client-secret", "/nowhere/token", "devnet", "canton/{node}/identities"] {
            let said = is_never_said(&with(from, &format!("'{secret}'")), secret);
            assert!(said.contains("a secret is never written in the file"), "{said}");
        }
    }
}

#[test]
fn a_secret_among_the_form_fields_is_refused_and_never_said() {
    for name in ["client_secret", "password", "client_assertion"] {
        let params = format!("          extra_params: {{{name}: hunter2}}\n          client_id");
        let said = is_never_said(&with("          client_id", &params), SECRET);
        assert!(said.contains(&format!("extra_params.{name}: a secret is never written in the file")), "{said}");
    }
}

#[test]
fn what_cannot_be_the_name_of_a_variable_is_not_said() {
    for value in ["hunter2!", "hunter2 and more", "3hunter2", "hunter2=", "schlüssel-hunter2"] {
        let yaml = with("{file: /nowhere/client-secret}", &format!("{{env: '{value}'}}"));
        let said = is_never_said(&yaml, SECRET);
        assert!(said.contains("not the name of an environment variable"), "{said}");
    }
}
