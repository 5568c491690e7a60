//! `list`: the identities in the stores, the sets in the repositories.

mod drift;

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::task::LocalSet;

use super::sync::chosen;
use super::{Done, json, protect, runtime};
use crate::backup;
use crate::backup::catalog::{Catalog, Entry, State};
use crate::backup::manifest::{Invariant, micros};
use crate::backup::set::SetId;
use crate::cli::{Cli, List, Output};
use crate::config::{self, Config, Name};
use crate::error::Failed;
use crate::log;
use crate::output;
use crate::receipt::gravest;
use crate::retry::Deadline;
use crate::store::Head;
use crate::store::facts::rfc3339;
use crate::sync::{Pass, Subject};

/// What is stored of all nodes.
#[derive(Serialize)]
struct Listed {
    nodes: Vec<ListedNode>,
}

/// What is stored of one node.
#[derive(Default, Serialize)]
struct ListedNode {
    node: String,
    identities: Vec<ListedIdentity>,
    sets: Vec<ListedSet>,
    /// Runs that were rejected: no backups, so not listed.
    rejected: usize,
    /// Runs that are being written, or were left by one that died.
    under_way: usize,
    #[serde(skip)]
    failures: Vec<(String, Failed)>,
}

/// The current version of the identities in one store.
#[derive(Default, Serialize)]
struct ListedIdentity {
    store: String,
    /// Beside the node's other stores: `current`, `behind`, `unknown`, `empty`.
    state: Option<drift::State>,
    version: Option<String>,
    /// The version that the facts below describe; another than `version` where a write is under way or was broken off.
    describes: Option<String>,
    versions: usize,
    participant_id: Option<String>,
    digest: Option<String>,
    captured_at: Option<String>,
    checked_at: Option<String>,
    error: Option<String>,
}

/// One set.
#[derive(Serialize)]
struct ListedSet {
    set: SetId,
    #[serde(flatten)]
    state: State,
    participant_id: Option<String>,
    splice_version: Option<String>,
    databases: Vec<String>,
    bytes: u64,
    snapshot_at: String,
    verified_at: Option<String>,
    invariants: BTreeMap<String, Invariant>,
}

/// Lists them.
#[must_use]
pub fn run(cli: &Cli, arguments: &List) -> Done {
    match listed(cli, arguments) {
        Ok(listed) => done(&listed, cli.output),
        Err(failed) => Done::failed(failed),
    }
}

fn listed(cli: &Cli, arguments: &List) -> Result<Listed, Failed> {
    let config = config::load(&cli.config).map_err(|error| Failed::from(&error))?;
    let named: Vec<String> = arguments.node.iter().cloned().collect();
    let nodes = chosen(&config, &named)?;
    protect(&config, &[], false)?;
    Ok(runtime()?.block_on(LocalSet::new().run_until(look(&config, &nodes))))
}

async fn look(config: &Config, nodes: &[Name]) -> Listed {
    let pass = Pass::new(config, nodes);
    let mut listed = Listed { nodes: Vec::new() };
    for (subject, _) in pass.subjects() {
        let mut node = ListedNode { node: subject.name.to_string(), ..ListedNode::default() };
        node.look_at_stores(subject).await;
        match backup::repository_of(config, subject) {
            None => {}
            Some(Err(error)) => node.failures.push((node.node.clone(), Failed::from(&error))),
            Some(Ok(repository)) => {
                match Catalog::read(&repository, &node.node, backup::signers(config, subject)).await {
                    Ok(catalog) => node.add(&catalog),
                    Err(error) => node.failures.push((node.node.clone(), Failed::from(&error))),
                }
            }
        }
        listed.nodes.push(node);
    }
    pass.close().await;
    listed
}

impl ListedNode {
    /// What each store's metadata says; the data stays unread.
    async fn look_at_stores(&mut self, subject: &Subject) {
        let deadline = Deadline::after(subject.config.identity.deadline.0);
        let mut heads = Vec::with_capacity(subject.stores.len());
        for store in &subject.stores {
            let mut identity = ListedIdentity { store: store.name().to_owned(), ..ListedIdentity::default() };
            heads.push(match store.head(subject.place(), deadline).await {
                Ok(head) => {
                    identity.tell(&head);
                    Some(head)
                }
                Err(error) => {
                    let failed = Failed::from(&error);
                    identity.error = Some(failed.message.clone());
                    self.failures.push((format!("{}: {}", self.node, store.name()), failed));
                    None
                }
            });
            self.identities.push(identity);
        }
        for (identity, state) in self.identities.iter_mut().zip(drift::states(&heads)) {
            identity.state = state;
        }
        self.warn_of_drift();
    }

    fn warn_of_drift(&self) {
        let node = self.node.as_str();
        for identity in &self.identities {
            if let Some(state @ (drift::State::Behind | drift::State::Unknown)) = identity.state {
                let (store, state) = (identity.store.as_str(), state.as_str());
                tracing::warn!(node, store, state, "this store does not hold what another does: run `idkeep sync`");
            }
        }
    }

    fn add(&mut self, catalog: &Catalog) {
        self.sets = catalog.sets.iter().map(ListedSet::of).collect();
        self.rejected = catalog.rejected.len();
        self.under_way = catalog.pending.len();
        if self.rejected + self.under_way > 0 {
            let (node, rejected, under_way) = (self.node.as_str(), self.rejected, self.under_way);
            tracing::info!(node, rejected, under_way, "runs that are no backups are not listed");
        }
    }
}

impl ListedIdentity {
    fn tell(&mut self, head: &Head) {
        self.version = head.version().map(|version| version.0.clone());
        self.versions = head.created_at.len();
        self.participant_id = head.participant().map(str::to_owned);
        if let Some(facts) = head.facts.as_ref() {
            self.describes = Some(facts.stored_version.clone());
            self.digest = Some(facts.digest.clone());
            self.captured_at = facts.captured_at.map(rfc3339);
            self.checked_at = facts.checked_at.map(rfc3339);
        }
    }
}

impl ListedSet {
    fn of(entry: &Entry) -> Self {
        let manifest = entry.manifest.as_ref();
        let dumps = || manifest.iter().flat_map(|manifest| &manifest.databases);
        Self {
            set: entry.id,
            state: entry.state.clone(),
            participant_id: manifest.and_then(|manifest| manifest.participant_id.clone()),
            splice_version: manifest.and_then(|manifest| manifest.splice_version.clone()),
            databases: dumps().map(|dump| dump.name.clone()).collect(),
            // Anybody may have written these numbers.
            bytes: dumps().map(|dump| dump.bytes).fold(0, u64::saturating_add),
            snapshot_at: micros::text(entry.snapshot_at()),
            verified_at: entry.verified_at.map(rfc3339),
            invariants: manifest.map(|manifest| manifest.invariants.clone()).unwrap_or_default(),
        }
    }
}

fn done(listed: &Listed, format: Output) -> Done {
    let failures: Vec<_> = listed.nodes.iter().flat_map(|node| node.failures.iter().cloned()).collect();
    let exit_code = gravest(failures.iter().map(|(_, failed)| failed)).map_or(0, |failed| failed.fault.exit_code());
    let stdout = match format {
        Output::Json => json(listed),
        Output::Text => text(listed),
    };
    Done { stdout, failures, exit_code }
}

fn text(listed: &Listed) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut identities =
        vec![["NODE", "STORE", "STATE", "VERSION", "CAPTURED", "CHECKED", "DIGEST", "PARTICIPANT"].map(str::to_owned)];
    let mut sets = vec![["NODE", "SET", "STATE", "STORED", "VERIFIED", "INVARIANTS", "PARTICIPANT"].map(str::to_owned)];
    for node in &listed.nodes {
        for identity in &node.identities {
            identities.push([
                node.node.clone(),
                identity.store.clone(),
                identity.state.map_or("-", drift::State::as_str).to_owned(),
                or_dash(&identity.version),
                or_dash(&identity.captured_at),
                or_dash(&identity.checked_at),
                or_dash(&identity.digest),
                or_dash(&identity.participant_id),
            ]);
        }
        for set in &node.sets {
            sets.push([
                node.node.clone(),
                set.set.to_string(),
                match &set.state {
                    State::Whole => "whole".to_owned(),
                    State::Broken(reason) => format!("broken: {reason}"),
                    State::Unbelieved(reason) => format!("unbelieved: {reason}"),
                },
                output::size(set.bytes),
                or_dash(&set.verified_at),
                output::invariants(&set.invariants),
                or_dash(&set.participant_id),
            ]);
        }
    }
    let shown: String = [output::show(&identities), output::show(&sets)].join("\n");
    log::printable_lines(shown.trim_start_matches('\n'))
}
