//! `policy`: the least rights that this configuration needs.

use super::Done;
use crate::cli::{Cli, Policy, System};
use crate::error::{Failed, Fault};
use crate::{config, policy};

/// Prints the policy.
#[must_use]
pub fn run(cli: &Cli, arguments: &Policy) -> Done {
    let config = match config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => return Done::from(&error),
    };
    let rendered = match arguments.system {
        System::Vault => policy::vault(&config, arguments.role),
    };
    if rendered.is_empty() {
        return Done::failed(Failed::new(
            Fault::Config,
            "the configuration has no store of this kind",
            "add one under `stores`",
        ));
    }
    Done::printing(rendered)
}
