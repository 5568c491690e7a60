//! What the service's refusals mean. Its words are never shown.

use std::time::Duration;

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;

use crate::error::Fault;
use crate::http as web;
use crate::store::cloud::Reason;

/// Why a call was not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No such secret, or no such version of it.
    NotFound,
    /// There is one already, with other bytes.
    Exists,
    /// The credentials have run out; new ones may do.
    Expired,
    /// Anything else.
    Other(Reason),
}

impl Refusal {
    /// `right` is what the call needs.
    pub(super) fn of<E: Told>(error: SdkError<E, HttpResponse>, right: &'static str) -> Self {
        if matches!(error, SdkError::DispatchFailure(_)) {
            return Self::Other(lost(error));
        }
        let raw = error.raw_response();
        let status = raw.map_or(0, |raw| raw.status().as_u16());
        let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
        Self::Other(match code {
            "ResourceNotFoundException" => return Self::NotFound,
            "ResourceExistsException" => return Self::Exists,
            "ExpiredToken" | "ExpiredTokenException" => return Self::Expired,
            "AccessDenied" | "AccessDeniedException" if message.contains("KMS") => KEY_DENIED,
            "AccessDenied" | "AccessDeniedException" => Reason::Denied(right),
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "RequestExpired" => Reason::Unauthorized,
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "LimitExceededException" => Reason::Throttled { retry_after: raw.and_then(retry_after) },
            "InternalServiceError" | "InternalFailure" | "ServiceUnavailable" => Reason::Busy { status },
            "DecryptionFailure" | "EncryptionFailure" => KEY_UNUSABLE,
            "InvalidRequestException" => NOT_NOW,
            _ => by_status(status, right, raw.and_then(retry_after)),
        })
    }
}

/// The errors that the SDK makes of refusals.
pub(super) trait Told: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static {}

impl<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static> Told for E {}

/// Takes our own error out of the SDK's, where a request got no answer.
fn lost<E: Told>(error: SdkError<E, HttpResponse>) -> Reason {
    let connector = error.into_source().ok().and_then(|source| source.downcast::<ConnectorError>().ok());
    let ours = connector.and_then(|connector| connector.into_source().downcast::<web::Error>().ok());
    ours.map_or(Reason::Unreachable("the request could not be sent"), |ours| Reason::Http(*ours))
}

fn by_status(status: u16, right: &'static str, retry_after: Option<Duration>) -> Reason {
    match status {
        401 => Reason::Unauthorized,
        403 => Reason::Denied(right),
        429 => Reason::Throttled { retry_after },
        500.. => Reason::Busy { status },
        300..500 => Reason::Rejected("the service takes no such request"),
        _ => Reason::Garbled,
    }
}

/// Seconds; the service sends nothing else.
fn retry_after(raw: &HttpResponse) -> Option<Duration> {
    raw.headers().get("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

const KEY_DENIED: Reason = Reason::InTheWay {
    why: "permission denied on its KMS key",
    fix: "`idkeep policy aws` prints the rights on the key, given `kms_key_id`; the key's own policy has to allow them, too",
    fault: Fault::Credentials,
};

const KEY_UNUSABLE: Reason = Reason::InTheWay {
    why: "its KMS key cannot be used",
    fix: "is the key enabled, symmetric and in this region, and not scheduled for deletion?",
    fault: Fault::Config,
};

pub(super) const DELETED: Reason = Reason::InTheWay {
    why: "it is scheduled for deletion",
    fix: "find out who did that, and take it back while there is time: `aws secretsmanager restore-secret --secret-id …`",
    fault: Fault::Config,
};

const NOT_NOW: Reason = Reason::InTheWay {
    why: "in the state that it is in, it takes no new version",
    fix: "`aws secretsmanager describe-secret` says more: is it scheduled for deletion, a replica of another region's, or another service's own?",
    fault: Fault::Config,
};
