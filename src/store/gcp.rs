//! Google Secret Manager.

use super::cloud::{Error, Reason, System};
use super::room::{Form, Room};
use super::{Error as StoreError, Facts, Head, Local, Note, Place, Store, Version};
use crate::config::GcpStore;

use crate::retry::Deadline;
use crate::seal::Envelope;

/// The store.
pub struct SecretManager {
    name: String,
    config: GcpStore,
}

impl SecretManager {
    /// The store of this configuration; nothing is asked yet.
    #[must_use]
    pub fn new(name: &str, config: &GcpStore) -> Self {
        Self { name: name.to_owned(), config: config.clone() }
    }

    fn failed(&self) -> StoreError {
        Error {
            system: System::Gcp,
            doing: "looking at",
            secret: self.config.secret.to_string(),
            reason: Reason::Garbled,
        }
        .into()
    }
}

impl Store for SecretManager {
    fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> Room {
        Room { max_bytes: 65_536, form: Form::Bytes }
    }

    fn head<'a>(&'a self, _: Place<'a>, _: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(async move { Err(self.failed()) })
    }

    fn put<'a>(
        &'a self,
        _: Place<'a>,
        _: &'a Envelope<'a>,
        _: &'a Facts,
        _: &'a Head,
        _: Deadline,
    ) -> Local<'a, Result<Version, StoreError>> {
        Box::pin(async move { Err(self.failed()) })
    }

    fn refresh<'a>(
        &'a self,
        _: Place<'a>,
        _: &'a Facts,
        _: &'a Head,
        _: Deadline,
    ) -> Local<'a, Result<(), StoreError>> {
        Box::pin(async move { Err(self.failed()) })
    }

    fn probe<'a>(&'a self, _: Place<'a>, _: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(async move { Err(self.failed()) })
    }

    fn close(&self) -> Local<'_, ()> {
        Box::pin(async {})
    }
}
