//! Rules of an Azure Key Vault store.

use super::super::{judge_address, judge_tls};
use crate::config::{AzureStore, Findings};

pub(in super::super) fn judge(store: &AzureStore, path: &str, findings: &mut Findings) {
    judge_address(&store.vault_url, false, &format!("{path}.vault_url"), findings);
    if store.vault_url.url().path() != "/" {
        let message = "the address of a vault has no path";
        findings.mistake(&format!("{path}.vault_url"), message, "it reads `https://NAME.vault.azure.net`");
    }
    if let Some(audience) = &store.audience {
        judge_address(audience, false, &format!("{path}.audience"), findings);
    }
    judge_tls(&store.tls, &format!("{path}.tls"), findings);
}

/// Azure: letters, digits and `-`; 127 at most.
pub(super) fn judge_name(name: &str) -> Result<(), &'static str> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let fits = !name.is_empty() && name.len() <= 127;
    if fits && name.chars().all(is_good) { Ok(()) } else { Err("use up to 127 letters, digits and `-`") }
}
