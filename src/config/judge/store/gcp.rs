//! Rules of a Google Secret Manager store. What passes them can stand in a path and in a shell's command as it is.

use super::super::{judge_address, judge_tls};
use crate::config::{Findings, GcpStore};

/// Fewer enabled versions than this would lose the right one too soon.
const LEAST_VERSIONS: u32 = 10;

pub(in super::super) fn judge(store: &GcpStore, path: &str, findings: &mut Findings) {
    let at = |field: &str| format!("{path}.{field}");
    if !is_project(&store.project) {
        let fix = "a project's id is 6 to 30 small letters, digits and `-`, such as `acme-canton`";
        findings.mistake(&at("project"), format!("`{}` is no project's id", store.project), fix);
    }
    let regions = store.location.iter().map(|region| (at("location"), region));
    let replicas = store.replicas.iter().enumerate().map(|(index, region)| (at(&format!("replicas[{index}]")), region));
    for (path, region) in regions.chain(replicas) {
        if !is_region(region) {
            findings.mistake(&path, format!("`{region}` is no region"), "such as `europe-west3`");
        }
    }
    if store.location.is_some() && !store.replicas.is_empty() {
        let message = "a regional secret is not replicated";
        findings.mistake(&at("replicas"), message, "take out either `location` or `replicas`");
    }
    judge_key(store, path, findings);
    judge_labels(store, &at("labels"), findings);
    judge_keep(store, &at("keep_versions"), findings);
    if let Some(endpoint) = &store.endpoint {
        judge_address(endpoint, store.allow_http, &at("endpoint"), findings);
    }
    judge_tls(&store.tls, &at("tls"), findings);
}

fn judge_key(store: &GcpStore, path: &str, findings: &mut Findings) {
    let Some(key) = &store.kms_key else { return };
    let path = format!("{path}.kms_key");
    let parts: Vec<&str> = key.split('/').collect();
    let ["projects", project, "locations", place, "keyRings", ring, "cryptoKeys", name] = parts[..] else {
        let fix = "it reads `projects/P/locations/L/keyRings/R/cryptoKeys/K`";
        findings.mistake(&path, "this is no name of a Cloud KMS key", fix);
        return;
    };
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if !is_project(project) || !is_region(place) || !is_name(ring) || !is_name(name) {
        let fix = "it reads `projects/P/locations/L/keyRings/R/cryptoKeys/K`";
        findings.mistake(&path, "this is no name of a Cloud KMS key", fix);
        return;
    }
    let wanted = match (&store.location, store.replicas.as_slice()) {
        (Some(region), _) | (None, [region]) => region.as_str(),
        (None, []) => "global",
        (None, _) => {
            let message = "each replica needs a key of its own region, and this is one key";
            findings.mistake(&path, message, "name one replica, or create the secret beforehand and take this out");
            return;
        }
    };
    if place != wanted {
        let message = format!("Google wants a key in `{wanted}` for this secret, and this one is in `{place}`");
        findings.mistake(&path, message, "name another key");
    }
}

fn judge_labels(store: &GcpStore, path: &str, findings: &mut Findings) {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let fits = |text: &str| text.len() <= 63 && text.chars().all(is_good);
    for (key, value) in &store.labels {
        if !fits(key) || !fits(value) || !key.starts_with(|c: char| c.is_ascii_lowercase()) {
            let fix = "key and value are up to 63 small letters, digits, `-` and `_`; the key begins with a letter";
            findings.mistake(&format!("{path}.{key}"), "Google takes no such label", fix);
        }
    }
    if store.labels.len() > 64 {
        findings.mistake(path, "Google takes 64 labels at most", "take some out");
    }
}

fn judge_keep(store: &GcpStore, path: &str, findings: &mut Findings) {
    match store.keep_versions {
        Some(keep) if keep < LEAST_VERSIONS => {
            findings.mistake(path, format!("must be at least {LEAST_VERSIONS}"), "or leave it out: then all are kept");
        }
        Some(_) => findings.warning(
            path,
            "older versions are disabled: whoever restores one has to enable it first, and the agent needs the right to disable",
            "leave it out: a disabled version costs as much as an enabled one",
        ),
        None => {}
    }
}

/// Google: 6 to 30 small letters, digits and `-`, perhaps with a domain before it; or the project's number.
fn is_project(text: &str) -> bool {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:".contains(c);
    (6..=100).contains(&text.len()) && text.chars().all(is_good) && !text.starts_with('-')
}

fn is_region(text: &str) -> bool {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (2..=40).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_good)
}

/// Google: letters, digits, `-` and `_`; 255 at most, with the facts' suffix. A name with that suffix might be where the
/// facts of another node lie, which the agent may read.
pub(super) fn judge_name(name: &str) -> Result<(), &'static str> {
    if name.ends_with("-facts") {
        return Err("a name that ends in `-facts` is for facts: use another");
    }
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = !name.is_empty() && name.len() <= 255 - "-facts".len();
    if fits && name.chars().all(is_good) { Ok(()) } else { Err("use up to 249 letters, digits, `-` and `_`") }
}
