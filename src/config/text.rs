//! Short texts of the configuration that have a shape of their own.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::ParticipantId;

/// A name of a node or store: `[a-z0-9-]{1,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "name", "pattern" = "^[a-z0-9-]{1,63}$", "examples" = ["validator-1"]))]
pub struct Name(String);

/// The id of a participant, `PAR::<identifier>::1220<64 hex>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "participant", "examples" = ["PAR::acme::12200000000000000000000000000000000000000000000000000000000000000000"]))]
pub struct ParticipantName(String);

/// The public half of an age key: `age1…`, `age1tag1…`, `age1tagpq1…` or `ssh-ed25519 …`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "age-recipient", "examples" = [AgeRecipient::EXAMPLE]))]
pub struct AgeRecipient(String);

/// A text in which `{node}` and `{network}` are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "template", "examples" = ["canton/{node}/identities"]))]
pub struct Template(String);

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::check(&text).map(|()| Self(text))
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::try_from(text.to_owned())
            }
        }
        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl $name {
            /// The text as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}
text!(Name);
text!(ParticipantName);
text!(AgeRecipient);
text!(Template);

impl Name {
    pub(super) fn check(text: &str) -> Result<(), String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=63).contains(&text.len()) && text.chars().all(allowed) {
            Ok(())
        } else {
            Err("a name is 1 to 63 of a-z, 0-9 and `-`".into())
        }
    }
}

impl ParticipantName {
    pub(super) fn check(text: &str) -> Result<(), String> {
        ParticipantId::parse(text)
            .map(|_| ())
            .ok_or_else(|| "a participant's id reads `PAR::<identifier>::1220<64 hex digits>`".into())
    }
}

impl AgeRecipient {
    /// What the examples seal to; nobody holds its private half.
    pub(super) const EXAMPLE: &str = "age1leh563e45d9hha0ug776am2wr983wh8ymxmxdn7uxj229w9085us4w482h";

    pub(super) fn check(text: &str) -> Result<(), String> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY") {
            return Err("this is a private age key: replace it by its public half (`age-keygen -y`), and make a new one, this one is compromised".into());
        }
        if text.starts_with("ssh-rsa ") {
            return Err("an RSA key of SSH is not taken: use `ssh-ed25519 …` or `age1…`".into());
        }
        let is_one = match text {
            _ if text.starts_with("age1tagpq1") => age::tagpq::Recipient::from_str(text).is_ok(),
            _ if text.starts_with("age1tag1") => age::tag::Recipient::from_str(text).is_ok(),
            _ if text.starts_with("ssh-ed25519 ") => age::ssh::Recipient::from_str(text).is_ok(),
            _ => age::x25519::Recipient::from_str(text).is_ok(),
        };
        is_one.then_some(()).ok_or_else(|| {
            "not an age recipient: it reads `age1…` (`age-keygen -y KEYFILE` prints it) or `ssh-ed25519 …`".into()
        })
    }

    /// True for a recipient that age lets stand only beside its like.
    #[must_use]
    pub fn is_post_quantum(&self) -> bool {
        self.0.starts_with("age1tagpq1")
    }
}

impl Template {
    pub(super) fn check(text: &str) -> Result<(), String> {
        let bare = text.replace("{node}", "").replace("{network}", "");
        if text.is_empty() {
            Err("must not be empty".into())
        } else if bare.contains(['{', '}']) {
            Err("only `{node}` and `{network}` are filled in".into())
        } else if text.split('/').any(|part| part == ".." || part == ".") {
            Err("`.` and `..` are not allowed in a path".into())
        } else {
            Ok(())
        }
    }

    /// The text with `{node}` and `{network}` filled in.
    #[must_use]
    pub fn fill(&self, node: &str, network: &str) -> String {
        self.0.replace("{node}", node).replace("{network}", network)
    }
}
