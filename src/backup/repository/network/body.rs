//! An answer's body that ends with an error when it falls silent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::HttpError;
use tokio::time::Sleep;

use super::{Refusal, refusal, wrapped};
use crate::http::Exchange;

/// The body, watched while somebody waits for it.
pub struct Timed {
    body: reqwest::Body,
    origin: String,
    silence: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub fn new(body: reqwest::Body, origin: String, silence: Duration) -> Self {
        Self { body, origin, silence, waiting: None }
    }

    fn failed(&self, error: &reqwest::Error) -> HttpError {
        let exchange = Exchange { doing: refusal::DOING, origin: &self.origin, cap: 0, timeout: self.silence };
        wrapped(Refusal::Unanswered(Arc::new(exchange.failed(error))))
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            // A slow reader is no silent server: the clock runs only while we wait.
            self.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| self.failed(&error))));
        }
        let silence = self.silence;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(wrapped(Refusal::timeout(&self.origin, silence))))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
