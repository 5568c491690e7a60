//! What the token may do: asked for, and tried only by requests that the server refuses in any case.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Error, Metadata, Note, Place, Vault, client};
use crate::retry::Deadline;

/// Fewer versions than this are too few: whoever may write could push out the good ones.
const ENOUGH_VERSIONS: u64 = 50;

/// Versions that a server keeps where nothing else is configured.
const DEFAULT_VERSIONS: u64 = 10;

/// More than the 128 bytes that the name of a key may have: metadata with such a key is refused whole.
const TOO_LONG: &str = "idkeep check --live asks whether this token may set other parameters than custom_metadata: \
    a name as long as this one is refused, and with it all of the request";

/// Rights on one path.
struct Rule<'p> {
    path: &'p str,
    needed: &'static [&'static str],
    too_much: &'static [&'static str],
}

/// What a token may do, by path.
pub(super) struct Rights(BTreeMap<String, Vec<String>>);

impl Rights {
    fn on(&self, path: &str) -> &[String] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    pub(super) fn may(&self, path: &str, right: &str) -> bool {
        self.on(path).iter().any(|held| held == right || held == "root")
    }
}

impl Rule<'_> {
    fn notes(&self, rights: &Rights) -> Vec<Note> {
        let path = self.path;
        let held = rights.on(path);
        let missing: Vec<&str> = self.needed.iter().filter(|right| !rights.may(path, right)).copied().collect();
        let excess: Vec<&str> =
            self.too_much.iter().filter(|right| held.iter().any(|held| held == **right)).copied().collect();
        let mut notes = Vec::new();
        if !missing.is_empty() {
            notes.push(Note::TooLittle(
                format!("{path}: {} is missing", missing.join(", ")),
                "`idkeep policy vault` prints what is needed".into(),
            ));
        }
        if !excess.is_empty() {
            notes.push(Note::TooMuch(
                format!("{path}: the agent may {}, and needs not", excess.join(", ")),
                format!(
                    "take `{}` out of the capabilities of `path \"{path}\"`, or of the wider path that covers it; \
                     `idkeep policy vault` prints what is needed",
                    excess.join("`, `")
                ),
            ));
        }
        if notes.is_empty() && !self.needed.is_empty() {
            notes.push(Note::Fine(format!("{path}: {}", held.join(", "))));
        }
        notes
    }
}

/// What erases, or brings back what was erased, and what sets the limits of a whole mount: never needed.
const WRITING: &[&str] = &["create", "update", "patch", "root", "sudo"];

impl Vault {
    /// What the token may do on these paths; `None` where the server does not say.
    pub(super) async fn capabilities(&self, paths: &[&str], deadline: Deadline) -> Result<Option<Rights>, Error> {
        let client = &self.client()?;
        let body = bytes::Bytes::from(json!({ "paths": paths }).to_string());
        let doing = "asking for the rights on";
        let path = paths.first().copied().unwrap_or_default();
        let send = async |token: &_| {
            client.post("sys/capabilities-self").token(token).body(body.clone()).send(doing, deadline).await
        };
        let answer = self.session.call(client, deadline, send).await?;
        match answer.status.as_u16() {
            200 => Ok(client::data(&answer.body).map(Rights)),
            403 => Ok(None),
            _ => Err(client.refusal(&answer, doing, path)),
        }
    }

    async fn judge(&self, rules: &[Rule<'_>], deadline: Deadline) -> Result<(Option<Rights>, Vec<Note>), Error> {
        let paths: Vec<&str> = rules.iter().map(|rule| rule.path).collect();
        let rights = self.capabilities(&paths, deadline).await?;
        let notes = match &rights {
            Some(rights) => rules.iter().flat_map(|rule| rule.notes(rights)).collect(),
            None => paths.into_iter().map(unasked).collect(),
        };
        Ok((rights, notes))
    }

    /// Rights and retention of the identities' place.
    pub(super) async fn look(&self, place: Place<'_>, deadline: Deadline) -> Result<Vec<Note>, Error> {
        let [data, metadata, delete, undelete, destroy] =
            ["data", "metadata", "delete", "undelete", "destroy"].map(|kind| self.path(kind, place));
        let config = format!("{}/config", self.config.mount.trim_matches('/'));
        let never = |path| Rule { path, needed: &[], too_much: WRITING };
        let rules = [
            Rule { path: &data, needed: &["create", "update"], too_much: &["read", "delete", "patch", "root", "sudo"] },
            Rule {
                path: &metadata,
                needed: &["create", "read", "update"],
                too_much: &["delete", "patch", "root", "sudo"],
            },
            never(&delete),
            never(&undelete),
            never(&destroy),
            never(&config),
        ];
        let (rights, mut notes) = self.judge(&rules, deadline).await?;
        match self.read_metadata(place, deadline).await {
            Ok(stored) => {
                notes.extend(retention_notes(&stored, &metadata));
                let may_write = |rights: &Rights| {
                    !rights.may(&metadata, "root")
                        && ["create", "update"].iter().any(|right| rights.may(&metadata, right))
                };
                if rights.as_ref().is_none_or(may_write) {
                    notes.extend(self.other_parameters(&metadata, &stored, deadline).await?);
                }
            }
            Err(Error::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(notes)
    }

    /// Rights on secrets that are only read.
    pub async fn look_at_secrets(&self, paths: &[&str], deadline: Deadline) -> Result<Vec<Note>, Error> {
        let read =
            |path| Rule { path, needed: &["read"], too_much: &["create", "update", "patch", "delete", "root", "sudo"] };
        let rules: Vec<_> = paths.iter().copied().map(read).collect();
        Ok(self.judge(&rules, deadline).await?.1)
    }

    /// Whether the token may set what erases history. No server says which parameters a policy allows; but a request
    /// whose parameters are not allowed is denied (403) before the key that no server takes makes it invalid (400).
    /// Each parameter is as it is stored, so that even a server that took it would change nothing of it.
    async fn other_parameters(&self, path: &str, stored: &Metadata, deadline: Deadline) -> Result<Option<Note>, Error> {
        let client = &self.client()?;
        let doing = "asking for the parameters that are allowed at";
        let after = if stored.deletes_by_itself() { stored.delete_version_after.as_str() } else { "0s" };
        let mut custom = stored.custom_metadata.clone().unwrap_or_default();
        custom.insert(TOO_LONG.to_owned(), String::new());
        let mut allowed = Vec::new();
        for (name, value) in [("max_versions", json!(stored.max_versions)), ("delete_version_after", json!(after))] {
            let body = bytes::Bytes::from(json!({name: value, "custom_metadata": custom}).to_string());
            let send = async |token: &_| client.post(path).token(token).body(body.clone()).send(doing, deadline).await;
            match self.session.call(client, deadline, send).await?.status.as_u16() {
                403 => {}
                400 => allowed.push(name),
                _ => return Ok(Some(Note::Unknown(format!("which parameters the token may set at {path}")))),
            }
        }
        Ok((!allowed.is_empty()).then(|| {
            Note::TooMuch(
                format!("{path}: the agent may set {}, and so erase history", allowed.join(" and ")),
                format!(
                    "add `allowed_parameters = {{ \"custom_metadata\" = [] }}` to the policy's `path \"{path}\"`, or to the \
                     wider path that covers it; `idkeep policy vault` prints it"
                ),
            )
        }))
    }
}

fn unasked(path: &str) -> Note {
    Note::Unknown(format!("the rights on {path}: this token may not ask for them (`sys/capabilities-self`)"))
}

fn retention_notes(stored: &Metadata, metadata: &str) -> Vec<Note> {
    let mut notes = Vec::new();
    let secret = metadata.replacen("/metadata/", "/", 1);
    let (keeps, source) = match stored.max_versions {
        0 => (DEFAULT_VERSIONS, "the server's default, unless its mount says otherwise"),
        number => (number, "as set for this secret"),
    };
    if keeps < ENOUGH_VERSIONS {
        notes.push(Note::Unwise(
            format!(
                "{secret}: {keeps} versions are kept ({source}); enough wrong ones in a row push out the right one"
            ),
            format!("vault kv metadata put -max-versions={ENOUGH_VERSIONS} {secret}"),
        ));
    }
    if stored.deletes_by_itself() {
        notes.push(Note::Unwise(
            format!("{secret}: versions are deleted by themselves after {}", stored.delete_version_after),
            format!("vault kv metadata put -delete-version-after=0s {secret}"),
        ));
    }
    notes
}
