//! `policies/` holds what `policy` prints for the example of every system.

use std::path::Path;

use crate::support::idkeep::Idkeep;

/// Every system with its file type, and whether it has an expirer.
const SYSTEMS: [(&str, &str, bool); 9] = [
    ("vault", "hcl", false),
    ("gcp", "sh", false),
    ("aws", "json", false),
    ("azure", "sh", false),
    ("kubernetes", "yaml", false),
    ("postgres", "sql", false),
    ("s3", "json", true),
    ("gs", "sh", true),
    ("az", "json", true),
];

#[test]
fn the_policies_that_are_kept_are_those_that_are_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = root.join("docs/examples/every-system.yaml");
    let mut kept = Vec::new();
    for (system, extension, has_expirer) in SYSTEMS {
        for role in ["writer", "expirer", "restorer"] {
            if role == "expirer" && !has_expirer {
                continue;
            }
            let arguments = ["policy", system, "--role", role, "--config", example.to_str().unwrap()];
            let printed = Idkeep::new().expect(0, &arguments).stdout;
            let file = root.join("policies").join(system).join(format!("{role}.{extension}"));
            if std::env::var_os("IDKEEP_RENDER").is_some() {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, &printed).unwrap();
            }
            let found = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                found == printed,
                "{} is not what `idkeep {}` prints; run this test with IDKEEP_RENDER=1 to write it anew",
                file.display(),
                arguments[..4].join(" "),
            );
            kept.push(file);
        }
    }
    for folder in std::fs::read_dir(root.join("policies")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            assert!(kept.contains(&file), "{} is of no system and role", file.display());
        }
    }
}
