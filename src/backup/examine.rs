//! Examination: reads every stored byte of a set again, and with a key also what is inside.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::Owner;
use super::archive::Contents;
use super::catalog::{Catalog, Entry, State};
use super::manifest::{Dump, Manifest};
use super::repository::{self, Doing, Repository};
use super::set::SetId;
use super::sign::{self, Purpose};
use super::verify::contents::{self, Error};
use super::verify::{self, Belongs, Beside, Check, Found, Grade, Neighbours, Previous, Record, SetReport, Signature};
use crate::config::{Encryption, Period, SecretRef, Signer};
use crate::retry::Deadline;
use crate::secret::Secrets;

/// Chunks that wait for the thread that opens them.
const AHEAD: usize = 4;

/// Seconds in a row that may have a record already.
const MAX_TAKEN: u32 = 60;

/// How a node's sets are examined.
pub struct Examination<'e> {
    /// Where they lie.
    pub repository: &'e Rc<Repository>,
    /// The node's name.
    pub node: &'e str,
    /// What the repository holds of it.
    pub catalog: &'e Catalog,
    /// The private key that looks inside, where there is one.
    pub key: Option<&'e Path>,
    /// Whether what is taken is sealed.
    pub encryption: Encryption,
    /// The participant's pruning `retention`.
    pub pruning_retention: Option<Period>,
    /// The key that signs what is found, where there is one.
    pub sign: Option<&'e SecretRef>,
    /// Where that key is read.
    pub secrets: &'e Secrets,
    /// How long reading it may take.
    pub patience: Duration,
    /// Whose records are believed; everybody's where none is named.
    pub signers: &'e [Signer],
}

impl Examination<'_> {
    /// Examines one set of the catalogue, and keeps a record of it beside the set.
    pub async fn set(&self, entry: &Entry) -> Result<SetReport, repository::Error> {
        let now = Timestamp::now();
        let checks = match (&entry.manifest, &entry.state) {
            (Some(manifest), _) => self.whole(entry, manifest, now).await?,
            (None, State::Whole) => vec![Check::fail("manifest", "it cannot be read", "restore from another set")],
            (None, State::Broken(why) | State::Unbelieved(why)) => {
                vec![Check::fail("manifest", why, "restore from another set")]
            }
        };
        let report = SetReport::of(self.node, entry.id, checks);
        self.record(entry, &report, now).await;
        Ok(report)
    }

    async fn whole(&self, entry: &Entry, manifest: &Manifest, now: Timestamp) -> Result<Vec<Check>, repository::Error> {
        let node = self.node;
        let signature = match (&entry.state, !self.signers.is_empty()) {
            (State::Unbelieved(why), _) => Signature::Refused(why.clone()),
            (_, true) => Signature::Trusted,
            (_, false) => Signature::Unjudged,
        };
        let named = manifest.previous.as_ref().map(|previous| previous.set);
        let previous = self.catalog.sets.iter().find(|other| Some(other.id) == named);
        let previous = previous.map_or(Previous::Gone, |other| Previous::There(other.sha256.clone()));
        let neighbours = neighbours(self.catalog, entry);
        let belongs = match Owner::read(self.repository, node).await? {
            Some(Ok(owner)) => Belongs::To(crate::log::printable(&owner.participant_id)),
            Some(Err(_)) => Belongs::Unreadable,
            None => Belongs::Nobody,
        };
        let beside = Beside {
            signature: &signature,
            previous: &previous,
            belongs: &belongs,
            neighbours,
            encryption: self.encryption,
            pruning_retention: self.pruning_retention,
        };
        let mut checks = verify::judge(manifest, &beside, now);
        if manifest.node != node || manifest.set != entry.id {
            let other = format!("its manifest is that of {}/{}", manifest.node, manifest.set);
            checks.push(Check::fail("place", other, "somebody moved it here: restore from another set"));
        }
        let folder = format!("{node}/{}", entry.id);
        for dump in &manifest.databases {
            tracing::info!(node, set = entry.id.to_string(), database = dump.name, bytes = dump.bytes, "reading");
            let found = read(self.repository, &folder, dump, self.key).await?;
            checks.extend(verify::object(dump, found.as_ref()));
        }
        Ok(checks)
    }

    /// Only a record makes a set count as verified; where none may be written, the report still stands.
    async fn record(&self, entry: &Entry, report: &SetReport, now: Timestamp) {
        let (node, set) = (report.node.as_str(), entry.id.to_string());
        match self.keep(entry, report, now).await {
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(node, set, error, "the record could not be written: the set does not count as verified");
            }
            Ok(()) if self.sign.is_none() && !self.signers.is_empty() => tracing::warn!(
                node,
                set,
                "the record is not signed: only a `verify` where `sign` is configured makes the set count as verified"
            ),
            Ok(()) => {}
        }
        let failed = report.with(Grade::Fail).count();
        tracing::info!(node, set, result = report.result.as_str(), failed, "set verified");
    }

    /// Writes a record under the first second that has none: one that is lost could be the one that tells of damage.
    async fn keep(&self, entry: &Entry, report: &SetReport, now: Timestamp) -> Result<(), super::Error> {
        let folder = format!("{}/{}", self.node, entry.id);
        let mut at = SetId::at(now);
        for _ in 0..MAX_TAKEN {
            let record = Record {
                schema: verify::SCHEMA.to_owned(),
                node: self.node.to_owned(),
                set: entry.id,
                verified_at: at.started_at(),
                manifest_sha256: entry.sha256.clone(),
                result: report.result,
                with_key: self.key.is_some(),
                checks: report.checks.clone(),
            };
            let bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
            if self.put(&format!("{folder}/{}", Record::file(at)), bytes).await? {
                return Ok(());
            }
            at = at.next();
        }
        let doing = Doing { repository: self.repository.name().to_owned(), verb: "writing", key: folder };
        Err(repository::Error::Exists { doing }.into())
    }

    /// The signature comes first: a record without one would not count. False where that second is taken.
    async fn put(&self, key: &str, record: Vec<u8>) -> Result<bool, super::Error> {
        if let Some(reference) = self.sign {
            let secret = self.secrets.resolve(reference, Deadline::after(self.patience)).await?;
            let signature = sign::sign(&secret, Purpose::Record, &record)?;
            drop(secret);
            if !self.repository.create(&format!("{key}.sig"), Bytes::from(signature)).await? {
                return Ok(false);
            }
        }
        Ok(self.repository.create(key, Bytes::from(record)).await?)
    }
}

/// The snapshots of the sets around this one, among those that count.
fn neighbours(catalog: &Catalog, entry: &Entry) -> Neighbours {
    let at = entry.snapshot_at();
    let others = || catalog.whole().filter(|other| other.id != entry.id).map(Entry::snapshot_at);
    Neighbours { older: others().filter(|other| *other <= at).max(), newer: others().filter(|other| *other > at).min() }
}

/// Reads an object of the set to its end; `None` where it is not there.
async fn read(
    repository: &Rc<Repository>,
    folder: &str,
    dump: &Dump,
    key: Option<&Path>,
) -> Result<Option<Found>, repository::Error> {
    let file = format!("{folder}/{}", dump.file);
    if repository.size(&file).await?.is_none() {
        return Ok(None);
    }
    let mut chunks = repository.stream(&file).await?;
    let mut opening = key.map(|key| Opening::start(key, dump));
    let mut digest = Sha256::new();
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        digest.update(&chunk);
        bytes += chunk.len() as u64;
        if let Some(opening) = &mut opening {
            opening.give(chunk).await;
        }
    }
    let contents = match opening {
        Some(opening) => Some(opening.finish().await),
        None => None,
    };
    Ok(Some(Found { bytes, sha256: base16ct::lower::encode_string(&digest.finalize()), contents }))
}

/// A thread that decrypts, decompresses and walks what it is given.
struct Opening {
    chunks: mpsc::Sender<Bytes>,
    end: oneshot::Receiver<Result<Contents, Error>>,
}

impl Opening {
    fn start(key: &Path, dump: &Dump) -> Self {
        let (chunks, receiving) = mpsc::channel(AHEAD);
        let (ending, end) = oneshot::channel();
        let key = (!dump.recipients.is_empty()).then(|| PathBuf::from(key));
        let work = move || {
            let reader = Chunks { receiving, chunk: Bytes::new() };
            let found = contents::walk(reader, key.as_deref());
            crate::secret::scrub_stack();
            let _ = ending.send(found);
        };
        // Without a thread the end is never sent, which reads as a failure.
        let _ = std::thread::Builder::new().name("open".into()).spawn(work);
        Self { chunks, end }
    }

    async fn give(&mut self, chunk: Bytes) {
        // The thread may have found a mistake and ended: the digest still wants every byte.
        let _ = self.chunks.send(chunk).await;
    }

    async fn finish(self) -> Result<Contents, Error> {
        drop(self.chunks);
        self.end.await.unwrap_or(Err(Error::Ended))
    }
}

/// What the network gives, as the thread reads it.
struct Chunks {
    receiving: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiving.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.chunk.len());
        buffer[..taken].copy_from_slice(&self.chunk.split_to(taken));
        Ok(taken)
    }
}
