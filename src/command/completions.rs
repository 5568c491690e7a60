//! `completions`: shell completions.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Done;
use crate::cli::Cli;

/// Prints completions for the shell.
#[must_use]
pub fn run(shell: Shell) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "idkeep", &mut script);
    Done::printing(String::from_utf8_lossy(&script))
}
