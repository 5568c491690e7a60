# The vault's permission model has to be Azure RBAC: access policies know no single secrets.
# Where it is, and the object id of whom the rights are given to.
: "${SUBSCRIPTION:?}" "${GROUP:?}" "${PRINCIPAL:?}"

# What the agent may do with a secret that it is assigned to, and why:
#   setSecret     adds a version with its facts; the first one makes the secret.
#   readMetadata  lists versions, times and tags, never a value: how it knows what is stored.
#   update        writes anew, in the tags, when the identity was last seen. It could disable versions, too, but not
#                 remove them; without it all works but for that, with a warning every six hours.
# Not getSecret nor backup: what it wrote it cannot get back. Neither delete nor purge.
az role definition create --role-definition "$(cat <<EOF
{
  "Name": "idkeep secret writer",
  "IsCustom": true,
  "Description": "Secrets of idkeep: only what it is assigned to.",
  "Actions": [],
  "NotActions": [],
  "DataActions": [
    "Microsoft.KeyVault/vaults/secrets/setSecret/action",
    "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
    "Microsoft.KeyVault/vaults/secrets/update/action"
  ],
  "NotDataActions": [],
  "AssignableScopes": ["/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP"]
}
EOF
)"

# devnet-1, store `azure`: this secret of https://acme-canton.vault.azure.net and no other.
az role assignment create --role 'idkeep secret writer' --assignee-object-id "$PRINCIPAL" \
  --assignee-principal-type ServicePrincipal \
  --scope "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.KeyVault/vaults/acme-canton/secrets/canton-devnet-1-identities"

# mainnet-1, store `azure`: this secret of https://acme-canton.vault.azure.net and no other.
az role assignment create --role 'idkeep secret writer' --assignee-object-id "$PRINCIPAL" \
  --assignee-principal-type ServicePrincipal \
  --scope "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.KeyVault/vaults/acme-canton/secrets/canton-mainnet-1-identities"
