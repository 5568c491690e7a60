//! `check --live` for the heartbeat: its address can be read and is one. It is not called: that would say that all is well.

use std::time::Duration;

use super::Tried;
use crate::agent::heartbeat::judged;
use crate::config::Config;
use crate::error::Failed;
use crate::retry::Deadline;
use crate::secret::Secrets;

/// Time for reading it.
const LOOKING: Duration = Duration::from_mins(1);

/// Reads the address; whoever knows it can send a heartbeat, so it is never said.
pub(super) async fn try_address(config: &Config, secrets: &Secrets, tried: &mut Vec<Tried>) {
    let Some(heartbeat) = &config.heartbeat else { return };
    let what = "heartbeat".to_owned();
    tried.push(match secrets.resolve(&heartbeat.url, Deadline::after(LOOKING)).await {
        Ok(url) => match judged(&url, heartbeat.allow_http) {
            Ok(_) => Tried::fine(what, "its address was read; it is not called here".into()),
            Err(failed) => Tried::failed(what, failed),
        },
        Err(error) => Tried::failed(what, Failed::from(&error)),
    });
}
