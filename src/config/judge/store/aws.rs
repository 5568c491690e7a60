//! Rules of an AWS Secrets Manager store.

use super::super::{judge_address, judge_tls};
use crate::config::{AwsStore, Findings};

pub(in super::super) fn judge(store: &AwsStore, path: &str, findings: &mut Findings) {
    if let Some(endpoint) = &store.endpoint {
        judge_address(endpoint, store.allow_http, &format!("{path}.endpoint"), findings);
    }
    judge_tls(&store.tls, &format!("{path}.tls"), findings);
}

/// AWS: letters, digits and `/_+=.@-`; 512 at most.
pub(super) fn judge_name(name: &str) -> Result<(), &'static str> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    let fits = !name.is_empty() && name.len() <= 512;
    if fits && name.chars().all(is_good) { Ok(()) } else { Err("use up to 512 letters, digits and `/_+=.@-`") }
}
