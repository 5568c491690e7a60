//! What a call's answer means where it is not success; on its way through the SDK it travels inside the SDK's error.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use google_cloud_gax::error::Error as SdkError;
use http::header;
use serde::Deserialize;

use crate::store::cloud::Reason;

/// Why there is no answer to work with.
#[derive(Debug)]
pub(super) enum Refusal {
    /// 404: no such secret, or no version in it.
    NotThere,
    /// 409: a secret of that name is there already.
    IsThere,
    /// The version is disabled or destroyed.
    NotReadable,
    /// Anything else.
    Failed(Reason),
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Failed(reason)
    }
}

impl From<SdkError> for Refusal {
    fn from(error: SdkError) -> Self {
        let enclosed = error.source().and_then(|source| source.downcast_ref::<Enclosed>());
        let refusal = enclosed.and_then(|it| it.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        // The SDK found fault with the answer itself.
        refusal.unwrap_or(Self::Failed(Reason::Garbled))
    }
}

impl Refusal {
    /// In a form that the SDK can carry; whoever gets the SDK's error takes it out again.
    pub(super) fn enclosed(self) -> impl StdError + Send + Sync + 'static {
        Enclosed(Mutex::new(Some(self)))
    }
}

#[derive(Debug)]
struct Enclosed(Mutex<Option<Refusal>>);

impl fmt::Display for Enclosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call was not done")
    }
}

impl StdError for Enclosed {}

/// The part of Google's errors that is from a fixed list: <https://google.aip.dev/193>.
#[derive(Deserialize)]
struct Answer {
    error: Problem,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    reason: String,
}

/// What an answer without success means, by its status, to a call that needs this right.
pub(super) fn refusal(answer: &http::Response<Bytes>, right: &'static str) -> Refusal {
    let problem = serde_json::from_slice::<Answer>(answer.body()).ok().map(|answer| answer.error);
    let is = |status: &str| problem.as_ref().is_some_and(|problem| problem.status == status);
    let says = |reason: &str| problem.iter().flat_map(|problem| &problem.details).any(|one| one.reason == reason);
    let status = answer.status().as_u16();
    Refusal::Failed(match status {
        404 => return Refusal::NotThere,
        409 if is("ALREADY_EXISTS") => return Refusal::IsThere,
        400 if is("FAILED_PRECONDITION") => return Refusal::NotReadable,
        401 => Reason::Unauthorized,
        403 if says("SERVICE_DISABLED") => Reason::Rejected(
            "the project has not enabled the API (`gcloud services enable secretmanager.googleapis.com`), or does not exist",
        ),
        403 => Reason::Denied(right),
        429 => Reason::Throttled { retry_after: wait_asked(answer) },
        408 | 409 | 500..=599 => Reason::Busy { status },
        300..=399 => Reason::Rejected("the endpoint leads elsewhere (a redirect, which is never followed)"),
        _ => Reason::Rejected("the API does not accept the request"),
    })
}

fn wait_asked(answer: &http::Response<Bytes>) -> Option<std::time::Duration> {
    let text = |name| answer.headers().get(name)?.to_str().ok();
    crate::http::wait_asked(text(header::RETRY_AFTER)?, text(header::DATE).and_then(crate::http::http_date))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &'static str) -> Refusal {
        let mut answer = http::Response::new(Bytes::from_static(body.as_bytes()));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("7"));
        Refusal::from(SdkError::io(refusal(&answer, "a.right").enclosed()))
    }

    #[test]
    fn an_answer_is_told_by_its_status_on_the_other_side_of_the_sdk() {
        assert!(matches!(of(404, "not JSON at all"), Refusal::NotThere));
        assert!(matches!(of(409, r#"{"error": {"status": "ALREADY_EXISTS"}}"#), Refusal::IsThere));
        assert!(matches!(
            of(409, r#"{"error": {"status": "ABORTED"}}"#),
            Refusal::Failed(Reason::Busy { status: 409 })
        ));
        assert!(matches!(of(400, r#"{"error": {"status": "FAILED_PRECONDITION"}}"#), Refusal::NotReadable));
        assert!(matches!(of(400, "{}"), Refusal::Failed(Reason::Rejected(_))));
        assert!(matches!(of(401, "{}"), Refusal::Failed(Reason::Unauthorized)));
        assert!(matches!(of(403, "{}"), Refusal::Failed(Reason::Denied("a.right"))));
        let disabled = r#"{"error": {"status": "PERMISSION_DENIED", "details": [{}, {"reason": "SERVICE_DISABLED"}]}}"#;
        assert!(matches!(of(403, disabled), Refusal::Failed(Reason::Rejected(_))));
        assert!(matches!(of(503, ""), Refusal::Failed(Reason::Busy { status: 503 })));
        let Refusal::Failed(Reason::Throttled { retry_after }) = of(429, "") else { panic!() };
        assert_eq!(retry_after, Some(std::time::Duration::from_secs(7)));
    }
}
