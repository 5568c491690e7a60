//! Application Default Credentials: found where Google's own tools look for them, built when first needed.
//!
//! Google's library asks for tokens with clients of its own, which know neither `tls` nor `proxy` of the
//! configuration: the system's roots and the proxies of the environment count there.

use std::error::Error as StdError;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use google_cloud_auth::build_errors::Error as BuildError;
use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials as Built};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::Error as SdkError;
use http::{Extensions, HeaderMap};
use hyper_util::client::proxy::matcher::Matcher;

use crate::http::Exchange;
use crate::store::cloud::Reason;

/// Where a machine of Google's gives out its tokens, unless `GCE_METADATA_HOST` says otherwise.
const METADATA: &str = "metadata.google.internal";

const KEY_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// The credentials of this process; tokens in them are kept until they run out, in memory that is wiped.
#[derive(Default)]
pub(super) struct Credentials {
    built: Mutex<Option<Built>>,
}

impl Credentials {
    /// The headers that show who asks, within this time.
    pub(super) async fn headers(&self, timeout: Duration) -> Result<HeaderMap, Reason> {
        let built = self.built()?;
        match tokio::time::timeout(timeout, built.headers(Extensions::new())).await {
            Ok(Ok(CacheableResource::New { data, .. })) => Ok(data),
            Ok(Ok(CacheableResource::NotModified)) => Err(Reason::Garbled),
            Ok(Err(error)) => {
                // Google's library keeps a failure for ten seconds: the next try begins anew.
                self.forget();
                Err(refused(&error))
            }
            Err(_) => {
                self.forget();
                Err(Reason::Unreachable("no token came in time"))
            }
        }
    }

    /// The next call asks for a new token.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Built>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn built(&self) -> Result<Built, Reason> {
        let mut built = self.lock();
        if let Some(built) = &*built {
            return Ok(built.clone());
        }
        require_a_safe_way()?;
        // Google's library panics where no client can be built, for want of any root certificate.
        if reqwest::Client::builder().build().is_err() {
            return Err(Reason::NoCredentials("this machine has no root certificates to trust anybody by"));
        }
        let new = Builder::default().build().map_err(|error| unusable(&error))?;
        Ok(built.insert(new).clone())
    }
}

/// Google's library obeys `HTTP_PROXY`, which would see the machine's tokens in clear.
fn require_a_safe_way() -> Result<(), Reason> {
    if std::env::var_os(KEY_FILE).is_some() {
        return Ok(());
    }
    let host = std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| METADATA.to_owned());
    let target = format!("http://{host}/").parse().ok();
    if target.and_then(|target| Matcher::from_env().intercept(&target)).is_none() {
        return Ok(());
    }
    Err(Reason::NoCredentials(
        "HTTP_PROXY would see the machine's tokens in clear: put the metadata server into NO_PROXY",
    ))
}

fn unusable(error: &BuildError) -> Reason {
    Reason::NoCredentials(if error.is_loading() {
        "the file that GOOGLE_APPLICATION_CREDENTIALS names cannot be read"
    } else if error.is_parsing() || error.is_missing_field() {
        "the credentials' file is not what Google's tools write"
    } else if error.is_unknown_type() || error.is_not_supported() {
        "the credentials' file is of a type that is not supported"
    } else {
        "the credentials' file cannot be used"
    })
}

/// Why no token came. The library's own words may hold an answer's, and are not repeated.
fn refused(error: &CredentialsError) -> Reason {
    let mut source: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<reqwest::Error>() {
            return not_answered(error);
        }
        if let Some(status) = cause.downcast_ref::<SdkError>().and_then(SdkError::http_status_code) {
            return answered(status);
        }
        source = cause.source();
    }
    if error.is_transient() {
        Reason::Unreachable("no token came")
    } else {
        Reason::NoCredentials("no token could be made with them")
    }
}

fn not_answered(error: &reqwest::Error) -> Reason {
    if let Some(status) = error.status() {
        return answered(status.as_u16());
    }
    if error.is_decode() {
        return Reason::NoCredentials("what gives out tokens answered something else");
    }
    let url = error.url();
    if url.and_then(url::Url::host_str) == Some(METADATA) && is_unresolved(error) {
        let nothing = "GOOGLE_APPLICATION_CREDENTIALS names no file, and this is no machine of Google's";
        return Reason::NoCredentials(nothing);
    }
    let origin = url.map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    Exchange { doing: "asking for a token", origin: &origin, cap: 0, timeout: Duration::ZERO }.failed(error).into()
}

const fn answered(status: u16) -> Reason {
    match status {
        408 | 429 | 500.. => Reason::Busy { status },
        404 => Reason::NoCredentials("this machine has no service account"),
        _ => Reason::NoCredentials("no token is given out for them"),
    }
}

fn is_unresolved(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.to_string().starts_with("dns error") {
            return true;
        }
        source = cause.source();
    }
    false
}
