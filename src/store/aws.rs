//! AWS Secrets Manager: the dump is the secret's value, the facts are its tags.
//!
//! It has no check-and-set. The id of a version is ours to choose, and is made of what is stored and what was there
//! before: a put that is tried again, or by two at once, is one version, and other bytes under the same id are refused.

mod call;
mod login;
mod probe;
mod refusal;
mod seen;
mod tags;
mod wire;

use std::sync::Arc;

use aws_sdk_secretsmanager::operation::create_secret::builders::CreateSecretFluentBuilder;
use aws_sdk_secretsmanager::operation::put_secret_value::builders::PutSecretValueFluentBuilder;
use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_secretsmanager::types::Tag;

use super::cloud::{Error, Reason};
use super::room::{Form, Room};
use super::{Error as StoreError, Facts, Head, Local, Note, Place, Store, Version};
use crate::config::AwsStore;
use crate::error::Fault;
use crate::http::Http;
use crate::retry::{Deadline, retry};
use crate::seal::Envelope;
use call::{CREATE, PUT, TAG};
use login::Session;
use seen::Seen;
use tags::Tags;

/// The largest value that AWS takes.
const MAX_BYTES: usize = 65_536;

/// The store.
pub struct SecretsManager {
    name: String,
    config: AwsStore,
    session: Session,
}

impl SecretsManager {
    /// The store of this configuration; nothing is asked yet.
    #[must_use]
    pub fn new(name: &str, config: &AwsStore, http: Arc<Http>) -> Self {
        Self { name: name.to_owned(), config: config.clone(), session: Session::new(config, http) }
    }

    async fn create(
        &self,
        place: Place<'_>,
        (version, value): (&str, &Value<'_>),
        facts: &Facts,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let theirs: Tags = self.config.tags.clone();
        let mut tags = self.update(place, &theirs, facts)?;
        tags.extend(theirs);
        let tags = tag_list(&tags);
        let secret = self.secret(place);
        let created = self.persist(place, (CREATE, deadline), async |client| {
            let create = client.create_secret().name(&secret).client_request_token(version);
            let create = create.set_kms_key_id(self.config.kms_key_id.clone()).set_tags(Some(tags.clone()));
            value.create(create).send().await
        });
        match created.await {
            Ok(_) => Ok(()),
            Err(StoreError::Cloud(Error { reason: Reason::Denied(_), .. })) => {
                Err(self.error(place, CREATE.doing, Reason::Missing))
            }
            Err(error) => Err(error),
        }
    }

    async fn add(
        &self,
        place: Place<'_>,
        (version, value): (&str, &Value<'_>),
        facts: &Facts,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let secret = self.secret(place);
        self.persist(place, (PUT, deadline), async |client| {
            let put = client.put_secret_value().secret_id(&secret).client_request_token(version);
            value.put(put).send().await
        })
        .await?;
        // A put under an id that was there already moves no label; and another writer may have followed.
        let looked = retry(deadline, "store", async || match self.look(place, deadline).await {
            Err(StoreError::Conflict) => Ok(None),
            result => result,
        });
        let seen = looked.await?.filter(|seen| seen.current() == Some(version)).ok_or(StoreError::Conflict)?;
        self.tag(place, &self.update(place, &seen.tags, facts)?, deadline).await
    }

    async fn tag(&self, place: Place<'_>, tags: &Tags, deadline: Deadline) -> Result<(), StoreError> {
        let (secret, tags) = (self.secret(place), tag_list(tags));
        self.persist(place, (TAG, deadline), async |client| {
            client.tag_resource().secret_id(&secret).set_tags(Some(tags.clone())).send().await
        })
        .await
        .map(|_| ())
    }

    /// Where no facts describe the current version, perhaps they never could be written: then every pass would add a
    /// version.
    async fn require_facts_right(
        &self,
        place: Place<'_>,
        seen: &Seen,
        head: &Head,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        if head.described().is_some() {
            return Ok(());
        }
        self.tag(place, &tags::no_change(&seen.tags), deadline).await
    }

    fn update(&self, place: Place<'_>, before: &Tags, facts: &Facts) -> Result<Tags, StoreError> {
        tags::update(before, facts).ok_or_else(|| {
            let (why, fix) = ("its tags have no room left for the facts: 50 are the limit", "take away tags of others");
            self.error(place, TAG.doing, Reason::InTheWay { why, fix, fault: Fault::Config })
        })
    }
}

/// A value in the form that AWS keeps it in.
enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn of(envelope: &'a Envelope<'a>) -> Result<Self, StoreError> {
        Ok(match envelope {
            Envelope::Plain(identities) => {
                Self::Text(std::str::from_utf8(identities.expose()).map_err(|_| crate::seal::Error::Seal)?)
            }
            Envelope::Sealed(sealed) => Self::Bytes(sealed.bytes()),
        })
    }

    fn put(&self, put: PutSecretValueFluentBuilder) -> PutSecretValueFluentBuilder {
        match self {
            Self::Text(text) => put.secret_string(*text),
            Self::Bytes(bytes) => put.secret_binary(Blob::new(*bytes)),
        }
    }

    fn create(&self, create: CreateSecretFluentBuilder) -> CreateSecretFluentBuilder {
        match self {
            Self::Text(text) => create.secret_string(*text),
            Self::Bytes(bytes) => create.secret_binary(Blob::new(*bytes)),
        }
    }
}

fn tag_list(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

impl Store for SecretsManager {
    fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> Room {
        Room { max_bytes: MAX_BYTES, form: Form::Bytes }
    }

    fn head<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(async move {
            let seen = self.look(place, deadline).await?.unwrap_or_default();
            Ok(seen.head(self.session.wire.now()))
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
        Box::pin(async move {
            let value = Value::of(envelope)?;
            let seen = self.look(place, deadline).await?;
            let current = seen.as_ref().and_then(Seen::current);
            if current != head.version().map(|version| version.0.as_str()) {
                return Err(StoreError::Conflict);
            }
            let version =
                seen.as_ref().map_or_else(|| Seen::default().next(&facts.digest), |seen| seen.next(&facts.digest));
            let facts = facts.of_version(&version);
            match &seen {
                None => self.create(place, (&version, &value), &facts, deadline).await?,
                Some(seen) => {
                    // Whether the facts fit is known before anything is written.
                    self.update(place, &seen.tags, &facts)?;
                    self.require_facts_right(place, seen, head, deadline).await?;
                    self.add(place, (&version, &value), &facts, deadline).await?;
                }
            }
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
            let Some(seen) = self.look(place, deadline).await? else { return Ok(()) };
            // Between the look and now another writer may have added a version: its facts stay.
            let now = seen.head(self.session.wire.now());
            if !head.is_same(&now) {
                return Ok(());
            }
            self.tag(place, &self.update(place, &seen.tags, facts)?, deadline).await
        })
    }

    fn probe<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(self.notes(place, deadline))
    }

    fn close(&self) -> Local<'_, ()> {
        Box::pin(self.session.forget())
    }

    fn rest(&self) {
        self.session.rest();
    }
}
