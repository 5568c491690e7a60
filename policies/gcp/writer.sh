# Whom the rights are given to: serviceAccount:NAME@PROJECT.iam.gserviceaccount.com, or for workload identity in GKE
# principal://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/PROJECT.svc.id.goog/subject/ns/NAMESPACE/sa/NAME
: "${MEMBER:?}"

# Store `gcp`: project acme-canton.
# Adds versions of the identities, and lists which there are and whether they live. Never `access`: what it wrote it
# cannot get back. Never `secrets.update`: that may set an expiry.
gcloud iam roles create idkeepIdentities --project=acme-canton --stage=GA --title=idkeepIdentities \
  --permissions=secretmanager.versions.add,secretmanager.versions.list
# Adds facts after each version, and reads them: what is stored is known from them. Lists them where the newest were
# disabled or describe another version.
gcloud iam roles create idkeepFacts --project=acme-canton --stage=GA --title=idkeepFacts \
  --permissions=secretmanager.versions.add,secretmanager.versions.access,secretmanager.versions.list

# mainnet-1: its two secrets, and the rights on exactly these.
gcloud secrets create canton-mainnet-1-identities --project=acme-canton --replication-policy=automatic
gcloud secrets create canton-mainnet-1-identities-facts --project=acme-canton --replication-policy=automatic
gcloud secrets add-iam-policy-binding canton-mainnet-1-identities --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepIdentities
gcloud secrets add-iam-policy-binding canton-mainnet-1-identities-facts --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepFacts

# testnet-1: its two secrets, and the rights on exactly these.
gcloud secrets create canton-testnet-1-identities --project=acme-canton --replication-policy=automatic
gcloud secrets create canton-testnet-1-identities-facts --project=acme-canton --replication-policy=automatic
gcloud secrets add-iam-policy-binding canton-testnet-1-identities --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepIdentities
gcloud secrets add-iam-policy-binding canton-testnet-1-identities-facts --project=acme-canton --member="$MEMBER" \
  --role=projects/acme-canton/roles/idkeepFacts

# Optional, in place of `gcloud secrets create`: the agent creates these secrets itself. It may then create any other one
# of the project, too, and until a secret is there its rights can only be bound to the project, under a condition.
#: "${PROJECT_NUMBER:?}"
#gcloud iam roles create idkeepCreator --project=acme-canton --stage=GA --title=idkeepCreator --permissions=secretmanager.secrets.create
#gcloud projects add-iam-policy-binding acme-canton --member="$MEMBER" --role=projects/acme-canton/roles/idkeepCreator --condition=None
#gcloud projects add-iam-policy-binding acme-canton --member="$MEMBER" --role=projects/acme-canton/roles/idkeepIdentities --condition="title=idkeepIdentities,expression=resource.name == 'projects/$PROJECT_NUMBER/secrets/canton-mainnet-1-identities' || resource.name.startsWith('projects/$PROJECT_NUMBER/secrets/canton-mainnet-1-identities/versions/')"
#gcloud projects add-iam-policy-binding acme-canton --member="$MEMBER" --role=projects/acme-canton/roles/idkeepFacts --condition="title=idkeepFacts,expression=resource.name == 'projects/$PROJECT_NUMBER/secrets/canton-mainnet-1-identities-facts' || resource.name.startsWith('projects/$PROJECT_NUMBER/secrets/canton-mainnet-1-identities-facts/versions/')"
#gcloud projects add-iam-policy-binding acme-canton --member="$MEMBER" --role=projects/acme-canton/roles/idkeepIdentities --condition="title=idkeepIdentities,expression=resource.name == 'projects/$PROJECT_NUMBER/secrets/canton-testnet-1-identities' || resource.name.startsWith('projects/$PROJECT_NUMBER/secrets/canton-testnet-1-identities/versions/')"
#gcloud projects add-iam-policy-binding acme-canton --member="$MEMBER" --role=projects/acme-canton/roles/idkeepFacts --condition="title=idkeepFacts,expression=resource.name == 'projects/$PROJECT_NUMBER/secrets/canton-testnet-1-identities-facts' || resource.name.startsWith('projects/$PROJECT_NUMBER/secrets/canton-testnet-1-identities-facts/versions/')"
