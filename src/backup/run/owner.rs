//! Whose sets a node's folder holds: two clusters that share a node's name must not mix them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Run;
use crate::backup::Error;
use crate::backup::facts::ParticipantFacts;
use crate::backup::manifest::{self, Manifest};

/// `<node>/node.json`: whose sets a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `PAR::…`.
    pub participant_id: String,
    /// The network, where it was configured.
    pub network: Option<String>,
}

impl Run<'_> {
    pub(super) async fn read_owner(&self) -> Result<Option<Owner>, Error> {
        let key = self.owner_key();
        let Some(bytes) = self.repository.read(&key, manifest::MAX_BYTES).await? else { return Ok(None) };
        let owner = serde_json::from_slice(&bytes)
            .map_err(|_| Error::Vanished { file: key, found: "not what idkeep writes".into() })?;
        Ok(Some(owner))
    }

    fn owner_key(&self) -> String {
        format!("{}/node.json", self.name)
    }

    /// Two clusters that share a node's name must not mix their sets.
    pub(in crate::backup) fn same_participant(&self, participant: &ParticipantFacts) -> Result<(), Error> {
        let (Some(owner), Some(found)) = (&self.owner, participant.full_id()) else { return Ok(()) };
        if owner.participant_id == found {
            return Ok(());
        }
        Err(Error::AnotherParticipant {
            node: self.name.to_string(),
            stored: crate::log::printable(&owner.participant_id),
            found,
        })
    }

    /// Says whose sets this folder holds, before the first one is there.
    pub(super) async fn own(&self, manifest: &Manifest) -> Result<(), Error> {
        let (None, Some(participant_id)) = (&self.owner, &manifest.participant_id) else { return Ok(()) };
        let owner = Owner { participant_id: participant_id.clone(), network: self.node.network.clone() };
        let bytes = serde_json::to_vec_pretty(&owner).unwrap_or_default();
        if self.repository.create(&self.owner_key(), Bytes::from(bytes)).await? {
            return Ok(());
        }
        // Somebody else was first: it is theirs, or the same.
        match self.read_owner().await? {
            Some(stored) if stored.participant_id == owner.participant_id => Ok(()),
            stored => Err(Error::AnotherParticipant {
                node: self.name.to_string(),
                stored: stored.map(|stored| crate::log::printable(&stored.participant_id)).unwrap_or_default(),
                found: owner.participant_id,
            }),
        }
    }
}
