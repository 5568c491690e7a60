//! The heartbeat: an address that is called when all is well, so that somebody else notices when it is silent.

use std::str::FromStr as _;

use secrecy::{ExposeSecret as _, SecretString};

use super::serve::{Shared, read};
use super::world::World;
use crate::config::{Address, Heartbeat};
use crate::error::{Failed, Fault};
use crate::http::{Exchange, Http};
use crate::retry::{Deadline, retry};
use crate::secret::Secrets;

/// What is read of the answer.
const MAX_BYTES: usize = 64 * 1024;

/// Calls that of this world, and counts how that went.
pub async fn tell(world: &World, shared: &Shared) {
    let Some(heartbeat) = &world.config.heartbeat else { return };
    let told = beat(heartbeat, world.pass.secrets(), world.pass.http()).await;
    read(shared).beat(if told.is_ok() { "done" } else { "failed" });
    match told {
        Ok(()) => tracing::debug!("heartbeat called"),
        Err(Failed { message: error, hint, .. }) => tracing::warn!(error, hint, "the heartbeat could not be called"),
    }
}

/// Calls it once. The address is a secret: no failure says more of it than its origin.
pub async fn beat(heartbeat: &Heartbeat, secrets: &Secrets, http: &Http) -> Result<(), Failed> {
    let deadline = Deadline::after(heartbeat.timeout.0);
    let url = secrets.resolve(&heartbeat.url, deadline).await.map_err(|error| Failed::from(&error))?;
    let (address, origin) = judged(&url, heartbeat.allow_http)?;
    let client =
        http.client(&address, &heartbeat.tls, heartbeat.proxy.as_ref()).map_err(|error| Failed::from(&error))?;
    // One that is lost would be missed for a whole round.
    let answer = retry(deadline, "heartbeat", async || {
        let timeout = deadline.remaining();
        let exchange = Exchange { doing: "calling the heartbeat at", origin: &origin, cap: MAX_BYTES, timeout };
        exchange.run_for_head(client.get(url.expose_secret())).await
    });
    let answer = answer.await.map_err(|error| Failed::from(&error))?;
    if answer.status.is_success() {
        return Ok(());
    }
    let status = answer.status.as_u16();
    let message = format!("calling the heartbeat at {origin}: status {status}");
    Err(Failed::new(
        Fault::Transient,
        message,
        "does `heartbeat.url` refer to the whole address, as its service shows it?",
    ))
}

/// The address without what is secret of it: who is connected to.
pub(crate) fn judged(url: &SecretString, allow_http: bool) -> Result<(Address, String), Failed> {
    let wrong =
        |message: &str, hint: &str| Failed::new(Fault::Config, format!("the heartbeat's address {message}"), hint);
    let parsed = url::Url::parse(url.expose_secret());
    let parsed = parsed.map_err(|_| wrong("is none", "`heartbeat.url` refers to something else than an address"))?;
    let origin = parsed.origin().ascii_serialization();
    let address = Address::from_str(&origin);
    let address = address.map_err(|_| wrong("is none of the web", "it begins with `https://`"))?;
    if address.is_plain() && !allow_http {
        return Err(wrong("is not encrypted (`http://`)", "use https://, or write `allow_http: true` beside it"));
    }
    Ok((address, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_it() {
        for (url, allow_http, is_right) in [
            ("https://beat.example/ping/s3cret", false, true),
            ("http://127.0.0.1:8/s3cret", true, true),
            ("http://127.0.0.1:8/s3cret", false, false),
            ("file:///s3cret", true, false),
            ("s3cret", true, false),
        ] {
            match judged(&url.into(), allow_http) {
                Ok((address, origin)) => assert!(is_right && !origin.contains("s3cret"), "{address}"),
                Err(failed) => assert!(!is_right && !format!("{failed:?}").contains("s3cret"), "{failed:?}"),
            }
        }
    }
}
