//! Who this process is to Azure: a workload identity, a client with a secret, or the machine's managed identity.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::http::{ClientMethodOptions, ClientOptions};
use azure_identity as sdk;
use secrecy::ExposeSecret as _;
use url::{Host, Url};

use super::refusal;
use super::way::{End, Trip};
use crate::config::Address;
use crate::secret;
use crate::store::cloud::Reason;

/// What the environment says, by the names that Azure's own tools know.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whose token is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// An application with a secret.
    Client { tenant: String, client: String },
    /// A workload whose cluster vouches for it.
    Workload { tenant: String, client: String, token_file: PathBuf },
    /// The machine's own, or one that is assigned to it.
    Machine { client: Option<String> },
}

/// A secret before a file, a file before the machine; `client_id` of the configuration before the environment's.
fn choose(environment: Environment<'_>, client_id: Option<&str>) -> Result<Identity, Reason> {
    let has_secret = environment("AZURE_CLIENT_SECRET").is_some();
    let token_file = environment("AZURE_FEDERATED_TOKEN_FILE");
    if !has_secret && token_file.is_none() {
        machine(environment)?;
        return Ok(Identity::Machine { client: client_id.map(str::to_owned) });
    }
    let client = client_id.map(str::to_owned).or_else(|| environment("AZURE_CLIENT_ID"));
    let (Some(tenant), Some(client)) = (environment("AZURE_TENANT_ID"), client) else {
        return Err(Reason::NoCredentials(
            "AZURE_FEDERATED_TOKEN_FILE or AZURE_CLIENT_SECRET is set, but AZURE_TENANT_ID or AZURE_CLIENT_ID is not",
        ));
    };
    if environment("AZURE_AUTHORITY_HOST").is_some_and(|host| !host.starts_with("https://")) {
        return Err(Reason::NoCredentials("AZURE_AUTHORITY_HOST does not start with https://"));
    }
    Ok(match token_file {
        Some(file) if !has_secret => Identity::Workload { tenant, client, token_file: file.into() },
        _ => Identity::Client { tenant, client },
    })
}

/// The machine's service speaks plain HTTP: its tokens must not leave the machine or its host.
fn machine(environment: Environment<'_>) -> Result<(), Reason> {
    let Some(endpoint) = environment("IDENTITY_ENDPOINT") else { return Ok(()) };
    let is_near = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    };
    let is_fine = Url::parse(&endpoint).is_ok_and(|url| {
        url.scheme() == "https"
            || match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(ip)) => is_near(ip.into()),
                Some(Host::Ipv6(ip)) => is_near(ip.into()),
                None => false,
            }
    });
    if is_fine { Ok(()) } else { Err(Reason::NoCredentials("IDENTITY_ENDPOINT leads away from this machine in clear")) }
}

/// A credential that asks for tokens of one audience only.
pub(super) fn open(
    environment: Environment<'_>,
    client_id: Option<&str>,
    audience: Option<&Address>,
    options: impl Fn(End) -> ClientOptions,
) -> Result<Arc<dyn TokenCredential>, Reason> {
    let inner: azure_core::Result<Arc<dyn TokenCredential>> = match choose(environment, client_id)? {
        Identity::Client { tenant, client } => {
            let secret = Secret::new(environment("AZURE_CLIENT_SECRET").unwrap_or_default());
            let options = sdk::ClientSecretCredentialOptions { client_options: options(End::Token) };
            sdk::ClientSecretCredential::new(&tenant, client, secret, Some(options)).map(|known| known as _)
        }
        Identity::Workload { tenant, client, token_file } => {
            let options = sdk::ClientAssertionCredentialOptions { client_options: options(End::Token) };
            sdk::ClientAssertionCredential::new(tenant, client, TokenFile(token_file), Some(options))
                .map(|known| known as _)
        }
        Identity::Machine { client } => {
            let options = sdk::ManagedIdentityCredentialOptions {
                user_assigned_id: client.map(sdk::UserAssignedId::ClientId),
                client_options: options(End::Machine),
            };
            sdk::ManagedIdentityCredential::new(Some(options)).map(|known| known as _)
        }
    };
    let inner = inner.map_err(|_| {
        Reason::NoCredentials(
            "Azure's SDK does not take AZURE_TENANT_ID, AZURE_AUTHORITY_HOST or the kind of managed identity here",
        )
    })?;
    let scope = audience.map(|audience| format!("{}/.default", audience.origin()));
    Ok(Arc::new(Bound { inner, scope }))
}

/// The token that the cluster renews in a file, read again for each request.
#[derive(Debug)]
struct TokenFile(PathBuf);

#[async_trait]
impl sdk::ClientAssertion for TokenFile {
    async fn secret(&self, options: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        match secret::guarded_text(&self.0) {
            Ok(token) => Ok(token.expose_secret().to_owned()),
            Err(error) => Err(failed(options.as_ref(), Reason::Http(error.into()))),
        }
    }
}

/// Where the vault's own domain does not say what its tokens are for, the configuration does, and nothing else counts.
#[derive(Debug)]
struct Bound {
    inner: Arc<dyn TokenCredential>,
    scope: Option<String>,
}

#[async_trait]
impl TokenCredential for Bound {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if self.scope.as_ref().is_some_and(|scope| scopes != [scope.as_str()]) {
            let options = options.map(|options| options.method_options);
            return Err(failed(options.as_ref(), refusal::foreign_challenge()));
        }
        self.inner.get_token(scopes, options).await
    }
}

fn failed(options: Option<&ClientMethodOptions<'_>>, reason: Reason) -> azure_core::Error {
    match options.and_then(|options| options.context.value::<Trip>()) {
        Some(trip) => trip.fail(reason),
        None => azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, "no trip"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)], client_id: Option<&str>) -> Result<Identity, String> {
        let environment =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        choose(&environment, client_id).map_err(|reason| reason.to_string())
    }

    const TENANT: (&str, &str) = ("AZURE_TENANT_ID", "t");
    const CLIENT: (&str, &str) = ("AZURE_CLIENT_ID", "c");
    const FILE: (&str, &str) = ("AZURE_FEDERATED_TOKEN_FILE", "/token");
    const SECRET: (&str, &str) = ("AZURE_CLIENT_SECRET", "s");

    #[test]
    fn the_environment_says_which_identity_it_is() {
        let workload = |client: &str| Identity::Workload {
            tenant: "t".into(),
            client: client.into(),
            token_file: "/token".into(),
        };
        assert_eq!(chosen(&[TENANT, CLIENT, FILE], None), Ok(workload("c")));
        assert_eq!(chosen(&[TENANT, CLIENT, FILE], Some("mine")), Ok(workload("mine")));
        let client = Identity::Client { tenant: "t".into(), client: "c".into() };
        assert_eq!(chosen(&[TENANT, CLIENT, FILE, SECRET], None), Ok(client));
        assert_eq!(chosen(&[], None), Ok(Identity::Machine { client: None }));
        assert_eq!(chosen(&[TENANT, CLIENT], Some("mine")), Ok(Identity::Machine { client: Some("mine".into()) }));
    }

    #[test]
    fn what_is_said_by_halves_is_no_identity() {
        for variables in [&[FILE][..], &[FILE, TENANT], &[FILE, CLIENT], &[SECRET, CLIENT]] {
            assert!(chosen(variables, None).unwrap_err().contains("AZURE_TENANT_ID or AZURE_CLIENT_ID is not"));
        }
        let plain = ("AZURE_AUTHORITY_HOST", "http://login.example");
        assert!(chosen(&[TENANT, CLIENT, FILE, plain], None).unwrap_err().contains("AZURE_AUTHORITY_HOST"));
    }

    #[test]
    fn tokens_of_the_machine_stay_on_it() {
        for near in ["http://127.0.0.1:41741/msi/token", "http://localhost:1/", "http://169.254.129.2:8081/msi/token"] {
            assert!(chosen(&[("IDENTITY_ENDPOINT", near)], None).is_ok(), "{near}");
        }
        for far in ["http://8.8.8.8/", "http://identity.example/", "nonsense", "http://localhost.evil.example/"] {
            assert!(chosen(&[("IDENTITY_ENDPOINT", far)], None).unwrap_err().contains("IDENTITY_ENDPOINT"), "{far}");
        }
    }
}
