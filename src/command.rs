//! The commands: one verb each, all returning what to print and what to exit with.

pub mod backup;
pub mod check;
pub mod completions;
pub mod demo;
pub mod expire;
pub mod list;
pub mod policy;
pub mod run;
pub mod schema;
pub mod sync;
pub mod verify;

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{Cli, Command, Output};
use crate::config::Config;
use crate::error::{Failed, Failure, Fault};
use crate::harden;
use crate::store::file::create_folder;

/// What a command leaves behind: a text for stdout and the failures to report.
#[derive(Debug, Default)]
pub struct Done {
    /// For stdout.
    pub stdout: String,
    /// For stderr, each with the scope it belongs to (`validator-1: vault`), or none.
    pub failures: Vec<(String, Failed)>,
    /// The exit code where it is not that of the gravest failure.
    pub exit_code: u8,
}

impl Done {
    /// Success, with this on stdout.
    #[must_use]
    pub fn printing(stdout: impl Into<String>) -> Self {
        Self { stdout: stdout.into(), ..Self::default() }
    }

    /// One failure that ended the command.
    #[must_use]
    pub fn failed(failed: Failed) -> Self {
        Self { exit_code: failed.fault.exit_code(), failures: vec![(String::new(), failed)], ..Self::default() }
    }

    /// The same for an error.
    pub fn from(error: &impl Failure) -> Self {
        Self::failed(Failed::from(error))
    }
}

/// Runs the command.
#[must_use]
pub fn run(cli: &Cli) -> Done {
    let mut done = dispatch(cli);
    // A script that asked for JSON gets a document, also where there is nothing to report.
    if cli.output == Output::Json
        && done.stdout.is_empty()
        && let Some((_, failed)) = done.failures.first()
    {
        done.stdout = json(&serde_json::json!({"error": failed.message, "hint": failed.hint}));
    }
    done
}

fn dispatch(cli: &Cli) -> Done {
    match &cli.command {
        Command::Demo => demo::run(cli.output),
        Command::Check(arguments) => check::run(cli, arguments),
        Command::Sync(arguments) => sync::run(cli, arguments),
        Command::Backup(arguments) => backup::run(cli, arguments),
        Command::List(arguments) => list::run(cli, arguments),
        Command::Verify(arguments) => verify::run(cli, arguments),
        Command::Expire(arguments) => expire::run(cli, arguments),
        Command::Run => run::run(cli),
        Command::Policy(arguments) => policy::run(cli, arguments),
        Command::Schema => schema::run(),
        Command::Completions { shell } => completions::run(*shell),
    }
}

/// How long what has no use any more is waited for.
const LAST: Duration = Duration::from_secs(2);

/// The runtime of every command: one thread, so that little starts and nothing has to be shared.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|_| {
        Failed::new(
            Fault::Transient,
            "starting: no room for another process or descriptor",
            "look at the limits of this user",
        )
    })
}

/// Those of the folders that are there or can be made: one that cannot is the failure of whoever writes there, and is
/// reported with it.
fn made(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    folders.retain(|folder| create_folder(folder).is_ok());
    // What children write away.
    folders.push("/dev/null".into());
    folders
}

/// Locks memory and confines writing to these folders, before any thread starts. Commands of others write where they
/// have to, so a process that runs some is not confined.
fn protect(config: &Config, folders: &[PathBuf], runs_commands: bool) -> Result<(), Failed> {
    let memory = harden::lock_memory(config.process.lock_memory).map_err(|error| Failed::from(&error))?;
    let files = if runs_commands { "not confined: `exec` runs commands that write" } else { harden::confine(folders) };
    tracing::info!(memory, files, "process protected");
    Ok(())
}

/// Pretty JSON with a newline at its end.
fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
