//! What every pod has to be: the restricted level of Pod Security, and what keeps keys off disks.

use serde_json::{Value, json};

use super::example;
use crate::support::chart::{containers, render_one, values};

/// What is wrong with a pod, if anything.
pub fn complaints(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut want = |is_so: bool, what: String| {
        if !is_so {
            found.push(what);
        }
    };
    for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"] {
        want(pod[shared].is_null() || pod[shared] == false, format!("{shared}: {}", pod[shared]));
    }
    want(pod["terminationGracePeriodSeconds"] == 30, "SIGTERM takes up to 25 s".into());
    want(pod["automountServiceAccountToken"].is_boolean(), "whether there is a token is not said".into());
    want(pod["enableServiceLinks"] == false, "services in the environment".into());
    want(pod["securityContext"]["fsGroup"] == 65532, "Secrets are not readable".into());
    for volume in pod["volumes"].as_array().unwrap() {
        let kinds: Vec<&String> = volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
        let allowed = ["configMap", "secret", "projected", "emptyDir", "persistentVolumeClaim"];
        want(kinds.len() == 1 && allowed.contains(&kinds[0].as_str()), format!("a volume of {kinds:?}"));
        want(volume["emptyDir"].is_null() || volume["emptyDir"]["medium"] == "Memory", "a folder on disk".into());
        want(
            volume["emptyDir"].is_null() || volume["emptyDir"]["sizeLimit"].is_string(),
            "a folder without limit".into(),
        );
        for source in ["secret", "projected"] {
            want(volume[source].is_null() || volume[source]["defaultMode"] == 0o440, format!("the mode of {volume}"));
        }
    }
    for container in containers(pod) {
        let context = &container["securityContext"];
        for (key, wanted) in [
            ("runAsNonRoot", json!(true)),
            ("runAsUser", json!(65532)),
            ("runAsGroup", json!(65532)),
            ("readOnlyRootFilesystem", json!(true)),
            ("allowPrivilegeEscalation", json!(false)),
            ("capabilities", json!({"drop": ["ALL"]})),
            ("seccompProfile", json!({"type": "RuntimeDefault"})),
        ] {
            want(context[key] == wanted, format!("{key}: {}", context[key]));
        }
        want(context["privileged"].is_null(), "privileged".into());
        let [requested, limit] = ["requests", "limits"].map(|key| &container["resources"][key]["memory"]);
        want(limit.is_string() && requested == limit, format!("memory: {requested} of {limit}"));
        want(container["resources"]["requests"]["cpu"].is_string(), "no processor is requested".into());
        let has_host_port = container["ports"].as_array().into_iter().flatten().any(|port| !port["hostPort"].is_null());
        want(!has_host_port, "a port of the host".into());
        let mounts = container["volumeMounts"].as_array().unwrap();
        want(mounts.iter().any(|mount| mount["mountPath"] == "/tmp"), "no /tmp".into());
    }
    found
}

/// The positive control: each thing that is looked for is found where it is wrong.
#[test]
fn what_would_be_wrong_with_a_pod_is_seen() {
    let rendered = render_one(values("job", "", &example("backups.yaml")));
    let good = rendered.pod();
    assert_eq!(complaints(good), Vec::<String>::new());
    for (path, wrong) in [
        ("/hostNetwork", json!(true)),
        ("/terminationGracePeriodSeconds", json!(10)),
        ("/automountServiceAccountToken", Value::Null),
        ("/enableServiceLinks", json!(true)),
        ("/securityContext/fsGroup", json!(0)),
        ("/volumes/0", json!({"name": "a", "hostPath": {"path": "/"}})),
        ("/volumes/1/emptyDir/medium", json!("")),
        ("/volumes/0", json!({"name": "a", "secret": {"secretName": "b"}})),
        ("/containers/0/securityContext/runAsNonRoot", json!(false)),
        ("/containers/0/securityContext/runAsUser", json!(0)),
        ("/containers/0/securityContext/readOnlyRootFilesystem", json!(false)),
        ("/containers/0/securityContext/allowPrivilegeEscalation", Value::Null),
        ("/initContainers/0/securityContext/capabilities", json!({"drop": ["ALL"], "add": ["SYS_PTRACE"]})),
        ("/initContainers/0/securityContext/seccompProfile/type", json!("Unconfined")),
        ("/containers/0/resources/requests/memory", json!("1Mi")),
        ("/initContainers/0/resources/limits/memory", Value::Null),
        ("/containers/0/volumeMounts/1/mountPath", json!("/scratch")),
    ] {
        let mut pod = good.clone();
        match pod.pointer_mut(path) {
            Some(place) => *place = wrong,
            None => pod[path.trim_start_matches('/')] = wrong,
        }
        assert!(!complaints(&pod).is_empty(), "{path} is not looked at");
    }
}
