//! Which cluster, and as whom: a kubeconfig that is named, else the pod's own cluster, else the user's kubeconfig.
//!
//! Programs that print credentials (`exec`) are not run, and what would weaken TLS is refused, never ignored.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Cluster as Server, Kubeconfig};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::config::{Address, KubernetesStore, Proxy, Tls};
use crate::http::{Error, Http, Pem};
use crate::secret;
use crate::store::cloud::Reason;

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An API server, the client that trusts it, and what is shown to it.
pub(super) struct Cluster {
    pub(super) address: Address,
    pub(super) client: reqwest::Client,
    /// None where the client's certificate says who it is.
    pub(super) token: Option<Token>,
}

/// A bearer token.
pub(super) enum Token {
    /// Read again for each request: the kubelet replaces it.
    File(PathBuf),
    /// As the kubeconfig holds it.
    Inline(SecretString),
}

/// What the process finds around itself.
struct Around<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    service_account: &'a Path,
}

/// Where the cluster is described.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// In these files, of which the first that says something counts.
    Kubeconfig(Vec<PathBuf>),
    /// In the pod: the API server's address; CA and token lie in the folder.
    Pod(Address),
}

impl Cluster {
    /// Reads what describes it; asks nothing yet.
    pub(super) fn load(config: &KubernetesStore, http: &Http) -> Result<Self, Reason> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let around = Around { env: &env, service_account: Path::new(SERVICE_ACCOUNT) };
        match around.source(config.kubeconfig.as_deref())? {
            Source::Kubeconfig(files) => Ok(Self::of_kubeconfig(&files, config.context.as_deref())?),
            Source::Pod(address) => Ok(Self::of_pod(address, around.service_account, http)?),
        }
    }

    fn of_pod(address: Address, folder: &Path, http: &Http) -> Result<Self, Error> {
        let tls = Tls { ca_file: Some(folder.join("ca.crt")), ..Tls::default() };
        let client = http.client(&address, &tls, None)?;
        Ok(Self { address, client, token: Some(Token::File(folder.join("token"))) })
    }

    fn of_kubeconfig(files: &[PathBuf], context: Option<&str>) -> Result<Self, Error> {
        // Messages name the file; of several, the first.
        let path = files.first().map_or(Path::new(""), PathBuf::as_path);
        let wrong = |why: &'static str| Error::Pem { path: path.into(), why };
        let mut merged = Kubeconfig::default();
        for file in files {
            merged = merged.merge(read(file)?).map_err(|_| wrong("does not go together with the others"))?;
        }
        let name = context.or(merged.current_context.as_deref());
        let name = name.ok_or_else(|| wrong("names no current context: set `context` in the store"))?;
        let context = merged.contexts.into_iter().find(|context| context.name == name);
        let context = context.and_then(|named| named.context).ok_or_else(|| wrong("has no such context"))?;
        let server = merged.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
        let server =
            server.and_then(|named| named.cluster).ok_or_else(|| wrong("lacks the cluster that its context names"))?;
        let user = merged.auth_infos.into_iter().find(|user| Some(&user.name) == context.user.as_ref());
        let user =
            user.and_then(|named| named.auth_info).ok_or_else(|| wrong("lacks the user that its context names"))?;
        if let Some(why) = refused(&server, &user) {
            return Err(wrong(why));
        }
        let address: Option<Address> = server.server.as_deref().and_then(|address| address.parse().ok());
        let address = address.filter(|address| !address.is_plain());
        let address = address.ok_or_else(|| wrong("its cluster has no `https://` address as `server`"))?;
        let proxy = match server.proxy_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => {
                let url = url.parse().map_err(|_| wrong("its `proxy-url` is neither http:// nor https://"))?;
                Some(Proxy { url, no_proxy: Vec::new() })
            }
            None => None,
        };
        let pem = Pem { roots: roots(&server, path)?, identity: identity(&user, path)? };
        let token = match (user.token_file, user.token) {
            (Some(file), _) => Some(Token::File(file.into())),
            (None, Some(token)) => Some(Token::Inline(token)),
            (None, None) if pem.identity.is_none() => {
                return Err(wrong("its user has neither a token nor a client certificate"));
            }
            (None, None) => None,
        };
        let client = pem.client(&address, proxy.as_ref(), path)?;
        Ok(Self { address, client, token })
    }
}

impl Token {
    pub(super) fn read(&self) -> Result<SecretString, secret::Error> {
        match self {
            Self::File(file) => secret::guarded_text(file),
            Self::Inline(token) => Ok(token.clone()),
        }
    }
}

impl Around<'_> {
    /// What is named wins over what is found, and the pod's own cluster over a home folder.
    fn source(&self, named: Option<&Path>) -> Result<Source, Reason> {
        if let Some(named) = named {
            return Ok(Source::Kubeconfig(vec![named.into()]));
        }
        if let Some(list) = (self.env)("KUBECONFIG") {
            let files: Vec<PathBuf> = std::env::split_paths(&list).filter(|file| file.exists()).collect();
            if files.is_empty() {
                return Err(Reason::NoCredentials("none of the files that KUBECONFIG names is there"));
            }
            return Ok(Source::Kubeconfig(files));
        }
        let pod = (self.env)("KUBERNETES_SERVICE_HOST").zip((self.env)("KUBERNETES_SERVICE_PORT"));
        if let Some((host, port)) = pod.filter(|_| self.service_account.join("token").exists()) {
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            let address = format!("https://{host}:{port}").parse();
            return address.map(Source::Pod).map_err(|_| {
                Reason::Rejected("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not an address")
            });
        }
        let home = (self.env)("HOME").map(|home| Path::new(&home).join(".kube/config"));
        home.filter(|file| file.exists()).map(|file| Source::Kubeconfig(vec![file])).ok_or(Reason::NoCredentials(
            "neither a kubeconfig nor a pod's service account token was found (is `automountServiceAccountToken` off?)",
        ))
    }
}

/// One file, with the paths in it counted from where it lies. It may hold keys, so others may not read it.
fn read(file: &Path) -> Result<Kubeconfig, Error> {
    let wrong = |why: &'static str| Error::Pem { path: file.into(), why };
    let bytes = secret::private_file(file)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8 text"))?;
    let mut config = Kubeconfig::from_yaml(text).map_err(|_| wrong("is no kubeconfig"))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let absolute = |path: &mut Option<String>| {
        *path = path.take().filter(|path| !path.is_empty()).map(|path| folder.join(path).display().to_string());
    };
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        absolute(&mut cluster.certificate_authority);
    }
    for user in config.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        absolute(&mut user.client_certificate);
        absolute(&mut user.client_key);
        absolute(&mut user.token_file);
    }
    Ok(config)
}

/// What a kubeconfig may ask for and does not get: done otherwise than it says would be worse.
fn refused(server: &Server, user: &AuthInfo) -> Option<&'static str> {
    if server.insecure_skip_tls_verify == Some(true) {
        return Some("`insecure-skip-tls-verify`: whoever answers would get the keys; give `certificate-authority`");
    }
    if server.tls_server_name.is_some() {
        return Some("`tls-server-name` is not supported: use a host name that the server's certificate has");
    }
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Some(
            "its user logs in through a program (`exec`), which idkeep does not run: make a kubeconfig with the token \
             of a service account",
        );
    }
    if user.username.is_some() || user.password.is_some() {
        return Some("no supported API server takes a user name and password: use a service account's token");
    }
    let is_someone_else = user.impersonate.is_some() || user.impersonate_uid.is_some();
    is_someone_else.then_some("impersonation (`as`) is not supported: give the user its own rights")
}

fn roots(server: &Server, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    data_or_file(
        server.certificate_authority_data.as_deref(),
        server.certificate_authority.as_deref(),
        secret::guarded_file,
        path,
    )
}

/// Key and certificate, one after the other; both or none.
fn identity(user: &AuthInfo, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let key_data = user.client_key_data.as_ref().map(|key| key.expose_secret());
    let key = data_or_file(key_data, user.client_key.as_deref(), secret::private_file, path)?;
    let certificate = data_or_file(
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
        secret::guarded_file,
        path,
    )?;
    match (key, certificate) {
        (Some(mut pem), Some(certificate)) => {
            pem.push(b'\n');
            pem.extend_from_slice(&certificate);
            Ok(Some(pem))
        }
        (None, None) => Ok(None),
        _ => Err(Error::Pem { path: path.into(), why: "its user has half of a client certificate and its key" }),
    }
}

type Read = fn(&Path) -> Result<Zeroizing<Vec<u8>>, secret::Error>;

/// What stands in the kubeconfig itself counts before the file that it names.
fn data_or_file(
    data: Option<&str>,
    file: Option<&str>,
    read: Read,
    path: &Path,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let bytes = STANDARD.decode(data.trim());
        let why = "holds certificate data that is not base64";
        return Ok(Some(Zeroizing::new(bytes.map_err(|_| Error::Pem { path: path.into(), why })?)));
    }
    Ok(file.map(|file| read(Path::new(file))).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The source with these variables and a service account, or none.
    fn source(named: Option<&str>, env: &[(&str, String)], with_account: bool) -> Result<Source, Reason> {
        let folder = tempfile::tempdir().unwrap();
        if with_account {
            std::fs::write(folder.path().join("token"), "t").unwrap();
        }
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        Around { env: &env, service_account: folder.path() }.source(named.map(Path::new))
    }

    #[test]
    fn what_is_named_wins_over_what_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (listed, home) = (folder.path().join("listed"), folder.path().join(".kube/config"));
        std::fs::create_dir(folder.path().join(".kube")).unwrap();
        std::fs::write(&listed, "").unwrap();
        std::fs::write(&home, "").unwrap();
        let text = |path: &Path| path.display().to_string();
        let mut env = vec![
            ("KUBECONFIG", format!("/nowhere/config:{}", text(&listed))),
            ("KUBERNETES_SERVICE_HOST", "fd00::1".to_owned()),
            ("KUBERNETES_SERVICE_PORT", "6443".to_owned()),
            ("HOME", text(folder.path())),
        ];
        let kubeconfig = |path: &Path| Source::Kubeconfig(vec![path.into()]);
        assert_eq!(source(Some("/named"), &env, true).unwrap(), kubeconfig(Path::new("/named")));
        assert_eq!(source(None, &env, true).unwrap(), kubeconfig(&listed));
        env.remove(0);
        assert_eq!(source(None, &env, true).unwrap(), Source::Pod("https://[fd00::1]:6443".parse().unwrap()));
        // A pod without a token has no identity of its own.
        assert_eq!(source(None, &env, false).unwrap(), kubeconfig(&home));
        env.pop();
        assert!(matches!(source(None, &env, false), Err(Reason::NoCredentials(_))));
        let nowhere = [("KUBECONFIG", "/nowhere/config".to_owned())];
        assert!(matches!(source(None, &nowhere, true), Err(Reason::NoCredentials(_))));
    }
}
