//! Azure's own client for secrets, over our connections: five calls, none of which ever reads a value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use azure_core::http::pager::PagerOptions;
use azure_core::http::{ClientMethodOptions, ClientOptions, Context, RequestContent, RetryOptions, Transport};
use azure_security_keyvault_secrets::models::{
    ListSecretPropertiesResult, SecretClientGetSecretOptions, SecretClientListSecretPropertiesVersionsOptions,
    SecretClientSetSecretOptions, SecretClientUpdateSecretPropertiesOptions, SecretProperties,
};
use azure_security_keyvault_secrets::{ResourceExt as _, ResourceId, SecretClient, SecretClientOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::tags::Tags;
use super::versions::Listed;
use super::way::{End, Trip, Way};
use super::{credentials, tags};
use crate::config::{AzureStore, Tls};
use crate::http::Http;
use crate::http::carry::Carrier;
use crate::retry::Deadline;
use crate::seal::Envelope;
use crate::store::Error as StoreError;
use crate::store::cloud::Reason;

/// A page of 25 versions with all their tags, or an answer that echoes a value with every character escaped.
const MOST_BYTES: usize = 1 << 20;

/// Of 25 versions each.
const MOST_PAGES: usize = 200;

/// No version has this name: those of Azure are drawn by chance.
const NO_VERSION: &str = "00000000000000000000000000000000";

/// Lets our own time limits, which say more, end a call before this one does.
const SLACK: Duration = Duration::from_millis(100);

/// A vault, logged in to once for all nodes.
pub(super) struct Client(SecretClient);

/// What is read of an answer; the value that it may echo is passed over.
#[derive(Deserialize)]
struct Written {
    id: String,
}

impl Client {
    /// Asks nothing yet.
    pub(super) fn new(config: &AzureStore, http: &Arc<Http>) -> Result<Self, Reason> {
        let origin = config.vault_url.origin();
        let options = |end: End| {
            let (doing, tls, proxy) = match end {
                End::Vault(_) => ("asking the vault", config.tls.clone(), config.proxy.clone()),
                End::Token => ("asking Azure for a token", config.tls.clone(), config.proxy.clone()),
                End::Machine => ("asking this machine for a token", Tls::default(), None),
            };
            let carrier = Carrier::new(Arc::clone(http), doing, tls, proxy, MOST_BYTES);
            ClientOptions {
                retry: RetryOptions::none(),
                transport: Some(Transport::with_policy(Arc::new(Way::new(carrier, end)))),
                ..ClientOptions::default()
            }
        };
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let credential =
            credentials::open(&environment, config.client_id.as_deref(), config.audience.as_ref(), options)?;
        let options = SecretClientOptions {
            client_options: options(End::Vault(origin.clone())),
            verify_challenge_resource: Some(config.audience.is_none()),
            ..SecretClientOptions::default()
        };
        SecretClient::new(&origin, credential, Some(options)).map(Self).map_err(|_| Reason::Garbled)
    }

    /// All versions without their values, and the vault's clock; none where there is no such secret.
    pub(super) async fn list(
        &self,
        secret: &str,
        deadline: Deadline,
    ) -> Result<(Vec<Listed>, Option<Timestamp>), Reason> {
        let trip = Trip::until(deadline);
        let options = SecretClientListSecretPropertiesVersionsOptions {
            method_options: PagerOptions { context: context(&trip), ..PagerOptions::default() },
            ..SecretClientListSecretPropertiesVersionsOptions::default()
        };
        let listed = within(&trip, deadline, async {
            let mut pages = self.0.list_secret_properties_versions(secret, Some(options))?.into_pages();
            let mut listed = Vec::new();
            for _ in 0..MOST_PAGES {
                let Some(page) = pages.next().await else { return Ok(listed) };
                let page: ListSecretPropertiesResult = page?.into_model()?;
                for one in page.value {
                    listed.push(read(one).ok_or_else(|| trip.fail(Reason::Garbled))?);
                }
            }
            Err(trip.fail(Reason::Rejected("it has more than 5000 versions: use a secret of another name")))
        });
        match listed.await {
            Ok(listed) => Ok((listed, trip.date())),
            Err(Reason::Missing) => Ok((Vec::new(), trip.date())),
            Err(reason) => Err(reason),
        }
    }

    /// Adds a version and says its name.
    pub(super) async fn set(
        &self,
        secret: &str,
        envelope: &Envelope<'_>,
        tags: &Tags,
        deadline: Deadline,
    ) -> Result<Result<String, Reason>, StoreError> {
        let body = Bytes::from_owner(body(envelope, tags)?);
        let trip = Trip::until(deadline);
        let options = SecretClientSetSecretOptions { method_options: method(&trip) };
        let written = within(&trip, deadline, async {
            let answer = self.0.set_secret(secret, body.into(), Some(options)).await?;
            let written: Written = answer.into_body().json()?;
            written.id.parse::<ResourceId>()
        });
        Ok(written.await.and_then(|id| id.version.filter(|version| is_version(version)).ok_or(Reason::Garbled)))
    }

    /// Writes the tags of this version anew.
    pub(super) async fn tag(&self, secret: &str, version: &str, tags: &Tags, deadline: Deadline) -> Result<(), Reason> {
        let body = serde_json::to_vec(&BTreeMap::from([("tags", tags)])).map_err(|_| Reason::Garbled)?;
        self.patch(secret, version, body, deadline).await
    }

    async fn patch(&self, secret: &str, version: &str, body: Vec<u8>, deadline: Deadline) -> Result<(), Reason> {
        let trip = Trip::until(deadline);
        let options = SecretClientUpdateSecretPropertiesOptions {
            method_options: method(&trip),
            secret_version: Some(version.to_owned()),
        };
        let content = RequestContent::from(body);
        within(&trip, deadline, async {
            self.0.update_secret_properties(secret, content, Some(options)).await.map(drop)
        })
        .await
    }

    /// Asks for a value that does not exist: whoever may not read is told that first.
    pub(super) async fn read_nothing(&self, secret: &str, deadline: Deadline) -> Result<(), Reason> {
        let trip = Trip::until(deadline);
        let options = SecretClientGetSecretOptions {
            method_options: method(&trip),
            secret_version: Some(NO_VERSION.to_owned()),
            ..SecretClientGetSecretOptions::default()
        };
        within(&trip, deadline, async { self.0.get_secret(secret, Some(options)).await.map(drop) }).await
    }

    /// Changes nothing about a version that does not exist: whoever may not change is told that first.
    pub(super) async fn change_nothing(&self, secret: &str, deadline: Deadline) -> Result<(), Reason> {
        self.patch(secret, NO_VERSION, b"{}".to_vec(), deadline).await
    }
}

fn context(trip: &Trip) -> Context<'static> {
    Context::new().with_value(trip.clone())
}

fn method(trip: &Trip) -> ClientMethodOptions<'static> {
    ClientMethodOptions { context: context(trip) }
}

/// Whoever waits for another call's token waits no longer than his own deadline.
async fn within<T>(
    trip: &Trip,
    deadline: Deadline,
    call: impl Future<Output = azure_core::Result<T>>,
) -> Result<T, Reason> {
    match tokio::time::timeout(deadline.remaining() + SLACK, call).await {
        Ok(Ok(value)) => Ok(value),
        // The SDK's own words quote the other side.
        Ok(Err(_)) => Err(trip.take_reason().unwrap_or(Reason::Garbled)),
        Err(_) => Err(Reason::Unreachable("no time is left before the deadline of this pass")),
    }
}

/// One version of a list.
fn read(one: SecretProperties) -> Option<Listed> {
    let version = one.resource_id().ok()?.version.filter(|version| is_version(version))?;
    let attributes = one.attributes.unwrap_or_default();
    let time = |at: azure_core::time::OffsetDateTime| Timestamp::from_second(at.unix_timestamp()).ok();
    let now = Timestamp::now();
    let has_begun = attributes.not_before.and_then(time).is_none_or(|at| at <= now);
    let has_ended = attributes.expires.and_then(time).is_some_and(|at| at <= now);
    Some(Listed {
        version,
        created_at: attributes.created.and_then(time).unwrap_or(Timestamp::UNIX_EPOCH),
        is_alive: attributes.enabled != Some(false) && has_begun && !has_ended,
        is_managed: one.managed == Some(true),
        is_purgeable: attributes.recovery_level.map(|level| level.as_ref().contains("Purgeable")),
        tags: one.tags.unwrap_or_default().into_iter().collect(),
    })
}

/// Reports show it.
fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `{"contentType": …, "tags": {…}, "value": …}`, the dump as one string, in memory that is wiped.
fn body(envelope: &Envelope<'_>, tags: &tags::Tags) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let garbled = |_| crate::seal::Error::Seal;
    let armored;
    let (value, kind) = match envelope {
        Envelope::Plain(identities) => {
            (std::str::from_utf8(identities.expose()).map_err(|_| crate::seal::Error::Seal)?, "application/json")
        }
        Envelope::Sealed(sealed) => {
            armored = sealed.armored()?;
            (armored.as_str(), "application/age")
        }
    };
    let tags = serde_json::to_string(tags).map_err(garbled)?;
    // A byte may become six: room for all, so that nothing moves.
    let escapes = value.bytes().filter(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)).count();
    let mut body = Zeroizing::new(Vec::with_capacity(value.len() + 5 * escapes + tags.len() + 128));
    body.extend_from_slice(format!("{{\"contentType\":\"{kind}\",\"tags\":{tags},\"value\":").as_bytes());
    serde_json::to_writer(&mut *body, value).map_err(garbled)?;
    body.push(b'}');
    Ok(body)
}
