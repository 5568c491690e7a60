//! Reading a manifest that anybody may have written: bounded, its names plain, its texts printable.

use serde_json::Value;

use super::{Error, MAX_BYTES, Manifest, SCHEMA};
use crate::config::Name;

impl Manifest {
    /// Reads a stored manifest. Fields that are not known are passed over: a later version may have written them.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(serde::Deserialize)]
        struct Form {
            schema: String,
        }
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge);
        }
        let syntax = |error: serde_json::Error| Error::Syntax { line: error.line(), column: error.column() };
        let form: Form = serde_json::from_slice(bytes).map_err(syntax)?;
        if form.schema != SCHEMA {
            return Err(Error::Schema);
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(syntax)?;
        manifest.check_fields()?;
        Ok(manifest)
    }

    fn check_fields(&self) -> Result<(), Error> {
        let require = |holds: bool, field| if holds { Ok(()) } else { Err(Error::Field(field)) };
        require(is_name(&self.node), "node")?;
        if let Some(previous) = &self.previous {
            require(is_sha256(&previous.sha256), "previous.sha256")?;
            // A chain that went in a circle would have no beginning.
            require(previous.set < self.set, "previous.set")?;
        }
        for dump in &self.databases {
            require(is_name(&dump.name), "databases.name")?;
            require(is_file(&dump.file), "databases.file")?;
            require(is_sha256(&dump.sha256), "databases.sha256")?;
        }
        for edge in &self.order {
            require(is_name(&edge.before), "order.before")?;
            require(is_name(&edge.after), "order.after")?;
        }
        // Whoever may write the repository must not write to the terminal of whoever reads it.
        let texts = serde_json::to_value(self).unwrap_or_default();
        require(is_printable(&texts), "a text with control characters")
    }
}

fn is_name(text: &str) -> bool {
    text.parse::<Name>().is_ok()
}

/// `<name>.<what was done to it>`, a plain name that no path leads out of.
fn is_file(text: &str) -> bool {
    let Some((name, rest)) = text.split_once('.') else { return false };
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_reserved = name == "manifest" || name == "rejected" || name == "pending" || name == "node";
    let is_plain = rest.len() <= 63 && rest.split('.').all(|part| !part.is_empty() && part.chars().all(allowed));
    is_name(name) && is_plain && !(is_reserved && rest.starts_with("json"))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_printable(value: &Value) -> bool {
    let is_text = |text: &str| !text.chars().any(char::is_control);
    match value {
        Value::String(text) => is_text(text),
        Value::Array(list) => list.iter().all(is_printable),
        Value::Object(map) => map.iter().all(|(key, value)| is_text(key) && is_printable(value)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{dump, manifest};
    use super::*;
    use crate::config::Role;

    fn written() -> Value {
        let mut set = manifest();
        set.databases = vec![dump("validator", Role::Validator), dump("participant", Role::Participant)];
        serde_json::from_slice(&set.to_bytes()).unwrap()
    }

    fn parse(change: impl FnOnce(&mut Value)) -> Result<Manifest, Error> {
        let mut value = written();
        change(&mut value);
        Manifest::parse(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written_and_may_say_more() {
        let mut set = manifest();
        set.databases = vec![dump("validator", Role::Validator), dump("participant", Role::Participant)];
        assert_eq!(Manifest::parse(&set.to_bytes()).unwrap(), set);
        let later = parse(|value| {
            value["later"] = json!({"a": 1});
            value["databases"][1]["offsets"]["later"] = json!(7);
        });
        assert_eq!(later.unwrap(), set);
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for file in [
            "../x.dump",
            "a/b.dump",
            "..",
            ".dump",
            "x",
            "x..dump",
            "/etc/passwd",
            "x.dump/",
            "manifest.json",
            "x\\y.z",
        ] {
            let result = parse(|value| value["databases"][0]["file"] = json!(file));
            assert_eq!(result, Err(Error::Field("databases.file")), "{file}");
        }
        assert_eq!(parse(|value| value["node"] = json!("../other")), Err(Error::Field("node")));
        assert_eq!(parse(|value| value["databases"][1]["name"] = json!("A")), Err(Error::Field("databases.name")));
        assert!(parse(|value| value["databases"][1]["sha256"] = json!("AB")).is_err());
        assert!(parse(|value| value["network"] = json!("\u{1b}[2J")).is_err());
        assert!(parse(|value| value["invariants"] = json!({"I1\n": {"result": "pass", "reason": ""}})).is_err());
    }

    #[test]
    fn another_form_a_later_set_before_this_one_and_half_a_manifest_are_refused() {
        assert_eq!(parse(|value| value["schema"] = json!("idkeep/backup-set/v2")), Err(Error::Schema));
        let circle = parse(|value| value["previous"] = json!({"set": value["set"], "sha256": "0".repeat(64)}));
        assert_eq!(circle, Err(Error::Field("previous.set")));
        let bytes = manifest().to_bytes();
        assert!(matches!(Manifest::parse(&bytes[..bytes.len() / 2]), Err(Error::Syntax { .. })));
        assert_eq!(Manifest::parse(&vec![b' '; MAX_BYTES + 1]), Err(Error::TooLarge));
        // Offsets that name neither kind must not pass for offsets that are null.
        assert!(parse(|value| value["databases"][1]["offsets"] = json!({})).is_err());
    }
}
