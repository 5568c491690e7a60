//! `backup`: one ordered set per node.

use std::path::PathBuf;

use super::sync::chosen;
use super::{Done, LAST, json, made, protect, runtime};
use crate::backup;
use crate::backup::receipt::{NodeReceipt, Report};
use crate::cli::{Backup, Cli, Output};
use crate::config::{self, Config, Name};
use crate::error::{Failed, Fault};
use crate::output;

/// Takes the sets and reports them.
#[must_use]
pub fn run(cli: &Cli, arguments: &Backup) -> Done {
    match take(cli, arguments) {
        Ok(report) => done(&report, cli.output),
        Err(failed) => Done::failed(failed),
    }
}

fn take(cli: &Cli, arguments: &Backup) -> Result<Report, Failed> {
    let config = config::load(&cli.config).map_err(|error| Failed::from(&error))?;
    let nodes = with_backups(&config, &arguments.nodes)?;
    protect(&config, &made(folders(&config, &nodes)), runs_commands(&config, &nodes))?;
    // As in `sync`: only when everything is dropped is anything printed.
    let runtime = runtime()?;
    let report = runtime.block_on(backup::take(&config, &nodes));
    // A thread that waits for a name server or a disk may do so for longer than a process that was told to end has.
    runtime.shutdown_timeout(LAST);
    Ok(report)
}

/// The nodes of the command line, or all that have backups.
pub(super) fn with_backups(config: &Config, names: &[String]) -> Result<Vec<Name>, Failed> {
    let chosen = chosen(config, names)?;
    let has = |name: &Name| config.nodes.get(name).is_some_and(|node| node.backup.is_some());
    if let Some(name) = chosen.iter().find(|name| !has(name)) {
        let message = format!("the node `{name}` has no backups configured");
        return Err(Failed::new(Fault::Config, message, format!("add `backup:` under `nodes.{name}`")));
    }
    let all: Vec<Name> = config.nodes.keys().filter(|name| has(name)).cloned().collect();
    if all.is_empty() {
        return Err(Failed::new(
            Fault::Config,
            "no node has backups configured",
            "add `backup:` under a node, and a repository under `repositories:`",
        ));
    }
    Ok(if chosen.is_empty() { all } else { chosen })
}

/// The folders of the repositories that these nodes' sets are kept in.
pub(crate) fn folders(config: &Config, nodes: &[Name]) -> Vec<PathBuf> {
    let backups = nodes.iter().filter_map(|name| config.nodes.get(name)?.backup.as_ref());
    let repositories = backups.filter_map(|backup| config.repositories.get(&backup.repository));
    repositories.filter_map(|repository| repository.url.folder()).collect()
}

/// True where a backup of these nodes (of any, where none is named) runs commands of the configuration.
pub(crate) fn runs_commands(config: &Config, nodes: &[Name]) -> bool {
    let chosen = config.nodes.iter().filter(|(name, _)| nodes.is_empty() || nodes.contains(name));
    let mut databases = chosen.filter_map(|(_, node)| node.backup.as_ref()).flat_map(|backup| &backup.databases);
    databases.any(|database| {
        let asks = database.pg_dump.database.as_ref().is_some_and(|name| !name.exec.is_empty());
        asks || !database.pg_dump.exec.is_empty()
    })
}

fn done(report: &Report, format: Output) -> Done {
    let failed = |node: &NodeReceipt| node.failed.clone().map(|failed| (node.node.clone(), failed));
    Done {
        stdout: match format {
            Output::Json => json(report),
            Output::Text => output::sets_taken(report),
        },
        failures: report.nodes.iter().filter_map(failed).collect(),
        exit_code: report.exit_code(),
    }
}
