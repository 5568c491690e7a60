//! Which cluster, and as whom: a kubeconfig that is named, else the pod's own cluster, else the user's kubeconfig.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::kubeconfig;
use crate::config::{Address, KubernetesStore, Tls};
use crate::http::{Error, Http};
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
            Source::Kubeconfig(files) => Ok(kubeconfig::cluster(&files, config.context.as_deref())?),
            Source::Pod(address) => Ok(Self::of_pod(address, around.service_account, http)?),
        }
    }

    fn of_pod(address: Address, folder: &Path, http: &Http) -> Result<Self, Error> {
        let tls = Tls { ca_file: Some(folder.join("ca.crt")), ..Tls::default() };
        let client = http.client(&address, &tls, None)?;
        Ok(Self { address, client, token: Some(Token::File(folder.join("token"))) })
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
