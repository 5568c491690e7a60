//! Which cluster, and as whom: kubeconfigs, pods, and what is refused in them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::{Cluster, Kept as _};
use crate::support::dump::Dump;
use crate::support::idkeep::Idkeep;
use crate::support::kubernetes::{NAMESPACE, TOKEN};

/// The store without a kubeconfig of its own.
fn without_kubeconfig(cluster: &mut Cluster) {
    cluster.scenario.config.more_stores =
        format!("  cluster:\n    kubernetes: {{namespace: {NAMESPACE}, secret: '{{node}}-identities'}}\n");
    cluster.scenario.configure();
}

#[test]
fn tokens_files_and_client_certificates_log_in() {
    let cluster = Cluster::start(Dump::fresh(421));
    cluster.scenario.idkeep.file("token", format!("{TOKEN}\n").as_bytes());
    let identity = cluster.api.pki.client("idkeep");
    let base64 = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    for user in [
        // Paths count from where the kubeconfig lies.
        "{tokenFile: token}".to_owned(),
        format!("{{client-certificate: {:?}, client-key: {:?}}}", identity.certificate_file, identity.key_file),
        format!(
            "{{client-certificate-data: {}, client-key-data: {}}}",
            base64(&identity.certificate),
            base64(&identity.key)
        ),
    ] {
        cluster.kubeconfig(&cluster.api.kubeconfig(&user));
        cluster.api.delete(&cluster.name());
        assert_eq!(cluster.sync(0).store(), "written", "{user}");
    }
    // A file that has been replaced is read again.
    cluster.kubeconfig(&cluster.api.kubeconfig("{tokenFile: token}"));
    cluster.scenario.idkeep.file("token", b"another");
    let refused = cluster.sync(77);
    assert!(refused.stderr().contains("the credentials are not accepted"), "{}", refused.outcome);
}

#[test]
fn the_kubeconfig_of_the_environment_is_used_and_a_context_is_chosen() {
    let mut cluster = Cluster::start(Dump::fresh(422));
    without_kubeconfig(&mut cluster);
    let refused = cluster.sync(77);
    assert!(refused.stderr().contains("neither a kubeconfig nor a pod's service account token"), "{}", refused.outcome);
    let more = "apiVersion: v1\nkind: Config\ncontexts: [{name: other, context: {cluster: c, user: nobody}}]\n";
    let more = cluster.scenario.idkeep.secret_file("more", more.as_bytes());
    let list = format!("{}:{}", cluster.scenario.idkeep.path("kubeconfig").display(), more.display());
    cluster.scenario.idkeep.env("KUBECONFIG", list);
    assert_eq!(cluster.sync(0).store(), "written");
    let yaml = cluster.scenario.yaml().replace("-identities'", "-identities', context: other");
    cluster.scenario.idkeep.config(&yaml);
    let refused = cluster.sync(78);
    assert!(refused.stderr().contains("lacks the user that its context names"), "{}", refused.outcome);
}

/// In a mount namespace of its own, where a folder of the test's stands in the place of the pod's.
#[test]
fn a_pod_uses_its_service_account() {
    let mut cluster = Cluster::start(Dump::fresh(423));
    without_kubeconfig(&mut cluster);
    let folder = cluster.api.service_account(cluster.scenario.idkeep.folder());
    let place = "/var/run/secrets/kubernetes.io";
    let script = format!(
        "#!/bin/sh\nmount -t tmpfs none /run && mkdir -p {place} && ln -s {:?} {place}/serviceaccount && exec {:?} \"$@\"\n",
        folder,
        env!("CARGO_BIN_EXE_idkeep")
    );
    let script = cluster.scenario.idkeep.file("pod", script.as_bytes());
    let wrapper = format!("#!/bin/sh\nexec unshare -m {script:?} \"$@\"\n");
    let wrapper = cluster.scenario.idkeep.file("wrapper", wrapper.as_bytes());
    for file in [&script, &wrapper] {
        std::fs::set_permissions(file, Permissions::from_mode(0o700)).unwrap();
    }
    let mut pod = Idkeep::of(wrapper);
    pod.config(&cluster.scenario.yaml());
    pod.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    pod.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    pod.env("KUBERNETES_SERVICE_PORT", cluster.api.server.address.port().to_string());
    let outcome = pod.sync(0);
    assert_eq!(outcome.json()["nodes"][0]["stores"][0]["outcome"], "written", "{outcome}");
    assert_eq!(cluster.content().unwrap(), cluster.scenario.dump.json());
}

#[test]
fn what_a_kubeconfig_may_not_ask_for_is_named() {
    let cluster = Cluster::start(Dump::fresh(424));
    let token = format!("{{token: {TOKEN}}}");
    let good = cluster.api.kubeconfig(&token);
    let server = cluster.api.server.origin();
    for (text, says) in [
        (
            cluster.api.kubeconfig("{exec: {command: aws, apiVersion: v1}}"),
            "a program (`exec`), which idkeep does not run",
        ),
        (cluster.api.kubeconfig("{auth-provider: {name: gcp}}"), "which idkeep does not run"),
        (cluster.api.kubeconfig("{username: a, password: b}"), "no supported API server takes a user name"),
        (cluster.api.kubeconfig(&format!("{{token: {TOKEN}, as: root}}")), "impersonation (`as`) is not supported"),
        (cluster.api.kubeconfig("{}"), "neither a token nor a client certificate"),
        (cluster.api.kubeconfig("{client-key: /nowhere/key}"), "/nowhere/key"),
        (good.replace("server: ", "insecure-skip-tls-verify: true, server: "), "whoever answers would get the keys"),
        (good.replace("server: ", "tls-server-name: x, server: "), "`tls-server-name` is not supported"),
        (good.replace("server: ", "proxy-url: 'socks5://x', server: "), "`proxy-url` is neither"),
        (good.replace(&server, &server.replace("https", "http")), "has no `https://` address"),
        (good.replace("current-context: main\n", ""), "names no current context"),
        (good.replace("current-context: main", "current-context: gone"), "has no such context"),
        (good.replace("clusters: [{name: c", "clusters: [{name: d"), "lacks the cluster"),
        (good.replace("-data: ", "-data: '%%', x: "), "not base64"),
        ("[]".to_owned(), "is no kubeconfig"),
    ] {
        cluster.kubeconfig(&text);
        let refused = cluster.sync(78);
        assert!(refused.stderr().contains(says), "{says}: {}", refused.outcome);
        assert_eq!(cluster.api.server.seen().len(), 0, "{says}: the server was asked");
    }
    // It may hold keys.
    cluster.kubeconfig(&good);
    std::fs::set_permissions(cluster.scenario.idkeep.path("kubeconfig"), Permissions::from_mode(0o644)).unwrap();
    let refused = cluster.sync(78);
    assert!(refused.stderr().contains("may be read by others"), "{}", refused.outcome);
}

#[test]
fn a_server_of_another_authority_gets_nothing() {
    let cluster = Cluster::start(Dump::fresh(425));
    let other = crate::support::kubernetes::Kubernetes::start();
    cluster.kubeconfig(&other.kubeconfig_at(&cluster.api.server.origin(), &format!("{{token: {TOKEN}}}")));
    let refused = cluster.sync(78);
    assert!(refused.stderr().contains("certificate not trusted"), "{}", refused.outcome);
    assert_eq!(cluster.api.server.seen().len(), 0);
}
