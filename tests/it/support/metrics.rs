//! Metrics in Prometheus' text format 0.0.4, read at least as strictly as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::parts::tool;

/// What one scrape brought.
#[derive(Debug)]
pub struct Metrics {
    pub text: String,
    families: BTreeMap<String, Family>,
}

/// One metric with all its series.
#[derive(Debug, Default)]
pub struct Family {
    pub help: String,
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Metrics {
    /// The scrape, or the first line that is not right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.strip_suffix('\n').ok_or("the last line has no end")?;
        let mut metrics = Self { text: text.to_owned(), families: BTreeMap::new() };
        // All lines of a metric stand together: one that was left is not gone back to.
        let (mut current, mut left) = (String::new(), BTreeSet::new());
        for line in lines.split('\n') {
            let name = metrics.line(line).map_err(|problem| format!("{problem}: {line}"))?;
            if name != current {
                if left.contains(&name) {
                    return Err(format!("{name} is not in one place: {line}"));
                }
                left.insert(std::mem::replace(&mut current, name));
            }
        }
        metrics.families.iter().try_for_each(|(name, family)| family.judge(name))?;
        Ok(metrics)
    }

    /// Reads one line into the metric whose name it returns.
    fn line(&mut self, line: &str) -> Result<String, &'static str> {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name, rest) = (words.next(), words.next().ok_or("no name")?, words.next().unwrap_or(""));
            let name = named(name, ":")?;
            let family = self.families.entry(name.to_owned()).or_default();
            let field = match keyword {
                Some("HELP") => &mut family.help,
                Some("TYPE") => &mut family.kind,
                _ => return Err("neither HELP nor TYPE"),
            };
            if !field.is_empty() || !family.samples.is_empty() {
                return Err("a second time, or after a sample");
            }
            *field = if keyword == Some("HELP") { unescaped(rest, &['\\'])? } else { rest.to_owned() };
            return Ok(name.to_owned());
        }
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let name = named(&line[..end], ":")?;
        let (labels, value) =
            if line[end..].starts_with('{') { labels(&line[end + 1..])? } else { (BTreeMap::new(), &line[end..]) };
        let sample = Sample { labels, value: number(value.strip_prefix(' ').ok_or("no space before the value")?)? };
        let family =
            self.families.get_mut(name).filter(|family| !family.kind.is_empty()).ok_or("a sample before its TYPE")?;
        if family.samples.iter().any(|known| known.labels == sample.labels) {
            return Err("a series that was there already");
        }
        family.samples.push(sample);
        Ok(name.to_owned())
    }

    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }

    /// The series that have these labels, whatever others they have.
    pub fn samples<'a>(&'a self, name: &str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let samples = self.families.get(name).map_or(&[][..], |family| &family.samples);
        samples.iter().filter(move |sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|known| known == value))
        })
    }

    /// The one series that has these labels; none if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut samples = self.samples(name, labels);
        let value = samples.next().map(|sample| sample.value);
        assert!(samples.next().is_none(), "{name}{labels:?} is more than one series:\n{}", self.text);
        value
    }

    /// A counter's, which is 0 before it has counted anything.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.samples(name, labels).map(|sample| sample.value as u64).sum()
    }
}

impl Family {
    fn judge(&self, name: &str) -> Result<(), String> {
        let is_counter = self.kind == "counter";
        if self.help.is_empty() {
            return Err(format!("{name} has no HELP"));
        }
        if !is_counter && self.kind != "gauge" {
            return Err(format!("{name} is of the type {:?}", self.kind));
        }
        if is_counter != name.ends_with("_total") {
            return Err(format!("{name} is a {}: counters end in _total, and nothing else does", self.kind));
        }
        if is_counter && self.samples.iter().any(|sample| sample.value < 0.0 || sample.value.fract() != 0.0) {
            return Err(format!("{name} does not count"));
        }
        Ok(())
    }
}

/// A name of a metric or label, which may have these characters beside the usual ones.
fn named<'a>(name: &'a str, more: &str) -> Result<&'a str, &'static str> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
    let is_name = name.chars().all(is_fine) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty();
    if is_name { Ok(name) } else { Err("not a name") }
}

/// The labels, from after the `{`, and what follows the `}`.
fn labels(text: &str) -> Result<(BTreeMap<String, String>, &str), &'static str> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("a label without a value")?;
        let name = named(name, "")?;
        let end = quote_of(value).ok_or("a value without an end")?;
        if labels.insert(name.to_owned(), unescaped(&value[..end], &['\\', '"'])?).is_some() || name.starts_with("__") {
            return Err("a label twice, or one that is reserved");
        }
        rest = &value[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = rest.strip_prefix(',').ok_or("no comma between labels")?;
    }
}

/// Where the value ends: at the first quote that is not escaped.
fn quote_of(value: &str) -> Option<usize> {
    let mut is_escaped = false;
    value.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// Without its escapes: `\n`, and these characters.
fn unescaped(text: &str, escaped: &[char]) -> Result<String, &'static str> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' {
            match characters.next() {
                Some('n') => '\n',
                Some(other) if escaped.contains(&other) => other,
                _ => return Err("an escape that there is not"),
            }
        } else {
            character
        });
    }
    Ok(plain)
}

/// As Go writes and reads it; no timestamp follows.
fn number(text: &str) -> Result<f64, &'static str> {
    match text {
        "NaN" => return Ok(f64::NAN),
        "+Inf" => return Ok(f64::INFINITY),
        "-Inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|_| is_decimal).ok_or("not a number")
}

/// What Prometheus' own tool says: whether it reads the text, and its objections.
pub fn promtool(text: &str) -> (bool, String) {
    let mut command = Command::new(tool("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
