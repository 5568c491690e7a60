//! A Secret of a Kubernetes cluster: server-side apply with field ownership, and never a look at the data.
//!
//! It holds one version, so what others wrote is never replaced; data and digest are written in one piece, which
//! fails once anything has changed since the look.

mod client;
mod cluster;
mod kubeconfig;
mod metadata;
mod patch;
mod rights;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;

use super::cloud::{Error, Reason, System};
use super::room::{Form, Room};
use super::{Error as StoreError, Facts, Head, Local, Note, Place, Store, Version};
use crate::config::KubernetesStore;
use crate::error::chain;
use crate::http::Http;
use crate::retry::{Deadline, retry};
use crate::seal::Envelope;
use client::{Client, Refusal};
use cluster::Cluster;
use patch::Target;

/// What all values of a Secret may have together, counted as they are and not as their base64. There is one value,
/// and the API server counts neither its name nor the annotations in, so none of it is set aside.
const MAX_BYTES: usize = 1024 * 1024;

/// How long what describes the cluster counts before it is read again: a kubeconfig names further files.
const READ_AGAIN: Duration = Duration::from_mins(1);

/// A Secret for each node, in one namespace of one cluster.
pub struct ClusterSecret {
    name: String,
    config: KubernetesStore,
    http: Arc<Http>,
    client: RefCell<Option<(Instant, Rc<Client>)>>,
}

impl ClusterSecret {
    /// The store of this configuration; nothing is asked yet.
    #[must_use]
    pub fn new(name: &str, config: &KubernetesStore, http: Arc<Http>) -> Self {
        Self { name: name.to_owned(), config: config.clone(), http, client: RefCell::default() }
    }

    fn client(&self) -> Result<Rc<Client>, Reason> {
        let known = self.client.borrow().clone();
        if let Some((_, client)) = known.filter(|(built_at, _)| built_at.elapsed() < READ_AGAIN) {
            return Ok(client);
        }
        let client = Rc::new(Client::new(Cluster::load(&self.config, &self.http)?));
        self.client.replace(Some((Instant::now(), Rc::clone(&client))));
        Ok(client)
    }

    fn secret(&self, place: Place<'_>) -> String {
        self.config.secret.fill(place.node, place.network)
    }

    fn target<'a>(&'a self, name: &'a str) -> Target<'a> {
        Target { namespace: &self.config.namespace, name }
    }

    fn failed(&self, doing: &'static str, place: Place<'_>, reason: Reason) -> StoreError {
        let secret = format!("{}/{}", self.config.namespace, self.secret(place));
        Error { system: System::Kubernetes, doing, secret, reason }.into()
    }

    async fn look(&self, place: Place<'_>, deadline: Deadline) -> Result<Head, Reason> {
        let name = self.secret(place);
        let target = self.target(&name);
        let answer = self.client()?.send(target.get()?, deadline).await?;
        match answer.status {
            200 => metadata::head(answer.metadata()?.metadata, answer.now),
            404 => Ok(metadata::absent(answer.now)),
            _ => Err(match answer.refusal("`get` on this Secret") {
                Refusal::Because(reason) => reason,
                Refusal::Conflict | Refusal::TooLarge => Reason::Garbled,
            }),
        }
    }

    /// Sends an apply, and says how the Secret looks after it.
    async fn apply(
        &self,
        request: Result<Request<Bytes>, Reason>,
        verb: &'static str,
        deadline: Deadline,
    ) -> Result<Head, Refusal> {
        let answer = async { self.client()?.send(request?, deadline).await }.await.map_err(Refusal::Because)?;
        let metadata = answer.written(verb)?.metadata;
        metadata::head(metadata, answer.now).map_err(Refusal::Because)
    }

    /// The data with its digest, and what is refreshed without them in a second step: an apply of the first's owner
    /// without the data would take it away.
    async fn write(
        &self,
        place: Place<'_>,
        envelope: &Envelope<'_>,
        facts: &Facts,
        head: &Head,
        deadline: Deadline,
    ) -> Result<Version, StoreError> {
        let name = self.secret(place);
        let target = self.target(&name);
        let refused = |doing: &'static str, refusal: Refusal| {
            let bytes = self.room().bytes(envelope);
            refusal.into_error(bytes, MAX_BYTES, |reason| self.failed(doing, place, reason))
        };
        let claimed;
        let mut head = head;
        if !metadata::is_there(head) {
            // An apply cannot say "only if it is new". An empty one can be repeated, and gives what the next must name.
            let verb = "`create` and `patch` on this Secret";
            let result = self.apply(target.claim(), verb, deadline).await;
            claimed = result.map_err(|refusal| refused("creating", refusal))?;
            if claimed.current.is_some() {
                return Err(StoreError::Conflict);
            }
            head = &claimed;
        }
        let version = metadata::next_version(head).to_string();
        let facts = facts.of_version(&version);
        let request = target.version(metadata::seen(head), &metadata::owned(head, &facts), envelope)?;
        let verb = "`patch` on this Secret";
        let written = self.apply(request, verb, deadline).await.map_err(|refusal| refused("writing", refusal))?;
        let noted = retry(deadline, "notes", async || self.note(place, &facts, &written, deadline).await).await;
        if let Err(error) = noted {
            let (node, store, error) = (place.node, self.name.as_str(), chain(&error));
            tracing::warn!(node, store, error, "the facts are not complete; the next pass completes them");
        }
        Ok(Version(version))
    }

    /// When it was looked at, and what the configuration says of the node; unless the Secret has changed.
    async fn note(&self, place: Place<'_>, facts: &Facts, head: &Head, deadline: Deadline) -> Result<(), StoreError> {
        let name = self.secret(place);
        let target = self.target(&name);
        let request = target.notes(metadata::seen(head), &metadata::noted(facts));
        match self.apply(request, "`patch` on this Secret", deadline).await {
            Ok(_) | Err(Refusal::Conflict) => Ok(()),
            Err(refusal) => {
                Err(refusal.into_error(0, MAX_BYTES, |reason| self.failed("writing the facts of", place, reason)))
            }
        }
    }

    async fn probe_rights(&self, place: Place<'_>, deadline: Deadline) -> Result<Vec<Note>, Reason> {
        let is_there = match self.look(place, deadline).await {
            Ok(head) => metadata::is_there(&head),
            // Which right lacks is asked below.
            Err(Reason::Denied(_)) => false,
            Err(reason) => return Err(reason),
        };
        let name = self.secret(place);
        let target = self.target(&name);
        rights::look(&*self.client()?, target, is_there, deadline).await
    }
}

impl Store for ClusterSecret {
    fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> Room {
        Room { max_bytes: MAX_BYTES, form: Form::Text }
    }

    fn head<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(
            async move { self.look(place, deadline).await.map_err(|reason| self.failed("looking at", place, reason)) },
        )
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
        Box::pin(self.note(place, facts, head, deadline))
    }

    fn probe<'a>(&'a self, place: Place<'a>, deadline: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(async move {
            self.probe_rights(place, deadline).await.map_err(|reason| self.failed("looking at", place, reason))
        })
    }

    fn close(&self) -> Local<'_, ()> {
        Box::pin(async {})
    }

    fn rest(&self) {
        self.client.take();
    }
}
