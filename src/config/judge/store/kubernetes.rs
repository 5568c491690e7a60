//! Rules of a store that is a Kubernetes Secret.

use crate::config::{Config, Findings, Identity, KubernetesStore, Store};

pub(in super::super) fn judge(store: &KubernetesStore, path: &str, findings: &mut Findings) {
    if judge_name(&store.namespace).is_err() || store.namespace.contains('.') || store.namespace.len() > 63 {
        let message = "this is no name of a namespace";
        findings.mistake(&format!("{path}.namespace"), message, "use up to 63 small letters, digits and `-`");
    }
}

/// A Secret holds one version, and the right to write it is a right to read it: not enough on its own.
pub(in super::super) fn judge_alone(config: &Config, identity: &Identity, path: &str, findings: &mut Findings) {
    let known: Vec<&Store> = identity.stores.iter().filter_map(|name| config.stores.get(name)).collect();
    if !known.is_empty() && known.iter().all(|store| matches!(store, Store::Kubernetes(_))) {
        findings.warning(
            &format!("{path}.stores"),
            "a Kubernetes Secret is all that keeps these identities: it holds one version, which each change \
             replaces, and whoever may write it may read it",
            "name a store with versions beside it, and seal them (`recipients`)",
        );
    }
}

/// Kubernetes: a DNS subdomain, small letters, digits, `-` and `.`; 253 at most.
pub(super) fn judge_name(name: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(is_plain) && label.ends_with(is_plain) && label.chars().all(|c| is_plain(c) || c == '-')
    };
    let fits = name.len() <= 253 && name.split('.').all(is_label);
    if fits { Ok(()) } else { Err("use up to 253 small letters, digits, `-` and `.`, between letters or digits") }
}
