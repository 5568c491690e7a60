# The project whose roles these are, and whom they are given to: serviceAccount:NAME@PROJECT.iam.gserviceaccount.com
: "${PROJECT:?}" "${MEMBER:?}"

# Reads sets.
gcloud iam roles create idkeepRestorer --project="$PROJECT" --stage=GA --title=idkeepRestorer \
  --permissions=storage.objects.get,storage.objects.list

# Repository `gs`: its nodes' folders, nothing beside them.
gcloud storage buckets add-iam-policy-binding gs://acme-canton-dr --member="$MEMBER" \
  --role="projects/$PROJECT/roles/idkeepRestorer" --condition-from-file=/dev/stdin <<'EOF'
title: idkeepRestorer
expression: >-
  resource.name.startsWith('projects/_/buckets/acme-canton-dr/objects/idkeep/testnet-1/') ||
  api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('idkeep/testnet-1/')
EOF
