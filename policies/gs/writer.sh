# The project whose roles these are, and whom they are given to: serviceAccount:NAME@PROJECT.iam.gserviceaccount.com
: "${PROJECT:?}" "${MEMBER:?}"

# Adds sets, aborts uploads that failed, reads manifests and what it verifies. It cannot overwrite or remove.
gcloud iam roles create idkeepWriter --project="$PROJECT" --stage=GA --title=idkeepWriter \
  --permissions=storage.objects.create,storage.objects.get,storage.objects.list,storage.multipartUploads.create,storage.multipartUploads.abort

# Overwriting counts as removing here: the lock's sign of life, and the note of a set that is being written.
gcloud iam roles create idkeepLock --project="$PROJECT" --stage=GA --title=idkeepLock \
  --permissions=storage.objects.delete

# Repository `gs`: its nodes' folders, nothing beside them.
gcloud storage buckets add-iam-policy-binding gs://acme-canton-dr --member="$MEMBER" \
  --role="projects/$PROJECT/roles/idkeepWriter" --condition-from-file=/dev/stdin <<'EOF'
title: idkeepWriter
expression: >-
  resource.name.startsWith('projects/_/buckets/acme-canton-dr/objects/idkeep/testnet-1/') ||
  api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('idkeep/testnet-1/')
EOF
gcloud storage buckets add-iam-policy-binding gs://acme-canton-dr --member="$MEMBER" \
  --role="projects/$PROJECT/roles/idkeepLock" --condition-from-file=/dev/stdin <<'EOF'
title: idkeepLock
expression: >-
  resource.name.startsWith('projects/_/buckets/acme-canton-dr/objects/idkeep/testnet-1/lock/') ||
  resource.name.startsWith('projects/_/buckets/acme-canton-dr/objects/idkeep/testnet-1/') && resource.name.endsWith('/pending.json')
EOF
