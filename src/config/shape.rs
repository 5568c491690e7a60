//! Checks the tree against the JSON Schema of the configuration, and names every difference.
//!
//! Serde stops at the first mistake; an operator wants all of them. So the schema, which `idkeep
//! schema` prints, is what the file is checked with, and serde reads only what has passed. A part
//! with a mistake is replaced by the schema's example, so that everything else is checked too.

use serde_json::{Map, Value as Json, json};
use serde_saphyr::Spanned;

use super::document::{Findings, Place, Value};
use super::{Address, AgeRecipient, Cron, DatabaseUrl, Name, ParticipantName, Period, RepositoryUrl, Signer, Template};

/// The document as JSON that serde can read, each mistake recorded and replaced.
pub(super) fn check(document: &Spanned<Value>, schema: &Json, findings: &mut Findings) -> Json {
    Shape { root: schema, findings }.value(document, schema, "")
}

const NEVER: &str = "a secret is never written in the file";
const REFER: &str = "replace it by a reference, `{file: PATH}`, `{env: NAME}` or `{vault: {…}}`, and change the secret: it has been in a file";

struct Shape<'a> {
    root: &'a Json,
    findings: &'a mut Findings,
}

impl<'a> Shape<'a> {
    fn value(&mut self, node: &Spanned<Value>, schema: &'a Json, path: &str) -> Json {
        let place = Place::from(node.referenced);
        let schema = self.resolve(schema);
        if schema["x-secret"] == true && !matches!(node.value, Value::Map(_)) {
            if matches!(node.value, Value::Null) {
                return self.mistake(
                    schema,
                    place,
                    path,
                    "this is empty",
                    "refer to it: `{file: PATH}`, `{env: NAME}` or `{vault: {store: NAME, path: PATH, field: FIELD}}`",
                );
            }
            return self.mistake(schema, place, path, NEVER, REFER);
        }
        if let Some(expected) = schema["x-expected"].as_str() {
            return self.scalar_of_several(node, schema, path, expected);
        }
        match &node.value {
            Value::Map(entries) if schema["oneOf"].is_array() && schema["type"].is_null() => {
                self.exactly_one(entries, schema, path, place)
            }
            Value::Map(entries) if is_type(schema, "object") => self.map(entries, schema, path, place),
            Value::List(elements) if is_type(schema, "array") => {
                let elements = elements.iter().enumerate();
                let list = elements.map(|(index, element)| {
                    let path = format!("{path}[{index}]");
                    self.findings.remember(&path, Place::from(element.referenced));
                    self.value(element, &schema["items"], &path)
                });
                Json::Array(list.collect())
            }
            Value::Text(text) if is_text(schema) => self.text(text, schema, path, place),
            Value::Bool(value) if is_type(schema, "boolean") => json!(value),
            Value::Int(value) if is_type(schema, "integer") => self.integer(*value, schema, path, place),
            Value::Null if is_type(schema, "null") => Json::Null,
            _ => {
                let expected = expected(schema);
                let is_number = matches!(node.value, Value::Int(_) | Value::Float | Value::Bool(_));
                let fix = match schema["format"].as_str() {
                    // `30` in quotes would be no better.
                    Some("period") if is_number => "add a unit, for example `30s`",
                    _ if is_number && is_text(schema) => "put it in quotes",
                    _ => "",
                };
                self.mistake(schema, place, path, format!("expected {expected}"), fix)
            }
        }
    }

    /// Records a mistake, and returns what stands in its place from now on.
    fn mistake(
        &mut self,
        schema: &'a Json,
        place: Place,
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Json {
        self.findings.mistake_at(place, path, message, fix);
        self.findings.replace(path);
        self.placeholder(schema)
    }

    fn map(
        &mut self,
        entries: &[(Spanned<String>, Spanned<Value>)],
        schema: &'a Json,
        path: &str,
        place: Place,
    ) -> Json {
        let mut object = Map::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            let path = join(path, &key.value);
            if is_repeated(entries, index) {
                self.findings.mistake_at(Place::from(key.referenced), &path, TWICE, "take one out");
                continue;
            }
            self.findings.remember(&path, Place::from(key.referenced));
            if let Some(property) = schema["properties"].get(&key.value) {
                // `key:` with nothing after it is as good as not written where it may be left out.
                let optional = !required(schema).any(|name| name == key.value);
                if optional && matches!(value.value, Value::Null) {
                    continue;
                }
                object.insert(key.value.clone(), self.value(value, property, &path));
            } else if let Some(entry) = entry_schema(schema) {
                if let Err(message) = key_format(schema).map_or(Ok(()), |_| Name::check(&key.value)) {
                    self.findings.mistake_at(Place::from(key.referenced), &path, message, "rename it");
                    // It is left out, but what is wrong in it is named too.
                    self.value(value, entry, &path);
                    continue;
                }
                object.insert(key.value.clone(), self.value(value, entry, &path));
            } else {
                self.unknown_key(key, schema, &path);
            }
        }
        for name in required(schema) {
            if !object.contains_key(name) {
                let path = join(path, name);
                let property = &schema["properties"][name];
                let placeholder = self.mistake(property, place, &path, format!("`{name}` is missing"), "add it");
                object.insert(name.to_owned(), placeholder);
            }
        }
        Json::Object(object)
    }

    /// One of several keys: the way an externally tagged enum is written.
    fn exactly_one(
        &mut self,
        entries: &[(Spanned<String>, Spanned<Value>)],
        schema: &'a Json,
        path: &str,
        place: Place,
    ) -> Json {
        let variants: Vec<(&str, &Json)> = variants(schema).collect();
        let names: Vec<String> = variants.iter().map(|(name, _)| format!("`{name}`")).collect();
        let known = |key: &str| variants.iter().find(|(name, _)| *name == key);
        let secret = schema["x-secret"] == true;
        let path_of_all = path;
        for (index, (key, _)) in entries.iter().enumerate() {
            if is_repeated(entries, index) {
                let path = if known(&key.value).is_some() { join(path, &key.value) } else { path.to_owned() };
                self.findings.replace(path_of_all);
                return self.mistake(schema, Place::from(key.referenced), &path, TWICE, "take one out");
            }
            if known(&key.value).is_none() {
                // Inside a secret's place the unknown key may be the secret.
                let shown = if secret { "this key".to_owned() } else { format!("`{}`", key.value) };
                let path = if secret { path.to_owned() } else { join(path, &key.value) };
                let fix = format!("use one of {}", names.join(", "));
                self.findings.replace(path_of_all);
                return self.mistake(
                    schema,
                    Place::from(key.referenced),
                    &path,
                    format!("{shown} is not known here"),
                    fix,
                );
            }
        }
        let [(key, value)] = entries else {
            let fix = format!("keep exactly one of {}", names.join(", "));
            let message = if entries.is_empty() { "this is empty" } else { "only one may stand here" };
            return self.mistake(schema, place, path, message, fix);
        };
        let path = join(path, &key.value);
        self.findings.remember(&path, Place::from(key.referenced));
        let inner = known(&key.value).map_or(&Json::Null, |(_, inner)| *inner);
        let value = self.value(value, inner, &path);
        if secret && self.findings.is_replaced(&path) {
            self.findings.replace(path_of_all);
        }
        json!({ key.value.as_str(): value })
    }

    fn text(&mut self, text: &str, schema: &'a Json, path: &str, place: Place) -> Json {
        if is_secret(text) {
            return self.mistake(
                schema,
                place,
                path,
                NEVER,
                "take it out, and change the secret: it has been in a file",
            );
        }
        let words: Vec<&str> = words(schema).collect();
        let problem = if !words.is_empty() && !words.contains(&text) {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            Some(format!("expected {}", words.join(" or ")))
        } else if let Some(format) = schema["format"].as_str() {
            check_format(format, text).err()
        } else if schema["maxLength"].as_u64().is_some_and(|max| text.len() as u64 > max) {
            Some(format!("longer than {} bytes", schema["maxLength"]))
        } else if text.chars().any(char::is_control) {
            Some("control characters are not allowed".into())
        } else if text.is_empty() {
            Some("must not be empty".into())
        } else {
            None
        };
        match problem {
            None => json!(text),
            Some(message) => self.mistake(schema, place, path, message, ""),
        }
    }

    fn integer(&mut self, value: i64, schema: &'a Json, path: &str, place: Place) -> Json {
        let minimum = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let maximum = match schema["format"].as_str() {
            Some("uint32") => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        let maximum = schema["maximum"].as_i64().unwrap_or(maximum);
        if (minimum..=maximum).contains(&value) {
            return json!(value);
        }
        self.findings.mistake_at(place, path, format!("must be from {minimum} to {maximum}"), "");
        json!(minimum.max(1))
    }

    fn scalar_of_several(&mut self, node: &Spanned<Value>, schema: &'a Json, path: &str, expected: &str) -> Json {
        let branches = schema["anyOf"].as_array().into_iter().flatten();
        for branch in branches {
            match &node.value {
                Value::Text(text) if words(branch).any(|word| word == text) => return json!(text),
                Value::Int(value)
                    if is_type(branch, "integer") && *value >= branch["minimum"].as_i64().unwrap_or(0) =>
                {
                    return json!(value);
                }
                _ => {}
            }
        }
        self.findings.mistake_at(Place::from(node.referenced), path, format!("expected {expected}"), "");
        json!("all")
    }

    fn unknown_key(&mut self, key: &Spanned<String>, schema: &Json, path: &str) {
        // What stands where a key should may be anything, a secret too: `client_secret:hunter2`.
        let name = key.value.split(':').next().unwrap_or_default();
        // Inside a secret's place it is never said.
        let is_name = schema["x-secret"] != true
            && (1..=40).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-'));
        let parent = path.strip_suffix(&key.value).unwrap_or_default().trim_end_matches('.');
        let path = if is_name { join(parent, name) } else { parent.to_owned() };
        let known: Vec<&str> =
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let fix = match nearest(&key.value, &known) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.findings.mistake_at(Place::from(key.referenced), &path, "this key is not known", fix);
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let mut schema = schema;
        loop {
            if let Some(reference) = schema["$ref"].as_str() {
                schema = self.root.pointer(reference.trim_start_matches('#')).unwrap_or(&Json::Null);
            } else if let Some(some) = schema["anyOf"].as_array().filter(|_| schema["x-expected"].is_null()) {
                // `Option<T>`: T or null.
                schema = some.iter().find(|branch| branch["type"] != "null").unwrap_or(&Json::Null);
            } else {
                return schema;
            }
        }
    }

    /// A value that serde accepts in place of one with a mistake.
    fn placeholder(&self, schema: &'a Json) -> Json {
        let schema = self.resolve(schema);
        if let Some(example) = schema["examples"].get(0) {
            return example.clone();
        }
        if let Some(word) = words(schema).next() {
            return json!(word);
        }
        if !schema["x-expected"].is_null() {
            return json!("all");
        }
        if is_type(schema, "object") {
            let fields = required(schema).map(|name| (name.to_owned(), self.placeholder(&schema["properties"][name])));
            return Json::Object(fields.collect());
        }
        if is_type(schema, "array") {
            return json!([]);
        }
        if is_type(schema, "boolean") {
            return json!(false);
        }
        if is_type(schema, "integer") {
            return json!(schema["minimum"].as_i64().unwrap_or(1).max(1));
        }
        json!("placeholder")
    }
}

fn check_format(format: &str, text: &str) -> Result<(), String> {
    match format {
        "name" => Name::check(text),
        "participant" => ParticipantName::check(text),
        "age-recipient" => AgeRecipient::check(text),
        "template" => Template::check(text),
        "period" => text.parse::<Period>().map(|_| ()),
        "address" => text.parse::<Address>().map(|_| ()),
        "database-url" => text.parse::<DatabaseUrl>().map(|_| ()),
        "repository-url" => text.parse::<RepositoryUrl>().map(|_| ()),
        "signer" => text.parse::<Signer>().map(|_| ()),
        "cron" => text.parse::<Cron>().map(|_| ()),
        "socket" => text
            .parse::<std::net::SocketAddr>()
            .map(|_| ())
            .map_err(|_| "it reads `ADDRESS:PORT`, for example `127.0.0.1:9464`".into()),
        "variable" => is_variable(text).then_some(()).ok_or_else(|| "not the name of an environment variable".into()),
        _ => Ok(()),
    }
}

const TWICE: &str = "this key stands here twice";

/// True for a key that another of the same mapping was before.
fn is_repeated(entries: &[(Spanned<String>, Spanned<Value>)], index: usize) -> bool {
    entries[..index].iter().any(|(key, _)| key.value == entries[index].0.value)
}

/// What is a secret wherever it stands: private keys, and tokens of Vault.
fn is_secret(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
        || text.to_ascii_uppercase().contains("AGE-SECRET-KEY-")
        || ["hvs.", "hvb.", "hvr."].iter().any(|prefix| text.starts_with(prefix))
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn is_type(schema: &Json, name: &str) -> bool {
    match &schema["type"] {
        Json::String(one) => one == name,
        Json::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn is_text(schema: &Json) -> bool {
    is_type(schema, "string") || words(schema).next().is_some()
}

/// The words that an enum of plain words allows, with or without descriptions.
fn words(schema: &Json) -> impl Iterator<Item = &str> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let described = schema["oneOf"].as_array().into_iter().flatten().flat_map(|branch| {
        let several = branch["enum"].as_array().into_iter().flatten();
        std::iter::once(&branch["const"]).chain(several)
    });
    plain.chain(described).filter_map(Json::as_str)
}

/// The keys of an externally tagged enum with what stands under each.
fn variants(schema: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let branches = schema["oneOf"].as_array().into_iter().flatten();
    branches.filter_map(|branch| {
        branch["properties"].as_object()?.iter().next().map(|(name, inner)| (name.as_str(), inner))
    })
}

fn required(schema: &Json) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str)
}

/// What stands under each key of a map whose keys the operator chooses.
fn entry_schema(schema: &Json) -> Option<&Json> {
    let patterns = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
    patterns.or_else(|| Some(&schema["additionalProperties"]).filter(|entry| entry.is_object()))
}

fn key_format(schema: &Json) -> Option<&Json> {
    schema.get("patternProperties").or_else(|| schema.get("propertyNames"))
}

fn expected(schema: &Json) -> String {
    let variants: Vec<String> = variants(schema).map(|(name, _)| format!("`{name}`")).collect();
    if !variants.is_empty() && schema["type"].is_null() {
        return format!("exactly one of {}", variants.join(", "));
    }
    let words: Vec<String> = words(schema).map(|word| format!("`{word}`")).collect();
    if !words.is_empty() {
        return words.join(" or ");
    }
    let kinds =
        [("object", "a mapping"), ("array", "a list"), ("boolean", "`true` or `false`"), ("integer", "a whole number")];
    let kind = kinds.into_iter().find(|(name, _)| is_type(schema, name));
    kind.map_or("a text", |(_, words)| words).to_owned()
}

/// The known key that is at most two edits away.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let ranked = known.iter().map(|name| (strsim::levenshtein(key, name), *name));
    ranked.min().filter(|(edits, _)| *edits <= 2).map(|(_, name)| name)
}
