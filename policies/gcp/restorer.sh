# Whom the rights are given to: serviceAccount:NAME@PROJECT.iam.gserviceaccount.com, or for workload identity in GKE
# principal://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/PROJECT.svc.id.goog/subject/ns/NAMESPACE/sa/NAME
: "${MEMBER:?}"

# Store `gcp`: project acme-canton.
# For whoever restores a node: for people, for an hour, never for the agent.
# Reads the private keys, and which versions there are.
gcloud iam roles create idkeepRestorer --project=acme-canton --stage=GA --title=idkeepRestorer \
  --permissions=secretmanager.versions.access,secretmanager.versions.list

# mainnet-1: the private keys, and the party hint that recovery needs.
gcloud secrets add-iam-policy-binding canton-mainnet-1-identities --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepRestorer
gcloud secrets add-iam-policy-binding canton-mainnet-1-identities-facts --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepRestorer

# testnet-1: the private keys, and the party hint that recovery needs.
gcloud secrets add-iam-policy-binding canton-testnet-1-identities --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepRestorer
gcloud secrets add-iam-policy-binding canton-testnet-1-identities-facts --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepRestorer
