//! Kubeconfigs, read strictly: programs that print credentials (`exec`) are not run, and what would weaken TLS is
//! refused, never ignored.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Cluster as Server, Kubeconfig};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::cluster::{Cluster, Token};
use crate::config::{Address, Proxy};
use crate::http::{Error, Pem};
use crate::secret;

/// The cluster and the user of a context; of several files the first that says something counts.
pub(super) fn cluster(files: &[PathBuf], context: Option<&str>) -> Result<Cluster, Error> {
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
    let user = user.and_then(|named| named.auth_info).ok_or_else(|| wrong("lacks the user that its context names"))?;
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
    Ok(Cluster { address, client, token })
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
    let key_data = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
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
