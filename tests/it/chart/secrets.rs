//! A secret among the values is refused before it is in the cluster, as `idkeep check` would refuse it there.

use super::example;
use crate::support::chart::{Case, render, values};
use crate::support::idkeep::Idkeep;

/// What stands for a secret below.
const SECRET: &str = "s3cr3t";

/// What of the example is replaced, by what, and the path that the error has to name.
const WRITTEN: [(&str, &str, &str); 12] = [
    ("postgres://idkeep_backup@", "postgres://idkeep_backup:s3cr3t@", "backup.databases[0].pg_dump.url"),
    ("postgres://idkeep_backup@", "postgresql://idkeep_backup:s3cr3t/s3cr3t@", "backup.databases[0].pg_dump.url"),
    ("postgres://idkeep_backup@", "postgres://a@b:s3cr3t@", "backup.databases[0].pg_dump.url"),
    ("?sslmode", "?password=s3cr3t&sslmode", "backup.databases[0].pg_dump.url"),
    ("?sslmode", "?sslpassword=s3cr3t&sslmode", "backup.databases[0].pg_dump.url"),
    ("?sslmode", "?oauth_client_secret=s3cr3t&sslmode", "backup.databases[0].pg_dump.url"),
    ("      stores:", "      proxy: {url: 'http://u:s3cr3t@proxy:3128'}\n      stores:", "identity.proxy.url"),
    ("endpoint: https://", "endpoint: https://s3cr3t@", "identity.endpoint"),
    (
        "audience:",
        "extra_params: {client_secret: s3cr3t}\n          audience:",
        "auth.oauth2.extra_params.client_secret",
    ),
    (
        "audience:",
        "extra_params: {client_assertion: s3cr3t}\n          audience:",
        "oauth2.extra_params.client_assertion",
    ),
    ("audience:", "extra_params: {password: s3cr3t}\n          audience:", "auth.oauth2.extra_params.password"),
    (
        "audience:",
        "extra_params: {refresh_token: s3cr3t}\n          audience:",
        "auth.oauth2.extra_params.refresh_token",
    ),
];

#[test]
fn a_secret_among_the_values_is_refused_by_its_path_and_never_repeated() {
    let config = example("backups.yaml");
    let modes = ["cronjob", "deployment", "job"].iter().cycle();
    let written: Vec<String> = WRITTEN.iter().map(|(from, to, _)| config.replacen(from, to, 1)).collect();
    let scheduled = written.iter().map(|config| super::scheduled(config));
    let cases = scheduled.zip(modes).map(|(config, mode)| Case::new("", values(mode, "", &config))).collect();
    for ((rendered, config), (_, to, path)) in render(cases).into_iter().zip(&written).zip(&WRITTEN) {
        assert!(config.contains(to), "{to} is not in the example");
        let error = rendered.error.unwrap_or_else(|| panic!("{to} is rendered"));
        assert!(
            error.contains("config.nodes.validator-1.") && error.contains(&format!("{path} holds a secret")),
            "{error}"
        );
        assert!(!error.contains(SECRET), "{error}");
        // The control: so does the program.
        let outcome = Idkeep::configured(config).run(&["check", "--offline"]);
        assert_eq!(outcome.code, 78, "{to}: {outcome}");
        assert!(!outcome.output().contains(SECRET), "{outcome}");
    }
}

#[test]
fn a_password_in_a_command_and_a_private_key_are_refused_too() {
    let inside = example("backups-compose.yaml").replacen("docker, exec,", "docker, exec, -e, PGPASSWORD=s3cr3t,", 1);
    let key = "files: {ca.pem: '-----BEGIN OPENSSH PRIVATE KEY----- s3cr3t'}";
    let of_age = "files: {age.txt: 'AGE-SECRET-KEY-1s3cr3t'}";
    let cases = [
        ("", inside, "pg_dump.exec["),
        (key, example("minimal.yaml"), "files.ca.pem"),
        (of_age, example("minimal.yaml"), "files.age.txt"),
    ];
    let asked = cases.iter().map(|(others, config, _)| Case::new("", values("cronjob", others, config))).collect();
    for (rendered, (_, _, path)) in render(asked).into_iter().zip(&cases) {
        let error = rendered.error.unwrap_or_else(|| panic!("{path} is rendered"));
        assert!(error.contains(path) && error.contains("holds a secret") && !error.contains(SECRET), "{error}");
    }
}

/// The other control: what looks like one and is none. All of the examples are rendered elsewhere.
#[test]
fn what_refers_to_a_secret_and_names_nobody_is_taken() {
    let config = example("backups.yaml");
    let others = [
        config.replacen("password: {file: /", "password: {env: PGPASSWORD} # {file: /", 1),
        config.replacen("audience:", "extra_params: {resource: 'https://a.example/b@c'}\n          audience:", 1),
        config.replacen("      stores:", "      proxy: {url: 'http://[::1]:3128'}\n      stores:", 1),
        config.replacen("postgres://idkeep_backup@", "postgres://", 1).replacen("?sslmode", "?user=a%40b&sslmode", 1),
    ];
    for other in &others {
        assert_ne!(*other, config);
        let outcome = Idkeep::configured(other).run(&["check", "--offline"]);
        assert_eq!(outcome.code, 0, "{outcome}");
    }
    let cases = others.iter().map(|config| Case::new("", values("cronjob", "", config))).collect();
    render(cases).iter().for_each(|rendered| rendered.assert_good());
}
