//! Rights in Kubernetes: a Role on exactly the Secrets of the nodes, with the reason for each verb.

use std::fmt::Write as _;

use super::{Role, nodes_of};
use crate::config::{Config, KubernetesStore, Store};

/// The rights; nothing where no node uses a store of this kind.
pub(super) fn render(config: &Config, role: Role) -> String {
    let mut manifests = String::new();
    for (name, store) in &config.stores {
        let Store::Kubernetes(kubernetes) = store else { continue };
        let nodes = nodes_of(config, name);
        if nodes.is_empty() {
            continue;
        }
        let secrets: Vec<String> = nodes
            .iter()
            .map(|(node, known)| kubernetes.secret.fill(node.as_str(), known.network.as_deref().unwrap_or_default()))
            .collect();
        let _ = writeln!(manifests, "# Store `{name}`, namespace `{}`{}", kubernetes.namespace, cluster(kubernetes));
        let manifest = if role == Role::Writer { writer } else { restorer };
        manifests.push_str(&manifest(name.as_str(), &kubernetes.namespace, &quoted(&secrets)));
    }
    manifests
}

/// Quoted: a name of digits would be a number.
fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}

fn cluster(kubernetes: &KubernetesStore) -> String {
    let context = kubernetes.context.as_ref().map(|context| format!(", context `{context}`")).unwrap_or_default();
    kubernetes.kubeconfig.as_ref().map_or(context.clone(), |file| format!(" of {}{context}", file.display()))
}

fn writer(store: &str, namespace: &str, secrets: &str) -> String {
    format!(
        r#"# Kubernetes cannot split writing from reading: `get` and `patch` both show the whole Secret to whoever asks for it.
# idkeep asks for metadata only; a stolen token need not. So seal the identities (`recipients`).
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: idkeep-writer-{store}
  namespace: "{namespace}"
rules:
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: [{secrets}]
    verbs:
      - get      # which version is current, by its annotations; and whether anybody else wrote it
      - patch    # the next version and its facts, by server-side apply
      - create   # the first version. A server-side apply has a name, so this makes no other Secret. Where you
                 # make the empty Secret yourself (`kubectl create secret generic NAME`), leave it out
# Not `list` or `watch`: they show the Secrets. Not `update` or `delete`: nothing of idkeep needs them.
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: idkeep-writer-{store}
  namespace: "{namespace}"
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: idkeep-writer-{store}}}
subjects:
  - kind: ServiceAccount
    name: idkeep   # the one that idkeep's pod, or the token of its kubeconfig, belongs to
    namespace: "{namespace}"   # and where that is
---
"#
    )
}

fn restorer(store: &str, namespace: &str, secrets: &str) -> String {
    format!(
        r#"# For whoever restores a node: for people, for an hour, never for the agent.
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: idkeep-restorer-{store}
  namespace: "{namespace}"
rules:
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: [{secrets}]
    verbs:
      - get      # the private keys, and the party hint that recovery needs
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: idkeep-restorer-{store}
  namespace: "{namespace}"
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: idkeep-restorer-{store}}}
subjects:
  - kind: User
    apiGroup: rbac.authorization.k8s.io
    name: restorer   # whoever restores
---
"#
    )
}
