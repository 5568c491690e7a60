//! The API as idkeep uses it: versions listed and added, facts read, rights asked for. The identities are never read.

use std::sync::Arc;

use bytes::Bytes;
use google_cloud_gax::options::RequestOptionsBuilder as _;
use google_cloud_secretmanager_v1::client::SecretManagerService;
use google_cloud_secretmanager_v1::model::secret_version::State;
use google_cloud_secretmanager_v1::model::{SecretPayload, SecretVersion};
use jiff::Timestamp;

use super::crc32c::crc32c;
use super::refusal::Refusal;
use super::sibling;
use super::transport::Transport;
use crate::config::{Address, GcpStore};
use crate::http::Http;
use crate::http::carry::Carrier;
use crate::retry::Deadline;
use crate::store::cloud::{Error, Reason, System};

/// The largest answer that is read, in bytes: a page of versions with what Google says of each replica.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Versions in one answer.
const PAGE: i32 = 250;

/// One project (and region) of one endpoint.
pub(super) struct Client {
    sdk: SecretManagerService,
    transport: Arc<Transport>,
    config: GcpStore,
}

/// A version as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) created_at: Timestamp,
    /// Neither disabled nor destroyed.
    pub(super) is_enabled: bool,
}

/// What reading a version of the facts gave.
pub(super) enum Read {
    /// Its number and its bytes.
    Bytes(u64, Bytes),
    /// It is disabled, destroyed or damaged.
    Unreadable,
    /// There is none.
    Nothing,
}

/// What came of creating a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// It is there now.
    New,
    /// It was there already.
    Old,
    /// It may not be created.
    Denied,
}

impl Client {
    pub(super) fn new(config: &GcpStore, http: Arc<Http>) -> Result<Self, Error> {
        let usual = match &config.location {
            Some(location) => format!("https://secretmanager.{location}.rep.googleapis.com"),
            None => "https://secretmanager.googleapis.com".to_owned(),
        };
        let endpoint = config.endpoint.clone().map_or_else(|| usual.parse::<Address>(), Ok);
        let endpoint =
            endpoint.map_err(|_| failed("finding", &usual, Reason::Rejected("this is no address").into()))?;
        let carrier = Carrier::new(http, "calling the API", config.tls.clone(), config.proxy.clone(), MAX_BYTES);
        let transport = Arc::new(Transport::new(carrier, endpoint));
        Ok(Self {
            sdk: SecretManagerService::from_stub::<Transport>(Arc::clone(&transport)),
            transport,
            config: config.clone(),
        })
    }

    /// The server's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.transport.now()
    }

    /// `projects/P`, or with a region.
    fn parent(&self) -> String {
        let project = &self.config.project;
        match &self.config.location {
            Some(location) => format!("projects/{project}/locations/{location}"),
            None => format!("projects/{project}"),
        }
    }

    fn resource(&self, secret: &str) -> String {
        format!("{}/secrets/{secret}", self.parent())
    }

    /// Every version, newest first; none where there is no such secret.
    pub(super) async fn versions(&self, secret: &str, deadline: Deadline) -> Result<Option<Vec<Listed>>, Error> {
        const DOING: &str = "listing the versions of";
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = self.sdk.list_secret_versions().set_parent(self.resource(secret)).set_page_size(PAGE);
            let request = request.set_page_token(page_token).with_attempt_timeout(deadline.remaining());
            let page = match request.send().await.map_err(Refusal::from) {
                Ok(page) => page,
                Err(Refusal::NotThere) => return Ok(None),
                Err(refusal) => return Err(failed(DOING, secret, refusal)),
            };
            let is_empty = page.versions.is_empty();
            for version in &page.versions {
                all.push(listed(version).ok_or_else(|| failed(DOING, secret, Reason::Garbled.into()))?);
            }
            page_token = page.next_page_token;
            // A page without versions that promises another would go on for ever.
            if page_token.is_empty() || is_empty {
                break;
            }
        }
        all.sort_unstable_by_key(|listed| std::cmp::Reverse(listed.number));
        Ok(Some(all))
    }

    /// Reads a version of the *facts* of this secret; `latest` is the newest, whatever its state.
    pub(super) async fn facts(&self, secret: &str, version: &str, deadline: Deadline) -> Result<Read, Error> {
        let facts = sibling(secret);
        let name = format!("{}/versions/{version}", self.resource(&facts));
        let request = self.sdk.access_secret_version().set_name(name).with_attempt_timeout(deadline.remaining());
        let answer = match request.send().await.map_err(Refusal::from) {
            Ok(answer) => answer,
            Err(Refusal::NotThere) => return Ok(Read::Nothing),
            Err(Refusal::NotReadable) => return Ok(Read::Unreadable),
            Err(refusal) => return Err(failed("reading", &facts, refusal)),
        };
        Ok(match (number(&answer.name), answer.payload) {
            (Some(number), Some(SecretPayload { data, data_crc32c, .. })) if is_whole(&data, data_crc32c) => {
                Read::Bytes(number, data)
            }
            _ => Read::Unreadable,
        })
    }

    /// Adds a version and returns its number; none where there is no such secret.
    pub(super) async fn add(&self, secret: &str, data: Bytes, deadline: Deadline) -> Result<Option<u64>, Error> {
        const DOING: &str = "adding a version to";
        let payload = SecretPayload::new().set_data_crc32c(i64::from(crc32c(&data))).set_data(data);
        let request = self.sdk.add_secret_version().set_parent(self.resource(secret)).set_payload(payload);
        match request.with_attempt_timeout(deadline.remaining()).send().await.map_err(Refusal::from) {
            Ok(version) => match number(&version.name) {
                Some(number) => Ok(Some(number)),
                None => Err(failed(DOING, secret, Reason::Garbled.into())),
            },
            Err(Refusal::NotThere) => Ok(None),
            Err(refusal) => Err(failed(DOING, secret, refusal)),
        }
    }

    /// Creates the secret as the configuration says, without a version.
    pub(super) async fn create(&self, secret: &str, deadline: Deadline) -> Result<Created, Error> {
        let request = self.sdk.create_secret().set_parent(self.parent()).set_secret_id(secret);
        let request = request.set_secret(super::creation::secret(&self.config));
        match request.with_attempt_timeout(deadline.remaining()).send().await.map_err(Refusal::from) {
            Ok(_) => Ok(Created::New),
            Err(Refusal::IsThere) => Ok(Created::Old),
            Err(Refusal::Failed(Reason::Denied(_))) => Ok(Created::Denied),
            Err(refusal) => Err(failed("creating", secret, refusal)),
        }
    }

    /// Disables a version, which can be undone.
    pub(super) async fn disable(&self, secret: &str, number: u64, deadline: Deadline) -> Result<(), Error> {
        let name = format!("{}/versions/{number}", self.resource(secret));
        let request = self.sdk.disable_secret_version().set_name(name).with_attempt_timeout(deadline.remaining());
        let result = request.send().await.map_err(Refusal::from);
        result.map(|_| ()).map_err(|refusal| failed("disabling an old version of", secret, refusal))
    }

    /// Which of these rights the agent has on the secret, all of none where it does not exist; `None` where the server
    /// does not say.
    pub(super) async fn rights(
        &self,
        secret: &str,
        asked: &[&str],
        deadline: Deadline,
    ) -> Result<Option<Vec<String>>, Error> {
        let permissions = asked.iter().map(|right| (*right).to_owned());
        let request = self.sdk.test_iam_permissions().set_resource(self.resource(secret)).set_permissions(permissions);
        match request.with_attempt_timeout(deadline.remaining()).send().await.map_err(Refusal::from) {
            Ok(answer) => Ok(Some(answer.permissions)),
            // An emulator may not know of rights at all.
            Err(
                Refusal::NotThere
                | Refusal::Failed(Reason::Denied(_) | Reason::Rejected(_) | Reason::Busy { status: 501 }),
            ) => Ok(None),
            Err(refusal) => Err(failed("asking for the rights on", secret, refusal)),
        }
    }
}

/// The call's failure, for people.
pub(super) fn failed(doing: &'static str, secret: &str, refusal: Refusal) -> Error {
    let reason = match refusal {
        Refusal::Failed(Reason::Denied("secretmanager.versions.list")) => {
            Reason::Denied("`secretmanager.versions.list`; or it does not exist")
        }
        Refusal::Failed(Reason::Denied("secretmanager.versions.access")) => {
            Reason::Denied("`secretmanager.versions.access`; or it does not exist")
        }
        Refusal::Failed(reason) => reason,
        Refusal::NotThere => Reason::Rejected("it is not there any more"),
        Refusal::IsThere => Reason::Rejected("it is there already"),
        Refusal::NotReadable => Reason::Rejected("its state does not allow this"),
    };
    Error { system: System::Gcp, doing, secret: secret.to_owned(), reason }
}

/// Google stores the checksum with the data; a server that keeps none is believed.
fn is_whole(data: &[u8], checksum: Option<i64>) -> bool {
    checksum.is_none_or(|checksum| checksum == i64::from(crc32c(data)))
}

fn listed(version: &SecretVersion) -> Option<Listed> {
    let created = version.create_time.as_ref()?;
    let created_at = Timestamp::new(created.seconds(), created.nanos()).ok()?;
    Some(Listed { number: number(&version.name)?, created_at, is_enabled: version.state == State::Enabled })
}

/// The number at the end of `projects/P/secrets/S/versions/7`.
fn number(name: &str) -> Option<u64> {
    name.rsplit_once("/versions/")?.1.parse().ok()
}
