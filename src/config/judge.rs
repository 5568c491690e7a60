//! What a configuration of the right shape can still have wrong: rules between its parts.

mod backup;
mod exec;
mod node;
mod pg_dump;
mod reference;
mod repository;
mod schedule;
mod server;
mod store;

use std::path::Path;

use super::document::{self, Findings, Place};
use super::{Address, AgeRecipient, Config, Name, Period, Store, Tls, schema, shape};

const ALLOW: &str = "use https://, or write `allow_http: true` beside it";

/// Reads and judges a configuration; see [`super::inspect`].
pub(super) fn inspect(file: &Path, text: &str) -> (Option<Config>, Findings) {
    let mut findings = Findings::new(file);
    let document = match document::parse(text) {
        Ok(document) => document,
        Err((place, message)) => {
            findings.mistake_at(place, "", message, "the file is not valid YAML");
            return (None, findings);
        }
    };
    if !matches!(document.value, document::Value::Map(_)) {
        let message = if matches!(document.value, document::Value::Null) {
            "the file is empty"
        } else {
            "the file is not a mapping"
        };
        findings.mistake_at(Place { line: 1, column: 1 }, "", message, "start with `nodes:` and `stores:`");
        return (None, findings);
    }
    let json = shape::check(&document, &schema(), &mut findings);
    let config = match serde_json::from_value::<Config>(json) {
        Ok(config) => config,
        Err(error) => {
            // The shape check is as strict as serde, so this is not expected; never accept what serde refuses.
            findings.mistake("", format!("not a configuration: {error}"), "");
            return (None, findings);
        }
    };
    judge(&config, &mut findings);
    findings.sort();
    (Some(config), findings)
}

fn judge(config: &Config, findings: &mut Findings) {
    // A node with a mistake in its name is left out, and named.
    if config.nodes.is_empty() && !findings.mistakes.iter().any(|known| known.path.starts_with("nodes.")) {
        findings.mistake("nodes", "no node is configured", "add one under `nodes:`");
    }
    for (name, node) in &config.nodes {
        let path = format!("nodes.{name}");
        node::judge(config, node, &path, findings);
        if let Some(backup) = &node.backup {
            backup::judge(config, backup, &format!("{path}.backup"), findings);
        }
    }
    for (name, store) in &config.stores {
        let path = format!("stores.{name}");
        match store {
            Store::Vault(vault) => store::judge_vault(vault, &format!("{path}.vault"), findings),
            Store::Gcp(gcp) => store::gcp::judge(gcp, &format!("{path}.gcp"), findings),
            Store::Aws(aws) => store::aws::judge(aws, &format!("{path}.aws"), findings),
            Store::Azure(azure) => store::azure::judge(azure, &format!("{path}.azure"), findings),
            Store::Kubernetes(kubernetes) => {
                store::kubernetes::judge(kubernetes, &format!("{path}.kubernetes"), findings);
            }
            Store::File(file) => judge_recipients(&file.recipients, &format!("{path}.file.recipients"), findings),
        }
        if let Some(feature) = store.missing_feature() {
            let message = format!("this idkeep was built without `{feature}`");
            findings.mistake(&path, message, format!("build it with `--features {feature}`, or use another store"));
        }
        let is_used = config.nodes.values().any(|node| node.identity.stores.contains(name) || backup::uses(node, name))
            || !config.secrets_in(name).is_empty();
        if !is_used {
            findings.warning(&path, "no node uses this store", "name it under a node's `stores`, or take it out");
        }
    }
    store::judge_places(config, findings);
    reference::judge(config, findings);
    repository::judge(config, findings);
    schedule::judge(config, findings);
    server::judge(config, findings);
}

fn judge_address(address: &Address, allow_http: bool, path: &str, findings: &mut Findings) {
    if address.is_plain() && !allow_http {
        findings.mistake(path, "this address is not encrypted (`http://`)", ALLOW);
    } else if address.is_plain() && !address.is_loopback() {
        findings.warning(path, "keys or tokens cross the network in clear (`http://`)", "use https://");
    }
}

fn judge_tls(tls: &Tls, path: &str, findings: &mut Findings) {
    let (missing, present) = match (&tls.client_cert_file, &tls.client_key_file) {
        (Some(_), None) => ("client_key_file", "client_cert_file"),
        (None, Some(_)) => ("client_cert_file", "client_key_file"),
        _ => return,
    };
    findings.mistake(&format!("{path}.{missing}"), format!("`{present}` needs `{missing}`"), "add it");
}

fn judge_recipients(recipients: &[AgeRecipient], path: &str, findings: &mut Findings) {
    for (index, recipient) in recipients.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if findings.is_replaced(&path) {
            continue;
        }
        if recipient.as_str() == AgeRecipient::EXAMPLE {
            findings.warning(
                &path,
                "this is the recipient of the examples, whose private half nobody has: what is sealed to it is lost",
                "make one of your own: `age-keygen -o KEYFILE`",
            );
        }
        if recipient.is_post_quantum() != recipients[0].is_post_quantum() {
            let message = "age does not seal to post-quantum recipients (`age1tagpq1…`) and others at once: the weaker \
                           one would undo the stronger one";
            findings.mistake(&path, message, "keep those of one kind");
        }
    }
}

fn judge_period(period: Period, least: Period, path: &str, findings: &mut Findings) {
    if period < least {
        findings.mistake(path, format!("must be at least `{least}`"), "");
    }
}

/// What to do about a name that is not there.
fn known<'a>(names: impl Iterator<Item = &'a Name>, section: &str) -> String {
    let names: Vec<&str> = names.map(Name::as_str).collect();
    if names.is_empty() { format!("add it under `{section}:`") } else { format!("known: {}", names.join(", ")) }
}
