//! Stores: where identities are kept, and the one protocol by which they are.
//!
//! The data is never read. What is stored is known from the facts beside it, which name the version
//! that they describe and are written after it: facts of another version than the current one count
//! for nothing.

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
pub mod cloud;
pub mod facts;
pub mod file;
#[cfg(feature = "gcp")]
pub mod gcp;
mod history;
pub mod judge;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod room;
pub mod vault;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::RwLock;

pub use facts::Facts;
pub use room::Room;

use crate::config::{AgeRecipient, Name, Store as Config};
use crate::error::{Failure, Fault};
use crate::http::Http;
use crate::identity::About;
use crate::retry::{Deadline, retry};
use crate::seal::{self, Envelope};
use crate::secret::Secrets;
use judge::{Refusal, Rules, Verdict};

/// Where a pod finds the certificates of its own cluster.
pub const IN_CLUSTER_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// A future that stays on its thread: the whole program runs on one.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Which node's identities: fills the store's templates.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its network, or empty.
    pub network: &'a str,
}

/// A version as the store names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// What a store says about what it holds; public, read without the data.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The current version, if there is one.
    pub current: Option<Current>,
    /// Our facts, whichever version they describe.
    pub facts: Option<Facts>,
    /// Whose identities the newest older version with facts holds, for when the current one's are gone.
    pub older_participant: Option<String>,
    /// When each version that is still listed was made.
    pub created_at: Vec<Timestamp>,
    /// The store's own clock.
    pub now: Timestamp,
    /// Whatever else stands beside the data, kept as it is: keys of others, facts of older versions.
    pub beside: Vec<(String, String)>,
}

impl Head {
    /// Whose identities are stored, as far as any facts that are left tell.
    #[must_use]
    pub fn participant(&self) -> Option<&str> {
        let current = self.facts.as_ref().map(|facts| facts.participant_id.as_str()).filter(|id| !id.is_empty());
        current.or(self.older_participant.as_deref())
    }

    /// The current version's name.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        self.current.as_ref().map(|current| &current.version)
    }

    /// Our facts, where it is the current version that they describe.
    #[must_use]
    pub fn described(&self) -> Option<&Facts> {
        let version = &self.version()?.0;
        self.facts.as_ref().filter(|facts| facts.stored_version == *version)
    }

    /// True where a later look saw the same version, with facts about the same.
    #[must_use]
    pub fn is_same(&self, later: &Self) -> bool {
        let described =
            |head: &Self| head.facts.as_ref().map(|facts| (facts.stored_version.clone(), facts.digest.clone()));
        self.version() == later.version() && described(self) == described(later)
    }
}

/// The current version of a secret.
#[derive(Debug, Clone)]
pub struct Current {
    /// Its name.
    pub version: Version,
    /// When it was made, by the store's clock.
    pub created_at: Timestamp,
    /// False where it is deleted, destroyed or damaged.
    pub is_alive: bool,
}

/// A place that keeps identities, version by version.
///
/// `head` reads metadata only. `put` adds one version after `head.current` or fails with
/// [`Error::Conflict`], then writes the facts; it never changes or removes what was there.
pub trait Store {
    /// Its name in the configuration.
    fn name(&self) -> &str;
    /// What the store says about what it holds.
    fn head<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Head, Error>>;
    /// How much fits in, and in which form it is stored.
    fn room(&self) -> Room;

    /// The recipients that it seals to what nobody has sealed before.
    fn recipients(&self) -> &[AgeRecipient] {
        &[]
    }
    /// Adds a version with its facts.
    fn put<'a>(
        &'a self,
        place: Place<'a>,
        envelope: &'a Envelope<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<Version, Error>>;
    /// Writes facts about the current version anew, unless it is not `head`'s any more.
    fn refresh<'a>(
        &'a self,
        place: Place<'a>,
        facts: &'a Facts,
        head: &'a Head,
        deadline: Deadline,
    ) -> Local<'a, Result<(), Error>>;
    /// What `check --live` finds about rights and retention, without changing anything.
    fn probe<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Vec<Note>, Error>>;
    /// Gives back what was borrowed: tokens of its own.
    fn close(&self) -> Local<'_, ()>;
    /// Lets go of what the next pass makes anew: clients with the keys of their certificates, credentials that do not
    /// run out. Called while no pass uses the store; unexpired tokens may stay.
    fn rest(&self) {}
}

/// The store of this configuration; none where this build lacks it, which the configuration's check refuses.
#[must_use]
#[cfg_attr(
    not(any(feature = "gcp", feature = "aws", feature = "azure", feature = "kubernetes")),
    expect(unused_variables, reason = "only the clouds' stores are given a client here")
)]
pub fn open(name: &Name, config: &Config, secrets: &Secrets, http: &Arc<Http>) -> Option<Rc<dyn Store>> {
    let (store, name) = (name, name.as_str());
    Some(match config {
        // One login for the identities and for what else its server keeps.
        Config::Vault(_) => secrets.vault(store)?,
        #[cfg(feature = "gcp")]
        Config::Gcp(gcp) => Rc::new(gcp::SecretManager::new(name, gcp, Arc::clone(http))),
        #[cfg(feature = "aws")]
        Config::Aws(aws) => Rc::new(aws::SecretsManager::new(name, aws, Arc::clone(http))),
        #[cfg(feature = "azure")]
        Config::Azure(azure) => Rc::new(azure::KeyVault::new(name, azure, Arc::clone(http))),
        #[cfg(feature = "kubernetes")]
        Config::Kubernetes(kubernetes) => Rc::new(kubernetes::ClusterSecret::new(name, kubernetes, Arc::clone(http))),
        Config::File(file) => Rc::new(file::Folder::new(name, file)),
        #[allow(unreachable_patterns, reason = "only with every feature")]
        _ => return None,
    })
}

/// One thing that `check --live` has to say about a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// As it should be.
    Fine(String),
    /// Allowed, but unwise; with what to do.
    Unwise(String, String),
    /// The agent may do more than it needs; with what to take away.
    TooMuch(String, String),
    /// The agent may not do what it needs; with what to add.
    TooLittle(String, String),
    /// The store cannot be asked.
    Unknown(String),
}

/// Why a store did not take the identities.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's own reason.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The store's own reason.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The store's own reason.
    #[error(transparent)]
    Cloud(#[from] cloud::Error),
    /// What is there must not be followed by this.
    #[error("nothing was written: {0}")]
    Refused(Refusal),
    /// Another writer was faster; what is stored has to be looked at again.
    #[error("another writer was faster")]
    Conflict,
    /// Another writer seems to be between its two steps.
    #[error("version {version} is {seconds} s old and has no facts yet: another writer seems to be at work")]
    AnotherWriter { version: String, seconds: i64 },
    /// The dump does not fit.
    #[error("the identities ({bytes} bytes as stored) are {} bytes too large for this store, which takes {max}", bytes.saturating_sub(*max))]
    TooLarge { bytes: usize, max: usize },
    /// The dump could not be sealed.
    #[error(transparent)]
    Seal(#[from] seal::Error),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Vault(error) => error.fault(),
            Self::File(error) => error.fault(),
            Self::Cloud(error) => error.fault(),
            Self::Seal(error) => error.fault(),
            Self::Refused(_) | Self::TooLarge { .. } => Fault::Identity,
            Self::Conflict | Self::AnotherWriter { .. } => Fault::Transient,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Vault(error) => error.retry_after(),
            Self::Cloud(error) => error.retry_after(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Vault(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Cloud(error) => error.hint(),
            Self::Seal(error) => error.hint(),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::Conflict | Self::AnotherWriter { .. } => {
                Some("does another idkeep, or somebody by hand, write this secret?".into())
            }
            Self::TooLarge { .. } => Some(
                "nothing is ever split or cut: use a store with more room (`vault` and `kubernetes` take 1 MiB, `file` \
                 anything); sealing adds a little, and a third more where the store takes only text (`azure`, `vault`, \
                 `kubernetes`)"
                    .into(),
            ),
        }
    }
}

/// What became of one store in one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What was done.
    pub outcome: Outcome,
    /// The version that is now current, where there is one.
    pub version: Option<Version>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new version.
    Written,
    /// Nothing: the current version is the same identity.
    Unchanged,
    /// A new version in place of one that was deleted, damaged or not ours.
    Repaired,
    /// What a dry run found that would be written.
    WouldWrite,
}

impl Outcome {
    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "unchanged",
            Self::Repaired => "repaired",
            Self::WouldWrite => "would_write",
        }
    }
}

/// One store's part of a pass.
pub struct Keeping<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The node.
    pub place: Place<'a>,
    /// What is public about the dump.
    pub about: &'a About,
    /// The facts to write, but for the version.
    pub facts: Facts,
    /// What may follow what.
    pub rules: &'a Rules,
    /// Looks and judges, but writes nothing.
    pub dry_run: bool,
    /// When to give up.
    pub deadline: Deadline,
    /// Held while data and facts are written.
    pub writing: &'a RwLock<()>,
}

impl Keeping<'_> {
    /// Looks at what is stored, judges, and writes if that is due; again from the start whenever
    /// another writer was faster. `head` is the first look, taken while the dump was fetched.
    pub async fn run(&self, envelope: &Envelope<'_>, head: Result<Head, Error>) -> Result<Kept, Error> {
        let mut first = Some(head);
        retry(self.deadline, "store", async || {
            let head = match first.take() {
                Some(head) => head?,
                None => self.store.head(self.place, self.deadline).await?,
            };
            self.step(envelope, &head).await
        })
        .await
    }

    async fn step(&self, envelope: &Envelope<'_>, head: &Head) -> Result<Kept, Error> {
        let (store, node) = (self.store.name(), self.place.node);
        let current = head.version().cloned();
        let (outcome, warning) = match judge::judge(head, self.about, self.rules) {
            Verdict::Unchanged { is_stale } => {
                if (is_stale || self.says_more(head)) && !self.dry_run {
                    self.refresh(head).await;
                }
                return Ok(Kept { outcome: Outcome::Unchanged, version: current });
            }
            Verdict::Wait { seconds } => {
                let version = current.map(|version| version.0).unwrap_or_default();
                return Err(Error::AnotherWriter { version, seconds });
            }
            Verdict::Refuse(refusal) => return Err(Error::Refused(refusal)),
            Verdict::Write { outcome, warning } => (outcome, warning),
        };
        if let Some(warning) = warning {
            tracing::warn!(node, store, "{warning}");
        }
        let room = self.store.room();
        let bytes = room.bytes(envelope);
        if bytes > room.max_bytes {
            return Err(Error::TooLarge { bytes, max: room.max_bytes });
        }
        if room.is_nearly_full(bytes) {
            let max = room.max_bytes;
            tracing::warn!(node, store, bytes, max, "the identities nearly fill what this store takes of one secret");
        }
        if self.dry_run {
            return Ok(Kept { outcome: Outcome::WouldWrite, version: None });
        }
        // Whoever ends the pass early waits for this: data without facts would cost a version.
        let _writing = self.writing.read().await;
        let version = self.store.put(self.place, envelope, &self.facts, head, self.deadline).await?;
        tracing::info!(node, store, version = version.0, outcome = outcome.as_str(), "stored");
        Ok(Kept { outcome, version: Some(version) })
    }

    /// True where the configuration has learnt what the stored facts do not say.
    fn says_more(&self, head: &Head) -> bool {
        let differs = |new: &Option<String>, old: &Option<String>| new.is_some() && new != old;
        head.facts.as_ref().is_some_and(|stored| {
            differs(&self.facts.party_hint, &stored.party_hint) || differs(&self.facts.network, &stored.network)
        })
    }

    /// Says when the identity was last seen to be the stored one; a failure costs nothing but that.
    async fn refresh(&self, head: &Head) {
        let Some(stored) = &head.facts else { return };
        let facts = Facts {
            checked_at: self.facts.checked_at,
            party_hint: self.facts.party_hint.clone().or_else(|| stored.party_hint.clone()),
            network: self.facts.network.clone().or_else(|| stored.network.clone()),
            ..stored.clone()
        };
        if let Err(error) = self.store.refresh(self.place, &facts, head, self.deadline).await {
            let error = crate::error::chain(&error);
            tracing::warn!(
                node = self.place.node,
                store = self.store.name(),
                error,
                "the facts could not be refreshed"
            );
        }
    }
}
