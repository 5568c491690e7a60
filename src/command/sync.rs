//! `sync`: one pass over the nodes.

use std::path::PathBuf;

use super::{Done, json, protect, runtime};
use crate::cli::{Cli, Output, Sync};
use crate::config::{self, Config, Name, Store};
use crate::error::{Failed, Fault};
use crate::output;
use crate::receipt::Report;
use crate::store::Place;
use crate::store::file::create_folder;
use crate::sync::{Options, Pass, accept};

/// Runs one pass and reports it.
#[must_use]
pub fn run(cli: &Cli, arguments: &Sync) -> Done {
    match pass(cli, arguments) {
        Ok(report) => done(&report, cli.output),
        Err(failed) => Done::failed(failed),
    }
}

fn pass(cli: &Cli, arguments: &Sync) -> Result<Report, Failed> {
    let options = Options {
        wait: arguments.wait.map(|period| period.0),
        dry_run: arguments.dry_run,
        accept: accept(arguments.accept_new_identity.as_ref().map(Option::as_deref))?,
    };
    let config = config::load(&cli.config).map_err(|error| Failed::from(&error))?;
    let nodes = chosen(&config, &arguments.nodes)?;
    let folders = if arguments.dry_run { Vec::new() } else { folders(&config, &nodes) };
    protect(&config, &folders, false)?;
    // Dropping the runtime drops every connection with what its buffers hold: only then is anything printed.
    Ok(runtime()?.block_on(Pass::new(&config, &nodes).run(options)))
}

/// The nodes of the command line, all of which must be configured; none means all.
pub(super) fn chosen(config: &Config, names: &[String]) -> Result<Vec<Name>, Failed> {
    let known = |name: &String| config.nodes.keys().find(|known| known.as_str() == name).cloned();
    names
        .iter()
        .map(|name| {
            let configured: Vec<&str> = config.nodes.keys().map(Name::as_str).collect();
            let hint = format!("configured are: {}", configured.join(", "));
            known(name).ok_or_else(|| Failed::new(Fault::Usage, format!("there is no node `{name}`"), hint))
        })
        .collect()
}

/// The folders of the `file` stores that these nodes are kept in.
fn folders(config: &Config, nodes: &[Name]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (name, node) in config.nodes.iter().filter(|(name, _)| nodes.is_empty() || nodes.contains(name)) {
        for store in &node.identity.stores {
            if let Some(Store::File(file)) = config.stores.get(store) {
                let place = Place { node: name.as_str(), network: node.network.as_deref().unwrap_or_default() };
                let folder = file.folder(place);
                // A folder that cannot be made is that store's failure, reported with it.
                if create_folder(&folder).is_ok() {
                    folders.push(folder);
                }
            }
        }
    }
    folders
}

fn done(report: &Report, format: Output) -> Done {
    let mut failures = Vec::new();
    for node in &report.nodes {
        if node.stores.iter().all(|store| store.failed.is_none())
            && let Some(failed) = &node.failed
        {
            failures.push((node.node.clone(), failed.clone()));
        }
        // Where the others were enough, a store that failed has been warned about: no alarm for a success.
        for store in node.stores.iter().filter(|_| node.failed.is_some()) {
            if let Some(failed) = &store.failed {
                failures.push((format!("{}: {}", node.node, store.store), failed.clone()));
            }
        }
    }
    Done {
        stdout: match format {
            Output::Json => json(report),
            Output::Text => output::report(report),
        },
        failures,
        exit_code: report.exit_code(),
    }
}
