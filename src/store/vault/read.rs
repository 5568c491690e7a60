//! Secrets of others that the server keeps: one field is read, of whatever engine, and nothing of it stays.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Error, Vault};
use crate::error::{Failure, Fault};
use crate::retry::{Deadline, retry};

/// The largest secret, in bytes; as of files.
const MAX_BYTES: usize = 64 * 1024;

/// The largest answer that is read, in bytes: a secret has other fields, too, and may be written in escapes.
const MAX_ANSWER: usize = 512 * 1024;

const DOING: &str = "reading the secret at";

/// Why a secret could not be read. Names where it is, never what it is.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// No answer, no login, or none that could be used.
    #[error(transparent)]
    Vault(#[from] Error),
    /// The token may not read it.
    #[error("{DOING} {at}: status 403, permission denied")]
    Denied { at: String, path: String },
    /// Nothing is there.
    #[error("{DOING} {at}: status 404, nothing is there")]
    Nothing { at: String },
    /// It lacks the field.
    #[error("{DOING} {at}: it has no field `{field}`")]
    NoField { at: String, field: String },
    /// The field is there, but not as a secret is.
    #[error("{DOING} {at}: the field `{field}` {why}")]
    Unfit { at: String, field: String, why: &'static str },
    /// It was made by reading it, and ends with our token.
    #[error("{DOING} {at}: it is made anew at each read")]
    Made { at: String },
}

impl Failure for Unread {
    fn fault(&self) -> Fault {
        match self {
            Self::Vault(error) => error.fault(),
            Self::Denied { .. } => Fault::Credentials,
            Self::Nothing { .. } | Self::NoField { .. } | Self::Unfit { .. } | Self::Made { .. } => Fault::Config,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Vault(error) => error.retry_after(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Vault(error) => return error.hint(),
            Self::Denied { path, .. } => format!(
                "the policy needs `path \"{path}\" {{ capabilities = [\"read\"] }}`, as `idkeep policy vault` prints it; \
                 a wrong `namespace`, or a path without `/data/` in a KV engine of version 2, looks the same"
            ),
            Self::Nothing { .. } => {
                "is the path right, and is the secret not deleted? in a KV engine of version 2 it reads `MOUNT/data/PATH`"
                    .into()
            }
            Self::NoField { .. } => "`vault kv get` shows its fields to those who may read it; correct `field`".into(),
            Self::Unfit { .. } => "write it as a text: `vault kv patch MOUNT/PATH FIELD=@FILE`".into(),
            Self::Made { .. } => {
                "where a database engine makes users, name the path under the database's `credentials`".into()
            }
        })
    }
}

/// Every field as it stands in the answer's bytes, which are wiped.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(default)]
    lease_id: String,
    #[serde(borrow)]
    data: Option<Fields<'a>>,
}

/// What KV version 2 says beside the fields.
#[derive(Deserialize)]
struct VersionInfo {
    #[serde(rename = "version")]
    _version: u64,
    #[serde(rename = "created_time")]
    _created_time: String,
}

impl Vault {
    /// Reads one field of the secret at an API path; tried again until the deadline where that may help.
    pub async fn secret(&self, path: &str, field: &str, deadline: Deadline) -> Result<SecretString, Unread> {
        let client = &self.client()?;
        let path = path.trim_matches('/');
        let at = || format!("{}/v1/{path}", client.origin);
        let answer = retry(deadline, "secret", async || {
            let send = async |token: &_| client.get(path).token(token).cap(MAX_ANSWER).send(DOING, deadline).await;
            let answer = self.session.call(client, deadline, send).await?;
            match answer.status.as_u16() {
                200 => Ok(answer),
                403 => Err(Unread::Denied { at: at(), path: path.to_owned() }),
                404 => Err(Unread::Nothing { at: at() }),
                _ => Err(client.refusal(&answer, DOING, path).into()),
            }
        })
        .await?;
        let secret = picked(&answer.body, field).map_err(|wrong| wrong.at(at(), field))?;
        tracing::debug!(path, "secret read");
        Ok(secret)
    }
}

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Garbled,
    Made,
    Nothing,
    NoField,
    Unfit(&'static str),
}

impl Wrong {
    fn at(self, at: String, field: &str) -> Unread {
        let field = field.to_owned();
        match self {
            Self::Garbled => Error::Garbled { doing: DOING, path: at }.into(),
            Self::Made => Unread::Made { at },
            Self::Nothing => Unread::Nothing { at },
            Self::NoField => Unread::NoField { at, field },
            Self::Unfit(why) => Unread::Unfit { at, field, why },
        }
    }
}

/// The field's text, without one trailing newline; the one copy that is made of it.
fn picked(body: &[u8], field: &str) -> Result<SecretString, Wrong> {
    let read: Read<'_> = serde_json::from_slice(body).map_err(|_| Wrong::Garbled)?;
    if !read.lease_id.is_empty() {
        return Err(Wrong::Made);
    }
    let fields = own_fields(read.data.ok_or(Wrong::Nothing)?).ok_or(Wrong::Nothing)?;
    let value = fields.get(field).ok_or(Wrong::NoField)?;
    let text: SecretString = serde_json::from_str(value.get()).map_err(|_| Wrong::Unfit("is not a text"))?;
    let bare = text.expose_secret().strip_suffix('\n');
    match bare.unwrap_or(text.expose_secret()).len() {
        0 => Err(Wrong::Unfit("is empty")),
        1..=MAX_BYTES => Ok(bare.map(SecretString::from).unwrap_or(text)),
        _ => Err(Wrong::Unfit("is larger than 64 KiB")),
    }
}

/// KV version 2 has the fields one level deeper; `None` where the version there is deleted.
fn own_fields(data: Fields<'_>) -> Option<Fields<'_>> {
    let is_version = |value: &&RawValue| serde_json::from_str::<VersionInfo>(value.get()).is_ok();
    match data.get("data") {
        Some(fields) if data.len() == 2 && data.get("metadata").is_some_and(is_version) => {
            serde_json::from_str(fields.get()).ok()
        }
        _ => Some(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, field: &str) -> Result<String, Wrong> {
        picked(body.as_bytes(), field).map(|secret| secret.expose_secret().to_owned())
    }

    fn version_2(fields: &str) -> String {
        format!(
            r#"{{"lease_id":"","data":{{"data":{fields},"metadata":{{"created_time":"2026-11-25T12:00:00Z","custom_metadata":null,"version":3}}}}}}"#
        )
    }

    #[test]
    fn the_field_is_found_in_either_version_of_kv() {
        assert_eq!(read(r#"{"lease_id":"","data":{"a":"1","b":"2"}}"#, "b").unwrap(), "2");
        assert_eq!(read(&version_2(r#"{"a":"1","b":"2"}"#), "b").unwrap(), "2");
        // Fields of these names are no envelope.
        assert_eq!(read(r#"{"data":{"data":"1","metadata":"2"}}"#, "data").unwrap(), "1");
        assert_eq!(read(&version_2(r#"{"data":"1","metadata":"2"}"#), "metadata").unwrap(), "2");
    }

    #[test]
    fn one_trailing_newline_is_dropped_and_escapes_are_undone() {
        assert_eq!(read(&version_2(r#"{"a":"line\n\u00e9\n\n"}"#), "a").unwrap(), "line\né\n");
    }

    #[test]
    fn what_is_no_secret_is_told_apart() {
        assert_eq!(read(&version_2("null"), "a"), Err(Wrong::Nothing));
        assert_eq!(read(r#"{"data":null}"#, "a"), Err(Wrong::Nothing));
        assert_eq!(read(&version_2(r#"{"b":"1"}"#), "a"), Err(Wrong::NoField));
        for (value, why) in [
            ("1", "is not a text"),
            ("{}", "is not a text"),
            ("null", "is not a text"),
            (r#""""#, "is empty"),
            (r#""\n""#, "is empty"),
        ] {
            assert_eq!(read(&version_2(&format!(r#"{{"a":{value}}}"#)), "a"), Err(Wrong::Unfit(why)), "{value}");
        }
        let long = |length: usize| version_2(&format!(r#"{{"a":"{}"}}"#, "x".repeat(length)));
        assert_eq!(read(&long(MAX_BYTES), "a").unwrap().len(), MAX_BYTES);
        assert_eq!(read(&long(MAX_BYTES + 1), "a"), Err(Wrong::Unfit("is larger than 64 KiB")));
        assert_eq!(read(r#"{"lease_id":"database/creds/x/1","data":{"a":"1"}}"#, "a"), Err(Wrong::Made));
        for garbled in ["", "[]", "{", r#"{"data":[]}"#] {
            assert_eq!(read(garbled, "a"), Err(Wrong::Garbled), "{garbled}");
        }
    }
}
