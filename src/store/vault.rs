//! HashiCorp Vault and `OpenBao`, KV version 2: check-and-set on the data, facts in `custom_metadata`.
//!
//! A thin client of our own: the protocol needs the server's `Date` and `Retry-After`, capped answers,
//! errors without the server's words and bodies that are wiped, none of which `vaultrs` gives.

mod client;
pub mod lease;
mod login;
mod metadata;
mod read;
mod rights;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::room::{Form, Room};
use super::{Error as StoreError, Facts, Head, Local, Note, Place, Store, Version};
use crate::config::VaultStore;
use crate::error::{Failure, Fault};
use crate::http::{self as web, Http};
use crate::retry::{Deadline, retry};
use crate::seal::Envelope;
use crate::secret;
use client::Client;
use login::Session;
use metadata::Metadata;
pub use read::Unread;

/// The largest value that raft takes is 1,048,280 bytes; a little of that is the server's own.
const MAX_BYTES: usize = 1_048_000;

/// A KV engine of one server, logged in to once for all nodes.
pub struct Vault {
    name: String,
    config: VaultStore,
    http: Arc<Http>,
    client: RefCell<Option<Rc<Client>>>,
    /// Whether there may be something to give back.
    was_used: Cell<bool>,
    session: Session,
    /// The mount was seen to be of version 2.
    is_kv2: Cell<bool>,
}

/// Why the server did not do it. Holds the status, never the server's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] web::Error),
    /// A secret for the login cannot be read.
    #[error("logging in to {origin}")]
    Secret { origin: String, source: secret::Error },
    /// The login is refused.
    #[error("logging in to {origin} by {method} (`auth/{mount}`): status {status}, refused")]
    LoginRefused { origin: String, method: &'static str, mount: String, status: u16 },
    /// Nothing answers at the login's address.
    #[error("logging in to {origin} by {method}: no such login is mounted at `{mount}`")]
    NoLogin { origin: String, method: &'static str, mount: String },
    /// A wrapped secret id that is gone.
    #[error(
        "unwrapping the secret id at {origin}: the wrapping token is not valid any more; someone else may have unwrapped it"
    )]
    AlreadyUnwrapped { origin: String },
    /// A wrapped something that is no secret id of this role.
    #[error(
        "unwrapping the secret id at {origin}: it was wrapped by `{creation_path}`, not as a secret id of `{mount}`"
    )]
    WrappedElsewhere { origin: String, creation_path: String, mount: String },
    /// The token lacks a right.
    #[error("{doing} {path}: status 403, permission denied")]
    Denied { doing: &'static str, path: String },
    /// Busy, sealed, standby, down.
    #[error("{doing} {path}: status {status}{}", because(*status))]
    Busy { doing: &'static str, path: String, status: u16, retry_after: Option<Duration> },
    /// The request makes no sense to the server.
    #[error("{doing} {path}: status {status}")]
    Rejected { doing: &'static str, path: String, status: u16 },
    /// The engine there is not KV version 2.
    #[error("`{mount}` is not a KV engine of version 2")]
    NotKv2 { mount: String },
    /// The answer is not what the API says.
    #[error("{doing} {path}: the answer is not what the API says")]
    Garbled { doing: &'static str, path: String },
    /// A token that is none.
    #[error("logging in to {origin}: the token has characters that no header can carry")]
    BadToken { origin: String },
    /// The facts do not fit beside those of others.
    #[error("custom_metadata of {path} has no room left: 64 keys are the limit")]
    NoRoom { path: String },
}

fn because(status: u16) -> &'static str {
    match status {
        429 => " (rate limited)",
        412 => " (not replicated yet)",
        472 | 473 | 300..=399 => " (standby)",
        501 => " (not initialised)",
        503 => " (sealed, or in maintenance)",
        _ => "",
    }
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Http(error) => error.fault(),
            Self::Secret { source, .. } => source.fault(),
            Self::Busy { .. } => Fault::Transient,
            Self::LoginRefused { .. }
            | Self::AlreadyUnwrapped { .. }
            | Self::WrappedElsewhere { .. }
            | Self::Denied { .. } => Fault::Credentials,
            Self::BadToken { .. }
            | Self::NoLogin { .. }
            | Self::Rejected { .. }
            | Self::NotKv2 { .. }
            | Self::Garbled { .. }
            | Self::NoRoom { .. } => Fault::Config,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Http(error) => return error.hint(),
            Self::Secret { source, .. } => return source.hint(),
            Self::LoginRefused { .. } => "check the role and its credentials under `auth`, and that the role may log in from here; a wrong `auth.*.mount` or `namespace` looks the same".into(),
            Self::BadToken { .. } => "a token is one line of text: look at the file that `auth.token` names".into(),
            Self::NoLogin { .. } => "check `auth.*.mount` and `namespace`".into(),
            Self::AlreadyUnwrapped { .. } => "a wrapped secret id works once: if an earlier run of idkeep did not use it, treat it as stolen, destroy it and look at the audit log; deliver a new one".into(),
            Self::WrappedElsewhere { .. } => "somebody put another token in its place: do not use it, and look at the audit log".into(),
            Self::Denied { .. } => "`idkeep policy vault` prints the policy that is needed; a wrong `namespace` or `mount` looks the same".into(),
            Self::Busy { status: 503 | 501, .. } => "unseal the server".into(),
            Self::Busy { status: 300..=399 | 472 | 473, .. } => "let `address` lead to the active server".into(),
            Self::Busy { .. } => return None,
            Self::Rejected { .. } | Self::Garbled { .. } => "check `address`, `namespace` and `mount`".into(),
            Self::NotKv2 { .. } => "`vault kv enable-versioning` makes it version 2; version 1 knows neither versions nor check-and-set, so neither races nor losses could be excluded".into(),
            Self::NoRoom { .. } => "remove keys of others from its custom metadata".into(),
        })
    }
}

#[derive(Deserialize)]
struct Written {
    version: u64,
}

impl Vault {
    /// The store of this configuration; nothing is asked yet.
    #[must_use]
    pub fn new(name: &str, config: &VaultStore, http: Arc<Http>) -> Self {
        Self {
            name: name.to_owned(),
            config: config.clone(),
            http,
            client: RefCell::default(),
            was_used: Cell::default(),
            session: Session::default(),
            is_kv2: Cell::default(),
        }
    }

    /// True where both log in to the same server in the same way.
    #[must_use]
    pub fn logs_in_like(&self, other: &Self) -> bool {
        let login = |vault: &Self| {
            let VaultStore { address, namespace, auth, .. } = &vault.config;
            serde_json::to_value((address, namespace, auth)).ok()
        };
        login(self) == login(other)
    }

    /// Takes over what can be had only once.
    pub fn take_over(&self, earlier: &Self) {
        self.session.take_over(&earlier.session);
    }

    fn client(&self) -> Result<Rc<Client>, Error> {
        if let Some(client) = &*self.client.borrow() {
            return Ok(Rc::clone(client));
        }
        let client = Rc::new(Client::new(&self.config, &self.http)?);
        self.client.replace(Some(Rc::clone(&client)));
        self.was_used.set(true);
        Ok(client)
    }

    fn path(&self, kind: &str, place: Place<'_>) -> String {
        let path = self.config.path.fill(place.node, place.network);
        format!("{}/{kind}/{}", self.config.mount.trim_matches('/'), path.trim_matches('/'))
    }

    async fn read_metadata(&self, place: Place<'_>, deadline: Deadline) -> Result<Metadata, Error> {
        let client = &self.client()?;
        let path = self.path("metadata", place);
        let doing = "reading the metadata of";
        let answer = self
            .session
            .call(client, deadline, async |token| client.get(&path).token(token).send(doing, deadline).await)
            .await?;
        let date = answer.date();
        match answer.status.as_u16() {
            200 => {
                let metadata = Metadata::parse(&answer.body, date).ok_or(Error::Garbled { doing, path })?;
                if metadata.current_version == 0 {
                    self.require_kv2(client, deadline).await?;
                }
                Ok(metadata)
            }
            404 => {
                self.require_kv2(client, deadline).await?;
                Ok(Metadata::none(date))
            }
            _ => Err(client.refusal(&answer, doing, &path)),
        }
    }

    async fn write_data(
        &self,
        place: Place<'_>,
        envelope: &Envelope<'_>,
        after: u64,
        deadline: Deadline,
    ) -> Result<u64, StoreError> {
        let client = &self.client()?;
        let path = self.path("data", place);
        let doing = "writing";
        if after == 0 {
            self.require_kv2(client, deadline).await?;
        }
        let body = bytes::Bytes::from_owner(body(envelope, after)?);
        if body.len() > MAX_BYTES {
            return Err(StoreError::TooLarge { bytes: body.len(), max: MAX_BYTES });
        }
        let send = async |token: &_| client.post(&path).token(token).body(body.clone()).send(doing, deadline).await;
        // Where requests are rationed, looking again before each try would use up the ration.
        let answer = retry(deadline, "write", async || match self.session.call(client, deadline, send).await {
            Ok(answer) if answer.status.as_u16() == 429 => Err(client.refusal(&answer, doing, &path)),
            result => Ok(result),
        });
        let answer = answer.await??;
        match answer.status.as_u16() {
            200 => {
                let written: Option<Written> = client::data(&answer.body);
                Ok(written.ok_or(Error::Garbled { doing, path })?.version)
            }
            400 if client::says(&answer, "check-and-set") => Err(StoreError::Conflict),
            413 => Err(StoreError::TooLarge { bytes: body.len(), max: MAX_BYTES }),
            500 if client::says(&answer, "too large") => {
                Err(StoreError::TooLarge { bytes: body.len(), max: MAX_BYTES })
            }
            _ => Err(client.refusal(&answer, doing, &path).into()),
        }
    }

    async fn write_facts(
        &self,
        place: Place<'_>,
        custom_metadata: &[(String, String)],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let client = &self.client()?;
        let path = self.path("metadata", place);
        let doing = "writing the facts of";
        let map: serde_json::Map<_, _> =
            custom_metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let body = bytes::Bytes::from(json!({"custom_metadata": map}).to_string());
        retry(deadline, "facts", async || {
            let send = async |token: &_| client.post(&path).token(token).body(body.clone()).send(doing, deadline).await;
            let answer = self.session.call(client, deadline, send).await?;
            match answer.status.as_u16() {
                200..=299 => Ok(()),
                _ => Err(client.refusal(&answer, doing, &path)),
            }
        })
        .await
    }

    /// On a KV engine of version 1 the same call would store the dump where nobody looks for it, and nothing is
    /// found that tells it from a new secret.
    async fn require_kv2(&self, client: &Rc<Client>, deadline: Deadline) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Mount {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            options: Option<Options>,
        }
        #[derive(Deserialize)]
        struct Options {
            version: Option<String>,
        }
        if self.is_kv2.get() {
            return Ok(());
        }
        let mount = self.config.mount.trim_matches('/');
        let path = format!("sys/internal/ui/mounts/{mount}");
        let doing = "looking at the mount";
        let answer = self
            .session
            .call(client, deadline, async |token| client.get(&path).token(token).send(doing, deadline).await)
            .await?;
        match answer.status.as_u16() {
            200 => {
                let mount: Option<Mount> = client::data(&answer.body);
                let is_kv2 = mount.is_some_and(|mount| {
                    mount.kind == "kv" && mount.options.is_some_and(|options| options.version.as_deref() == Some("2"))
                });
                self.is_kv2.set(is_kv2);
                if is_kv2 { Ok(()) } else { Err(Error::NotKv2 { mount: self.config.mount.clone() }) }
            }
            _ => Err(client.refusal(&answer, doing, &path)),
        }
    }

    /// Where no facts describe the current version, perhaps they never could be written: then every pass would add a
    /// version and push an older one out.
    async fn require_facts_right(&self, place: Place<'_>, head: &Head, deadline: Deadline) -> Result<(), Error> {
        if head.described().is_some() {
            return Ok(());
        }
        let path = self.path("metadata", place);
        let rights = self.capabilities(&[&path], deadline).await?;
        if rights.is_none_or(|rights| rights.may(&path, "update")) {
            return Ok(());
        }
        Err(Error::Denied {
            doing: "writing the facts of",
            path: format!("{}/v1/{path}", self.config.address.origin()),
        })
    }
}

impl Store for Vault {
    fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> Room {
        Room { max_bytes: MAX_BYTES, form: Form::Json }
    }

    fn head<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(async move { Ok(self.read_metadata(place, deadline).await?.into_head()) })
    }

    fn put<'a>(
        &'a self,
        place: Place<'a>,
        envelope: &'a Envelope<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            let after = head.current.as_ref().and_then(|current| current.version.0.parse().ok()).unwrap_or(0);
            let beside = |head: &Head, facts: &Facts| {
                metadata::beside(head, facts).ok_or_else(|| Error::NoRoom { path: self.path("metadata", place) })
            };
            // Whether the facts fit, and may be written, is known before anything is.
            beside(head, facts)?;
            self.require_facts_right(place, head, deadline).await?;
            let version = self.write_data(place, envelope, after, deadline).await?.to_string();
            let facts = facts.of_version(&version);
            // Others may have written beside the data since it was looked at, or already a version after ours.
            let now = match self.read_metadata(place, deadline).await {
                Ok(metadata) => metadata.into_head(),
                Err(_) => head.clone(),
            };
            if now.current.as_ref().is_some_and(|current| current.version.0 != version && !head.is_same(&now)) {
                return Err(StoreError::Conflict);
            }
            let head = Head { beside: now.beside, ..head.clone() };
            self.write_facts(place, &beside(&head, &facts)?, deadline).await?;
            Ok(Version(version))
        })
    }

    fn refresh<'a>(
        &'a self,
        place: Place<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<(), StoreError>> {
        Box::pin(async move {
            // Between the look and now another writer may have added a version: its facts stay.
            let now = self.read_metadata(place, deadline).await?.into_head();
            if !head.is_same(&now) {
                return Ok(());
            }
            let mut all = now.beside;
            all.extend(facts.to_map());
            Ok(self.write_facts(place, &all, deadline).await?)
        })
    }

    fn probe<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(async move { Ok(self.look(place, deadline).await?) })
    }

    fn close(&self) -> Local<'_, ()> {
        Box::pin(async move {
            if let (true, Ok(client)) = (self.was_used.get(), self.client()) {
                self.session.revoke(&client).await;
            }
        })
    }

    fn rest(&self) {
        self.client.take();
    }
}

/// `{"options": {"cas": n}, "data": {"content": …, "encoding": …}}`, the dump as one string, in memory that is wiped.
fn body(envelope: &Envelope<'_>, after: u64) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let armored;
    let (content, encoding) = match envelope {
        Envelope::Plain(identities) => {
            let text = std::str::from_utf8(identities.expose()).map_err(|_| crate::seal::Error::Seal)?;
            (text, "json")
        }
        Envelope::Sealed(sealed) => {
            armored = sealed.armored()?;
            (armored.as_str(), "age")
        }
    };
    // Every byte may become two (a quote) or, for the rare control character, six: room for all, so that nothing moves.
    let escapes = content.bytes().filter(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)).count();
    let mut body = Zeroizing::new(Vec::with_capacity(content.len() + 5 * escapes + 128));
    body.extend_from_slice(
        format!("{{\"options\":{{\"cas\":{after}}},\"data\":{{\"encoding\":\"{encoding}\",\"content\":").as_bytes(),
    );
    serde_json::to_writer(&mut *body, content).map_err(|_| crate::seal::Error::Seal)?;
    body.extend_from_slice(b"}}");
    Ok(body)
}
