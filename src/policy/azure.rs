//! Rights in Azure Key Vault: a role and its assignments, as `az` commands for a shell.

use std::fmt::Write as _;

use super::{Role, nodes_of};
use crate::config::{AzureStore, Config, Store};

const HEAD: &str = "\
# The vault's permission model has to be Azure RBAC: access policies know no single secrets.
# Where it is, and the object id of whom the rights are given to.
: \"${SUBSCRIPTION:?}\" \"${GROUP:?}\" \"${PRINCIPAL:?}\"
";

const WRITER: &str = "
# What the agent may do with a secret that it is assigned to, and why:
#   setSecret     adds a version with its facts; the first one makes the secret.
#   readMetadata  lists versions, times and tags, never a value: how it knows what is stored.
#   update        writes anew, in the tags, when the identity was last seen. It could disable versions, too, but not
#                 remove them; without it all works but for that, with a warning every six hours.
# Not getSecret nor backup: what it wrote it cannot get back. Neither delete nor purge.
";

const RESTORER: &str = "
# Whoever restores a node: people, for an hour, never the agent.
#   getSecret     reads the identities.
#   readMetadata  lists versions and tags: the party hint that recovery needs.
";

/// The commands; nothing where no node uses a store of this kind.
pub(super) fn render(config: &Config, role: Role) -> String {
    let (name, why, actions): (_, _, &[&str]) = match role {
        Role::Restorer => ("idkeep secret restorer", RESTORER, &["getSecret", "readMetadata"]),
        _ => ("idkeep secret writer", WRITER, &["setSecret", "readMetadata", "update"]),
    };
    let mut assignments = String::new();
    for (store_name, store) in &config.stores {
        let Store::Azure(azure) = store else { continue };
        for (node_name, node) in nodes_of(config, store_name) {
            let secret = azure.secret.fill(node_name.as_str(), node.network.as_deref().unwrap_or_default());
            let _ = write!(
                assignments,
                "\n# {node_name}, store `{store_name}`: this secret of {} and no other.\n\
                 az role assignment create --role '{name}' --assignee-object-id \"$PRINCIPAL\" \\\n  \
                 --assignee-principal-type {} \\\n  \
                 --scope \"/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.KeyVault/vaults/{}/secrets/{secret}\"\n",
                azure.vault_url,
                if role == Role::Restorer { "User" } else { "ServicePrincipal" },
                vault(azure),
            );
        }
    }
    if assignments.is_empty() {
        return assignments;
    }
    format!("{HEAD}{why}{}{assignments}", definition(name, actions))
}

/// The vault's name in Azure, which a private address does not tell.
fn vault(azure: &AzureStore) -> &str {
    let host = azure.vault_url.url().host_str().unwrap_or_default();
    match host.split_once('.') {
        Some((name, domain)) if domain.starts_with("vault.") => name,
        _ => "${VAULT:?}",
    }
}

fn definition(name: &str, actions: &[&str]) -> String {
    let lines: Vec<String> =
        actions.iter().map(|action| format!("    \"Microsoft.KeyVault/vaults/secrets/{action}/action\"")).collect();
    format!(
        r#"az role definition create --role-definition "$(cat <<EOF
{{
  "Name": "{name}",
  "IsCustom": true,
  "Description": "Secrets of idkeep: only what it is assigned to.",
  "Actions": [],
  "NotActions": [],
  "DataActions": [
{}
  ],
  "NotDataActions": [],
  "AssignableScopes": ["/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP"]
}}
EOF
)"
"#,
        lines.join(",\n")
    )
}
