//! How a run ends: in a set, chained to the one before it and signed, or in the evidence of a rejected one.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Run;
use crate::backup::manifest::{self, Manifest, Outcome, Previous};
use crate::backup::repository::{self, Lock, Pending};
use crate::backup::set::SetId;
use crate::backup::sign::{self, Purpose};
use crate::backup::{Error, catalog};
use crate::config::{SecretRef, Signer};
use crate::error::{Failure as _, Fault};
use crate::retry::Deadline;
use crate::secret::Secrets;

impl Run<'_> {
    /// The newest set that is believed: what is built on it must not be on what anybody may have put there.
    pub(super) async fn previous(&self) -> Result<Option<(Previous, Manifest)>, Error> {
        let node = self.name.as_str();
        let folders = self.repository.folders(node).await?;
        for set in folders.iter().rev().filter_map(|name| name.parse::<SetId>().ok()) {
            let key = format!("{node}/{set}/manifest.json");
            let Some(bytes) = catalog::small(&self.repository, &key).await? else { continue };
            let why = match Manifest::parse(&bytes) {
                Ok(manifest) if manifest.node != node || manifest.set != set => "it is that of another set".to_owned(),
                Ok(manifest) => {
                    let signature = match self.signers {
                        [] => None,
                        _ => catalog::small(&self.repository, &format!("{key}.sig")).await?,
                    };
                    match catalog::unbelieved(self.signers, Purpose::Manifest, signature.as_ref(), &bytes) {
                        None => return Ok(Some((Previous { set, sha256: hex(&bytes) }, manifest))),
                        Some(why) => why,
                    }
                }
                Err(error) => error.to_string(),
            };
            tracing::warn!(node, set = set.to_string(), why, "this set's manifest is passed over");
        }
        Ok(None)
    }

    /// A key that cannot sign, or whose sets nobody would believe, is found before hours of dumping.
    pub(super) async fn can_sign(&self) -> Result<(), Error> {
        let deadline = Deadline::after(self.node.identity.deadline.0);
        can_sign(&self.secrets, self.sign, self.signers, deadline).await
    }

    /// A set that breaks an invariant is kept as evidence, under a name that nobody takes for a backup.
    pub(super) async fn reject(&self, manifest: &Manifest, pending: Pending) -> Error {
        let (set, invariants) = (manifest.set, manifest.invariants.clone());
        let key = format!("{}/{set}/rejected.json", self.name);
        match self.repository.create(&key, Bytes::from(manifest.to_bytes())).await {
            Ok(_) => {
                pending.end().await;
                Error::Rejected { set, invariants }
            }
            Err(source) => Error::Unkept { set, invariants, source: source.into() },
        }
    }

    /// The manifest is written last, and only by who still holds the lock over objects that are all there.
    pub(super) async fn publish(&self, manifest: Manifest, pending: Pending, lock: &Lock) -> Result<Manifest, Error> {
        if manifest.invariants.values().any(|invariant| invariant.result == Outcome::Fail) {
            return Err(self.reject(&manifest, pending).await);
        }
        manifest.check_order()?;
        let folder = format!("{}/{}", self.name, manifest.set);
        for dump in &manifest.databases {
            let file = format!("{folder}/{}", dump.file);
            match self.repository.size(&file).await? {
                Some(bytes) if bytes == dump.bytes => {}
                Some(bytes) => return Err(Error::Vanished { file, found: format!("{bytes} bytes") }),
                None => return Err(Error::Vanished { file, found: "not there".into() }),
            }
        }
        self.own(&manifest).await?;
        let bytes = manifest.to_bytes();
        // What servers say of themselves is in it: a set that nobody could read again would be none.
        Manifest::parse(&bytes).map_err(Error::Unreadable)?;
        if let Some(reference) = self.sign {
            let deadline = Deadline::after(self.node.identity.deadline.0);
            // The key is gone before anything else is waited for.
            let signature = sign::sign(&self.secrets.resolve(reference, deadline).await?, Purpose::Manifest, &bytes)?;
            let file = format!("{folder}/manifest.json.sig");
            if !self.repository.create(&file, Bytes::from(signature)).await? {
                return Err(Error::Planted { file });
            }
        }
        if !lock.is_ours().await? {
            return Err(Error::LockLost);
        }
        self.put(manifest.set, Bytes::from(bytes)).await?;
        pending.end().await;
        self.announce(&manifest);
        Ok(manifest)
    }

    /// Writes the manifest. A request that got no answer may still be carried out: then what the manifest names stays.
    async fn put(&self, set: SetId, bytes: Bytes) -> Result<(), Error> {
        let key = format!("{}/{set}/manifest.json", self.name);
        self.is_uncertain.set(true);
        let created = match self.repository.create(&key, bytes.clone()).await {
            Err(error) if error.fault() == Fault::Transient => self.look_for(&key, &bytes, error, set).await?,
            created => created.inspect_err(|_| self.is_uncertain.set(false))?,
        };
        self.is_uncertain.set(false);
        if created { Ok(()) } else { Err(Error::Taken(set)) }
    }

    /// Whether a manifest of which nobody knows is there, and ours.
    async fn look_for(&self, key: &str, bytes: &Bytes, error: repository::Error, set: SetId) -> Result<bool, Error> {
        let is_folder = self.repository.url().folder().is_some();
        match self.repository.read(key, manifest::MAX_BYTES).await {
            // On this machine nothing is under way any more.
            Ok(None) if is_folder => {
                self.is_uncertain.set(false);
                Err(error.into())
            }
            Ok(Some(found)) if !is_folder => Ok(found == bytes),
            _ => Err(Error::Uncertain { set, source: error }),
        }
    }

    fn announce(&self, manifest: &Manifest) {
        let (node, set) = (self.name.as_str(), manifest.set.to_string());
        for (name, invariant) in &manifest.invariants {
            if invariant.result == Outcome::Unknown {
                tracing::warn!(node, set, invariant = name, reason = invariant.reason, "published, but not proven");
            }
        }
        for remark in &manifest.remarks {
            tracing::warn!(node, set, remark, "published with a remark");
        }
        tracing::info!(node, set, "set published");
    }
}

/// A key that cannot sign, or whose signature nobody would believe, is found before hours of dumping or reading.
pub async fn can_sign(
    secrets: &Secrets,
    sign: Option<&SecretRef>,
    signers: &[Signer],
    deadline: Deadline,
) -> Result<(), Error> {
    let Some(reference) = sign else { return Ok(()) };
    let public = sign::public_half(&secrets.resolve(reference, deadline).await?)?;
    let is_believed = signers.is_empty() || signers.iter().any(|signer| signer.key() == public.key());
    if is_believed { Ok(()) } else { Err(Error::NotASigner) }
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}
