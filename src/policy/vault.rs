//! The policy for Vault and `OpenBao`: one block per path, with the reason for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Role, nodes_of};
use crate::config::{Config, Credentials, Name, Node, Store, VaultRef, VaultStore};

/// The policy; nothing where no node uses a store of this kind.
pub(super) fn render(config: &Config, role: Role) -> String {
    let mut policy = String::new();
    for (name, store) in &config.stores {
        let Store::Vault(vault) = store else { continue };
        let nodes = nodes_of(config, name);
        let credentials = credentials(config, name);
        let secrets = config.secrets_in(name);
        let reads = !credentials.is_empty() || !secrets.is_empty();
        if nodes.is_empty() && !(reads && role == Role::Writer) {
            continue;
        }
        let _ = writeln!(policy, "# Store `{name}` at {}{}", vault.address, namespace(vault));
        if role == Role::Writer {
            policy.push_str(WRITER_HEAD);
            writer(&mut policy, vault, &nodes);
            reader(&mut policy, &secrets, &credentials);
            policy.push_str(WRITER_TAIL);
        } else {
            restorer(&mut policy, vault, &nodes);
        }
    }
    policy
}

/// The paths at which this store's server makes credentials for dumps.
fn credentials<'a>(config: &'a Config, store: &Name) -> BTreeSet<&'a str> {
    let backups = config.nodes.values().filter_map(|node| node.backup.as_ref());
    let credentials = backups.flat_map(|backup| &backup.databases).filter_map(|one| one.pg_dump.credentials.as_ref());
    credentials
        .filter_map(|Credentials::Vault { store: named, path }| (named == store).then_some(path.as_str()))
        .collect()
}

fn namespace(vault: &VaultStore) -> String {
    vault.namespace.as_ref().map_or_else(String::new, |namespace| format!(", namespace `{namespace}`"))
}

fn writer(policy: &mut String, vault: &VaultStore, nodes: &[(&Name, &Node)]) {
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
}

/// What is kept or made for the agent itself.
fn reader(policy: &mut String, secrets: &BTreeMap<&str, Vec<(String, &VaultRef)>>, credentials: &BTreeSet<&str>) {
    for (path, references) in secrets {
        policy.push('\n');
        for (place, reference) in references {
            let _ = writeln!(policy, "# Reads `{}` at each use, for {place}.", reference.field);
        }
        let _ = writeln!(policy, "path \"{path}\" {{\n  capabilities = [\"read\"]\n}}");
    }
    for path in credentials {
        let _ = write!(
            policy,
            r#"
# Makes a user for one dump.
path "{path}" {{
  capabilities = ["read"]
}}
"#
        );
    }
    if !credentials.is_empty() {
        policy.push_str(LEASES);
    }
}

const LEASES: &str = r#"
# Keeps that user while the dump runs. It ends with the token, too: let `token_max_ttl` of the role that idkeep logs in
# with, and `max_ttl` of the database's, be well beyond the longest dump.
path "sys/leases/renew" {
  capabilities = ["update"]
}

# The user ends with the dump. A lease's id cannot be guessed: these are the agent's own.
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
