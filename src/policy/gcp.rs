//! Roles and bindings for Google Secret Manager, as `gcloud` commands.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Role, nodes_of};
use crate::config::{Config, GcpStore, Store};

const HEAD: &str = "\
# Whom the rights are given to: serviceAccount:NAME@PROJECT.iam.gserviceaccount.com, or for workload identity in GKE
# principal://iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/PROJECT.svc.id.goog/subject/ns/NAMESPACE/sa/NAME
: \"${MEMBER:?}\"
";

const IDENTITIES: &str = "idkeepIdentities";
const FACTS: &str = "idkeepFacts";
const KEEP: &str = "idkeepKeep";
const CREATOR: &str = "idkeepCreator";
const RESTORER: &str = "idkeepRestorer";

/// One secret of one node.
struct Secret<'a> {
    node: &'a str,
    name: String,
}

/// Roles that the script has defined already, each with its project: gcloud defines none twice.
type Defined = BTreeSet<(String, &'static str)>;

fn is_new(defined: &mut Defined, store: &GcpStore, role: &'static str) -> bool {
    defined.insert((store.project.clone(), role))
}

/// The commands, for a shell; nothing where no node uses a store of this kind.
pub(super) fn render(config: &Config, role: Role) -> String {
    let mut script = String::new();
    let mut defined = Defined::new();
    for (name, store) in &config.stores {
        let Store::Gcp(store) = store else { continue };
        let nodes = nodes_of(config, name);
        if nodes.is_empty() {
            continue;
        }
        if script.is_empty() {
            script.push_str(HEAD);
        }
        let _ = writeln!(script, "\n# Store `{name}`: project {}{}.", store.project, region(store));
        let secrets: Vec<Secret<'_>> = nodes
            .iter()
            .map(|(node, its)| Secret {
                node: node.as_str(),
                name: store.secret.fill(node.as_str(), its.network.as_deref().unwrap_or_default()),
            })
            .collect();
        match role {
            Role::Writer => writer(&mut script, store, &secrets, &mut defined),
            _ => restorer(&mut script, store, &secrets, &mut defined),
        }
    }
    script
}

fn region(store: &GcpStore) -> String {
    store.location.as_ref().map(|region| format!(", region {region}")).unwrap_or_default()
}

fn writer(script: &mut String, store: &GcpStore, secrets: &[Secret<'_>], defined: &mut Defined) {
    if is_new(defined, store, IDENTITIES) {
        script.push_str(
            "# Adds versions of the identities, and lists which there are and whether they live. Never `access`: what it wrote it\n\
             # cannot get back. Never `secrets.update`: that may set an expiry.\n",
        );
        define(script, store, IDENTITIES, &["secretmanager.versions.add", "secretmanager.versions.list"]);
        script.push_str(
            "# Adds facts after each version, and reads them: what is stored is known from them. Lists them where the newest were\n\
             # disabled or describe another version.\n",
        );
        let rights = ["secretmanager.versions.add", "secretmanager.versions.access", "secretmanager.versions.list"];
        define(script, store, FACTS, &rights);
    }
    if store.keep_versions.is_some() && is_new(defined, store, KEEP) {
        script.push_str(
            "# `keep_versions`: disables old versions of the identities, which can be undone. Never `destroy`.\n",
        );
        define(script, store, KEEP, &["secretmanager.versions.disable"]);
    }
    for secret in secrets {
        let _ = writeln!(script, "\n# {}: its two secrets, and the rights on exactly these.", secret.node);
        create(script, store, &secret.name);
        create(script, store, &facts_of(secret));
        bind(script, store, &secret.name, IDENTITIES);
        bind(script, store, &facts_of(secret), FACTS);
        if store.keep_versions.is_some() {
            bind(script, store, &secret.name, KEEP);
        }
    }
    creating(script, store, secrets, defined);
}

fn restorer(script: &mut String, store: &GcpStore, secrets: &[Secret<'_>], defined: &mut Defined) {
    script.push_str("# For whoever restores a node: for people, for an hour, never for the agent.\n");
    if is_new(defined, store, RESTORER) {
        script.push_str("# Reads the private keys, and which versions there are.\n");
        define(script, store, RESTORER, &["secretmanager.versions.access", "secretmanager.versions.list"]);
    }
    for secret in secrets {
        let _ = writeln!(script, "\n# {}: the private keys, and the party hint that recovery needs.", secret.node);
        bind(script, store, &secret.name, RESTORER);
        bind(script, store, &facts_of(secret), RESTORER);
    }
}

fn facts_of(secret: &Secret<'_>) -> String {
    format!("{}-facts", secret.name)
}

fn define(script: &mut String, store: &GcpStore, role: &str, permissions: &[&str]) {
    let _ = writeln!(
        script,
        "gcloud iam roles create {role} --project={} --stage=GA --title={role} \\\n  --permissions={}",
        store.project,
        permissions.join(",")
    );
}

/// The flags that name where a secret lies.
fn place(store: &GcpStore) -> String {
    let region = store.location.as_ref().map(|region| format!(" --location={region}")).unwrap_or_default();
    format!("--project={}{region}", store.project)
}

/// As idkeep itself would create it.
fn create(script: &mut String, store: &GcpStore, name: &str) {
    let _ = write!(script, "gcloud secrets create {name} {}", place(store));
    if !store.labels.is_empty() {
        let labels: Vec<String> = store.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let _ = write!(script, " --labels={}", labels.join(","));
    }
    let key = |flag: &str| store.kms_key.as_ref().map(|key| format!(" {flag}={key}")).unwrap_or_default();
    match (&store.location, store.replicas.as_slice()) {
        (Some(_), _) => script.push_str(&key("--regional-kms-key-name")),
        (None, []) => {
            let _ = write!(script, " --replication-policy=automatic{}", key("--kms-key-name"));
        }
        (None, replicas) if store.kms_key.is_none() => {
            let _ = write!(script, " --replication-policy=user-managed --locations={}", replicas.join(","));
        }
        // gcloud takes the key of a replica from a file alone. What is configured holds nothing that a shell would mind.
        (None, replicas) => {
            let replicas: Vec<_> = replicas
                .iter()
                .map(|region| {
                    serde_json::json!({"location": region, "customerManagedEncryption": {"kmsKeyName": store.kms_key}})
                })
                .collect();
            let policy = serde_json::json!({"userManaged": {"replicas": replicas}});
            let at = script.rfind('\n').map_or(0, |end| end + 1);
            script.insert_str(at, &format!("echo '{policy}' | "));
            script.push_str(" --replication-policy-file=/dev/stdin");
        }
    }
    script.push('\n');
}

fn bind(script: &mut String, store: &GcpStore, secret: &str, role: &str) {
    let _ = writeln!(
        script,
        "gcloud secrets add-iam-policy-binding {secret} {} --member=\"$MEMBER\" \\\n  --role=projects/{}/roles/{role}",
        place(store),
        store.project
    );
}

/// Lines that are commented out: a right to create is one on the whole project, and so are the others then.
fn creating(script: &mut String, store: &GcpStore, secrets: &[Secret<'_>], defined: &mut Defined) {
    let project = &store.project;
    script.push_str(
        "\n# Optional, in place of `gcloud secrets create`: the agent creates these secrets itself. It may then create any other one\n\
         # of the project, too, and until a secret is there its rights can only be bound to the project, under a condition.\n\
         #: \"${PROJECT_NUMBER:?}\"\n",
    );
    if is_new(defined, store, CREATOR) {
        let _ = writeln!(
            script,
            "#gcloud iam roles create {CREATOR} --project={project} --stage=GA --title={CREATOR} --permissions=secretmanager.secrets.create"
        );
        let _ = writeln!(
            script,
            "#gcloud projects add-iam-policy-binding {project} --member=\"$MEMBER\" --role=projects/{project}/roles/{CREATOR} --condition=None"
        );
    }
    let region = store.location.as_ref().map(|region| format!("/locations/{region}")).unwrap_or_default();
    for secret in secrets {
        let keep = store.keep_versions.map(|_| (KEEP, secret.name.clone()));
        for (role, name) in [(IDENTITIES, secret.name.clone()), (FACTS, facts_of(secret))].into_iter().chain(keep) {
            let resource = format!("projects/$PROJECT_NUMBER{region}/secrets/{name}");
            let _ = writeln!(
                script,
                "#gcloud projects add-iam-policy-binding {project} --member=\"$MEMBER\" --role=projects/{project}/roles/{role} \
                 --condition=\"title={role},expression=resource.name == '{resource}' || resource.name.startsWith('{resource}/versions/')\""
            );
        }
    }
}
