//! The configuration as a tree that remembers where each part stands, and what is said about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

/// A YAML value with the place of each part.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float,
    Text(String),
    List(Vec<Spanned<Value>>),
    Map(Vec<(Spanned<String>, Spanned<Value>)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float, Value::Int))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Float)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = access.next_element()? {
            list.push(element);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}

/// Parses YAML; the error says where, without quoting the file (it may hold a secret by mistake).
pub(super) fn parse(text: &str) -> Result<Spanned<Value>, (Place, String)> {
    // Keys that stand there twice come through, so that they are named with every other mistake.
    let options = serde_saphyr::options! {
        // The configuration is 9 deep; each level costs stack.
        budget: serde_saphyr::budget! { max_depth: 24 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or(Place { line: 1, column: 1 }, Place::from);
        let mut message = error.without_snippet().to_string();
        if let Some(rest) = message.strip_prefix("error: ") {
            message = rest.to_owned();
        }
        if message.starts_with("multiple YAML documents") {
            message = "a second document begins here".into();
        }
        // What the parser quotes may be a secret.
        if message.contains('`') {
            message = "this is not allowed here".into();
        }
        // The place is said before the message.
        let coordinates = format!(" at line {}, column {}", place.line, place.column);
        (place, message.replace(&coordinates, ""))
    })
}

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// One thing to say about the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The path of keys to it: `nodes.validator-1.identity.endpoint`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// Everything that is to be said about one configuration file.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// The file.
    pub file: PathBuf,
    /// What makes the configuration unusable.
    pub mistakes: Vec<Finding>,
    /// What is allowed, but unwise.
    pub warnings: Vec<Finding>,
    #[serde(skip)]
    places: BTreeMap<String, Place>,
    /// Paths at which a mistake was replaced by something that is not the operator's.
    #[serde(skip)]
    replaced: BTreeSet<String>,
}

impl Findings {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    pub(super) fn remember(&mut self, path: &str, place: Place) {
        self.places.insert(path.to_owned(), place);
    }

    pub(super) fn replace(&mut self, path: &str) {
        self.replaced.insert(path.to_owned());
    }

    /// True where nothing stands that the operator wrote: there or above it was a mistake.
    #[must_use]
    pub fn is_replaced(&self, path: &str) -> bool {
        let ends = path.match_indices(['.', '[']).map(|(end, _)| end).chain([path.len()]);
        ends.into_iter().any(|end| self.replaced.contains(&path[..end]))
    }

    /// True where at this path or anywhere below it a mistake was replaced.
    pub(super) fn is_replaced_below(&self, path: &str) -> bool {
        let is_below = |known: &String| known.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.is_replaced(path) || self.replaced.iter().any(is_below)
    }

    fn is_judged(&self, path: &str) -> bool {
        self.is_replaced(path) || self.mistakes.iter().any(|known| known.path == path)
    }

    /// Adds a mistake, unless one is already named at this path or above it.
    pub fn mistake(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        if !self.is_judged(path) {
            let finding = self.finding(path, message.into(), fix.into());
            self.mistakes.push(finding);
        }
    }

    /// Adds a warning, unless a mistake is named at this path or above it.
    pub fn warning(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        if !self.is_judged(path) {
            let finding = self.finding(path, message.into(), fix.into());
            self.warnings.push(finding);
        }
    }

    pub(super) fn mistake_at(&mut self, place: Place, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.mistakes.push(Finding { place, path: path.to_owned(), message: message.into(), fix: fix.into() });
    }

    /// In the order of the file.
    pub fn sort(&mut self) {
        self.mistakes.sort_by_key(|finding| finding.place);
        self.warnings.sort_by_key(|finding| finding.place);
    }

    fn finding(&self, path: &str, message: String, fix: String) -> Finding {
        Finding { place: self.place(path), path: path.to_owned(), message, fix }
    }

    /// The place of the path, or of its nearest parent that is there.
    fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Place { line: 1, column: 1 },
            }
        }
    }

    /// One finding in one line: `file:line:column: path: message; fix`.
    #[must_use]
    pub fn line(&self, finding: &Finding, kind: &str) -> String {
        let Finding { place, path, message, fix } = finding;
        let colon = if path.is_empty() { "" } else { ": " };
        let fix = if fix.is_empty() { String::new() } else { format!("; {fix}") };
        format!("{}:{}:{}: {kind}: {path}{colon}{message}{fix}", self.file.display(), place.line, place.column)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {count} {noun}")?;
        for mistake in &self.mistakes {
            write!(f, "\n{}", self.line(mistake, "mistake"))?;
        }
        Ok(())
    }
}
