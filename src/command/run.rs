//! `run`: the daemon.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use super::{Done, LAST, made, protect, runtime};
use crate::agent::bounds::{self, Bounds};
use crate::agent::{Agent, serve};
use crate::cli::Cli;
use crate::config::{self, Config};
use crate::error::{Failed, Fault};
use crate::sync::told_to_end;

/// Runs until it is told to end.
#[must_use]
pub fn run(cli: &Cli) -> Done {
    match serve_until_told(&cli.config) {
        Ok(()) => Done::default(),
        Err(failed) => Done::failed(failed),
    }
}

fn serve_until_told(path: &Path) -> Result<(), Failed> {
    let config = config::load(path).map_err(|error| Failed::from(&error))?;
    if config.schedule.tasks().next().is_none() {
        return Err(bounds::nothing_scheduled());
    }
    let bounds = Bounds::of(&config);
    let wanted = bounds::folders(&config);
    let folders = made(wanted.clone());
    for folder in wanted.iter().filter(|folder| !folders.contains(folder)) {
        let folder = folder.display().to_string();
        tracing::warn!(folder, "this folder is not there and cannot be made: mount it, and start the daemon anew");
    }
    protect(&config, &folders, bounds::runs_commands(&config))?;
    let runtime = runtime()?;
    let served = runtime.block_on(LocalSet::new().run_until(serve(path, config, bounds)));
    // A thread that waits for a name server or a disk may do so for longer than a process that was told to end has.
    runtime.shutdown_timeout(LAST);
    served
}

async fn serve(path: &Path, config: Config, bounds: Bounds) -> Result<(), Failed> {
    // Before anything is said to be up: no signal is lost that comes early.
    let ended = told_to_end();
    let hangups = signal(SignalKind::hangup()).map_err(|_| {
        Failed::new(
            Fault::Transient,
            "listening for signals: no room for another descriptor",
            "look at the limits of this user",
        )
    })?;
    let listener = serve::listen(&config.server).await?;
    let address = listener.local_addr().map_or_else(|_| config.server.listen.to_string(), |at| at.to_string());
    let tasks: Vec<&str> = config.schedule.tasks().map(|(task, _)| task).collect();
    tracing::info!(address, nodes = config.nodes.len(), tasks = tasks.join(" "), "listening");
    let status_for = config.server.status;
    let agent = Agent::new(path.to_owned(), config, bounds);
    let answering = tokio::spawn(serve::serve(listener, agent.shared(), status_for));
    agent.run(hangups, ended).await;
    answering.abort();
    Ok(())
}
