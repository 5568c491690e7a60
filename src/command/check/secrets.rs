//! `check --live` for secrets that are kept in Vault: what the agent may do with each, besides reading it.

use std::time::Duration;

use super::Tried;
use crate::config::Config;
use crate::error::Failed;
use crate::retry::Deadline;
use crate::secret::Secrets;

/// Time for one server.
const LOOKING: Duration = Duration::from_mins(1);

/// Looks at the rights on every path that the configuration refers to.
pub(super) async fn try_rights(config: &Config, secrets: &Secrets, tried: &mut Vec<Tried>) {
    for store in config.stores.keys() {
        let paths: Vec<&str> = config.secrets_in(store).into_keys().collect();
        let Some(vault) = secrets.vault(store).filter(|_| !paths.is_empty()) else { continue };
        let what = format!("secrets in {store}");
        match vault.look_at_secrets(&paths, Deadline::after(LOOKING)).await {
            Ok(notes) => tried.extend(notes.into_iter().map(|note| Tried::of(what.clone(), note))),
            Err(error) => tried.push(Tried::failed(what, Failed::from(&error))),
        }
    }
}
