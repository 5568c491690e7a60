//! A role and its assignments for Azure Blob Storage, as JSON for `az role`.

use serde_json::json;

use super::{Place, Role};

const BLOBS: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs";

/// One definition, and one assignment for each container.
pub(super) fn render(places: &[Place<'_>], role: Role) -> String {
    let (name, description, actions): (_, _, &[&str]) = match role {
        Role::Writer => (
            "idkeep writer",
            "Adds sets and holds the lock, reads manifests and what it verifies; removes nothing.",
            &["read", "write"],
        ),
        Role::Expirer => (
            "idkeep expirer",
            "Reads manifests and what is verified, removes what retention lets go; adds nothing.",
            &["read", "delete"],
        ),
        Role::Restorer => ("idkeep restorer", "Reads sets.", &["read"]),
    };
    let assignments = places.iter().map(|place| {
        json!({
            "repository": place.repository.as_str(),
            "description": "Its nodes' folders, nothing beside them.",
            "roleDefinitionName": name,
            "scope": format!("{GROUP}/providers/Microsoft.Storage/storageAccounts/ACCOUNT/blobServices/default/containers/{}", place.bucket),
            "condition": condition(place, actions),
            "conditionVersion": "2.0",
        })
    });
    let policy = json!({
        "roleDefinition": {
            "Name": name,
            "IsCustom": true,
            "Description": description,
            "Actions": [],
            "NotActions": [],
            "DataActions": actions.iter().map(|action| format!("{BLOBS}/{action}")).collect::<Vec<_>>(),
            "NotDataActions": [],
            "AssignableScopes": [GROUP],
        },
        "roleAssignments": assignments.collect::<Vec<_>>(),
    });
    format!("{policy:#}\n")
}

const GROUP: &str = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP";

/// Blobs by their path, lists by the prefix that is asked for.
fn condition(place: &Place<'_>, actions: &[&str]) -> String {
    let any = |attribute: &str| {
        let each = place.folders.iter().map(|folder| format!("{attribute} StringStartsWith '{folder}'"));
        each.collect::<Vec<_>>().join(" OR ")
    };
    let others = actions.iter().map(|action| match *action {
        "read" => format!("!(ActionMatches{{'{BLOBS}/read'}} AND NOT SubOperationMatches{{'Blob.List'}})"),
        action => format!("!(ActionMatches{{'{BLOBS}/{action}'}})"),
    });
    let others = others.collect::<Vec<_>>().join(" AND ");
    let list = format!("!(ActionMatches{{'{BLOBS}/read'}} AND SubOperationMatches{{'Blob.List'}})");
    let path = any(&format!("@Resource[{BLOBS}:path]"));
    let prefix = any(&format!("@Request[{BLOBS}:prefix]"));
    format!("(({others}) OR ({path})) AND (({list}) OR ({prefix}))")
}
