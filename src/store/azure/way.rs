//! How the SDK's requests travel: over our own clients, to where they belong and nowhere else.
//!
//! The SDK sees answers it can use and nothing of the others: why a call failed is kept beside it, in our own words.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::headers::{AUTHORIZATION, Headers, WWW_AUTHENTICATE};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{AsyncRawResponse, Body, Context, Request};
use bytes::Bytes;
use jiff::Timestamp;

use super::refusal;
use crate::http::carry::Carrier;
use crate::http::{http_date, wait_asked};
use crate::retry::Deadline;
use crate::store::cloud::Reason;

/// A managed identity is answered for by this very machine: who waits longer is not on one that has any.
const LOCAL: Duration = Duration::from_secs(5);

/// What one call may take, and what became of it; travels in the SDK's context, to its credentials too.
#[derive(Debug, Clone)]
pub(super) struct Trip(Arc<(Deadline, Mutex<Seen>)>);

#[derive(Debug, Default)]
struct Seen {
    failed: Option<Reason>,
    date: Option<Timestamp>,
}

impl Trip {
    pub(super) fn until(deadline: Deadline) -> Self {
        Self(Arc::new((deadline, Mutex::default())))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the reason, and gives the SDK an error that says nothing and is never tried again.
    pub(super) fn fail(&self, reason: Reason) -> azure_core::Error {
        self.seen().failed = Some(reason);
        gave_up()
    }

    /// Why the call failed, where it is known.
    pub(super) fn take_reason(&self) -> Option<Reason> {
        self.seen().failed.take()
    }

    /// The vault's own clock, as of its last answer.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.seen().date
    }

    fn remaining(&self) -> Duration {
        self.0.0.remaining()
    }
}

fn gave_up() -> azure_core::Error {
    azure_core::Error::with_message(azure_core::error::ErrorKind::Other, "see the reason beside it")
}

/// Which side is asked.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The vault at this origin; a link to any other is not followed, since the token would go with it.
    Vault(String),
    /// The token endpoint.
    Token,
    /// This machine's own service for managed identities.
    Machine,
}

/// The last step of an SDK pipeline.
#[derive(Debug)]
pub(super) struct Way {
    carrier: Carrier,
    end: End,
}

impl Way {
    pub(super) const fn new(carrier: Carrier, end: End) -> Self {
        Self { carrier, end }
    }

    async fn carry(&self, trip: &Trip, request: &Request) -> PolicyResult {
        if let End::Vault(origin) = &self.end
            && request.url().origin().ascii_serialization() != *origin
        {
            return Err(trip.fail(Reason::Rejected("it links to another host, where its token must not go")));
        }
        let Some(carried) = carried(request) else { return Err(trip.fail(Reason::Garbled)) };
        let timeout = match self.end {
            End::Machine => trip.remaining().min(LOCAL),
            _ => trip.remaining(),
        };
        let answer = self.carrier.send(carried, timeout).await.map_err(|error| match self.end {
            End::Machine => trip.fail(Reason::NoCredentials(NOBODY)),
            _ => trip.fail(error.into()),
        })?;
        let text = |name: http::HeaderName| answer.headers().get(name)?.to_str().ok();
        let date = text(http::header::DATE).and_then(http_date);
        let retry_after = text(http::header::RETRY_AFTER).and_then(|value| wait_asked(value, date));
        let status = answer.status().as_u16();
        let mut headers = Headers::new();
        if let End::Vault(_) = self.end {
            trip.seen().date = date;
            let challenge = text(http::header::WWW_AUTHENTICATE);
            // The first request goes without a token, and is told for what to get one; a second refusal is final.
            if let (401, Some(challenge), None) =
                (status, challenge, request.headers().get_optional_str(&AUTHORIZATION))
            {
                headers.insert(WWW_AUTHENTICATE, challenge.to_owned());
                trip.seen().failed = Some(refusal::foreign_challenge());
                return Ok(AsyncRawResponse::from_bytes(status.into(), headers, Bytes::new()));
            }
        }
        if (200..300).contains(&status) {
            trip.seen().failed = None;
            return Ok(AsyncRawResponse::from_bytes(status.into(), headers, answer.into_body()));
        }
        let reason = match self.end {
            End::Vault(_) => refusal::of_vault(status, answer.body(), retry_after),
            End::Token => refusal::of_token(status, answer.body(), retry_after),
            End::Machine => refusal::of_machine(status, retry_after),
        };
        Err(trip.fail(reason))
    }
}

const NOBODY: &str = "the environment names no workload identity, and no managed identity answers on this machine";

#[async_trait]
impl Policy for Way {
    async fn send(&self, context: &Context, request: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        let Some(trip) = context.value::<Trip>() else { return Err(gave_up()) };
        self.carry(trip, request).await
    }
}

/// The same request in the common form.
fn carried(request: &Request) -> Option<http::Request<Bytes>> {
    let mut carried = http::Request::builder().method(request.method().as_str()).uri(request.url().as_str());
    for (name, value) in request.headers().iter() {
        let mut value = http::HeaderValue::from_str(value.as_str()).ok()?;
        value.set_sensitive(true);
        carried = carried.header(name.as_str(), value);
    }
    let Body::Bytes(body) = request.body() else { return None };
    carried.body(body.clone()).ok()
}
