//! A set that is being written: `pending.json` in its folder, with the uploads that would otherwise leave parts behind.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Repository};
use crate::backup::set::SetId;

/// Seconds in a row that other sets may have taken.
const MAX_TAKEN: u32 = 60;

/// Its name in a set's folder.
pub(super) const FILE: &str = "pending.json";

/// A set that is being written.
pub struct Pending {
    repository: Rc<Repository>,
    set: SetId,
    notes: Rc<Notes>,
}

/// What is on record, and where.
pub(super) struct Notes {
    key: String,
    document: RefCell<Document>,
}

/// `pending.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Document {
    /// No two runs have the same.
    run: String,
    started_at: Timestamp,
    /// Uploads that were begun.
    #[serde(default)]
    pub uploads: Vec<Begun>,
}

/// An upload that was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The object's name in the set's folder.
    pub file: String,
    /// The upload's id.
    pub id: String,
}

impl Pending {
    /// Begins the set of this second, or of the next one that no set has.
    pub async fn begin(repository: &Rc<Repository>, node: &str, now: Timestamp) -> Result<Self, Error> {
        let run = format!("{:032x}", fastrand::u128(..));
        let document = Document { run, started_at: now, uploads: Vec::new() };
        let mut set = SetId::at(now);
        for _ in 0..MAX_TAKEN {
            let folder = format!("{node}/{set}");
            let notes = Notes { key: format!("{folder}/{FILE}"), document: RefCell::new(document.clone()) };
            // A set that is done has no `pending.json`, and is there all the same.
            if repository.list(&folder).await?.is_empty() && repository.create(&notes.key, notes.bytes()).await? {
                return Ok(Self { repository: Rc::clone(repository), set, notes: Rc::new(notes) });
            }
            // There is none after the last that an id can name.
            if set.next() == set {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            set = set.next();
        }
        Err(Error::Exists { doing: repository.doing(super::WRITING, &format!("{node}/{set}")) })
    }

    /// The set's id.
    #[must_use]
    pub const fn set(&self) -> SetId {
        self.set
    }

    /// Says that nothing is being written any more. Whoever may not remove it leaves it, which harms nobody.
    pub async fn end(self) {
        if let Err(error) = self.repository.remove(&self.notes.key).await {
            let error = crate::error::chain(&error);
            tracing::debug!(repository = self.repository.name(), set = %self.set, error, "pending.json stays");
        }
    }

    pub(super) fn notes(&self) -> Rc<Notes> {
        Rc::clone(&self.notes)
    }
}

impl Notes {
    /// Puts an upload on record.
    pub async fn record(&self, repository: &Repository, key: &str, id: String) -> Result<(), Error> {
        let file = key.rsplit('/').next().unwrap_or(key).to_owned();
        self.document.borrow_mut().uploads.push(Begun { file, id });
        repository.replace(&self.key, self.bytes()).await
    }

    fn bytes(&self) -> Bytes {
        serde_json::to_vec_pretty(&*self.document.borrow()).unwrap_or_default().into()
    }
}
