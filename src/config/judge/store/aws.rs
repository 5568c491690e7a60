//! Rules of an AWS Secrets Manager store.

use super::super::{judge_address, judge_tls};
use crate::config::{AwsStore, Findings};

/// Of the 50 tags that a secret may have, the facts need a dozen, and former participants a few.
const MAX_TAGS: usize = 30;

pub(in super::super) fn judge(store: &AwsStore, path: &str, findings: &mut Findings) {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !store.region.contains('-') || !store.region.chars().all(is_plain) {
        findings.mistake(&format!("{path}.region"), "this is no region", "it reads `eu-central-1`");
    }
    if let Some(endpoint) = &store.endpoint {
        judge_address(endpoint, store.allow_http, &format!("{path}.endpoint"), findings);
    }
    if store.kms_key_id.as_ref().is_some_and(|key| !is_key(key)) {
        let fix = "use its id, its ARN, or `alias/NAME`";
        findings.mistake(&format!("{path}.kms_key_id"), "this is no KMS key", fix);
    }
    judge_tags(store, &format!("{path}.tags"), findings);
    judge_tls(&store.tls, &format!("{path}.tls"), findings);
}

fn is_key(key: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_/:".contains(c);
    (1..=2048).contains(&key.len()) && key.chars().all(is_good)
}

fn judge_tags(store: &AwsStore, path: &str, findings: &mut Findings) {
    if store.tags.len() > MAX_TAGS {
        let message = format!("these are {} tags, and the facts need room, too", store.tags.len());
        findings.mistake(path, message, format!("keep {MAX_TAGS} at most"));
    }
    for (key, value) in &store.tags {
        let is_good = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
        let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        if key.starts_with("aws:") || key.starts_with("idkeep_") {
            let message = "tags of this name are not yours to choose";
            findings.mistake(&format!("{path}.{key}"), message, "rename it");
        } else if !fits || !key.chars().chain(value.chars()).all(is_good) {
            let fix = "use letters, digits, spaces and `+-=._:/@`: up to 128 for the name, 256 for the value";
            findings.mistake(&format!("{path}.{key}"), "AWS takes no such tag", fix);
        }
    }
}

/// AWS: letters, digits and `/_+=.@-`; 512 at most.
pub(super) fn judge_name(name: &str) -> Result<(), &'static str> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    let fits = !name.is_empty() && name.len() <= 512;
    if fits && name.chars().all(is_good) { Ok(()) } else { Err("use up to 512 letters, digits and `/_+=.@-`") }
}
