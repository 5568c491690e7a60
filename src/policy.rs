//! Least rights, rendered from the configuration in each system's own format.

use std::fmt::Write as _;

use crate::cli::Role;
use crate::config::{Config, Credentials, Name, Node, Store, VaultStore};

/// The policy for Vault and `OpenBao`, one block per path, with the reason for each.
#[must_use]
pub fn vault(config: &Config, role: Role) -> String {
    let mut policy = String::new();
    for (name, store) in &config.stores {
        let Store::Vault(vault) = store else { continue };
        let nodes: Vec<_> = config.nodes.iter().filter(|(_, node)| node.identity.stores.contains(name)).collect();
        let _ = writeln!(policy, "# Store `{name}` at {}{}", vault.address, namespace(vault));
        match role {
            Role::Writer => {
                writer(&mut policy, vault, &nodes);
                borrower(&mut policy, &credentials(config, name));
            }
            Role::Restorer => restorer(&mut policy, vault, &nodes),
        }
    }
    policy
}

fn namespace(vault: &VaultStore) -> String {
    vault.namespace.as_ref().map_or_else(String::new, |namespace| format!(", namespace `{namespace}`"))
}

fn writer(policy: &mut String, vault: &VaultStore, nodes: &[(&Name, &Node)]) {
    policy.push_str(WRITER_HEAD);
    for (name, node) in nodes {
        let path = path(vault, name, node);
        let mount = vault.mount.trim_matches('/');
        let _ = write!(
            policy,
            r#"
# {name}: adds versions. Never `read`: what it wrote it cannot get back. Never `delete`.
path "{mount}/data/{path}" {{
  capabilities = ["create", "update"]
}}

# {name}: the facts beside the data. The one parameter that is allowed keeps it from setting
# `max_versions` or `delete_version_after`, which would erase history.
path "{mount}/metadata/{path}" {{
  capabilities = ["create", "read", "update"]
  allowed_parameters = {{
    "custom_metadata" = []
  }}
}}
"#
        );
    }
    policy.push_str(WRITER_TAIL);
}

/// The paths of this store's server that make database credentials for backups.
fn credentials<'c>(config: &'c Config, store: &Name) -> Vec<&'c str> {
    let databases = config.nodes.values().flat_map(|node| &node.backup).flat_map(|backup| &backup.databases);
    let paths = databases.filter_map(|database| match &database.pg_dump.credentials {
        Some(Credentials::Vault { store: named, path }) if named == store => Some(path.trim_matches('/')),
        _ => None,
    });
    let mut paths: Vec<_> = paths.collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn borrower(policy: &mut String, paths: &[&str]) {
    for path in paths {
        let _ = write!(
            policy,
            r#"
# Makes a database user for one backup.
path "{path}" {{
  capabilities = ["read"]
}}
"#
        );
    }
    if !paths.is_empty() {
        policy.push_str(BORROWER_TAIL);
    }
}

const BORROWER_TAIL: &str = r#"
# Keeps that user while the dump runs, and ends it afterwards. It ends with the token, too: let `token_max_ttl` of the
# role that idkeep logs in with, and `max_ttl` of the database's, be well beyond the longest dump.
path "sys/leases/renew" {
  capabilities = ["update"]
}

path "sys/leases/revoke" {
  capabilities = ["update"]
}
"#;

const WRITER_HEAD: &str = "\
# The agent's policy. Give the role that it logs in with a short life and nothing else:
#   token_ttl=10m  token_max_ttl=1h  token_policies=idkeep-writer  token_no_default_policy=true
# and keep enough versions of each secret: vault kv metadata put -max-versions=50 MOUNT/PATH
";

const WRITER_TAIL: &str = r#"
# Tells a token that has run out from one that lacks a right.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# Long passes: the token is renewed rather than replaced.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# Gives the token back after each pass, so that leases do not pile up.
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# `idkeep check --live` asks what this token may do, instead of trying it.
path "sys/capabilities-self" {
  capabilities = ["update"]
}
"#;

fn restorer(policy: &mut String, vault: &VaultStore, nodes: &[(&Name, &Node)]) {
    policy.push_str("# The policy of whoever restores a node: for people, for an hour, never for the agent.\n");
    for (name, node) in nodes {
        let path = path(vault, name, node);
        let mount = vault.mount.trim_matches('/');
        let _ = write!(
            policy,
            r#"
# {name}: the private keys.
path "{mount}/data/{path}" {{
  capabilities = ["read"]
}}

# {name}: which versions there are, and the party hint that recovery needs.
path "{mount}/metadata/{path}" {{
  capabilities = ["read"]
}}
"#
        );
    }
}

fn path(vault: &VaultStore, name: &Name, node: &Node) -> String {
    let path = vault.path.fill(name.as_str(), node.network.as_deref().unwrap_or_default());
    path.trim_matches('/').to_owned()
}
