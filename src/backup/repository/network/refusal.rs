//! Why a request came to nothing, told by status and by the few error codes that we act on; the rest is not kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, header};
use hyper::body::Body as _;
use object_store::client::HttpResponse;
use url::Url;

use crate::http as web;

/// What messages of the client say that it was doing; what for is said around it.
pub const DOING: &str = "asking the server";

/// The most of an error page that is looked at.
const PAGE: usize = 16 << 10;
/// The most time that is spent on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request came to nothing. Carried through `object_store` inside its errors.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// There is no answer.
    #[error("no answer")]
    Unanswered(Arc<web::Error>),
    /// The answer is no.
    #[error("status {status}")]
    Status { status: u16, code: Option<&'static str>, is_write: bool, retry_after: Option<Duration> },
    /// This machine has no credentials to give.
    #[error("no credentials")]
    NoCredentials,
    /// An address without TLS that nobody allowed.
    #[error("an address without TLS")]
    Plain,
    /// Something that is no address.
    #[error("not an address")]
    NotAnAddress,
}

impl Refusal {
    pub fn timeout(origin: &str, after: Duration) -> Self {
        Self::Unanswered(Arc::new(web::Error::Timeout { doing: DOING, origin: origin.to_owned(), after }))
    }

    pub fn broken(url: &Url) -> Self {
        let origin = url.origin().ascii_serialization();
        let why = "the connection ended before the answer did";
        Self::Unanswered(Arc::new(web::Error::Unreachable { doing: DOING, origin, why }))
    }

    fn status(status: u16, code: Option<&'static str>, method: &Method, headers: &HeaderMap) -> Self {
        let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let is_write = !matches!(*method, Method::GET | Method::HEAD);
        Self::Status { status, code, is_write, retry_after: seconds.map(Duration::from_secs) }
    }
}

/// The codes that we act on, of S3, Google and Azure. A text of the other side is only ever compared with these.
const CODES: [&str; 27] = [
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthenticationFailed",
    "AuthorizationHeaderMalformed",
    "ConditionalRequestConflict",
    "ContainerBeingDeleted",
    "ContainerNotFound",
    "ExpiredToken",
    "IllegalLocationConstraintException",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "NoSuchKey",
    "NoSuchUpload",
    "NotImplemented",
    "OperationAborted",
    "PermanentRedirect",
    "QuotaExceeded",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "SignatureDoesNotMatch",
    "SlowDown",
    "TemporaryRedirect",
    "TokenRefreshRequired",
    "XMinioStorageFull",
];

fn known(code: &str) -> Option<&'static str> {
    CODES.into_iter().find(|known| *known == code)
}

/// Reads what an answer of failure says.
pub async fn read(method: &Method, answer: Response<reqwest::Body>) -> Refusal {
    let (parts, body) = answer.into_parts();
    let named = parts.headers.get("x-ms-error-code").and_then(|code| known(code.to_str().ok()?));
    let code = match named {
        Some(code) => Some(code),
        None => code(&page(body).await.unwrap_or_default()),
    };
    Refusal::status(parts.status.as_u16(), code, method, &parts.headers)
}

/// The `<Code>` of an error document.
fn code(page: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(page);
    let (_, rest) = text.split_once("<Code>")?;
    known(rest.split_once("</Code>")?.0)
}

/// One object is removed by each batch, so a failure inside is the answer. Nothing where it breaks off.
pub async fn within_batch(answer: Response<reqwest::Body>) -> Option<Result<HttpResponse, Refusal>> {
    let (parts, body) = answer.into_parts();
    let page = page(body).await?;
    let text = String::from_utf8_lossy(&page);
    let status = text.split_once("HTTP/1.1 ").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    Some(match status {
        Some(status @ 300..) => Err(Refusal::status(status, None, &Method::DELETE, &parts.headers)),
        _ => Ok(HttpResponse::from_parts(parts, Bytes::from(page).into())),
    })
}

/// The beginning of a body; nothing where it breaks or takes too long.
async fn page(mut body: reqwest::Body) -> Option<Vec<u8>> {
    let reading = async {
        let mut page = Vec::new();
        while let Some(bytes) = next(&mut body).await? {
            page.extend_from_slice(&bytes[..bytes.len().min(PAGE - page.len())]);
            if page.len() == PAGE {
                break;
            }
        }
        Some(page)
    };
    tokio::time::timeout(PATIENCE, reading).await.ok()?
}

/// A whole body of at most `cap` bytes; nothing where it breaks, falls silent or has more.
pub async fn whole(mut body: reqwest::Body, cap: usize) -> Option<Vec<u8>> {
    let mut page = Vec::new();
    while let Some(bytes) = tokio::time::timeout(super::LEAST, next(&mut body)).await.ok()?? {
        if bytes.len() > cap - page.len() {
            return None;
        }
        page.extend_from_slice(&bytes);
    }
    Some(page)
}

/// The next bytes of a body, `Some(None)` at its end.
async fn next(body: &mut reqwest::Body) -> Option<Option<Bytes>> {
    loop {
        match std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await {
            None => return Some(None),
            Some(frame) => {
                if let Ok(bytes) = frame.ok()?.into_data() {
                    return Some(Some(bytes));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_the_list_are_kept() {
        let page =
            |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(code(page("NoSuchBucket").as_bytes()), Some("NoSuchBucket"));
        for other in ["", "nosuchbucket", "SomethingElse", "NoSuchBucket "] {
            assert_eq!(code(page(other).as_bytes()), None, "{other}");
        }
        assert_eq!(code(b"<Code>NoSuchBucket"), None);
        assert_eq!(code(&[0xff, 0xfe]), None);
    }
}
