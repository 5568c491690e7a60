//! `policy`: the least rights that this configuration needs.

use super::Done;
use crate::cli::{Cli, Policy};
use crate::{config, policy};

/// Prints the policy.
#[must_use]
pub fn run(cli: &Cli, arguments: &Policy) -> Done {
    if let Err(error) = policy::check(arguments.system, arguments.role) {
        return Done::from(&error);
    }
    let config = match config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => return Done::from(&error),
    };
    match policy::render(&config, arguments.system, arguments.role) {
        Ok(rendered) => Done::printing(rendered),
        Err(error) => Done::from(&error),
    }
}
