//! `sync`: one pass over the nodes.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Done, json, made, protect, runtime};
use crate::agent::heartbeat;
use crate::cli::{Cli, Output, Sync};
use crate::config::{self, Config, Name, Node, Store};
use crate::error::{Failed, Fault};
use crate::http::Http;
use crate::output;
use crate::receipt::Report;
use crate::secret::Secrets;
use crate::store::Place;
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
    let folders = if arguments.dry_run { Vec::new() } else { made(folders(&config, &nodes)) };
    protect(&config, &folders, false)?;
    let is_full = nodes.is_empty() && !options.dry_run;
    // Dropping the runtime drops every connection with what its buffers hold: only then is anything printed.
    Ok(runtime()?.block_on(async {
        let report = Pass::new(&config, &nodes).run(options).await;
        if is_full && report.exit_code() == 0 {
            beat(&config).await;
        }
        report
    }))
}

/// Tells whoever waits for it that all is well. The work is done: a call that fails is a warning.
async fn beat(config: &Config) {
    let Some(heartbeat) = &config.heartbeat else { return };
    let http = Arc::new(Http::default());
    let secrets = Secrets::new(config, &http);
    let called = heartbeat::beat(heartbeat, &secrets, &http).await;
    secrets.close().await;
    if let Err(failed) = called {
        tracing::warn!(error = failed.message, hint = failed.hint, "the heartbeat could not be called");
    }
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

/// The folders of the `file` stores that these nodes (all, where none is named) are kept in.
pub(crate) fn folders(config: &Config, nodes: &[Name]) -> Vec<PathBuf> {
    let chosen = config.nodes.iter().filter(|(name, _)| nodes.is_empty() || nodes.contains(name));
    let kept = chosen.flat_map(|(name, node)| node.identity.stores.iter().map(move |store| (name, node, store)));
    let folder = |(name, node, store): (&Name, &Node, &Name)| {
        let Some(Store::File(file)) = config.stores.get(store) else { return None };
        let place = Place { node: name.as_str(), network: node.network.as_deref().unwrap_or_default() };
        Some(file.folder(place))
    };
    kept.filter_map(folder).collect()
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
