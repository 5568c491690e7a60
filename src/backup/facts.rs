//! What a database's data says about itself in one snapshot: the evidence for the invariants. No key material.

/// What was read, by the database's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facts {
    /// A validator app's.
    Validator(ValidatorFacts),
    /// A participant's.
    Participant(ParticipantFacts),
    /// Of a role that says nothing.
    None,
}

/// What a validator app's database says; nothing where its table is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidatorFacts {
    /// Every row of `validator.store_last_ingested_offsets`; `None` where there is no such table.
    pub stores: Option<Vec<StoreOffset>>,
}

/// How far one store of the app has read the ledger in one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOffset {
    /// The store, where the table says which.
    pub store_id: Option<i64>,
    /// The migration.
    pub migration_id: i64,
    /// The offset; `None` where nothing was read yet.
    pub offset: Option<i64>,
}

/// What a participant's database says; each part `None` where its table is missing or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParticipantFacts {
    /// `participant.lapi_parameters.ledger_end`.
    pub ledger_end: Option<i64>,
    /// `participant.lapi_parameters.participant_pruned_up_to_inclusive`; null where nothing was pruned.
    pub pruned_up_to: Option<i64>,
    /// True where `participant.lapi_parameters` has its row, so that a null there means something.
    pub has_parameters: bool,
    /// `participant.lapi_parameters.participant_id`, without `PAR::`.
    pub participant_id: Option<String>,
    /// `identifier::namespace` of `participant.common_node_id`.
    pub node_id: Option<String>,
    /// `participant.common_node_id.namespace`.
    pub namespace: Option<String>,
    /// Whether the namespace's key is there.
    pub namespace_key: NamespaceKey,
}

/// Whether a participant's database holds the key of its namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamespaceKey {
    /// Among the private keys.
    Software,
    /// Among the keys of the KMS.
    Kms,
    /// Both tables were read, and it is in neither.
    Absent,
    /// A table is missing, or the namespace is not known.
    #[default]
    Unknown,
}

impl ParticipantFacts {
    /// `PAR::identifier::namespace`, by whichever table says it.
    #[must_use]
    pub fn full_id(&self) -> Option<String> {
        self.participant_id.as_ref().or(self.node_id.as_ref()).map(|id| format!("PAR::{id}"))
    }
}
