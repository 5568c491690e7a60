{
  "roleAssignments": [
    {
      "condition": "((!(ActionMatches{'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'} AND NOT SubOperationMatches{'Blob.List'}) AND !(ActionMatches{'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete'})) OR (@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path] StringStartsWith 'idkeep/devnet-1/')) AND ((!(ActionMatches{'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'} AND SubOperationMatches{'Blob.List'})) OR (@Request[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:prefix] StringStartsWith 'idkeep/devnet-1/'))",
      "conditionVersion": "2.0",
      "description": "Its nodes' folders, nothing beside them.",
      "repository": "az",
      "roleDefinitionName": "idkeep expirer",
      "scope": "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Storage/storageAccounts/ACCOUNT/blobServices/default/containers/acme-canton-dr"
    }
  ],
  "roleDefinition": {
    "Actions": [],
    "AssignableScopes": [
      "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP"
    ],
    "DataActions": [
      "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
      "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete"
    ],
    "Description": "Reads manifests and what is verified, removes what retention lets go; adds nothing.",
    "IsCustom": true,
    "Name": "idkeep expirer",
    "NotActions": [],
    "NotDataActions": []
  }
}
