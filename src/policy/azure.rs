//! Rights in Azure Key Vault.

use super::Role;
use crate::config::Config;

/// The rights; nothing where no node uses a store of this kind.
pub(super) fn render(_config: &Config, _role: Role) -> String {
    String::new()
}
