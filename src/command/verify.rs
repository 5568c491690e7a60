//! stub
use super::Done; use crate::cli::{Cli, Verify};
#[must_use] pub fn run(_: &Cli, _: &Verify) -> Done { todo!() }
