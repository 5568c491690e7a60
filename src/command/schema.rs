//! `schema`: the JSON Schema of the configuration.

use super::{Done, json};
use crate::config;

/// Prints the schema.
#[must_use]
pub fn run() -> Done {
    Done::printing(json(&config::schema()))
}
