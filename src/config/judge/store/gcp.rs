//! Rules of a Google Secret Manager store.

use super::super::judge_address;
use crate::config::{Findings, GcpStore};

pub(in super::super) fn judge(store: &GcpStore, path: &str, findings: &mut Findings) {
    if let Some(endpoint) = &store.endpoint {
        judge_address(endpoint, store.allow_http, &format!("{path}.endpoint"), findings);
    }
}

/// Google: letters, digits, `-` and `_`; 255 at most, with the facts' suffix.
pub(super) fn judge_name(name: &str) -> Result<(), &'static str> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = !name.is_empty() && name.len() <= 255 - "-facts".len();
    if fits && name.chars().all(is_good) { Ok(()) } else { Err("use up to 249 letters, digits, `-` and `_`") }
}
