//! The schema, the examples that are handed out, and the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use idkeep::config;
use proptest::prelude::*;
use serde_json::Value;

use super::GOOD;
use crate::support::idkeep::Idkeep;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn reference() -> String {
    let file = examples().into_iter().find(|file| file.ends_with("reference.yaml"));
    std::fs::read_to_string(file.unwrap()).unwrap()
}

#[test]
fn every_example_is_free_of_mistakes() {
    let files = examples();
    assert!(files.len() >= 6);
    for file in files {
        assert_eq!(file.extension().unwrap(), "yaml");
        let outcome = Idkeep::new().expect(0, &["check", "--offline", "--config", file.to_str().unwrap()]);
        assert!(outcome.stdout.contains("no mistakes"), "{outcome}");
    }
}

#[test]
fn the_policy_of_every_example_with_a_vault_is_printed() {
    for file in examples() {
        let has_vault = std::fs::read_to_string(&file).unwrap().contains("vault:\n");
        if has_vault {
            let outcome = Idkeep::new().expect(0, &["policy", "vault", "--config", file.to_str().unwrap()]);
            assert!(outcome.stdout.contains("path \"secret/data/canton/"), "{outcome}");
        }
    }
}

fn schema() -> Value {
    Idkeep::new().expect(0, &["schema"]).json()
}

/// Follows a reference.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere"),
        None => schema,
    }
}

/// Every property of the schema with the definition it stands in: `Oauth2.client_id`.
fn properties(root: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut definitions = vec![("Config".to_owned(), root)];
    definitions.extend(root["$defs"].as_object().unwrap().iter().map(|(name, schema)| (name.clone(), schema)));
    for (name, schema) in definitions {
        collect(&name, schema, &mut found);
    }
    found
}

fn collect(name: &str, schema: &Value, found: &mut BTreeSet<(String, String)>) {
    for (property, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.insert((name.to_owned(), property.clone()));
        // An enum's fields stand right there, under its name.
        if inner["properties"].is_object() {
            collect(&format!("{name}.{property}"), inner, found);
        }
    }
    for branch in ["oneOf", "anyOf", "allOf"].iter().filter_map(|word| schema[word].as_array()).flatten() {
        collect(name, branch, found);
    }
}

/// Every property of the schema that a configuration uses.
fn used(root: &Value, name: &str, schema: &Value, value: &Value, found: &mut BTreeSet<(String, String)>) {
    let name = schema["$ref"].as_str().map_or(name, |reference| reference.rsplit('/').next().unwrap()).to_owned();
    let schema = resolved(root, schema);
    for branch in ["oneOf", "anyOf", "allOf"].iter().filter_map(|word| schema[word].as_array()).flatten() {
        used(root, &name, branch, value, found);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some(inner) = schema["properties"].get(key) {
            found.insert((name.clone(), key.clone()));
            let inner_name = if inner["properties"].is_object() { format!("{name}.{key}") } else { name.clone() };
            used(root, &inner_name, inner, value, found);
        }
        let patterns = schema["patternProperties"].as_object().into_iter().flat_map(|patterns| patterns.values());
        for inner in patterns.chain(schema.get("additionalProperties").filter(|inner| inner.is_object())) {
            used(root, &name, inner, value, found);
        }
    }
    for value in value.as_array().into_iter().flatten() {
        used(root, &name, &schema["items"], value, found);
    }
}

#[test]
fn the_schema_is_json_schema_that_allows_nothing_unknown() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["$id"].is_string() && schema["title"] == "idkeep configuration");
    walk(&schema, &mut |schema| {
        if schema["properties"].is_object() {
            assert_eq!(schema["additionalProperties"], false, "{schema}");
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(schema["properties"].get(name.as_str().unwrap()).is_some(), "{schema}");
            }
        }
        if schema["$ref"].is_string() {
            resolved(&self::schema_value(), schema);
        }
    });
}

fn schema_value() -> Value {
    config::schema()
}

/// Every schema inside the schema.
fn walk(schema: &Value, visit: &mut impl FnMut(&Value)) {
    visit(schema);
    for word in ["properties", "$defs", "patternProperties"] {
        schema[word].as_object().into_iter().flatten().for_each(|(_, inner)| walk(inner, visit));
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        schema[word].as_array().into_iter().flatten().for_each(|inner| walk(inner, visit));
    }
    for word in ["items", "additionalProperties"] {
        if schema[word].is_object() {
            walk(&schema[word], visit);
        }
    }
}

#[test]
fn every_property_of_the_schema_is_described() {
    let mut count = 0;
    walk(&schema(), &mut |schema| {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            count += 1;
            let description = property["description"].as_str().unwrap_or_default();
            assert!(description.len() > 8, "{name} is not described: {property}");
        }
    });
    assert!(count > 70, "{count}");
}

#[test]
fn the_reference_example_has_every_property_of_the_schema() {
    let root = schema();
    let value: Value = serde_saphyr::from_str(&reference()).unwrap();
    let mut found = BTreeSet::new();
    used(&root, "Config", &root, &value, &mut found);
    // It stands in the place of `every`, which is there.
    found.insert(("BackupTiming".into(), "cron".into()));
    let missing: Vec<_> = properties(&root).difference(&found).cloned().collect();
    assert!(missing.is_empty(), "reference.yaml lacks {missing:?}");
}

#[test]
fn the_schemas_own_examples_and_defaults_are_accepted() {
    // They stand in for what is wrong, so that the rest of a file is still checked.
    for wrong in
        ["recipients: [1]", "participant: 1", "timeout: 1", "endpoint: 1", "namespace_key: 1", "auth: 1", "stores: [1]"]
    {
        let key = wrong.split(':').next().unwrap();
        let mut lines: Vec<String> = GOOD.lines().map(str::to_owned).collect();
        let line = lines.iter().position(|line| line.starts_with(&format!("      {key}:")));
        match line {
            Some(at) => {
                let end = (at + 1..).find(|end| !lines[*end].starts_with("       ")).unwrap();
                lines.splice(at..end, [format!("      {wrong}")]);
            }
            None => lines.insert(5, format!("      {wrong}")),
        }
        let checked = super::check(&(lines.join("\n") + "\n"), &["--offline"]);
        let path = checked.mistake();
        assert!(path.contains(&format!("nodes.one.identity.{key}")), "{wrong}: {path}");
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = Idkeep::new().expect(0, &["completions", shell]);
        assert!(outcome.stdout.contains("idkeep") && outcome.stdout.contains("accept-new-identity"), "{shell}");
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn what_is_wrong_on_the_command_line_is_usage() {
    let idkeep = Idkeep::configured(GOOD);
    for wrong in [
        &[][..],
        &["nonsense"],
        &["sync", "--nonsense"],
        &["check", "--offline", "--live"],
        &["check", "extra"],
        &["sync", "--wait", "5"],
        &["-o", "xml", "check"],
        &["--log-level", "loud", "check"],
        &["completions", "cmd.exe"],
        &["policy", "nonsense"],
        &["sync", "two"],
        &["sync", "one", "two"],
        &["sync", "--accept-new-identity=two"],
    ] {
        let outcome = idkeep.expect(64, wrong);
        assert_eq!(outcome.stdout, "", "{wrong:?}");
        assert_ne!(outcome.stderr, "", "{wrong:?}");
    }
    let unknown = idkeep.expect(64, &["sync", "two"]);
    assert!(unknown.stderr.contains("there is no node `two`\nhint: configured are: one"), "{unknown}");
    for fine in ["--help", "--version", "-h", "-V"] {
        assert!(idkeep.expect(0, &[fine]).stdout.contains("idkeep"));
    }
}

fn inspected(text: &str) -> (Option<config::Config>, config::Findings) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    config::inspect(file.path()).unwrap()
}

/// One line of the file in another place, or twice, or changed.
fn edited(text: &str, at: prop::sample::Index, edit: u8, with: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = at.index(lines.len());
    match edit {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at].insert_str(0, "  "),
        3 => lines[at] = format!("{} {with}", lines[at]),
        4 => {
            let key = lines[at].split(':').next().unwrap_or_default().to_owned();
            lines[at] = format!("{key}: {with}");
        }
        _ => lines[at] = lines[at].replace(char::is_alphabetic, with.get(..1).unwrap_or("x")),
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_check_panic(text in "\\PC{0,200}") {
        inspected(&text);
    }

    /// The schema and the reader agree: what the one lets pass or replaces, the other reads.
    #[test]
    fn a_broken_reference_is_either_named_or_read(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8, "(\\PC{0,12}|[0-9]{1,20}|null|\\[\\]|\\{\\}|true)"), 1..4)
    ) {
        let mut text = reference();
        for (at, edit, with) in &edits {
            text = edited(&text, *at, *edit, with);
        }
        let (config, findings) = inspected(&text);
        prop_assert!(config.is_some() || !findings.mistakes.is_empty());
        for mistake in &findings.mistakes {
            prop_assert!(!mistake.message.contains("not a configuration"), "{}\n{}", mistake.message, text);
        }
    }
}
