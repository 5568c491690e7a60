//! A strict stand-in for a Kubernetes API server, as far as Secrets go: bearer tokens, RBAC by verb and name,
//! server-side apply with field managers, `resourceVersion` and `uid`, metadata-only answers, 1 MiB.
//!
//! It refuses what the real one refuses (written from its API reference and its `patch.go`), and counts every answer
//! that holds data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::pki::{Clients, Pki};
use super::server::{Gate, Reply, Seen, Server};

/// The namespace there is.
pub const NAMESPACE: &str = "canton-backup";

/// The agent's token.
pub const TOKEN: &str = "canary-kubernetes-token-7f3a91c5";

/// What a restorer shows.
pub const RESTORER: &str = "canary-restorer-token-0b64e2d8";

/// The server; it stops when dropped.
pub struct Kubernetes {
    pub server: Server,
    pub pki: Pki,
    state: Arc<Mutex<State>>,
}

/// A verb, on Secrets of these names; on all of them where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub names: Option<Vec<String>>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Object>,
    /// Rules by token.
    rules: BTreeMap<String, Vec<Rule>>,
    revision: u64,
    reads: usize,
    /// Applies that changed the data.
    writes: usize,
    throttled: usize,
    /// The next so many requests of these methods get this answer instead.
    scripted: Vec<(&'static str, u16, Value)>,
    hold: Option<Gate>,
    /// Answers everything with the whole object, as a server that knows no other form.
    is_verbose: bool,
    may_review: bool,
}

/// A Secret.
#[derive(Clone, Default)]
struct Object {
    uid: String,
    revision: u64,
    /// `/data/content` and the like, with the values as JSON (of data the base64).
    fields: BTreeMap<Vec<String>, Value>,
    managers: Vec<Manager>,
    immutable: bool,
    /// More metadata, as it is.
    metadata: Map<String, Value>,
}

#[derive(Clone, PartialEq, Eq)]
struct Manager {
    name: String,
    operation: String,
    fields: BTreeSet<Vec<String>>,
}

impl Rule {
    pub fn new(verbs: &[&str], names: Option<&[&str]>) -> Self {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Self { verbs: owned(verbs), names: names.map(owned) }
    }

    fn allows(&self, verb: &str, name: &str) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == wanted || one == "*");
        has(&self.verbs, verb) && self.names.as_ref().is_none_or(|names| has(names, name))
    }
}

impl Kubernetes {
    /// Nobody may do anything yet.
    pub fn start() -> Self {
        let pki = Pki::new();
        let state = Arc::new(Mutex::new(State { may_review: true, revision: 100, ..State::default() }));
        let shared = state.clone();
        let server = Server::start(Some(pki.server_config(Clients::MayShow)), move |seen| {
            let (hold, reply) = {
                let mut state = shared.lock().unwrap();
                let hold = state.hold.clone().filter(|_| seen.method == "PATCH");
                (hold, state.answer(&seen))
            };
            async move { if let Some(gate) = hold { reply.behind(gate) } else { reply } }
        });
        Self { server, pki, state }
    }

    pub fn allow(&self, token: &str, rules: Vec<Rule>) {
        self.state.lock().unwrap().rules.insert(token.to_owned(), rules);
    }

    /// A kubeconfig with the CA and this token in it, as text.
    pub fn kubeconfig(&self, user: &str) -> String {
        self.kubeconfig_at(&self.server.origin(), user)
    }

    pub fn kubeconfig_at(&self, server: &str, user: &str) -> String {
        let ca = STANDARD.encode(self.pki.ca_pem());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
             clusters: [{{name: c, cluster: {{server: '{server}', certificate-authority-data: {ca}}}}}]\n\
             users: [{{name: u, user: {user}}}]\n\
             contexts: [{{name: main, context: {{cluster: c, user: u, namespace: elsewhere}}}}]\n"
        )
    }

    /// The data of a Secret, decoded; none where it is not there.
    pub fn data(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let state = self.state.lock().unwrap();
        let object = state.secrets.get(name)?;
        let data = object.fields.iter().filter(|(path, _)| path[0] == "data");
        Some(data.map(|(path, value)| (path[1].clone(), STANDARD.decode(value.as_str().unwrap()).unwrap())).collect())
    }

    pub fn annotations(&self, name: &str) -> BTreeMap<String, String> {
        let state = self.state.lock().unwrap();
        let fields = state.secrets.get(name).into_iter().flat_map(|object| &object.fields);
        let annotations = fields.filter(|(path, _)| path.len() == 3 && path[1] == "annotations");
        annotations.map(|(path, value)| (path[2].clone(), value.as_str().unwrap().to_owned())).collect()
    }

    /// The object as `kubectl get -o json` would show it.
    pub fn object(&self, name: &str) -> Option<Value> {
        self.state.lock().unwrap().secrets.get(name).map(|object| object.whole(name))
    }

    /// Somebody else's hands: an update by this field manager.
    pub fn edit(&self, manager: &str, name: &str, fields: &[(&str, Option<Value>)]) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let object = state.secrets.entry(name.to_owned()).or_insert_with(|| Object {
            uid: format!("uid-{revision}"),
            fields: BTreeMap::from([(vec!["type".to_owned()], json!("Opaque"))]),
            ..Object::default()
        });
        object.revision = revision;
        let paths = fields.iter().map(|(path, value)| (path.split('|').map(str::to_owned).collect::<Vec<_>>(), value));
        let mut owned = BTreeSet::new();
        for (path, value) in paths {
            for other in &mut object.managers {
                other.fields.remove(&path);
            }
            match value {
                Some(value) => {
                    object.fields.insert(path.clone(), value.clone());
                    owned.insert(path);
                }
                None => drop(object.fields.remove(&path)),
            }
        }
        // A create is an update of nothing: its manager is there, whatever it set.
        if !owned.is_empty() || object.managers.is_empty() {
            object.managers.push(Manager { name: manager.into(), operation: "Update".into(), fields: owned });
        }
    }

    /// More metadata: `ownerReferences`, `deletionTimestamp`.
    pub fn metadata(&self, name: &str, field: &str, value: Value) {
        let mut state = self.state.lock().unwrap();
        state.secrets.get_mut(name).unwrap().metadata.insert(field.into(), value);
    }

    pub fn freeze(&self, name: &str) {
        self.state.lock().unwrap().secrets.get_mut(name).unwrap().immutable = true;
    }

    pub fn forget_managers(&self, name: &str) {
        self.state.lock().unwrap().secrets.get_mut(name).unwrap().managers.clear();
    }

    pub fn delete(&self, name: &str) {
        self.state.lock().unwrap().secrets.remove(name);
    }

    pub fn throttle(&self, writes: usize) {
        self.state.lock().unwrap().throttled = writes;
    }

    /// The next request of this method is answered so.
    pub fn script(&self, method: &'static str, status: u16, details: Value) {
        self.state.lock().unwrap().scripted.push((method, status, details));
    }

    pub fn hold_writes(&self, gate: Option<Gate>) {
        self.state.lock().unwrap().hold = gate;
    }

    pub fn be_verbose(&self) {
        self.state.lock().unwrap().is_verbose = true;
    }

    pub fn refuse_reviews(&self) {
        self.state.lock().unwrap().may_review = false;
    }

    /// Answers that held data.
    pub fn reads(&self) -> usize {
        self.state.lock().unwrap().reads
    }

    /// Applies that changed the data.
    pub fn writes(&self) -> usize {
        self.state.lock().unwrap().writes
    }

    /// A folder with `ca.crt` and `token`, as a pod has one.
    pub fn service_account(&self, folder: &std::path::Path) -> PathBuf {
        let folder = folder.join("serviceaccount");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), self.pki.ca_pem()).unwrap();
        std::fs::write(folder.join("token"), TOKEN).unwrap();
        std::fs::write(folder.join("namespace"), "elsewhere").unwrap();
        folder
    }
}

/// A failure, as a `Status`.
struct Refused {
    status: u16,
    reason: &'static str,
    details: Value,
}

fn refused(status: u16, reason: &'static str) -> Refused {
    Refused { status, reason, details: json!({}) }
}

fn caused(status: u16, reason: &'static str, cause: &str, field: &str) -> Refused {
    // The real one's words, which may quote anything.
    let cause = json!({"reason": cause, "field": field, "message": "canary-of-the-servers-words"});
    Refused { status, reason, details: json!({"causes": [cause]}) }
}

impl Refused {
    fn reply(&self) -> Reply {
        Reply::json(
            self.status,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": self.reason,
                "message": "canary-of-the-servers-words", "details": self.details, "code": self.status}),
        )
    }
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Reply {
        if let Some(at) = self.scripted.iter().position(|(method, ..)| *method == seen.method) {
            let (_, status, details) = self.scripted.remove(at);
            return Refused { status, reason: "", details }.reply();
        }
        match self.handle(seen) {
            Ok(reply) => reply,
            Err(refused) => refused.reply(),
        }
    }

    fn handle(&mut self, seen: &Seen) -> Result<Reply, Refused> {
        let token = seen.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
        let by_certificate = seen.client_certificate.is_some().then_some(TOKEN);
        let token = token.or(by_certificate).filter(|token| self.rules.contains_key(*token));
        let token = token.ok_or(refused(401, "Unauthorized"))?.to_owned();
        let segments: Vec<&str> = seen.path.trim_start_matches('/').split('/').collect();
        match (seen.method.as_str(), segments.as_slice()) {
            ("POST", ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]) => self.review(&token, seen),
            ("GET", ["api", "v1", "namespaces", namespace, "secrets", name]) => {
                self.authorize(&token, "get", name)?;
                if *namespace != NAMESPACE {
                    return Err(refused(404, "NotFound"));
                }
                let object = self.secrets.get(*name).cloned().ok_or(refused(404, "NotFound"))?;
                Ok(self.show(seen, name, &object, 200))
            }
            ("PATCH", ["api", "v1", "namespaces", namespace, "secrets", name]) => {
                self.authorize(&token, "patch", name)?;
                if self.throttled > 0 {
                    self.throttled -= 1;
                    return Ok(refused(429, "TooManyRequests").reply().header("retry-after", "0"));
                }
                self.apply(&token, seen, namespace, name)
            }
            // Anything else would be a right that is not needed.
            _ => panic!("unexpected request: {} {}", seen.method, seen.path),
        }
    }

    fn authorize(&self, token: &str, verb: &str, name: &str) -> Result<(), Refused> {
        let is_allowed = self.rules[token].iter().any(|rule| rule.allows(verb, name));
        if is_allowed { Ok(()) } else { Err(refused(403, "Forbidden")) }
    }

    /// The whole object only where metadata alone was not asked for.
    fn show(&mut self, seen: &Seen, name: &str, object: &Object, status: u16) -> Reply {
        let accept: BTreeSet<&str> = seen.header("accept").unwrap_or_default().split(';').map(str::trim).collect();
        let partial = ["application/json", "as=PartialObjectMetadata", "g=meta.k8s.io", "v=v1"];
        let mut whole = object.whole(name);
        if accept == BTreeSet::from(partial) && !self.is_verbose {
            let metadata = whole["metadata"].take();
            let partial =
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            return Reply::json(status, &partial);
        }
        self.reads += 1;
        Reply::json(status, &whole)
    }

    fn review(&mut self, token: &str, seen: &Seen) -> Result<Reply, Refused> {
        if !self.may_review {
            return Err(refused(403, "Forbidden"));
        }
        assert_eq!(seen.header("content-type"), Some("application/json"));
        let mut review: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(review["kind"], "SelfSubjectAccessReview");
        assert_eq!(review["apiVersion"], "authorization.k8s.io/v1");
        let asked = &review["spec"]["resourceAttributes"];
        assert_eq!([&asked["resource"], &asked["namespace"]], ["secrets", NAMESPACE]);
        let (verb, name) = (asked["verb"].as_str().unwrap(), asked["name"].as_str().unwrap());
        let allowed = self.authorize(token, verb, name).is_ok();
        review["status"] = json!({"allowed": allowed});
        Ok(Reply::json(201, &review))
    }

    fn apply(&mut self, token: &str, seen: &Seen, namespace: &str, name: &str) -> Result<Reply, Refused> {
        if seen.header("content-type") != Some("application/apply-patch+yaml") {
            return Err(refused(415, "UnsupportedMediaType"));
        }
        let query: BTreeMap<_, _> =
            url::form_urlencoded::parse(seen.query.as_deref().unwrap_or("").as_bytes()).collect();
        assert!(!query.contains_key("force"), "never by force");
        let manager = query.get("fieldManager").ok_or(refused(422, "Invalid"))?.to_string();
        let applied = Applied::parse(&seen.body, namespace, name)?;
        let existing = self.secrets.get(name).cloned();
        let is_new = existing.is_none();
        let mut object = match existing {
            Some(object) => object,
            None => {
                if applied.uid.is_some() {
                    return Err(refused(409, "Conflict"));
                }
                if namespace != NAMESPACE {
                    return Err(refused(404, "NotFound"));
                }
                self.authorize(token, "create", name)?;
                Object { uid: format!("uid-{}", self.revision), ..Object::default() }
            }
        };
        let before = (object.fields.clone(), object.managers.clone());
        object.merge(&manager, &applied)?;
        // An apply is judged for conflicts first, and for what it was made for when it is stored.
        if !is_new && applied.uid.as_ref().is_some_and(|uid| *uid != object.uid) {
            return Err(caused(422, "Invalid", "FieldValueInvalid", "metadata.uid"));
        }
        if !is_new && applied.revision.as_ref().is_some_and(|revision| *revision != object.revision.to_string()) {
            return Err(refused(409, "Conflict"));
        }
        object.validate(&before.0, is_new)?;
        if is_new || before != (object.fields.clone(), object.managers.clone()) {
            self.revision += 1;
            object.revision = self.revision;
        }
        let data = |fields: &BTreeMap<Vec<String>, Value>| {
            fields
                .iter()
                .filter(|(path, _)| path[0] == "data")
                .map(|(path, value)| (path.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        if data(&before.0) != data(&object.fields) {
            self.writes += 1;
        }
        self.secrets.insert(name.to_owned(), object.clone());
        Ok(self.show(seen, name, &object, if is_new { 201 } else { 200 }))
    }
}

/// The body of an apply.
struct Applied {
    uid: Option<String>,
    revision: Option<String>,
    fields: BTreeMap<Vec<String>, Value>,
}

impl Applied {
    fn parse(body: &[u8], namespace: &str, name: &str) -> Result<Self, Refused> {
        let bad = || refused(400, "BadRequest");
        if body.len() > 3 * 1024 * 1024 {
            return Err(refused(413, "RequestEntityTooLarge"));
        }
        let object: Map<String, Value> = serde_json::from_slice(body).map_err(|_| bad())?;
        let mut applied = Self { uid: None, revision: None, fields: BTreeMap::new() };
        for (key, value) in &object {
            match key.as_str() {
                "apiVersion" if value == "v1" => {}
                "kind" if value == "Secret" => {}
                "type" => drop(applied.fields.insert(vec!["type".into()], value.clone())),
                "data" => {
                    for (key, value) in value.as_object().ok_or_else(bad)? {
                        STANDARD.decode(value.as_str().ok_or_else(bad)?).map_err(|_| bad())?;
                        applied.fields.insert(vec!["data".into(), key.clone()], value.clone());
                    }
                }
                "metadata" => applied.metadata(value.as_object().ok_or_else(bad)?, namespace, name)?,
                _ => return Err(bad()),
            }
        }
        Ok(applied)
    }

    fn metadata(&mut self, metadata: &Map<String, Value>, namespace: &str, name: &str) -> Result<(), Refused> {
        let bad = || refused(400, "BadRequest");
        for (key, value) in metadata {
            match key.as_str() {
                "name" if value == name => {}
                "namespace" if value == namespace => {}
                "uid" => self.uid = Some(value.as_str().ok_or_else(bad)?.to_owned()),
                "resourceVersion" => self.revision = Some(value.as_str().ok_or_else(bad)?.to_owned()),
                "labels" | "annotations" => {
                    for (inner, value) in value.as_object().ok_or_else(bad)? {
                        value.as_str().ok_or_else(bad)?;
                        self.fields.insert(vec!["metadata".into(), key.clone(), inner.clone()], value.clone());
                    }
                }
                _ => return Err(bad()),
            }
        }
        Ok(())
    }
}

impl Object {
    /// Server-side apply: what differs and is another's is a conflict, what this manager no longer names is removed.
    fn merge(&mut self, manager: &str, applied: &Applied) -> Result<(), Refused> {
        let is_own = |one: &Manager| one.name == manager && one.operation == "Apply";
        // An object without any manager belongs to one that was before the first apply.
        let before = Manager {
            name: "before-first-apply".into(),
            operation: "Update".into(),
            fields: self.fields.keys().cloned().collect(),
        };
        if self.managers.is_empty() && !self.fields.is_empty() {
            self.managers.push(before);
        }
        for (path, value) in &applied.fields {
            let differs = self.fields.get(path).is_some_and(|current| current != value);
            let is_others = self.managers.iter().any(|one| !is_own(one) && one.fields.contains(path));
            if differs && is_others {
                return Err(caused(409, "Conflict", "FieldManagerConflict", &format!(".{}", path.join("."))));
            }
        }
        let owned: BTreeSet<Vec<String>> = applied.fields.keys().cloned().collect();
        let had = self.managers.iter().find(|one| is_own(one)).map(|one| one.fields.clone()).unwrap_or_default();
        self.managers.retain(|one| !is_own(one));
        for path in had.difference(&owned) {
            if !self.managers.iter().any(|one| one.fields.contains(path)) {
                self.fields.remove(path);
            }
        }
        self.fields.extend(applied.fields.clone());
        self.managers.push(Manager { name: manager.into(), operation: "Apply".into(), fields: owned });
        self.managers.sort_by(|a, b| (&a.name, &a.operation).cmp(&(&b.name, &b.operation)));
        Ok(())
    }

    fn validate(&self, before: &BTreeMap<Vec<String>, Value>, is_new: bool) -> Result<(), Refused> {
        let data = |fields: &BTreeMap<Vec<String>, Value>| {
            let data = fields.iter().filter(|(path, _)| path[0] == "data");
            data.map(|(path, value)| (path[1].clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let decoded = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap().len();
        if data(&self.fields).values().map(decoded).sum::<usize>() > 1024 * 1024 {
            return Err(caused(422, "Invalid", "FieldValueTooLong", "data"));
        }
        let key = vec!["type".to_owned()];
        if !is_new && self.fields.get(&key) != before.get(&key) {
            return Err(caused(422, "Invalid", "FieldValueInvalid", "type"));
        }
        if self.immutable && data(&self.fields) != data(before) {
            return Err(caused(422, "Invalid", "FieldValueForbidden", "data"));
        }
        let annotations: Vec<_> =
            self.fields.iter().filter(|(path, _)| path[0] == "metadata" && path[1] == "annotations").collect();
        let size: usize = annotations.iter().map(|(path, value)| path[2].len() + value.as_str().unwrap().len()).sum();
        let is_name = |name: &str| {
            let name = name.rsplit('/').next().unwrap();
            let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            name.len() <= 63 && is_end(name.chars().next()) && is_end(name.chars().last()) && name.chars().all(is_inner)
        };
        if size > 256 * 1024 || !annotations.iter().all(|(path, _)| is_name(&path[2])) {
            return Err(caused(422, "Invalid", "FieldValueInvalid", "metadata.annotations"));
        }
        Ok(())
    }

    fn whole(&self, name: &str) -> Value {
        let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": self.uid, "resourceVersion": self.revision.to_string(),
            "creationTimestamp": "2026-11-22T22:00:00Z",
        }});
        for (path, value) in &self.fields {
            let mut at = &mut object;
            for step in path {
                at = &mut at[step.as_str()];
            }
            *at = value.clone();
        }
        for (key, value) in &self.metadata {
            object["metadata"][key] = value.clone();
        }
        if self.immutable {
            object["immutable"] = json!(true);
        }
        let managed: Vec<Value> = self.managers.iter().map(Manager::entry).collect();
        if !managed.is_empty() {
            object["metadata"]["managedFields"] = json!(managed);
        }
        object
    }
}

impl Manager {
    fn entry(&self) -> Value {
        let mut fields = json!({});
        for path in &self.fields {
            let mut at = &mut fields;
            for (index, step) in path.iter().enumerate() {
                if index > 0 {
                    at["."] = json!({});
                }
                at = &mut at[format!("f:{step}")];
            }
            *at = json!({});
        }
        json!({"manager": self.name, "operation": self.operation, "apiVersion": "v1", "time": "2026-11-22T22:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields})
    }
}
