//! Why a repository did not do what was asked. Names repository and key, holds no byte of the other side.

use std::error::Error as StdError;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::network::Refusal;
use crate::error::{Failure, Fault};
use crate::http as web;

/// What was being done, as messages say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    /// The repository's name.
    pub repository: String,
    /// The verb: "writing".
    pub verb: &'static str,
    /// The object or folder, from the node's name on.
    pub key: String,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repository {}: {} {}", self.repository, self.verb, self.key)
    }
}

/// Why a repository did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository cannot be used as configured.
    #[error("repository {repository}: {why}")]
    Setup { repository: String, why: &'static str, fix: &'static str },
    /// The client for its server cannot be built.
    #[error("repository {repository}")]
    Client { repository: String, source: web::Error },
    /// There was no answer.
    #[error("{doing}")]
    Unanswered { doing: Doing, source: Arc<web::Error> },
    /// The credentials do not allow it, or are not accepted.
    #[error("{doing}: {why}")]
    Denied { doing: Doing, why: &'static str },
    /// There are no credentials.
    #[error("{doing}: no credentials: none in the environment, and no metadata service of this machine gives any")]
    NoCredentials { doing: Doing },
    /// The server shows that the repository is configured wrongly.
    #[error("{doing}: {why}")]
    Misconfigured { doing: Doing, why: &'static str, fix: &'static str },
    /// Busy, down or starting.
    #[error("{doing}: status {status}, {why}{}", web::patience(*retry_after))]
    Busy { doing: Doing, status: u16, why: &'static str, retry_after: Option<Duration> },
    /// Any other status.
    #[error("{doing}: status {status}, which such a server does not give")]
    Unexpected { doing: Doing, status: u16 },
    /// The answer cannot be read.
    #[error("{doing}: the answer is not what such a server gives")]
    Garbled { doing: Doing },
    /// The operating system refuses.
    #[error("{doing}")]
    Io { doing: Doing, source: std::io::Error },
    /// There is no such object.
    #[error("{doing}: it is not there")]
    Missing { doing: Doing },
    /// It is there already, or was changed since it was looked at.
    #[error("{doing}: another writer was there first")]
    Exists { doing: Doing },
    /// It may be ours, whose answer was lost, or another's.
    #[error("{doing}: it is there, and whether this run wrote it is not known")]
    Unsure { doing: Doing, source: Box<Error> },
    /// Larger than what is read into memory.
    #[error("{doing}: it is larger than {cap} bytes")]
    TooLarge { doing: Doing, cap: usize },
    /// More parts than an object may have.
    #[error("{doing}: it does not fit into {max} parts of {part_bytes} bytes")]
    TooManyParts { doing: Doing, max: usize, part_bytes: usize },
    /// Parts that are not equal.
    #[error("{doing}: parts of unequal size")]
    UnequalParts { doing: Doing },
    /// What is stored is not what was sent.
    #[error("{doing}: {stored} bytes are stored of {sent} that were sent")]
    Incomplete { doing: Doing, sent: u64, stored: u64 },
    /// Two writers would overwrite each other.
    #[error("repository {repository}: its server ignores conditional puts")]
    NoConditionalPuts { repository: String },
    /// Another run holds the node's lock.
    #[error("repository {repository}: another run holds the lock of {node}{holder}")]
    Held { repository: String, node: String, holder: String },
    /// Another run has taken over the node's lock.
    #[error("repository {repository}: the lock of {node} has been taken over by another run")]
    Lost { repository: String, node: String },
}

const NO_ROOM: &str = "it has no room left";
const MAKE_ROOM: &str = "make room; every set that was there still is";
const NO_BUCKET: &str = "the bucket or container is not there";
const NO_BUCKET_FIX: &str = "create it, or correct `url`; `endpoint` and `region` must be the bucket's";
const WRONG_REGION: &str = "the bucket is in another region";
const WRONG_REGION_FIX: &str = "put the bucket's region into `region`";

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Client { source, .. } => source.fault(),
            Self::Unanswered { source, .. } => source.fault(),
            Self::Denied { .. } | Self::NoCredentials { .. } => Fault::Credentials,
            Self::Setup { .. }
            | Self::Misconfigured { .. }
            | Self::Unexpected { .. }
            | Self::TooLarge { .. }
            | Self::NoConditionalPuts { .. } => Fault::Config,
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::ReadOnlyFilesystem => Fault::Config,
                _ => Fault::Transient,
            },
            Self::UnequalParts { .. } => Fault::Bug,
            Self::Busy { .. }
            | Self::Garbled { .. }
            | Self::Missing { .. }
            | Self::Exists { .. }
            | Self::Unsure { .. }
            | Self::TooManyParts { .. }
            | Self::Incomplete { .. }
            | Self::Held { .. }
            | Self::Lost { .. } => Fault::Transient,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        if let Self::Busy { retry_after, .. } = self { *retry_after } else { None }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Client { source, .. } => return source.hint(),
            Self::Unanswered { source, .. } => return source.hint(),
            Self::Setup { fix, .. } | Self::Misconfigured { fix, .. } => (*fix).into(),
            Self::Denied { .. } => {
                "`idkeep policy s3|gs|az` prints what is needed; which credentials does this process run with?".into()
            }
            Self::NoCredentials { .. } => {
                "give the process its cloud's credentials: the usual variables, a workload identity, or the machine's role"
                    .into()
            }
            Self::Busy { why: NO_ROOM, .. } => MAKE_ROOM.into(),
            Self::Busy { .. } => "is it overloaded? what was uploaded is removed by the next run".into(),
            Self::Unexpected { .. } | Self::Garbled { .. } => "does `endpoint` name an object store of this kind?".into(),
            Self::Io { source, .. } => return io_hint(source),
            Self::Missing { .. } | Self::Exists { .. } | Self::Incomplete { .. } => {
                "who else writes into this repository?".into()
            }
            Self::Unsure { source, .. } => return source.hint(),
            Self::TooLarge { .. } => "idkeep writes nothing of that size there; who did?".into(),
            Self::TooManyParts { .. } => "the database grew to more than twice its size while it was dumped; run it again".into(),
            Self::UnequalParts { .. } => return None,
            Self::NoConditionalPuts { .. } => {
                "two runs would overwrite each other there: use a server that obeys `If-None-Match`, in a version that does".into()
            }
            Self::Lost { .. } => "this process stood still, or its repository was out of reach, for longer than `lock_expiry`".into(),
            Self::Held { .. } => "wait for it; the lock of a run that died is taken over after `lock_expiry`".into(),
        })
    }
}

fn io_hint(source: &std::io::Error) -> Option<String> {
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::ReadOnlyFilesystem => {
            Some("let this user write there, or change `url`".into())
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Some(MAKE_ROOM.into()),
        _ => None,
    }
}

impl Error {
    /// True where the answer says how things are, and asking again would get the same.
    pub(super) const fn is_answer(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Exists { .. })
    }

    /// Puts what a cloud's client says into our words.
    pub(super) fn of(doing: Doing, error: &object_store::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(refusal) = error.downcast_ref::<Refusal>() {
                return Self::refused(doing, refusal);
            }
            cause = error.source();
        }
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { doing },
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                Self::Exists { doing }
            }
            object_store::Error::PermissionDenied { .. } => Self::Denied { doing, why: NOT_ALLOWED },
            object_store::Error::Unauthenticated { .. } => Self::Denied { doing, why: NOT_ACCEPTED },
            _ => Self::Garbled { doing },
        }
    }

    fn refused(doing: Doing, refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Unanswered(source) => Self::Unanswered { doing, source: Arc::clone(source) },
            Refusal::NoCredentials => Self::NoCredentials { doing },
            Refusal::Plain | Refusal::NotAnAddress => Self::Misconfigured {
                doing,
                why: "credentials would be asked for at an address without TLS",
                fix: "which variable of the environment names an `http://` address?",
            },
            Refusal::Status { status, code, is_write, retry_after } => {
                Self::status(doing, *status, *code, *is_write, *retry_after)
            }
        }
    }

    fn status(
        doing: Doing,
        status: u16,
        code: Option<&'static str>,
        is_write: bool,
        retry_after: Option<Duration>,
    ) -> Self {
        let busy = |doing, why| Self::Busy { doing, status, why, retry_after };
        match (status, code.unwrap_or_default()) {
            (_, "NoSuchBucket" | "ContainerNotFound" | "InvalidBucketName") => {
                Self::Misconfigured { doing, why: NO_BUCKET, fix: NO_BUCKET_FIX }
            }
            (301 | 307, _)
            | (
                _,
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
            ) => Self::Misconfigured { doing, why: WRONG_REGION, fix: WRONG_REGION_FIX },
            (_, "RequestTimeTooSkewed") => Self::Misconfigured {
                doing,
                why: "this machine's clock is wrong",
                fix: "set the clock; the server allows some minutes of difference",
            },
            (_, "ConditionalRequestConflict" | "OperationAborted") => busy(doing, "it was busy with another writer"),
            (_, "ContainerBeingDeleted") => busy(doing, "the container is being deleted"),
            (507, _) | (_, "XMinioStorageFull" | "QuotaExceeded") => busy(doing, NO_ROOM),
            (_, "ExpiredToken" | "TokenRefreshRequired") => Self::Denied { doing, why: "the credentials have expired" },
            (
                _,
                "InvalidAccessKeyId"
                | "InvalidToken"
                | "SignatureDoesNotMatch"
                | "AuthenticationFailed"
                | "AccountProblem",
            )
            | (401, _) => Self::Denied { doing, why: NOT_ACCEPTED },
            (403, _) | (_, "AccessDenied" | "AllAccessDisabled") => Self::Denied { doing, why: NOT_ALLOWED },
            (404, "") if is_write && doing.verb != super::REMOVING => {
                Self::Misconfigured { doing, why: NO_BUCKET, fix: NO_BUCKET_FIX }
            }
            (404, _) => Self::Missing { doing },
            (304 | 409 | 412, _) => Self::Exists { doing },
            (501, _) | (_, "NotImplemented") => Self::Misconfigured {
                doing,
                why: "the server does not know how to do that",
                fix: "use a server that knows conditional puts and multipart uploads",
            },
            (408 | 429 | 500.., _) | (_, "SlowDown" | "RequestTimeout") => busy(doing, "it is busy"),
            _ => Self::Unexpected { doing, status },
        }
    }
}

const NOT_ALLOWED: &str = "permission denied";
const NOT_ACCEPTED: &str = "the credentials are not accepted";

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, code: Option<&'static str>, is_write: bool) -> (Fault, String) {
        let doing = Doing { repository: "dr".into(), verb: "writing", key: "node/a".into() };
        let error = Error::status(doing, status, code, is_write, None);
        (error.fault(), error.to_string())
    }

    #[test]
    fn a_status_says_who_has_to_act() {
        for (status, code, is_write, expected) in [
            (403, None, true, Fault::Credentials),
            (403, Some("InvalidAccessKeyId"), true, Fault::Credentials),
            (400, Some("ExpiredToken"), true, Fault::Credentials),
            (401, None, false, Fault::Credentials),
            (403, Some("RequestTimeTooSkewed"), false, Fault::Config),
            (404, Some("NoSuchBucket"), false, Fault::Config),
            (404, None, true, Fault::Config),
            (404, None, false, Fault::Transient),
            (404, Some("NoSuchUpload"), true, Fault::Transient),
            (301, None, false, Fault::Config),
            (400, Some("AuthorizationHeaderMalformed"), false, Fault::Config),
            (409, Some("ConditionalRequestConflict"), true, Fault::Transient),
            (412, None, true, Fault::Transient),
            (501, None, true, Fault::Config),
            (503, Some("SlowDown"), true, Fault::Transient),
            (500, None, true, Fault::Transient),
            (507, None, true, Fault::Transient),
            (418, None, true, Fault::Config),
        ] {
            assert_eq!(fault(status, code, is_write).0, expected, "{status} {code:?}");
        }
        assert_eq!(fault(403, None, true).1, "repository dr: writing node/a: permission denied");
    }
}
