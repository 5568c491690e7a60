//! What the process gave up at its start, and so cannot do for a configuration that is read later.

use std::path::PathBuf;

use crate::command::{backup, sync};
use crate::config::{Config, LockMemory, Server};
use crate::error::{Failed, Fault};

/// What holds as long as the process lives.
pub struct Bounds {
    /// Where files may be written; anywhere where commands are run.
    folders: Option<Vec<PathBuf>>,
    lock_memory: LockMemory,
    server: Server,
}

impl Bounds {
    /// Those of a process that starts with this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            folders: (!runs_commands(config)).then(|| folders(config)),
            lock_memory: config.process.lock_memory,
            server: config.server.clone(),
        }
    }

    /// Whether this configuration can be served without a new start.
    pub fn judge(&self, config: &Config) -> Result<(), Failed> {
        let too_much = |what: &str| {
            let message = format!("the configuration has {what}, which the process cannot take up any more");
            Err(Failed::new(Fault::Config, message, "start the daemon anew: nothing runs then that is not due"))
        };
        if config.schedule.tasks().next().is_none() {
            return Err(nothing_scheduled());
        }
        if let Some(confined) = &self.folders {
            if runs_commands(config) {
                return too_much("`exec`");
            }
            if let Some(folder) = folders(config).iter().find(|folder| !confined.contains(folder)) {
                return too_much(&format!("another folder that is written to, {}", folder.display()));
            }
        }
        if config.process.lock_memory != self.lock_memory {
            return too_much("another `process.lock_memory`");
        }
        if config.server != self.server {
            return too_much("another `server`");
        }
        Ok(())
    }
}

/// Where this configuration writes files.
#[must_use]
pub fn folders(config: &Config) -> Vec<PathBuf> {
    let with_backups = config.nodes.iter().filter(|(_, node)| node.backup.is_some()).map(|(name, _)| name.clone());
    let mut folders = sync::folders(config, &[]);
    folders.extend(backup::folders(config, &with_backups.collect::<Vec<_>>()));
    folders
}

/// True where this configuration runs commands of others.
#[must_use]
pub fn runs_commands(config: &Config) -> bool {
    config.schedule.backups.is_some() && backup::runs_commands(config, &[])
}

/// Why there is nothing to run.
#[must_use]
pub fn nothing_scheduled() -> Failed {
    let hint = "add `schedule: {identities: {every: 10m, jitter: 1m}}`; `idkeep sync` runs once";
    Failed::new(Fault::Config, "nothing is scheduled: the daemon would do nothing", hint)
}
