//! Azure Key Vault: one secret per node, its facts as the tags of each version, written in one step with the value.
//!
//! There is no check-and-set: of two writers at once both make a version, and their tags tell which came after which.

mod client;
mod credentials;
mod refusal;
mod tags;
mod versions;
mod way;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::cloud::{Error, Reason, System};
use super::room::{Form, Room};
use super::{Error as StoreError, Facts, Head, Local, Note, Place, Store, Version};
use crate::config::AzureStore;
use crate::http::Http;
use crate::retry::Deadline;
use crate::seal::Envelope;
use client::Client;
use versions::{Listed, head};

/// 25 KB of text.
const MAX_BYTES: usize = 25_600;

/// A vault.
pub struct KeyVault {
    name: String,
    config: AzureStore,
    http: Arc<Http>,
    client: RefCell<Option<Rc<Client>>>,
}

impl KeyVault {
    /// The store of this configuration; nothing is asked yet.
    #[must_use]
    pub fn new(name: &str, config: &AzureStore, http: Arc<Http>) -> Self {
        Self { name: name.to_owned(), config: config.clone(), http, client: RefCell::default() }
    }

    fn client(&self) -> Result<Rc<Client>, Reason> {
        if let Some(client) = &*self.client.borrow() {
            return Ok(Rc::clone(client));
        }
        let client = Rc::new(Client::new(&self.config, &self.http)?);
        self.client.replace(Some(Rc::clone(&client)));
        Ok(client)
    }

    fn secret(&self, place: Place<'_>) -> String {
        self.config.secret.fill(place.node, place.network)
    }

    async fn list(&self, secret: &str, deadline: Deadline) -> Result<(Vec<Listed>, Timestamp), StoreError> {
        let failed = |reason| failed(LISTING, secret, reason);
        let (listed, now) = self.client().map_err(failed)?.list(secret, deadline).await.map_err(failed)?;
        if listed.iter().any(|one| one.is_managed) {
            let why = "it belongs to a certificate, and the vault looks after it itself";
            return Err(failed(Reason::Foreign(why.into())));
        }
        Ok((listed, now.unwrap_or_else(Timestamp::now)))
    }

    async fn add(
        &self,
        place: Place<'_>,
        envelope: &Envelope<'_>,
        facts: &Facts,
        known: &Head,
        deadline: Deadline,
    ) -> Result<Version, StoreError> {
        let secret = self.secret(place);
        let failed = |reason| failed("adding a version to", &secret, reason);
        let (listed, now) = self.list(&secret, deadline).await?;
        let before = head(listed, now).version().cloned();
        if before.as_ref() != known.version() {
            return Err(StoreError::Conflict);
        }
        let before = before.map(|version| version.0);
        let (tags, left_out) = tags::of_new(facts, before.as_deref(), &known.beside).map_err(failed)?;
        if left_out > 0 {
            let (node, store) = (place.node, self.name.as_str());
            tracing::warn!(node, store, left_out, "tags of others have no room beside the facts: they stay behind");
        }
        let client = self.client().map_err(failed)?;
        client.set(&secret, envelope, &tags, deadline).await?.map(Version).map_err(failed)
    }

    async fn look(&self, place: Place<'_>, deadline: Deadline) -> Result<Vec<Note>, StoreError> {
        let secret = self.secret(place);
        let (listed, _) = self.list(&secret, deadline).await?;
        let client = self.client().map_err(|reason| failed(LISTING, &secret, reason))?;
        let mut notes = vec![Note::Fine(format!("{secret}: its versions can be listed, without their values"))];
        notes.push(match client.read_nothing(&secret, deadline).await {
            Err(Reason::Denied(_)) => Note::Fine(format!("{secret}: the agent may not read it")),
            Ok(()) | Err(Reason::Missing) => Note::TooMuch(
                format!("{secret}: the agent may read it, and needs not"),
                format!("take `{GET}` from its roles (under access policies: `get`); `idkeep policy azure` prints what it needs"),
            ),
            Err(reason) => Note::Unknown(format!("{secret}: whether the agent may read it: {reason}")),
        });
        notes.push(match client.change_nothing(&secret, deadline).await {
            Ok(()) | Err(Reason::Missing) => Note::Fine(format!("{secret}: the agent may write its facts anew")),
            Err(Reason::Denied(_)) => Note::Unwise(
                format!("{secret}: the agent may not write its facts anew, so they will not say when it was last seen"),
                format!("give its role `{UPDATE}`"),
            ),
            Err(reason) => Note::Unknown(format!("{secret}: whether the agent may write its facts anew: {reason}")),
        });
        notes.push(Note::Unknown(format!(
            "{secret}: whether the agent may add a version, delete or back it up cannot be asked without doing it"
        )));
        if listed.iter().any(|one| one.is_purgeable == Some(true)) {
            notes.push(Note::Unwise(
                format!("{secret}: whoever may purge can remove it for good, with all its versions"),
                "az keyvault update --name VAULT --enable-purge-protection true".into(),
            ));
        }
        Ok(notes)
    }
}

const LISTING: &str = "listing the versions of";
const GET: &str = "Microsoft.KeyVault/vaults/secrets/getSecret/action";
const UPDATE: &str = "Microsoft.KeyVault/vaults/secrets/update/action";

fn failed(doing: &'static str, secret: &str, reason: Reason) -> StoreError {
    Error { system: System::Azure, doing, secret: secret.to_owned(), reason }.into()
}

impl Store for KeyVault {
    fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> Room {
        Room { max_bytes: MAX_BYTES, form: Form::Text }
    }

    fn head<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(async move {
            let (listed, now) = self.list(&self.secret(place), deadline).await?;
            Ok(head(listed, now))
        })
    }

    fn put<'a>(
        &'a self,
        place: Place<'a>,
        envelope: &'a Envelope<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<Version, StoreError>> {
        Box::pin(self.add(place, envelope, facts, head, deadline))
    }

    /// The version is named, so facts never come to lie on another one's value.
    fn refresh<'a>(
        &'a self,
        place: Place<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(current) = &head.current else { return Ok(()) };
            let secret = self.secret(place);
            let failed = |reason| failed("writing the facts of", &secret, reason);
            let tags = tags::of_refreshed(facts, &head.beside).map_err(failed)?;
            let client = self.client().map_err(failed)?;
            client.tag(&secret, &current.version.0, &tags, deadline).await.map_err(failed)
        })
    }

    fn probe<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(self.look(place, deadline))
    }

    /// Tokens of Azure cannot be given back; they go with the pass.
    fn close(&self) -> Local<'_, ()> {
        Box::pin(async {})
    }

    fn rest(&self) {
        self.client.take();
    }
}
