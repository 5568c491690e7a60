//! Whose sets a node's folder holds: two clusters that share a node's name must not mix them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Run;
use crate::backup::facts::ParticipantFacts;
use crate::backup::manifest::Manifest;
use crate::backup::repository::{self, Repository};
use crate::backup::{Error, catalog};

/// `<node>/node.json`: whose sets a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `PAR::…`.
    pub participant_id: String,
    /// The network, where it was configured.
    pub network: Option<String>,
}

/// `node.json` holds something else.
pub struct NotAnOwner;

impl Owner {
    /// What a node's folder says; nothing where it does not.
    pub async fn read(
        repository: &Repository,
        node: &str,
    ) -> Result<Option<Result<Self, NotAnOwner>>, repository::Error> {
        let bytes = catalog::small(repository, &key(node)).await?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|_| NotAnOwner)))
    }
}

fn key(node: &str) -> String {
    format!("{node}/node.json")
}

impl Run<'_> {
    pub(super) async fn read_owner(&self) -> Result<Option<Owner>, Error> {
        let node = self.name.as_str();
        let owner = Owner::read(&self.repository, node).await?.transpose();
        owner.map_err(|NotAnOwner| Error::Vanished { file: key(node), found: "not what idkeep writes".into() })
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
        if self.repository.create(&key(self.name.as_str()), Bytes::from(bytes)).await? {
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
