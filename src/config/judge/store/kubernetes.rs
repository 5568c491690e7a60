//! Rules of a store that is a Kubernetes Secret.

use crate::config::{Findings, KubernetesStore};

pub(in super::super) fn judge(store: &KubernetesStore, path: &str, findings: &mut Findings) {
    if judge_name(&store.namespace).is_err() || store.namespace.contains('.') || store.namespace.len() > 63 {
        let message = "this is no name of a namespace";
        findings.mistake(&format!("{path}.namespace"), message, "use up to 63 small letters, digits and `-`");
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
