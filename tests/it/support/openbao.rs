//! A real OpenBao, started for the tests and set up over its API with the root token.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::pki::{Identity, Pki};
use super::process::{self, Server};
use super::server::{self, Reply, Seen};
use super::{jwt, parts, wait_for};

/// Starting takes 0.2 s on an idle machine; a busy one may need far longer.
const START: Duration = Duration::from_secs(60);

/// A running server with KV v2 at `secret/` and a file audit device.
pub struct OpenBao {
    pub address: String,
    pub root_token: String,
    /// The authority that signed its certificate, for those with TLS.
    pub ca_file: Option<PathBuf>,
    client: Client,
    process: Server,
    kind: Kind,
    port: u16,
    unseal_key: Option<String>,
    pki: Pki,
    folder: TempDir,
    token_review: Option<server::Server>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dev,
    Tls,
    Raft,
}

/// What a secret's current version holds.
#[derive(Debug)]
pub struct Stored {
    pub data: Value,
    pub version: u64,
}

impl OpenBao {
    /// In memory, over plain HTTP, unsealed: up in 0.2 s.
    pub fn dev() -> Self {
        Self::start(Kind::Dev)
    }

    /// In memory, over TLS; asks for client certificates, so that [`OpenBao::cert_auth`] works.
    pub fn tls() -> Self {
        Self::start(Kind::Tls)
    }

    /// On disk with raft, over TLS: survives [`OpenBao::restart`] and limits a value's size. Up in some seconds.
    pub fn raft() -> Self {
        Self::start(Kind::Raft)
    }

    fn start(kind: Kind) -> Self {
        let mut folder = tempfile::tempdir().unwrap();
        let mut pki = Pki::new();
        let identity = pki.server();
        let mut tries = 0..5;
        loop {
            let last = tries.next() == Some(4);
            let port = process::free_port();
            std::fs::write(folder.path().join("bao.hcl"), configuration(kind, port, folder.path(), &identity)).unwrap();
            let root_token = format!("root-{:016x}", fastrand::u64(..));
            let process = launch(kind, port, folder.path(), &root_token);
            let ca_file = (kind != Kind::Dev).then(|| pki.ca_file());
            let scheme = if kind == Kind::Dev { "http" } else { "https" };
            let client = Client::new(ca_file.as_deref());
            let address = format!("{scheme}://127.0.0.1:{port}");
            let mut bao = Self {
                address,
                root_token,
                ca_file,
                client,
                process,
                kind,
                port,
                unseal_key: None,
                pki,
                folder,
                token_review: None,
            };
            if bao.is_up() {
                bao.prepare();
                return bao;
            }
            // Somebody else may have taken the port in between; anything else fails in the same way again.
            assert!(!last, "OpenBao did not start:\n{}", bao.log());
            pki = bao.pki;
            folder = bao.folder;
        }
    }

    /// Whether it answers before it ends.
    fn is_up(&mut self) -> bool {
        let health = format!("{}/v1/sys/health", self.address);
        wait_for("OpenBao", START, || {
            if !self.process.is_running() {
                return Some(false);
            }
            self.client.get(&health).is_ok().then_some(true)
        })
    }

    fn prepare(&mut self) {
        if self.kind != Kind::Dev {
            let (status, keys) = self.api("PUT", "sys/init", json!({"secret_shares": 1, "secret_threshold": 1}));
            assert_eq!(status, 200, "{keys}");
            keys["root_token"].as_str().unwrap().clone_into(&mut self.root_token);
            self.unseal_key = Some(keys["keys_base64"][0].as_str().unwrap().to_owned());
            self.unseal();
            self.must("POST", "sys/mounts/secret", json!({"type": "kv", "options": {"version": "2"}}));
        }
        self.wait_until_ready();
    }

    /// A raft node elects itself first, and a new KV v2 mount upgrades itself first.
    fn wait_until_ready(&self) {
        wait_for("KV v2 of OpenBao", START, || (self.api("GET", "secret/config", None).0 == 200).then_some(()));
    }

    /// Ends the server and starts it again at the same address, unsealed. What was in memory is gone.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.kind, self.port, self.folder.path(), &self.root_token);
        assert!(self.is_up(), "OpenBao did not start again:\n{}", self.log());
        match self.kind {
            Kind::Dev => self.wait_until_ready(),
            Kind::Tls => self.prepare(),
            Kind::Raft => {
                self.unseal();
                self.wait_until_ready();
            }
        }
    }

    /// Ends the server; its address refuses connections until [`OpenBao::restart`].
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Stops the process where it is, so that whoever asks waits; [`OpenBao::resume`] lets it go on.
    pub fn pause(&self) {
        self.process.pause();
    }

    pub fn resume(&self) {
        self.process.resume();
    }

    pub fn seal(&self) {
        self.must("PUT", "sys/seal", None);
    }

    pub fn unseal(&self) {
        let key = self.unseal_key.as_ref().expect("a dev server has no unseal key to give");
        self.must("PUT", "sys/unseal", json!({ "key": key }));
        wait_for("OpenBao unsealed", START, || (self.api("GET", "sys/health", None).0 == 200).then_some(()));
    }

    /// A request with the root token; the path comes after `/v1/`.
    pub fn api(&self, method: &str, path: &str, body: impl Into<Option<Value>>) -> (u16, Value) {
        self.api_as(&self.root_token, None, method, path, body)
    }

    /// The same with another token, and perhaps in a namespace.
    pub fn api_as(
        &self,
        token: &str,
        namespace: Option<&str>,
        method: &str,
        path: &str,
        body: impl Into<Option<Value>>,
    ) -> (u16, Value) {
        let mut headers = vec![("x-vault-token", token)];
        headers.extend(namespace.map(|name| ("x-vault-namespace", name)));
        self.send(&headers, method, path, body.into())
    }

    fn send(&self, headers: &[(&str, &str)], method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/v1/{path}", self.address);
        let answer = self.client.send(method, &url, headers, body.map(|body| body.to_string().into_bytes()));
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}\n{}", self.log()));
        (answer.status, answer.json())
    }

    /// A request that has to succeed.
    pub fn must(&self, method: &str, path: &str, body: impl Into<Option<Value>>) -> Value {
        let (status, answer) = self.api(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub fn policy(&self, name: &str, hcl: &str) {
        self.must("PUT", &format!("sys/policies/acl/{name}"), json!({ "policy": hcl }));
    }

    /// Enables an auth method at the mount of its own name, once.
    pub fn enable_auth(&self, kind: &str) {
        let mounts = self.must("GET", "sys/auth", None);
        if mounts["data"].get(format!("{kind}/")).is_none() {
            self.must("POST", &format!("sys/auth/{kind}"), json!({ "type": kind }));
        }
    }

    /// A token with these policies that anybody may have made by hand.
    pub fn token(&self, policies: &[&str], ttl: &str) -> String {
        let body = json!({"policies": policies, "ttl": ttl, "no_default_policy": false});
        text(&self.must("POST", "auth/token/create", body)["auth"]["client_token"])
    }

    /// A role and its `(role_id, secret_id)`; `extra` is merged into the role, such as `{"token_ttl": "1s"}`.
    pub fn approle(&self, role: &str, policies: &[&str], extra: Value) -> (String, String) {
        self.enable_auth("approle");
        let path = format!("auth/approle/role/{role}");
        self.must("POST", &path, merged(json!({ "token_policies": policies }), extra));
        let role_id = self.must("GET", &format!("{path}/role-id"), None);
        let secret_id = self.must("POST", &format!("{path}/secret-id"), None);
        (text(&role_id["data"]["role_id"]), text(&secret_id["data"]["secret_id"]))
    }

    /// A secret id of the role inside a wrapping token, which opens once.
    pub fn wrapped_secret_id(&self, role: &str) -> String {
        let headers = [("x-vault-token", self.root_token.as_str()), ("x-vault-wrap-ttl", "300s")];
        let (status, answer) = self.send(&headers, "POST", &format!("auth/approle/role/{role}/secret-id"), None);
        assert_eq!(status, 200, "{answer}");
        text(&answer["wrap_info"]["token"])
    }

    /// Trusts JWTs of the synthetic issuer key ([`OpenBao::mint`]) for one role.
    pub fn jwt_auth(&self, role: &str, policies: &[&str], audience: &str) {
        self.enable_auth("jwt");
        self.must("POST", "auth/jwt/config", json!({ "jwt_validation_pubkeys": [jwt::public_pem()] }));
        let body = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": [audience], "token_policies": policies,
        });
        self.must("POST", &format!("auth/jwt/role/{role}"), body);
    }

    /// A JWT for [`OpenBao::jwt_auth`].
    pub fn mint(audience: &str, subject: &str, lifetime: u64) -> String {
        let now = jwt::now();
        jwt::mint(&json!({"aud": audience, "sub": subject, "iat": now, "exp": now + lifetime}))
    }

    /// Trusts the service account `namespace/account` for one role, as reviewed by a small API server of our own.
    /// Returns the service account's token, good for an hour.
    pub fn kubernetes_auth(&mut self, role: &str, policies: &[&str], namespace: &str, account: &str) -> String {
        let now = jwt::now();
        let subject = format!("system:serviceaccount:{namespace}:{account}");
        // Kubernetes writes `aud` as an array, and OpenBao insists.
        let token = jwt::mint(&json!({
            "iss": "https://kubernetes.default.svc", "aud": ["openbao"], "sub": subject, "iat": now, "exp": now + 3600,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": "0-0-0"}},
        }));
        let review = server::Server::plain(token_review(token.clone(), subject));
        self.enable_auth("kubernetes");
        let body = json!({
            "kubernetes_host": review.origin(), "disable_local_ca_jwt": true, "token_reviewer_jwt": token,
            "kubernetes_ca_cert": self.pki.ca_pem(),
        });
        self.must("POST", "auth/kubernetes/config", body);
        let body = json!({
            "bound_service_account_names": [account], "bound_service_account_namespaces": [namespace],
            "audience": "openbao", "token_policies": policies,
        });
        self.must("POST", &format!("auth/kubernetes/role/{role}"), body);
        self.token_review = Some(review);
        token
    }

    /// Trusts a client certificate for one role; needs [`OpenBao::tls`] or [`OpenBao::raft`].
    pub fn cert_auth(&self, role: &str, policies: &[&str]) -> Identity {
        assert!(self.ca_file.is_some(), "certificates need TLS");
        self.enable_auth("cert");
        let body = json!({
            "certificate": self.pki.ca_pem(), "allowed_common_names": [role], "token_policies": policies,
        });
        self.must("POST", &format!("auth/cert/certs/{role}"), body);
        self.pki.client(role)
    }

    /// The current version of a secret under `secret/`; none if it is missing, deleted or destroyed.
    pub fn kv_get(&self, path: &str) -> Option<Stored> {
        let (status, answer) = self.api("GET", &format!("secret/data/{path}"), None);
        let version = answer["data"]["metadata"]["version"].as_u64();
        (status == 200).then(|| Stored { data: answer["data"]["data"].clone(), version: version.unwrap() })
    }

    pub fn kv_version(&self, path: &str, version: u64) -> Option<Value> {
        let (status, answer) = self.api("GET", &format!("secret/data/{path}?version={version}"), None);
        (status == 200).then(|| answer["data"]["data"].clone())
    }

    /// The metadata's `data`: `current_version`, `versions`, `custom_metadata` and the rest.
    pub fn kv_metadata(&self, path: &str) -> Option<Value> {
        let (status, answer) = self.api("GET", &format!("secret/metadata/{path}"), None);
        (status == 200).then(|| answer["data"].clone())
    }

    /// Writes a version as somebody else would, and returns its number.
    pub fn kv_put(&self, path: &str, data: Value) -> u64 {
        let answer = self.must("POST", &format!("secret/data/{path}"), json!({ "data": data }));
        answer["data"]["version"].as_u64().unwrap()
    }

    pub fn kv_put_metadata(&self, path: &str, metadata: Value) {
        self.must("POST", &format!("secret/metadata/{path}"), metadata);
    }

    /// Deletes the current version; the metadata stays.
    pub fn kv_delete(&self, path: &str) {
        self.must("DELETE", &format!("secret/data/{path}"), None);
    }

    pub fn kv_destroy(&self, path: &str, version: u64) {
        self.must("POST", &format!("secret/destroy/{path}"), json!({ "versions": [version] }));
    }

    /// A namespace with a KV v2 mount at `secret/`.
    pub fn namespace(&self, name: &str) {
        self.must("POST", &format!("sys/namespaces/{name}"), None);
        let mount = json!({"type": "kv", "options": {"version": "2"}});
        let (status, answer) = self.api_as(&self.root_token, Some(name), "POST", "sys/mounts/secret", mount);
        assert_eq!(status, 204, "{answer}");
        let ready = || self.api_as(&self.root_token, Some(name), "GET", "secret/config", None).0 == 200;
        wait_for("KV v2 of the namespace", START, || ready().then_some(()));
    }

    /// At most that many requests a second for everything under a path or mount (empty: everywhere), else 429.
    pub fn rate_limit(&self, path: &str, rate: f64) {
        self.must("POST", "sys/quotas/rate-limit/test", json!({"rate": rate, "interval": "1s", "path": path}));
    }

    pub fn remove_rate_limit(&self) {
        self.must("DELETE", "sys/quotas/rate-limit/test", None);
    }

    /// All requests and answers so far, one JSON document a line.
    pub fn audit_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default()
    }

    /// The audited requests as `(operation, path)`, those of the root token left out.
    pub fn audited(&self) -> Vec<(String, String)> {
        let log = self.audit_log();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let others = entries.filter(|entry| entry["type"] == "request" && !is_root(entry));
        others.map(|entry| (text(&entry["request"]["operation"]), text(&entry["request"]["path"]))).collect()
    }

    /// How many service tokens the server holds, its root token included.
    pub fn tokens(&self) -> usize {
        self.must("LIST", "auth/token/accessors", None)["data"]["keys"].as_array().map_or(0, Vec::len)
    }

    pub fn log(&self) -> String {
        process::log_of(&self.folder.path().join("bao.log"))
    }

    pub fn pki(&self) -> &Pki {
        &self.pki
    }
}

/// The least rights that idkeep needs for one path under `secret/`.
pub fn writer_policy(path: &str) -> String {
    format!(
        r#"
path "secret/data/{path}" {{ capabilities = ["create", "update"] }}
path "secret/metadata/{path}" {{
  capabilities = ["create", "read", "update"]
  allowed_parameters = {{ "custom_metadata" = [] }}
}}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
path "auth/token/renew-self" {{ capabilities = ["update"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
"#
    )
}

fn launch(kind: Kind, port: u16, folder: &Path, root_token: &str) -> Server {
    let start = Server::start(&parts::bao(), &folder.join("bao.log"), |command| {
        // It writes to its home; a proxy of the machine has no business here.
        command.env("HOME", folder).env("PATH", "/usr/bin:/bin").current_dir(folder);
        command.arg("server").arg("-config=bao.hcl");
        if kind == Kind::Dev {
            command.arg("-dev").arg("-dev-no-store-token");
            command
                .arg(format!("-dev-root-token-id={root_token}"))
                .arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        }
    });
    start.unwrap_or_else(|error| panic!("OpenBao: {error}"))
}

fn configuration(kind: Kind, port: u16, folder: &Path, identity: &Identity) -> String {
    let mut hcl = format!("audit \"file\" \"log\" {{ options {{ file_path = {:?} }} }}\n", folder.join("audit.log"));
    if kind == Kind::Dev {
        return hcl;
    }
    let _ = write!(
        hcl,
        "listener \"tcp\" {{\n address = \"127.0.0.1:{port}\"\n tls_cert_file = {:?}\n tls_key_file = {:?}\n}}\n",
        identity.certificate_file, identity.key_file
    );
    if kind == Kind::Tls {
        return hcl + "storage \"inmem\" {}\n";
    }
    let data = folder.join("raft");
    std::fs::create_dir_all(&data).unwrap();
    let cluster = process::free_port();
    let _ = write!(
        hcl,
        "storage \"raft\" {{\n path = {data:?}\n node_id = \"one\"\n}}\n\
         cluster_addr = \"https://127.0.0.1:{cluster}\"\napi_addr = \"https://127.0.0.1:{port}\"\n"
    );
    hcl
}

/// The one call of a Kubernetes API server that OpenBao makes: who is this token?
fn token_review(token: String, subject: String) -> impl Fn(Seen) -> std::future::Ready<Reply> + Send + Sync + 'static {
    move |seen| {
        let asked: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let is_review = seen.method == "POST" && seen.path == "/apis/authentication.k8s.io/v1/tokenreviews";
        let status = if asked["spec"]["token"] == token.as_str() {
            json!({"authenticated": true, "audiences": ["openbao"], "user": {"username": subject, "uid": "0-0-0"}})
        } else {
            json!({"authenticated": false, "error": "unknown token"})
        };
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status});
        std::future::ready(if is_review { Reply::json(201, &review) } else { Reply::empty(404) })
    }
}

fn is_root(entry: &Value) -> bool {
    entry["auth"]["policies"].as_array().is_some_and(|policies| policies.iter().any(|policy| policy == "root"))
}

fn merged(mut into: Value, extra: Value) -> Value {
    if let (Some(into), Value::Object(extra)) = (into.as_object_mut(), extra) {
        into.extend(extra);
    }
    into
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
