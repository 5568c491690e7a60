//! Google Secret Manager: a version for each change, its facts in a sibling secret that the agent may read.
//!
//! On the identities' own secret it needs to add and to list versions, and nothing else: annotations would need the
//! right to change the secret, which can also set its expiry.

mod client;
mod crc32c;
mod creation;
mod credentials;
mod facts;
mod refusal;
mod rights;
mod transport;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::cloud::{Error, Reason};
use super::room::{Form, Room};
use super::{Current, Error as StoreError, Facts, Head, Local, Note, Place, Store, Version};
use crate::config::GcpStore;
use crate::http::Http;
use crate::retry::{Deadline, retry};
use crate::seal::Envelope;
use client::{Client, Created, Listed, failed};

/// What Google takes of one version, in bytes.
const MAX_BYTES: usize = 65_536;

/// `checked_at` is written again after this: a refresh is a version, and Google bills each by the month.
const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Old versions that one pass disables.
const DISABLED_AT_ONCE: usize = 20;

/// The secret that holds the facts of this one.
pub(crate) fn sibling(secret: &str) -> String {
    format!("{secret}-facts")
}

/// A project's secrets, reached with one set of credentials for all nodes.
pub struct SecretManager {
    name: String,
    config: GcpStore,
    http: Arc<Http>,
    client: RefCell<Option<Rc<Client>>>,
}

impl SecretManager {
    /// The store of this configuration; nothing is asked yet.
    #[must_use]
    pub fn new(name: &str, config: &GcpStore, http: Arc<Http>) -> Self {
        Self { name: name.to_owned(), config: config.clone(), http, client: RefCell::new(None) }
    }

    fn client(&self) -> Result<Rc<Client>, Error> {
        if let Some(client) = &*self.client.borrow() {
            return Ok(Rc::clone(client));
        }
        let client = Rc::new(Client::new(&self.config, Arc::clone(&self.http))?);
        *self.client.borrow_mut() = Some(Rc::clone(&client));
        Ok(client)
    }

    fn secret(&self, place: Place<'_>) -> String {
        self.config.secret.fill(place.node, place.network)
    }

    async fn look(&self, place: Place<'_>, deadline: Deadline) -> Result<Head, Error> {
        let (client, secret) = (self.client()?, self.secret(place));
        let (versions, latest) =
            tokio::join!(client.versions(&secret, deadline), facts::latest(&client, &secret, deadline));
        let versions = versions?.unwrap_or_default();
        let current = versions.first().copied();
        let number = newest(&versions);
        let known = facts::known(&client, &secret, latest?, number, deadline).await?;
        if known.is_ahead_of(number, client.now()) {
            let behind = Reason::Behind("a version that was added lately is not listed yet");
            return Err(failed("listing the versions of", &secret, behind.into()));
        }
        Ok(Head {
            current: current.map(|listed| Current {
                version: Version(listed.number.to_string()),
                created_at: listed.created_at,
                is_alive: listed.is_enabled,
            }),
            facts: known.facts,
            older_participant: known.participant,
            created_at: versions.iter().map(|listed| listed.created_at).collect(),
            now: client.now(),
            beside: Vec::new(),
        })
    }

    /// Where no facts describe the current version, perhaps they never could be written: then every pass would add a
    /// version. Their secret is made, or the lack of a right found, before anything is written.
    async fn require_facts(&self, secret: &str, head: &Head, deadline: Deadline) -> Result<(), StoreError> {
        if head.described().is_some() {
            return Ok(());
        }
        let (client, facts) = (self.client()?, sibling(secret));
        let Some(rights) = client.rights(&facts, &[rights::ADD], deadline).await? else { return Ok(()) };
        if rights.is_empty() && self.create(&client, &facts, deadline).await? == Created::Old {
            return Err(failed("adding a version to", &facts, Reason::Denied(rights::ADD).into()).into());
        }
        Ok(())
    }

    /// Creates the secret, or says that it has to be.
    async fn create(&self, client: &Client, secret: &str, deadline: Deadline) -> Result<Created, StoreError> {
        match client.create(secret, deadline).await? {
            Created::Denied => Err(failed("adding a version to", secret, Reason::Missing.into()).into()),
            Created::New => {
                tracing::info!(store = self.name, secret, "secret created");
                Ok(Created::New)
            }
            Created::Old => Ok(Created::Old),
        }
    }

    /// Adds a version, to a new secret where there is none. Where requests are rationed, looking again before each try
    /// would use up the ration; after any other failure the store is looked at anew, for it may have been done.
    async fn add(&self, secret: &str, data: &Bytes, deadline: Deadline) -> Result<u64, StoreError> {
        let client = self.client()?;
        for _ in 0..2 {
            let added = retry(deadline, "write", async || match client.add(secret, data.clone(), deadline).await {
                Err(error) if matches!(error.reason, Reason::Throttled { .. }) => Err(error),
                result => Ok(result),
            });
            match added.await?? {
                Some(number) => return Ok(number),
                None => self.create(&client, secret, deadline).await?,
            };
        }
        // It is there and not there: somebody deletes it meanwhile.
        Err(StoreError::Conflict)
    }

    async fn add_facts(&self, secret: &str, facts: &Facts, deadline: Deadline) -> Result<(), StoreError> {
        let (secret, data) = (sibling(secret), Bytes::from(facts::to_bytes(facts)));
        retry(deadline, "facts", async || self.add(&secret, &data, deadline).await.map(|_| ())).await
    }

    async fn write(
        &self,
        place: Place<'_>,
        envelope: &Envelope<'_>,
        facts: &Facts,
        head: &Head,
        deadline: Deadline,
    ) -> Result<Version, StoreError> {
        let (client, secret) = (self.client()?, self.secret(place));
        self.require_facts(&secret, head, deadline).await?;
        // Google has no check-and-set: the gap between this look and the write stays, and is looked for afterwards.
        let before = client.versions(&secret, deadline).await?.unwrap_or_default();
        if named(newest(&before)).as_ref() != head.version() {
            return Err(StoreError::Conflict);
        }
        let number = self.add(&secret, &data(envelope), deadline).await?;
        let version = Version(number.to_string());
        self.add_facts(&secret, &facts.of_version(&version.0), deadline).await?;
        let after = match client.versions(&secret, deadline).await {
            Ok(after) => after.unwrap_or_default(),
            // What was written stays written; the next pass finds out the rest.
            Err(_) => return Ok(version),
        };
        if newest(&after).is_some_and(|newest| newest > number) {
            return Err(StoreError::Conflict);
        }
        if let Some(keep) = self.config.keep_versions {
            self.disable_older(place, &client, &after, keep as usize, deadline).await;
        }
        Ok(version)
    }

    /// Disables the versions beyond the newest ones; a failure costs nothing but that.
    async fn disable_older(
        &self,
        place: Place<'_>,
        client: &Client,
        versions: &[Listed],
        keep: usize,
        deadline: Deadline,
    ) {
        let secret = self.secret(place);
        let old = versions.iter().filter(|version| version.is_enabled).skip(keep);
        for version in old.take(DISABLED_AT_ONCE) {
            let Err(error) = client.disable(&secret, version.number, deadline).await else {
                tracing::info!(node = place.node, store = self.name, version = version.number, "old version disabled");
                continue;
            };
            let error = crate::error::chain(&error);
            tracing::warn!(node = place.node, store = self.name, error, "old versions stay enabled");
            return;
        }
    }

    async fn refresh_facts(
        &self,
        place: Place<'_>,
        facts: &Facts,
        head: &Head,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        if head.facts.as_ref().is_some_and(|stored| is_fresh(stored, facts)) {
            return Ok(());
        }
        // Between the look and now another writer may have added a version: its facts stay the newest.
        let now = self.look(place, deadline).await?;
        if head.version() != now.version() || head.facts != now.facts {
            return Ok(());
        }
        self.add_facts(&self.secret(place), facts, deadline).await
    }
}

/// True where these facts say nothing that the stored ones do not, but for a time that is not old enough.
fn is_fresh(stored: &Facts, facts: &Facts) -> bool {
    let undated = Facts { checked_at: stored.checked_at, ..facts.clone() };
    let age = stored.checked_at.zip(facts.checked_at).map(|(old, new)| new.duration_since(old));
    undated == *stored && age.is_some_and(|age| age < STALE)
}

fn newest(versions: &[Listed]) -> Option<u64> {
    versions.first().map(|listed| listed.number)
}

fn named(number: Option<u64>) -> Option<Version> {
    number.map(|number| Version(number.to_string()))
}

/// The value: the dump byte for byte, or the age file, in memory that is wiped.
fn data(envelope: &Envelope<'_>) -> Bytes {
    let bytes = match envelope {
        Envelope::Plain(identities) => identities.expose(),
        Envelope::Sealed(sealed) => sealed.bytes(),
    };
    Bytes::from_owner(Zeroizing::new(bytes.to_vec()))
}

impl Store for SecretManager {
    fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> Room {
        Room { max_bytes: MAX_BYTES, form: Form::Bytes }
    }

    fn head<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(async move { Ok(self.look(place, deadline).await?) })
    }

    fn put<'a>(
        &'a self,
        place: Place<'a>,
        envelope: &'a Envelope<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<Version, StoreError>> {
        Box::pin(self.write(place, envelope, facts, head, deadline))
    }

    fn refresh<'a>(
        &'a self,
        place: Place<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<(), StoreError>> {
        Box::pin(self.refresh_facts(place, facts, head, deadline))
    }

    fn probe<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(async move { Ok(rights::probe(&*self.client()?, &self.config, &self.secret(place), deadline).await?) })
    }

    fn close(&self) -> Local<'_, ()> {
        Box::pin(async {
            self.client.take();
        })
    }

    fn rest(&self) {
        self.client.take();
    }
}
