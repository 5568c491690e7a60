# The project whose roles these are, and whom they are given to: serviceAccount:NAME@PROJECT.iam.gserviceaccount.com
: "${PROJECT:?}" "${MEMBER:?}"

# Reads manifests and what is verified, removes what retention lets go. It adds nothing.
gcloud iam roles create idkeepExpirer --project="$PROJECT" --stage=GA --title=idkeepExpirer \
  --permissions=storage.objects.get,storage.objects.list,storage.objects.delete

# Repository `gs`: its nodes' folders, nothing beside them.
gcloud storage buckets add-iam-policy-binding gs://acme-canton-dr --member="$MEMBER" \
  --role="projects/$PROJECT/roles/idkeepExpirer" --condition-from-file=/dev/stdin <<'EOF'
title: idkeepExpirer
expression: >-
  resource.name.startsWith('projects/_/buckets/acme-canton-dr/objects/idkeep/testnet-1/') ||
  api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('idkeep/testnet-1/')
EOF
