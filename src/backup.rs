//! The backup path: one ordered, sealed set of a node's databases.

pub mod facts;
pub mod invariants;
pub mod manifest;
pub mod plan;
pub mod postgres;
pub mod repository;
pub mod set;
pub mod sign;
