//! Roles and bindings for Google Cloud Storage, as `gcloud` commands.

use std::fmt::Write as _;

use super::{Place, Role};

const HEAD: &str = "\
# The project whose roles these are, and whom they are given to: serviceAccount:NAME@PROJECT.iam.gserviceaccount.com
: \"${PROJECT:?}\" \"${MEMBER:?}\"
";

/// The commands, for a shell.
pub(super) fn render(places: &[Place<'_>], role: Role) -> String {
    let mut script = HEAD.to_owned();
    match role {
        Role::Writer => {
            script.push_str("\n# Adds sets, aborts uploads that failed, reads manifests and what it verifies. It cannot overwrite or remove.\n");
            let permissions = "storage.objects.create,storage.objects.get,storage.objects.list,\
                               storage.multipartUploads.create,storage.multipartUploads.abort";
            create(&mut script, "idkeepWriter", permissions);
            script.push_str("\n# Overwriting counts as removing here: the lock's sign of life, and the note of a set that is being written.\n");
            create(&mut script, "idkeepLock", "storage.objects.delete");
        }
        Role::Expirer => {
            script.push_str(
                "\n# Reads manifests and what is verified, removes what retention lets go. It adds nothing.\n",
            );
            create(&mut script, "idkeepExpirer", "storage.objects.get,storage.objects.list,storage.objects.delete");
        }
        Role::Restorer => {
            script.push_str("\n# Reads sets.\n");
            create(&mut script, "idkeepRestorer", "storage.objects.get,storage.objects.list");
        }
    }
    for place in places {
        let _ = writeln!(script, "\n# Repository `{}`: its nodes' folders, nothing beside them.", place.repository);
        match role {
            Role::Writer => {
                bind(&mut script, place, "idkeepWriter", &of_folders(place));
                bind(&mut script, place, "idkeepLock", &of_lock(place));
            }
            Role::Expirer => bind(&mut script, place, "idkeepExpirer", &of_folders(place)),
            Role::Restorer => bind(&mut script, place, "idkeepRestorer", &of_folders(place)),
        }
    }
    script
}

fn create(script: &mut String, role: &str, permissions: &str) {
    let _ = writeln!(
        script,
        "gcloud iam roles create {role} --project=\"$PROJECT\" --stage=GA --title={role} \\\n  --permissions={permissions}"
    );
}

fn bind(script: &mut String, place: &Place<'_>, role: &str, expression: &str) {
    let bucket = place.bucket;
    let _ = writeln!(
        script,
        "gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=\"$MEMBER\" \\
  --role=\"projects/$PROJECT/roles/{role}\" --condition-from-file=/dev/stdin <<'EOF'
title: {role}
expression: >-
  {expression}
EOF"
    );
}

/// Objects in the folders, and listing them.
fn of_folders(place: &Place<'_>) -> String {
    let each = place.folders.iter().map(|folder| {
        let list = "api.getAttribute('storage.googleapis.com/objectListPrefix', '')";
        format!("{} ||\n  {list}.startsWith('{folder}')", named(place, folder))
    });
    each.collect::<Vec<_>>().join(" ||\n  ")
}

/// What a run of its own rewrites.
fn of_lock(place: &Place<'_>) -> String {
    let each = place.folders.iter().map(|folder| {
        let (lock, note) = (named(place, &format!("{folder}lock/")), named(place, folder));
        format!("{lock} ||\n  {note} && resource.name.endsWith('/pending.json')")
    });
    each.collect::<Vec<_>>().join(" ||\n  ")
}

fn named(place: &Place<'_>, folder: &str) -> String {
    format!("resource.name.startsWith('projects/_/buckets/{}/objects/{folder}')", place.bucket)
}
