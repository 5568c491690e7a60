//! The secrets of a vault: versions, tags, limits, rights. Key Vault REST API, "Secrets".

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::client::parse_form;
use super::super::jwt::now;
use super::super::server::{Reply, Seen};
use super::{State, error};

const API_VERSIONS: [&str; 5] = ["7.3", "7.4", "7.5", "7.6", "2025-07-01"];

/// One version of a secret.
#[derive(Clone, Debug, Default)]
pub struct Version {
    pub id: String,
    pub value: String,
    pub content_type: String,
    pub tags: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub created: i64,
    pub expires: Option<i64>,
    pub is_disabled: bool,
    pub is_managed: bool,
}

impl Version {
    /// As somebody else would write it now.
    pub fn foreign(value: &str) -> Self {
        Self { id: id(), value: value.into(), created: i64::try_from(now()).unwrap(), ..Self::default() }
    }

    fn json(&self, state: &State, name: &str) -> Map<String, Value> {
        let mut attributes = json!({
            "enabled": !self.is_disabled, "created": self.created, "updated": self.created,
            "recoveryLevel": state.recovery_level, "recoverableDays": 90,
        });
        if let Some(expires) = self.expires {
            attributes["exp"] = json!(expires);
        }
        let mut json = json!({
            "id": format!("{}/secrets/{name}/{}", state.origin, self.id),
            "attributes": attributes, "tags": self.tags, "contentType": self.content_type,
        });
        if self.is_managed {
            json["managed"] = json!(true);
        }
        json.as_object().unwrap().clone()
    }
}

fn id() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

pub fn answer(state: &mut State, seen: &Seen) -> Reply {
    let bearer = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(caller) = bearer.and_then(|token| state.tokens.get(token).cloned()) else {
        state.unguarded_bodies += usize::from(bearer.is_none() && !seen.body.is_empty());
        let challenge = format!("Bearer authorization=\"{}/tenant\", {}", state.origin, state.resource);
        return Reply::json(401, &error("Unauthorized", "AKV10000")).header("www-authenticate", &challenge);
    };
    let query = parse_form(seen.query.as_deref().unwrap_or_default().as_bytes());
    let is_known = |name: &String| ["api-version", "maxresults", "$skiptoken"].contains(&name.as_str());
    let api_version = query.get("api-version").map(String::as_str).unwrap_or_default();
    if !API_VERSIONS.contains(&api_version) || !query.keys().all(is_known) {
        return bad("UnsupportedApiVersion");
    }
    let words: Vec<&str> = seen.path.trim_start_matches('/').split('/').collect();
    let (name, rest) = match words[..] {
        ["secrets", name] => (name, ""),
        ["secrets", name, rest] => (name, rest),
        _ => return Reply::json(404, &error("NotFound", "NotFound")),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > 127 || !name.chars().all(is_name) {
        return bad("BadParameter");
    }
    if let Some(reply) = state.spoiled(&seen.method) {
        return reply;
    }
    let action = match (seen.method.as_str(), rest) {
        ("PUT", "") => "setSecret/action",
        ("GET", "versions") => "readMetadata/action",
        ("GET", _) => "getSecret/action",
        ("PATCH", _) => "update/action",
        ("DELETE", "") => "delete",
        ("POST", "backup") => "backup/action",
        _ => return Reply::json(405, &error("MethodNotAllowed", "MethodNotAllowed")),
    };
    if seen.method == "DELETE" {
        state.deletes_tried += 1;
    }
    let key = name.to_lowercase();
    if !is_allowed(state, &caller, &key, action) {
        return Reply::json(403, &error("Forbidden", "ForbiddenByRbac"));
    }
    match seen.method.as_str() {
        "PUT" => set(state, seen, name, &key),
        "GET" if rest == "versions" => list(state, &query, name, &key),
        "GET" => get(state, name, &key, rest),
        "PATCH" => patch(state, seen, name, &key, rest),
        _ => Reply::json(501, &error("NotImplemented", "NotImplemented")),
    }
}

fn bad(inner: &str) -> Reply {
    Reply::json(400, &error("BadParameter", inner))
}

fn missing() -> Reply {
    Reply::json(404, &error("SecretNotFound", "SecretNotFound"))
}

fn is_allowed(state: &State, caller: &str, key: &str, action: &str) -> bool {
    let action = format!("Microsoft.KeyVault/vaults/secrets/{action}");
    state.grants.iter().any(|(to, scope, actions)| {
        to == caller && (scope == "/" || *scope == format!("/secrets/{key}")) && actions.contains(&action)
    })
}

fn body(seen: &Seen, fields: &[&str]) -> Option<Map<String, Value>> {
    let json: Value = serde_json::from_slice(&seen.body).ok()?;
    let is_json = seen.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    let object = json.as_object()?;
    (is_json && object.keys().all(|key| fields.contains(&key.as_str()))).then(|| object.clone())
}

/// 15 of at most 512 characters.
fn tags(json: Option<&Value>) -> Option<BTreeMap<String, String>> {
    let Some(json) = json else { return Some(BTreeMap::new()) };
    let tags: BTreeMap<String, String> = serde_json::from_value(json.clone()).ok()?;
    let fits = |text: &String| text.chars().count() <= 512;
    (tags.len() <= 15 && tags.iter().all(|(name, value)| !name.is_empty() && fits(name) && fits(value))).then_some(tags)
}

fn set(state: &mut State, seen: &Seen, name: &str, key: &str) -> Reply {
    if state.deleted.contains_key(key) {
        return Reply::json(409, &error("Conflict", "ObjectIsDeletedButRecoverable"));
    }
    let Some(body) = body(seen, &["value", "contentType", "tags", "attributes"]) else { return bad("BadParameter") };
    let (Some(value), Some(tags)) = (body.get("value").and_then(Value::as_str), tags(body.get("tags"))) else {
        return bad("BadParameter");
    };
    let content_type = body.get("contentType").and_then(Value::as_str).unwrap_or_default();
    if value.is_empty() || value.len() > 25_600 || content_type.len() > 255 {
        return bad("BadParameter");
    }
    let version = Version { content_type: content_type.into(), tags, ..Version::foreign(value) };
    let mut json = version.json(state, name);
    // The real one echoes it.
    json.insert("value".into(), json!(value));
    state.secrets.entry(key.into()).or_default().push(version);
    let reply = Reply::json(200, &json!(json));
    match &state.gate {
        Some(gate) => reply.behind(gate.clone()),
        None => reply,
    }
}

fn list(state: &State, query: &BTreeMap<String, String>, name: &str, key: &str) -> Reply {
    let mut versions = match state.secrets.get(key) {
        Some(versions) => versions.clone(),
        None if state.lists_nothing => Vec::new(),
        None => return missing(),
    };
    // In no order that would mean anything.
    versions.sort_by(|left, right| left.id.cmp(&right.id));
    let from: usize = query.get("$skiptoken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let page: Vec<_> = versions.iter().skip(from).take(state.page).map(|version| version.json(state, name)).collect();
    let to = from + page.len();
    let next = (to < versions.len()).then(|| {
        format!("{}/secrets/{name}/versions?api-version=2025-07-01&$skiptoken={to}&maxresults=25", state.origin)
    });
    Reply::json(200, &json!({"value": page, "nextLink": state.next_link.clone().or(next)}))
}

fn get(state: &mut State, name: &str, key: &str, version: &str) -> Reply {
    let versions = state.secrets.get(key);
    let found = versions.and_then(|versions| versions.iter().rfind(|one| version.is_empty() || one.id == version));
    let Some(found) = found.cloned() else { return missing() };
    if found.is_disabled {
        return Reply::json(403, &error("Forbidden", "SecretDisabled"));
    }
    state.values_read += 1;
    let mut json = found.json(state, name);
    json.insert("value".into(), json!(found.value));
    Reply::json(200, &json!(json))
}

fn patch(state: &mut State, seen: &Seen, name: &str, key: &str, version: &str) -> Reply {
    let Some(body) = body(seen, &["contentType", "tags", "attributes"]) else { return bad("BadParameter") };
    let Some(tags) = tags(body.get("tags")) else { return bad("BadParameter") };
    let versions = state.secrets.get_mut(key);
    let found = versions.and_then(|versions| versions.iter_mut().find(|one| one.id == version));
    let Some(found) = found else { return missing() };
    if body.contains_key("tags") {
        found.tags = tags;
    }
    let found = found.clone();
    Reply::json(200, &json!(found.json(state, name)))
}
