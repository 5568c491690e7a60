//! Credentials by AWS's own chain: variables, profile, web identity (IRSA), container (pod identity), machine.
//!
//! They are looked for once for all nodes, renewed before they run out, and dropped with the pass. From the
//! environment come credentials, never an address of the store or a switch that would change what the configuration says.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{
    BehaviorVersion, Config, Credentials, IdentityCache, ProvideCredentials as _, Region, StalledStreamProtectionConfig,
};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::Mutex;

use super::wire::{Trouble, Wire};
use crate::config::AwsStore;
use crate::error::Fault;
use crate::http::Http;
use crate::store::cloud::Reason;

/// Credentials that run out within this are renewed first.
const SOON: Duration = Duration::from_mins(5);

/// A client that is logged in, and how it came to be.
pub(super) struct Session {
    config: AwsStore,
    http: Arc<Http>,
    /// To the store.
    pub(super) wire: Wire,
    state: Mutex<Option<(Client, Option<SystemTime>)>>,
}

impl Session {
    pub(super) fn new(config: &AwsStore, http: Arc<Http>) -> Self {
        let wire = Wire::new(&http, config);
        Self { config: config.clone(), http, wire, state: Mutex::default() }
    }

    /// A client with credentials that are still good.
    pub(super) async fn client(&self) -> Result<Client, Reason> {
        let mut state = self.state.lock().await;
        let is_good = |ends_at: &Option<SystemTime>| ends_at.is_none_or(|at| at > SystemTime::now() + SOON);
        if let Some((client, _)) = state.as_ref().filter(|(_, ends_at)| is_good(ends_at)) {
            return Ok(client.clone());
        }
        let credentials = self.log_in().await?;
        tracing::debug!("credentials for AWS found");
        let ends_at = credentials.expiry();
        let client = self.connect(credentials);
        *state = Some((client.clone(), ends_at));
        Ok(client)
    }

    /// Forgets the credentials.
    pub(super) async fn forget(&self) {
        *self.state.lock().await = None;
    }

    /// Forgets credentials that do not run out: whoever replaces them does so behind our back.
    pub(super) fn rest(&self) {
        if let Ok(mut state) = self.state.try_lock()
            && matches!(&*state, Some((_, None)))
        {
            *state = None;
        }
    }

    fn region(&self) -> Region {
        Region::new(self.config.region.clone())
    }

    fn connect(&self, credentials: Credentials) -> Client {
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.region())
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::no_cache())
            .http_client(self.wire.clone())
            // Retries and times are ours: they are logged, and end with the pass.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(endpoint) = &self.config.endpoint {
            config = config.endpoint_url(endpoint.to_string());
        }
        Client::from_conf(config.build())
    }

    async fn log_in(&self) -> Result<Credentials, Reason> {
        refuse_open_file()?;
        let wire = Wire::to_log_in(&self.http, &self.config);
        let config = ProviderConfig::without_region()
            .with_region(Some(self.region()))
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_retry_config(RetryConfig::disabled())
            .with_http_client(wire.clone());
        // A machine without such a service has no answer either at the fourth try.
        let machine = imds::Client::builder().configure(&config).max_attempts(1).build();
        let chain = DefaultCredentialsChain::builder().imds_client(machine).configure(config).region(self.region());
        let found = chain.build().await.provide_credentials().await;
        found.map_err(|error| refusal(wire.take_trouble(), &error))
    }
}

/// Why there are none. The error's own words may be somebody's secret: only its kind counts.
fn refusal(trouble: Option<Trouble>, error: &dyn std::error::Error) -> Reason {
    match trouble {
        Some(Trouble::Http(error)) => Reason::Http(error),
        Some(Trouble::Status(429)) => Reason::Throttled { retry_after: None },
        Some(Trouble::Status(status @ 500..)) => Reason::Busy { status },
        Some(Trouble::Status(_)) => Reason::InTheWay {
            why: "AWS does not log this process in: its web identity, pod identity or profile is refused",
            fix: "does the role's trust policy name this identity (for IRSA its issuer, `sub` and `aud`), and is `AWS_ROLE_ARN` right?",
            fault: Fault::Credentials,
        },
        Some(Trouble::Metadata) => NONE,
        None if format!("{error:?}").starts_with("CredentialsNotLoaded") => NONE,
        None => Reason::InTheWay {
            why: "no credentials that could be used: those that the environment or the profile names are not whole, or of a kind that is not supported",
            fix: "look at the AWS_* variables, the files that they name, and the profile; one that signs in through a browser (`sso`, `login`) is not for a service: give it a role",
            fault: Fault::Credentials,
        },
    }
}

const NONE: Reason = Reason::NoCredentials("no variable, profile, web identity, container or machine of AWS gives any");

/// The keys in a file that everybody may read are not secret any more: the same rule as for every other secret.
fn refuse_open_file() -> Result<(), Reason> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if variable("AWS_ACCESS_KEY_ID").is_some() {
        return Ok(());
    }
    let file = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let file = file.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".aws/credentials")));
    let mode = file.and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.mode());
    if mode & 0o004 == 0 {
        return Ok(());
    }
    Err(Reason::InTheWay {
        why: "the file with AWS's credentials may be read by others",
        fix: "chmod o-rwx ~/.aws/credentials, or the file that AWS_SHARED_CREDENTIALS_FILE names",
        fault: Fault::Config,
    })
}
