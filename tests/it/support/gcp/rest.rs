//! The API: `projects/*/secrets/*` and `projects/*/locations/*/secrets/*` over REST, as strict as the real one.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::server::{Reply, Seen, Step};
use super::iam::PERMISSIONS;
use super::{NUMBER, PROJECT, Secret, State, Version};

/// A refusal as Google words it: <https://google.aip.dev/193>.
struct No(u16, &'static str, String);

type Answer = Result<Value, No>;

fn no<T>(code: u16, status: &'static str, message: impl Into<String>) -> Result<T, No> {
    Err(No(code, status, message.into()))
}

fn invalid<T>(message: impl Into<String>) -> Result<T, No> {
    no(400, "INVALID_ARGUMENT", message)
}

/// A call that was understood as one.
struct Call<'a> {
    state: &'a State,
    /// None on an emulator.
    member: Option<String>,
    query: BTreeMap<String, String>,
    body: &'a [u8],
}

pub(super) fn answer(state: &State, seen: &Seen) -> Reply {
    let date = state.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Some(to) = &state.trouble.lock().unwrap().redirect {
        return Reply::empty(307).header("location", to);
    }
    let always = state.trouble.lock().unwrap().always;
    let result = match always {
        Some((code, status)) => no(code, status, "as the test wants it"),
        None => route(state, seen),
    };
    let is_add = seen.path.ends_with(":addVersion");
    match result {
        Ok(value) => {
            let mut trouble = state.trouble.lock().unwrap();
            if is_add && trouble.lose_adds > 0 {
                trouble.lose_adds -= 1;
                return Reply::with_steps(200, "application/json", [Step::Cut]);
            }
            let reply = Reply::json(200, &value).header("date", &date);
            match &trouble.hold_adds {
                Some(gate) if is_add => reply.behind(gate.clone()),
                _ => reply,
            }
        }
        Err(No(code, status, message)) => {
            let error = json!({"error": {"code": code, "message": message, "status": status}});
            Reply::json(code, &error).header("date", &date)
        }
    }
}

fn route(state: &State, seen: &Seen) -> Answer {
    let member = member(state, seen)?;
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(seen.query.as_deref().unwrap_or_default().as_bytes()).into_owned().collect();
    let Some(path) = seen.path.strip_prefix(&format!("/v1/projects/{PROJECT}/")) else {
        return no(404, "NOT_FOUND", format!("no such method: {}", seen.path));
    };
    // A regional endpoint knows its region alone, the global one no regional secrets.
    let prefix = state.location.as_ref().map(|region| format!("locations/{region}/")).unwrap_or_default();
    let Some(rest) = path.strip_prefix(&prefix).and_then(|rest| rest.strip_prefix("secrets")) else {
        return no(404, "NOT_FOUND", format!("no such method: {}", seen.path));
    };
    if seen.method == "POST" && seen.header("content-type") != Some("application/json") {
        return invalid("the body is JSON");
    }
    let call = Call { state, member, query, body: &seen.body };
    let (rest, verb) = rest.split_once(':').unwrap_or((rest, ""));
    let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
    let secret = format!("{prefix}secrets/{}", parts[0]);
    match (seen.method.as_str(), &parts[..], verb) {
        ("POST", [""], "") => call.create(&prefix),
        ("GET", [_, "versions"], "") => call.list(&secret),
        ("POST", [_], "addVersion") => call.add(&secret),
        ("POST", [_], "testIamPermissions") => call.test(&secret),
        ("GET", [_, "versions", version], "access") => call.access(&secret, version),
        ("POST", [_, "versions", version], "disable") => call.disable(&secret, version),
        _ => no(404, "NOT_FOUND", format!("no such method: {} {}", seen.method, seen.path)),
    }
}

fn member(state: &State, seen: &Seen) -> Result<Option<String>, No> {
    let shown = seen.header("authorization");
    if !state.is_guarded {
        return match shown {
            Some(_) => no(401, "UNAUTHENTICATED", "a token was sent in clear"),
            None => Ok(None),
        };
    }
    let iam = state.iam.lock().unwrap();
    let member = shown.and_then(|shown| iam.member(shown.strip_prefix("Bearer ")?));
    member.map_or_else(|| no(401, "UNAUTHENTICATED", "no valid token"), |member| Ok(Some(member.to_owned())))
}

impl Call<'_> {
    /// Only these parameters.
    fn parameters(&self, known: &[&str]) -> Result<(), No> {
        match self.query.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => invalid(format!("unknown name \"{key}\": cannot bind query parameter")),
            None => Ok(()),
        }
    }

    /// The body, of which only these fields are known.
    fn fields(&self, known: &[&str]) -> Result<Map<String, Value>, No> {
        self.parameters(&[])?;
        fields(&serde_json::from_slice(self.body).unwrap_or_default(), known)
    }

    fn has(&self, permission: &str, secret: Option<&str>) -> bool {
        let Some(member) = &self.member else { return true };
        let is_there = secret.is_some_and(|name| self.find(name).is_some());
        self.state.iam.lock().unwrap().may(member, permission, secret, is_there)
    }

    /// 403 also where it is not there, but for who may do so in the whole project.
    fn require(&self, permission: &str, secret: Option<&str>) -> Result<(), No> {
        if self.has(permission, secret) {
            return Ok(());
        }
        let resource = secret.unwrap_or("the project");
        no(403, "PERMISSION_DENIED", format!("permission '{permission}' denied on {resource} (or it may not exist)"))
    }

    fn find(&self, name: &str) -> Option<Secret> {
        self.state.secrets.lock().unwrap().iter().find(|secret| secret.name == name).cloned()
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Secret) -> Result<T, No>) -> Result<T, No> {
        let mut secrets = self.state.secrets.lock().unwrap();
        match secrets.iter_mut().find(|secret| secret.name == name) {
            Some(secret) => act(secret),
            None => no(404, "NOT_FOUND", format!("secret [projects/{NUMBER}/{name}] not found")),
        }
    }

    /// How many versions lists and `latest` know of, which may lag behind.
    fn visible(&self, secret: &Secret) -> usize {
        let (identities, facts) = self.state.trouble.lock().unwrap().unseen;
        secret.versions.len().saturating_sub(if secret.name.ends_with("-facts") { facts } else { identities })
    }

    fn create(&self, prefix: &str) -> Answer {
        self.parameters(&["secretId"])?;
        self.require("secretmanager.secrets.create", None)?;
        let id = self.query.get("secretId").cloned().unwrap_or_default();
        let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > 255 || !id.chars().all(is_good) {
            return invalid("secretId");
        }
        let body = serde_json::from_slice(self.body).unwrap_or_default();
        let made_as = fields(&body, &["replication", "labels", "customerManagedEncryption"])?;
        let is_regional = self.state.location.is_some();
        match made_as.get("replication") {
            Some(_) if is_regional => return invalid("a regional secret has no replication"),
            None if !is_regional => return invalid("replication must be set"),
            Some(replication) => check_replication(replication)?,
            None => {}
        }
        let name = format!("{prefix}secrets/{id}");
        if self.find(&name).is_some() {
            return no(409, "ALREADY_EXISTS", format!("secret [projects/{NUMBER}/{name}] already exists"));
        }
        let answer = json!({"name": format!("projects/{NUMBER}/{name}"), "createTime": self.state.now().to_string()});
        let secret = Secret { name, made_as: made_as.into(), versions: Vec::new() };
        self.state.secrets.lock().unwrap().push(secret);
        Ok(answer)
    }

    fn list(&self, secret: &str) -> Answer {
        self.parameters(&["pageSize", "pageToken"])?;
        self.require("secretmanager.versions.list", Some(secret))?;
        let wanted: usize =
            self.query.get("pageSize").map_or(Ok(0), |size| size.parse()).or_else(|_| invalid("pageSize"))?;
        let page = self.state.trouble.lock().unwrap().page.min(if wanted == 0 { 25_000 } else { wanted });
        let from: usize =
            self.query.get("pageToken").map_or(Ok(0), |token| token.parse()).or_else(|_| invalid("pageToken"))?;
        self.with(secret, |secret| {
            let name = secret.name.clone();
            let newest_first = secret.versions[..self.visible(secret)].iter().enumerate().rev();
            let all: Vec<Value> = newest_first.map(|(index, version)| shown(&name, index, version)).collect();
            let mut answer = json!({"totalSize": all.len()});
            if !all.is_empty() {
                answer["versions"] = all.iter().skip(from).take(page).cloned().collect();
            }
            if from + page < all.len() {
                answer["nextPageToken"] = (from + page).to_string().into();
            }
            Ok(answer)
        })
    }

    fn add(&self, secret: &str) -> Answer {
        let body = self.fields(&["payload"])?;
        self.require("secretmanager.versions.add", Some(secret))?;
        {
            let mut trouble = self.state.trouble.lock().unwrap();
            if trouble.refuse_adds > 0 {
                trouble.refuse_adds -= 1;
                return match trouble.status {
                    429 => no(429, "RESOURCE_EXHAUSTED", "quota exceeded"),
                    status => no(status, "UNAVAILABLE", "trouble"),
                };
            }
        }
        let payload = fields(body.get("payload").unwrap_or(&Value::Null), &["data", "dataCrc32c"])?;
        let data = payload.get("data").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
        let Some(data) = data.filter(|data| !data.is_empty()) else { return invalid("payload.data") };
        if data.len() > 65_536 {
            return invalid("the payload is larger than 64 KiB");
        }
        // An int64 is a string in JSON; a number is taken, too.
        let checksum = match payload.get("dataCrc32c") {
            Some(Value::String(text)) => text.parse::<i64>().ok(),
            Some(value) => value.as_i64(),
            None => return invalid("this stand-in wants a checksum"),
        };
        if checksum != Some(i64::from(checksum_of(&data))) {
            return invalid("the checksum is another");
        }
        let created_at = self.state.now();
        self.with(secret, |secret| {
            secret.versions.push(Version { data, state: "ENABLED", created_at });
            let index = secret.versions.len() - 1;
            let mut answer = shown(&secret.name, index, &secret.versions[index]);
            answer["clientSpecifiedPayloadChecksum"] = true.into();
            Ok(answer)
        })
    }

    fn access(&self, secret: &str, version: &str) -> Answer {
        self.parameters(&[])?;
        self.require("secretmanager.versions.access", Some(secret))?;
        self.with(secret, |secret| {
            let latest = self.visible(secret).to_string();
            let (index, version) = find_version(secret, if version == "latest" { &latest } else { version })?;
            if version.state != "ENABLED" {
                return no(400, "FAILED_PRECONDITION", format!("the version is in {} state", version.state));
            }
            let payload = json!({
                "data": STANDARD.encode(&version.data),
                "dataCrc32c": checksum_of(&version.data).to_string(),
            });
            Ok(json!({"name": version_name(&secret.name, index), "payload": payload}))
        })
    }

    fn disable(&self, secret: &str, version: &str) -> Answer {
        self.fields(&["etag"])?;
        self.require("secretmanager.versions.disable", Some(secret))?;
        self.with(secret, |secret| {
            let (index, found) = find_version(secret, version)?;
            if found.state == "DESTROYED" {
                return no(400, "FAILED_PRECONDITION", "destroyed");
            }
            secret.versions[index].state = "DISABLED";
            Ok(shown(&secret.name, index, &secret.versions[index]))
        })
    }

    /// Needs no right, and says "none" of what is not there.
    fn test(&self, secret: &str) -> Answer {
        let body = self.fields(&["permissions"])?;
        if self.member.is_none() {
            return no(501, "UNIMPLEMENTED", "an emulator knows no rights");
        }
        let asked = body.get("permissions").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut held = Vec::new();
        for permission in &asked {
            let permission = permission.as_str().unwrap_or_default();
            if !PERMISSIONS.contains(&permission) {
                return invalid(format!("{permission} is no right"));
            }
            if self.find(secret).is_some() && self.has(permission, Some(secret)) {
                held.push(permission);
            }
        }
        Ok(if held.is_empty() { json!({}) } else { json!({"permissions": held}) })
    }
}

fn fields(value: &Value, known: &[&str]) -> Result<Map<String, Value>, No> {
    let Some(map) = value.as_object() else { return invalid("a JSON object is wanted") };
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => invalid(format!("unknown name \"{key}\": cannot find field")),
        None => Ok(map.clone()),
    }
}

fn check_replication(replication: &Value) -> Result<(), No> {
    let map = fields(replication, &["automatic", "userManaged"])?;
    let check_key = |map: &Map<String, Value>, place: &str| match map.get("customerManagedEncryption") {
        Some(key) => {
            let key = fields(key, &["kmsKeyName"])?;
            let name = key.get("kmsKeyName").and_then(Value::as_str).unwrap_or_default();
            let is_there = name.contains(&format!("/locations/{place}/"));
            if is_there { Ok(()) } else { invalid(format!("the key must be in {place}")) }
        }
        None => Ok(()),
    };
    match (map.get("automatic"), map.get("userManaged")) {
        (Some(automatic), None) => check_key(&fields(automatic, &["customerManagedEncryption"])?, "global"),
        (None, Some(managed)) => {
            let managed = fields(managed, &["replicas"])?;
            let replicas = managed.get("replicas").and_then(Value::as_array).cloned().unwrap_or_default();
            if replicas.is_empty() {
                return invalid("no replica");
            }
            for replica in &replicas {
                let replica = fields(replica, &["location", "customerManagedEncryption"])?;
                let place = replica.get("location").and_then(Value::as_str).unwrap_or_default();
                check_key(&replica, place)?;
            }
            Ok(())
        }
        _ => invalid("exactly one of automatic and userManaged"),
    }
}

fn find_version<'s>(secret: &'s Secret, version: &str) -> Result<(usize, &'s Version), No> {
    let number: usize = version.parse().unwrap_or(0);
    let found = number.checked_sub(1).and_then(|index| Some((index, secret.versions.get(index)?)));
    found.map_or_else(|| no(404, "NOT_FOUND", "the secret has no such version"), Ok)
}

fn version_name(secret: &str, index: usize) -> String {
    format!("projects/{NUMBER}/{secret}/versions/{}", index + 1)
}

fn shown(secret: &str, index: usize, version: &Version) -> Value {
    json!({
        "name": version_name(secret, index),
        "createTime": version.created_at.to_string(),
        "state": version.state,
        "replicationStatus": {"automatic": {}},
        "etag": format!("\"{index:x}\""),
    })
}

/// CRC-32C, bit by bit.
fn checksum_of(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}
