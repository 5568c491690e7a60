//! The configuration as `check` sees it: every mistake with its place and its fix, and never a secret.

mod backups;
mod examples;
mod mistakes;
mod references;
mod schedule;
mod secrets;

use serde_json::Value;

use crate::support::idkeep::{Idkeep, Outcome};

/// A configuration without mistakes, nor anything outside that it refers to.
pub const GOOD: &str = "\
nodes:
  one:
    network: devnet
    party_hint: acme-1
    identity:
      endpoint: https://node.acme.example/api/validator
      auth:
        oauth2:
          issuer: https://issuer.acme.example/
          client_id: idkeep
          client_secret: {file: /nowhere/client-secret}
          client_auth: basic
      stores: [vault, folder]
      recipients: [age1u4z5lfm345nhsfxpdm9pps2dfya4ppn8s53ptq07g88dzmux5scqg8nnw6]
      participant: PAR::acme-1::1220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
stores:
  vault:
    vault:
      address: https://vault.acme.example:8200
      path: canton/{node}/identities
      auth: {kubernetes: {role: idkeep, token_file: /nowhere/token}}
  folder:
    file: {path: /var/lib/idkeep}
";

/// What `check -o json` said.
pub struct Checked {
    pub outcome: Outcome,
    pub json: Value,
}

/// Runs `check -o json` with these further arguments.
pub fn check(yaml: &str, arguments: &[&str]) -> Checked {
    let outcome = Idkeep::configured(yaml).run(&[&["-o", "json", "check"], arguments].concat());
    let json = outcome.json();
    assert_eq!(outcome.code, if json["mistakes"] == serde_json::json!([]) { 0 } else { 78 }, "{outcome}");
    Checked { outcome, json }
}

/// The good configuration with one piece of its text replaced, which has to be there.
pub fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not there");
    GOOD.replacen(from, to, 1)
}

impl Checked {
    /// The mistakes as `line:column path: message; fix`.
    pub fn mistakes(&self) -> Vec<String> {
        lines(&self.json["mistakes"])
    }

    pub fn warnings(&self) -> Vec<String> {
        lines(&self.json["warnings"])
    }

    /// The only mistake.
    pub fn mistake(&self) -> String {
        let mistakes = self.mistakes();
        assert_eq!(mistakes.len(), 1, "{}", self.outcome);
        mistakes.into_iter().next().unwrap()
    }
}

fn lines(findings: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |finding: &Value| {
        let (path, message, fix) = (text(&finding["path"]), text(&finding["message"]), text(&finding["fix"]));
        format!("{}:{} {path}: {message}; {fix}", finding["line"], finding["column"])
    };
    findings.as_array().unwrap().iter().map(line).collect()
}

/// A configuration with pieces of its text replaced, each of which has to be there.
pub fn replaced(good: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(good.to_owned(), |yaml, (from, to)| {
        assert!(yaml.contains(from), "{from} is not there");
        yaml.replacen(from, to, 1)
    })
}

/// The one mistake of a configuration, at the place of `at`, with what it says.
pub fn is_named_in(yaml: &str, at: &str, says: &str) {
    let mistake = check(yaml, &["--offline"]).mistake();
    assert!(mistake.starts_with(&format!("{} ", place(yaml, at))), "{mistake}, not at {}", place(yaml, at));
    assert!(mistake.contains(says), "{mistake} does not say {says}");
}

/// Line and column of the first place with that text, as `line:column`.
pub fn place(yaml: &str, text: &str) -> String {
    let at = yaml.find(text).unwrap_or_else(|| panic!("{text} is not there"));
    let line_starts = yaml[..at].rfind('\n').map_or(0, |newline| newline + 1);
    format!("{}:{}", yaml[..at].matches('\n').count() + 1, yaml[line_starts..at].chars().count() + 1)
}
