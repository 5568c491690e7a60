# The vault's permission model has to be Azure RBAC: access policies know no single secrets.
# Where it is, and the object id of whom the rights are given to.
: "${SUBSCRIPTION:?}" "${GROUP:?}" "${PRINCIPAL:?}"

# Whoever restores a node: people, for an hour, never the agent.
#   getSecret     reads the identities.
#   readMetadata  lists versions and tags: the party hint that recovery needs.
az role definition create --role-definition "$(cat <<EOF
{
  "Name": "idkeep secret restorer",
  "IsCustom": true,
  "Description": "Secrets of idkeep: only what it is assigned to.",
  "Actions": [],
  "NotActions": [],
  "DataActions": [
    "Microsoft.KeyVault/vaults/secrets/getSecret/action",
    "Microsoft.KeyVault/vaults/secrets/readMetadata/action"
  ],
  "NotDataActions": [],
  "AssignableScopes": ["/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP"]
}
EOF
)"

# devnet-1, store `azure`: this secret of https://acme-canton.vault.azure.net and no other.
az role assignment create --role 'idkeep secret restorer' --assignee-object-id "$PRINCIPAL" \
  --assignee-principal-type User \
  --scope "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.KeyVault/vaults/acme-canton/secrets/canton-devnet-1-identities"

# mainnet-1, store `azure`: this secret of https://acme-canton.vault.azure.net and no other.
az role assignment create --role 'idkeep secret restorer' --assignee-object-id "$PRINCIPAL" \
  --assignee-principal-type User \
  --scope "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.KeyVault/vaults/acme-canton/secrets/canton-mainnet-1-identities"
