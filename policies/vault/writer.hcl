# Store `vault` at https://vault.acme.example:8200
# The agent's policy. Give the role that it logs in with a short life and nothing else:
#   token_ttl=10m  token_max_ttl=1h  token_policies=idkeep-writer  token_no_default_policy=true
# and keep enough versions of each secret: vault kv metadata put -max-versions=50 MOUNT/PATH

# devnet-1: adds versions. Never `read`: what it wrote it cannot get back. Never `delete`.
path "secret/data/canton/devnet-1/identities" {
  capabilities = ["create", "update"]
}

# devnet-1: the facts beside the data. The one parameter that is allowed keeps it from setting
# `max_versions` or `delete_version_after`, which would erase history.
path "secret/metadata/canton/devnet-1/identities" {
  capabilities = ["create", "read", "update"]
  allowed_parameters = {
    "custom_metadata" = []
  }
}

# mainnet-1: adds versions. Never `read`: what it wrote it cannot get back. Never `delete`.
path "secret/data/canton/mainnet-1/identities" {
  capabilities = ["create", "update"]
}

# mainnet-1: the facts beside the data. The one parameter that is allowed keeps it from setting
# `max_versions` or `delete_version_after`, which would erase history.
path "secret/metadata/canton/mainnet-1/identities" {
  capabilities = ["create", "read", "update"]
  allowed_parameters = {
    "custom_metadata" = []
  }
}

# testnet-1: adds versions. Never `read`: what it wrote it cannot get back. Never `delete`.
path "secret/data/canton/testnet-1/identities" {
  capabilities = ["create", "update"]
}

# testnet-1: the facts beside the data. The one parameter that is allowed keeps it from setting
# `max_versions` or `delete_version_after`, which would erase history.
path "secret/metadata/canton/testnet-1/identities" {
  capabilities = ["create", "read", "update"]
  allowed_parameters = {
    "custom_metadata" = []
  }
}

# Makes a user for one dump.
path "database/creds/idkeep-backup" {
  capabilities = ["read"]
}

# Keeps that user while the dump runs. It ends with the token, too: let `token_max_ttl` of the role that idkeep logs in
# with, and `max_ttl` of the database's, be well beyond the longest dump.
path "sys/leases/renew" {
  capabilities = ["update"]
}

# The user ends with the dump. A lease's id cannot be guessed: these are the agent's own.
path "sys/leases/revoke" {
  capabilities = ["update"]
}

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
