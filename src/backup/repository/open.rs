//! A repository's address and credentials made into the client of its cloud.
//!
//! From the environment come credentials and the region, never an address or a switch that would change what the
//! configuration says.

mod profile;

use std::sync::Arc;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::network::Network;
use super::{Cloud, Error};
use crate::config::{Address, Repository, RepositoryKind};
use crate::http as web;
use profile::{Profile, value};

/// Variables, as `(NAME, value)`.
pub type Environment = [(String, String)];

/// The client of the repository's cloud. Reads credential files, asks nobody yet.
pub fn cloud(name: &str, config: &Repository, environment: &Environment) -> Result<Arc<dyn Cloud>, Error> {
    let server = match &config.endpoint {
        Some(endpoint) => Some(endpoint.clone()),
        None => usual_server(config.url.kind()).parse::<Address>().ok(),
    };
    let Some(server) = server else { return Err(setup(name, "it is in no cloud", "correct `url`")) };
    let network = Network::new(&server, &config.tls, config.proxy.as_ref())
        .map_err(|source| Error::Client { repository: name.to_owned(), source })?;
    match config.url.kind() {
        RepositoryKind::S3 => s3(name, config, network, environment),
        RepositoryKind::Gs => gs(name, config, network, environment),
        RepositoryKind::Az | RepositoryKind::File => az(name, config, network, environment),
    }
}

fn usual_server(kind: RepositoryKind) -> &'static str {
    match kind {
        RepositoryKind::S3 => "https://s3.amazonaws.com",
        RepositoryKind::Gs => "https://storage.googleapis.com",
        RepositoryKind::Az | RepositoryKind::File => "https://blob.core.windows.net",
    }
}

/// Retries are ours: they are logged, and end in time.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn s3(name: &str, config: &Repository, network: Network, environment: &Environment) -> Result<Arc<dyn Cloud>, Error> {
    use AmazonS3ConfigKey as Key;
    let mut builder = AmazonS3Builder::new();
    for (key, value) in known::<Key>(environment, &["AWS_"]) {
        let is_credential = matches!(
            key,
            Key::AccessKeyId
                | Key::SecretAccessKey
                | Key::Token
                | Key::Region
                | Key::DefaultRegion
                | Key::WebIdentityTokenFile
                | Key::RoleArn
                | Key::RoleSessionName
                | Key::StsEndpoint
                | Key::ContainerCredentialsRelativeUri
                | Key::ContainerCredentialsFullUri
                | Key::ContainerAuthorizationTokenFile
                | Key::MetadataEndpoint
                | Key::ImdsV1Fallback
        );
        if is_credential {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(profile) = from_file(name, environment)? {
        builder = builder.with_credentials(Arc::new(profile));
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    let bucket = config.url.bucket();
    builder = builder
        .with_bucket_name(bucket)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One DELETE each: every server knows it, and a denied one says so by its status.
        .with_disable_bulk_delete(true)
        .with_retry(once())
        .with_http_connector(network);
    builder = match &config.endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint.to_string()).with_allow_http(endpoint.is_plain()),
        // A bucket's own host, but where its dots would not fit the certificate.
        None => builder.with_virtual_hosted_style_request(!bucket.contains('.')),
    };
    built(name, builder.build())
}

/// The file of AWS's own tools comes after what the environment says itself, and before the machine's role.
fn from_file(name: &str, environment: &Environment) -> Result<Option<Profile>, Error> {
    const FIRST: [&str; 4] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    if FIRST.iter().any(|name| value(environment, name).is_some()) {
        return Ok(None);
    }
    let found = Profile::find(environment)
        .map_err(|error| Error::Client { repository: name.to_owned(), source: web::Error::File(error) })?;
    if found.is_none() && value(environment, "AWS_PROFILE").is_some() {
        let fix = "idkeep reads `aws_access_key_id` and `aws_secret_access_key` of a profile, and no other kind";
        return Err(setup(name, "the profile that AWS_PROFILE names has no keys in the credentials file", fix));
    }
    Ok(found)
}

fn gs(name: &str, config: &Repository, network: Network, environment: &Environment) -> Result<Arc<dyn Cloud>, Error> {
    use GoogleConfigKey as Key;
    let mut builder = GoogleCloudStorageBuilder::new();
    for (key, value) in known::<Key>(environment, &["GOOGLE_"]) {
        let is_credential = matches!(
            key,
            Key::ServiceAccount | Key::ServiceAccountKey | Key::ApplicationCredentials | Key::BearerToken
        );
        if is_credential {
            builder = builder.with_config(key, value);
        }
    }
    builder = builder.with_bucket_name(config.url.bucket()).with_retry(once()).with_http_connector(network);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(&endpoint.to_string());
    }
    built(name, builder.build())
}

fn az(name: &str, config: &Repository, network: Network, environment: &Environment) -> Result<Arc<dyn Cloud>, Error> {
    use AzureConfigKey as Key;
    let mut builder = MicrosoftAzureBuilder::new();
    let mut has_account = false;
    for (key, value) in known::<Key>(environment, &["AZURE_", "IDENTITY_", "MSI_"]) {
        let is_credential = matches!(
            key,
            Key::AccountName
                | Key::AccessKey
                | Key::ClientId
                | Key::ClientSecret
                | Key::AuthorityId
                | Key::AuthorityHost
                | Key::SasKey
                | Key::Token
                | Key::MsiEndpoint
                | Key::ObjectId
                | Key::MsiResourceId
                | Key::FederatedTokenFile
        );
        if is_credential {
            has_account |= key == Key::AccountName;
            builder = builder.with_config(key, value);
        }
    }
    builder = builder.with_container_name(config.url.bucket()).with_retry(once()).with_http_connector(network);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.to_string()).with_allow_http(endpoint.is_plain());
        if !has_account && let Some(account) = endpoint.url().host_str().and_then(|host| host.split('.').next()) {
            builder = builder.with_account(account);
        }
    } else if !has_account {
        return Err(setup(
            name,
            "the storage account is not known",
            "set AZURE_STORAGE_ACCOUNT_NAME, or `endpoint: https://ACCOUNT.blob.core.windows.net`",
        ));
    }
    built(name, builder.build())
}

/// The variables that a cloud's client has a name for.
fn known<'e, K: std::str::FromStr>(
    environment: &'e Environment,
    prefixes: &'e [&str],
) -> impl Iterator<Item = (K, &'e str)> {
    let ours = environment
        .iter()
        .filter(|(name, value)| !value.is_empty() && prefixes.iter().any(|prefix| name.starts_with(prefix)));
    ours.filter_map(|(name, value)| Some((name.to_lowercase().parse().ok()?, value.as_str())))
}

fn built<C: Cloud>(name: &str, result: object_store::Result<C>) -> Result<Arc<dyn Cloud>, Error> {
    match result {
        Ok(cloud) => Ok(Arc::new(cloud)),
        Err(_) => Err(setup(
            name,
            "its cloud's credentials in the environment cannot be used",
            "the variables must name whole credentials of one kind, and files that this process may read",
        )),
    }
}

fn setup(name: &str, why: &'static str, fix: &'static str) -> Error {
    Error::Setup { repository: name.to_owned(), why, fix }
}
