# Store `vault` at https://vault.acme.example:8200
# The policy of whoever restores a node: for people, for an hour, never for the agent.

# devnet-1: the private keys.
path "secret/data/canton/devnet-1/identities" {
  capabilities = ["read"]
}

# devnet-1: which versions there are, and the party hint that recovery needs.
path "secret/metadata/canton/devnet-1/identities" {
  capabilities = ["read"]
}

# mainnet-1: the private keys.
path "secret/data/canton/mainnet-1/identities" {
  capabilities = ["read"]
}

# mainnet-1: which versions there are, and the party hint that recovery needs.
path "secret/metadata/canton/mainnet-1/identities" {
  capabilities = ["read"]
}

# testnet-1: the private keys.
path "secret/data/canton/testnet-1/identities" {
  capabilities = ["read"]
}

# testnet-1: which versions there are, and the party hint that recovery needs.
path "secret/metadata/canton/testnet-1/identities" {
  capabilities = ["read"]
}
