//! `check --live` for the heartbeat: its address can be read and is one. It is not called: that would say that all is well.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::Tried;
use crate::config::{Config, Heartbeat};
use crate::error::{Failed, Fault};
use crate::retry::Deadline;
use crate::secret::Secrets;

/// Time for reading it.
const LOOKING: Duration = Duration::from_mins(1);

/// Reads the address; whoever knows it can send a heartbeat, so it is never said.
pub(super) async fn try_address(config: &Config, secrets: &Secrets, tried: &mut Vec<Tried>) {
    let Some(heartbeat) = &config.heartbeat else { return };
    let what = "heartbeat".to_owned();
    tried.push(match secrets.resolve(&heartbeat.url, Deadline::after(LOOKING)).await {
        Ok(text) => match judge(heartbeat, text.expose_secret()) {
            Ok(()) => Tried::fine(what, "its address was read; it is not called here".into()),
            Err((message, fix)) => Tried::failed(what, Failed::new(Fault::Config, message, fix)),
        },
        Err(error) => Tried::failed(what, Failed::from(&error)),
    });
}

fn judge(heartbeat: &Heartbeat, text: &str) -> Result<(), (&'static str, &'static str)> {
    let url = url::Url::parse(text).ok().filter(url::Url::has_host);
    match url.as_ref().map(url::Url::scheme) {
        Some("https") => Ok(()),
        Some("http") if heartbeat.allow_http => Ok(()),
        Some("http") => {
            Err(("the address is not encrypted (`http://`)", "use https://, or write `allow_http: true` beside `url`"))
        }
        _ => Err(("what is read there is no address", "one line: `https://host/path`")),
    }
}
