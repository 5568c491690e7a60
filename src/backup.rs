//! The backup path: one ordered, sealed set of a node's databases.

pub mod facts;
pub mod manifest;
pub mod plan;
pub mod postgres;
pub mod repository;
pub mod set;
