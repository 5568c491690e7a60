//! The identity path: token → identities → stores, for each node, once.
//!
//! Nodes run side by side up to a bound, stores of a node all at once; no failure stops another.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{RwLock, Semaphore, SetOnce};
use tokio::task::{JoinSet, LocalSet};
use tracing::Instrument as _;

use crate::config::{Auth, Config, Name, Node};
use crate::error::{Failed, Fault};
use crate::http::Http;
use crate::identity::{Identities, KeyKind, KeyProof, ParticipantId};
use crate::oauth::TokenSource;
use crate::receipt::{Facts as PublicFacts, NodeReceipt, Report, StoreReceipt, gravest};
use crate::retry::Deadline;
use crate::seal::{Envelope, Sealed, seal};
use crate::secret::{self, Secrets};
use crate::store::judge::{Accept, Rules};
use crate::store::{self, Facts, Keeping, Place, Store};
use crate::validator::Validator;

/// How long a version that is being written may take when the process is told to end.
pub(crate) const TO_FINISH: Duration = Duration::from_secs(10);

/// Nodes that are looked after at the same time.
const NODES_AT_ONCE: usize = 32;

/// How a pass is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Waits this long for each node to be ready.
    pub wait: Option<Duration>,
    /// Fetches and judges, writes nothing.
    pub dry_run: bool,
    /// Whether another participant may follow the stored one.
    pub accept: Accept,
}

/// One node with everything that its pass needs.
pub struct Subject {
    /// Its name.
    pub name: Name,
    /// Its configuration.
    pub config: Node,
    /// Where its identities come from.
    pub source: Validator,
    /// Where they go.
    pub stores: Vec<Rc<dyn Store>>,
}

/// Everything that one pass over some nodes needs; holds tokens, so it is dropped after the pass.
pub struct Pass {
    http: Arc<Http>,
    secrets: Rc<Secrets>,
    subjects: Vec<Subject>,
    stores: Vec<Rc<dyn Store>>,
}

impl Pass {
    /// The pass over these nodes of the configuration. Nodes that share an issuer or a store share its token.
    #[must_use]
    pub fn new(config: &Config, nodes: &[Name]) -> Self {
        Self::with(Arc::new(Http::default()), config, nodes)
    }

    /// All nodes with what lasts from pass to pass: tokens and logins. No connection does.
    #[must_use]
    pub fn lasting(config: &Config) -> Self {
        Self::with(Arc::new(Http::forgetful()), config, &[])
    }

    fn with(http: Arc<Http>, config: &Config, nodes: &[Name]) -> Self {
        let secrets = Rc::new(Secrets::new(config, &http));
        let open = |(name, store)| Some((name, store::open(name, store, &secrets, &http)?));
        let stores: BTreeMap<&Name, Rc<dyn Store>> = config.stores.iter().filter_map(open).collect();
        let mut sources: BTreeMap<&Auth, Rc<TokenSource>> = BTreeMap::new();
        let chosen = config.nodes.iter().filter(|(name, _)| nodes.is_empty() || nodes.contains(name));
        let subjects = chosen
            .map(|(name, node)| {
                let tokens = sources
                    .entry(&node.identity.auth)
                    .or_insert_with(|| Rc::new(TokenSource::new(node.identity.auth.clone(), Rc::clone(&secrets))));
                Subject {
                    name: name.clone(),
                    config: node.clone(),
                    source: Validator::new(node.identity.clone(), Rc::clone(tokens)),
                    stores: node.identity.stores.iter().filter_map(|store| stores.get(store).cloned()).collect(),
                }
            })
            .collect();
        Self { http, subjects, stores: stores.into_values().collect(), secrets }
    }

    /// A pass over subjects that are already there.
    #[must_use]
    pub fn over(http: Arc<Http>, subjects: Vec<Subject>) -> Self {
        let stores = subjects.iter().flat_map(|subject| subject.stores.iter().cloned()).collect();
        Self { http, secrets: Rc::default(), subjects, stores }
    }

    /// Runs it. A panic in one node's pass is that node's failure.
    pub async fn run(self, options: Options) -> Report {
        let slots = Rc::new(Semaphore::new(NODES_AT_ONCE));
        let writing = Rc::new(RwLock::new(()));
        let local = LocalSet::new();
        let mut running = JoinSet::new();
        let mut names = BTreeMap::new();
        for subject in self.subjects {
            let (http, slots, writing) = (Arc::clone(&self.http), Rc::clone(&slots), Rc::clone(&writing));
            let options = options.clone();
            let name = subject.name.clone();
            // Every line of the log says whose pass it belongs to.
            let span = tracing::error_span!("pass", node = name.as_str());
            let task = running.spawn_local_on(
                async move {
                    let _slot = slots.acquire().await;
                    node_pass(&http, &subject, &options, &writing).await
                }
                .instrument(span),
                &local,
            );
            names.insert(task.id(), name);
        }
        let mut nodes = local
            .run_until(async {
                let mut nodes = Vec::with_capacity(names.len());
                let mut ended = pin!(told_to_end());
                let mut is_ending = false;
                loop {
                    let joined = tokio::select! {
                        joined = running.join_next_with_id() => joined,
                        () = &mut ended, if !is_ending => {
                            is_ending = true;
                            tracing::warn!("told to end: giving up what is under way");
                            // A version under way gets its facts, no other is begun.
                            let _ = tokio::time::timeout(TO_FINISH, writing.write()).await;
                            running.abort_all();
                            continue;
                        }
                    };
                    let Some(joined) = joined else { break };
                    nodes.push(match joined {
                        Ok((_, receipt)) => receipt,
                        Err(error) => {
                            let node = names.get(&error.id()).map_or("", Name::as_str);
                            let failed = if error.is_cancelled() { interrupted() } else { Failed::bug() };
                            NodeReceipt::failed(node, failed, 0)
                        }
                    });
                }
                close(&self.stores, &self.secrets).await;
                nodes
            })
            .await;
        secret::scrub_stack();
        nodes.sort_by(|left, right| left.node.cmp(&right.node));
        Report { nodes }
    }

    /// Where its secrets are read, with the logins that all of it shares.
    #[must_use]
    pub fn secrets(&self) -> &Rc<Secrets> {
        &self.secrets
    }

    /// What asks for everything.
    #[must_use]
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The nodes of this pass with what `check --live` needs of them.
    pub fn subjects(&self) -> impl Iterator<Item = (&Subject, &Http)> {
        self.subjects.iter().map(|subject| (subject, &*self.http))
    }

    /// Lets go of what the next pass makes anew. Nothing may be under way.
    pub fn rest(&self) {
        self.http.rest();
        for store in &self.stores {
            store.rest();
        }
        self.secrets.rest();
    }

    /// Gives back the tokens of stores and of whatever else was logged in to.
    pub async fn close(&self) {
        close(&self.stores, &self.secrets).await;
    }
}

async fn close(stores: &[Rc<dyn Store>], secrets: &Secrets) {
    // All at once: one that hangs keeps no other's token.
    tokio::join!(join_all(stores.iter().map(|store| store.close())), secrets.close());
}

/// Returns when the process is told to end: by its supervisor or at the terminal.
/// It listens from the call on, not only once it is waited for.
pub(crate) fn told_to_end() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

fn interrupted() -> Failed {
    Failed::new(Fault::Transient, "told to end before the pass was over", "run it again")
}

/// One node's part of a pass.
pub(crate) async fn node_pass(http: &Http, subject: &Subject, options: &Options, writing: &RwLock<()>) -> NodeReceipt {
    let started = Instant::now();
    let elapsed = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let node = subject.name.as_str();
    if let Some(span) = options.wait
        && let Err(error) = subject.source.wait(http, span).await
    {
        return NodeReceipt::failed(node, Failed::from(&error), elapsed());
    }
    let deadline = Deadline::after(subject.config.identity.deadline.0);
    let prepared = SetOnce::new();
    let fetching = async {
        let _ = prepared.set(subject.prepare(http, deadline).await?);
        Ok(())
    };
    // Logging in and looking at the stores takes as long as token and dump: all at once, and no store
    // waits for another. Without a dump the stores are left alone.
    let keeping = async {
        Ok(join_all(subject.stores.iter().map(|store| subject.keep(&**store, &prepared, options, deadline, writing)))
            .await)
    };
    let mut receipt = match tokio::try_join!(fetching, keeping) {
        Ok(((), stores)) => subject.settle(stores),
        Err(failed) => NodeReceipt::failed(node, failed, 0),
    };
    receipt.about = prepared.get().map(|prepared| PublicFacts::of(prepared.identities.about())).unwrap_or_default();
    receipt.elapsed_ms = elapsed();
    receipt
}

/// Identities on their way to the stores; dropped, and so wiped, with the pass.
struct Prepared {
    identities: Identities,
    sealed: Option<Sealed>,
    facts: Facts,
}

impl Prepared {
    fn envelope(&self) -> Envelope<'_> {
        self.sealed.clone().map_or(Envelope::Plain(&self.identities), Envelope::Sealed)
    }
}

impl Subject {
    /// Where its identities lie in a store.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place { node: self.name.as_str(), network: self.config.network.as_deref().unwrap_or_default() }
    }

    /// Fetches, judges, and seals where the node has recipients.
    async fn prepare(&self, http: &Http, deadline: Deadline) -> Result<Prepared, Failed> {
        let node = self.name.as_str();
        let config = &self.config.identity;
        let identities = self.source.fetch(http, deadline).await.map_err(|error| Failed::from(&error))?;
        let about = identities.about();
        let (participant_id, digest) = (about.participant_id.as_str(), about.digest.as_str());
        if let Some(expected) = &config.participant
            && expected.as_str() != participant_id
        {
            let message = format!(
                "nothing was written: the node answers as {participant_id}, the configuration names {expected}"
            );
            return Err(Failed::new(
                Fault::Identity,
                message,
                "find out which node answers at `endpoint`; after a reset of the network change `participant`",
            ));
        }
        tracing::info!(node, participant_id, digest, key_proof = about.key_proof.as_str(), "identities judged");
        if about.key_proof == KeyProof::Kms && about.key_kind == KeyKind::Mixed {
            tracing::warn!(
                node,
                "the namespace's key is only named, as a KMS key beside software keys: nothing proves it"
            );
        }
        for name in &about.unproven {
            tracing::warn!(node, "the key {name} is of a spec or format that is not known here: it is stored unproven");
        }
        let sealed = match config.recipients.as_slice() {
            [] => None,
            recipients => Some(seal(&identities, recipients).map_err(|error| Failed::from(&error))?),
        };
        let facts =
            Facts::new(about, self.config.network.as_deref(), self.config.party_hint.as_deref(), Timestamp::now());
        Ok(Prepared { identities, sealed, facts })
    }

    /// One store's part, from the look at what it holds to its receipt.
    async fn keep(
        &self,
        store: &dyn Store,
        prepared: &SetOnce<Prepared>,
        options: &Options,
        deadline: Deadline,
        writing: &RwLock<()>,
    ) -> StoreReceipt {
        let head = store.head(self.place(), deadline).await;
        tracing::debug!(node = self.name.as_str(), store = store.name(), "store looked at");
        let prepared = prepared.wait().await;
        let rules = self.rules(store, options.accept.clone());
        let keeping = Keeping {
            store,
            place: self.place(),
            about: prepared.identities.about(),
            facts: Facts { sealed_to: rules.sealed_to.clone(), ..prepared.facts.clone() },
            rules: &rules,
            dry_run: options.dry_run,
            deadline,
            writing,
        };
        let envelope = prepared.envelope();
        let fill_ratio = store.room().fill_ratio(&envelope);
        StoreReceipt { fill_ratio, ..StoreReceipt::of(store.name(), keeping.run(&envelope, head).await) }
    }

    /// What may follow what in this store. A version is sealed to the node's recipients, else to the store's own.
    #[must_use]
    pub fn rules(&self, store: &dyn Store, accept: Accept) -> Rules {
        let identity = &self.config.identity;
        let own = &identity.recipients;
        let sealed_to = Facts::recipients(if own.is_empty() { store.recipients() } else { own });
        Rules { accept, max_changes_per_day: identity.max_changes_per_day, sealed_to }
    }

    /// Were there enough stores? If not, the gravest of their failures is the node's.
    fn settle(&self, stores: Vec<StoreReceipt>) -> NodeReceipt {
        let node = self.name.as_str();
        let succeeded = stores.iter().filter(|store| store.failed.is_none()).count();
        let require = self.config.identity.require;
        let mut failed = None;
        if !require.is_met(succeeded, stores.len()) {
            failed = gravest(stores.iter().filter_map(|store| store.failed.as_ref())).cloned();
        }
        for store in stores.iter().filter(|_| failed.is_none()) {
            if let Some(error) = &store.error {
                tracing::warn!(node, store = store.store, error, "this store failed, the others are enough");
            }
        }
        let error = failed
            .as_ref()
            .map(|_| format!("{succeeded} of {} stores took the identities, which is not enough", stores.len()));
        NodeReceipt { node: node.to_owned(), about: PublicFacts::default(), stores, error, elapsed_ms: 0, failed }
    }
}

/// What `--accept-new-identity[=ID]` means.
pub fn accept(written: Option<Option<&str>>) -> Result<Accept, Failed> {
    match written {
        None => Ok(Accept::Stored),
        Some(None) => Ok(Accept::Any),
        Some(Some(id)) => ParticipantId::parse(id).map(Accept::Only).ok_or_else(|| {
            Failed::new(
                Fault::Usage,
                "--accept-new-identity takes a participant's id",
                "it reads `PAR::<identifier>::1220<64 hex digits>`",
            )
        }),
    }
}
