//! A request's body on its way out: counted, and cut off where it is too long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use thiserror::Error;

#[derive(Clone, Debug, Default)]
pub struct Counter {
    bytes: Arc<AtomicU64>,
    exceeded: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

impl Counter {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the body was longer than it may be.
    pub fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Whether the sandbox did not send it to its end.
    pub fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

pub struct Outgoing {
    body: Body,
    most: u64,
    counter: Counter,
}

#[derive(Debug, Error)]
pub enum OutgoingError {
    #[error("the body is longer than {0} bytes")]
    TooLong(u64),
    #[error("the body did not come to its end: {0}")]
    Broken(axum::Error),
}

impl Outgoing {
    pub fn new(body: Body, most: usize) -> (Outgoing, Counter) {
        let counter = Counter::default();
        (Outgoing { body, most: u64::try_from(most).unwrap_or(u64::MAX), counter: counter.clone() }, counter)
    }
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = OutgoingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutgoingError>>> {
        let this = &mut *self;
        loop {
            let frame = match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    this.counter.broken.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(OutgoingError::Broken(error))));
                }
            };
            // Trailers are headers that nobody judged.
            let Ok(data) = frame.into_data() else { continue };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let before = this.counter.bytes.fetch_add(length, Ordering::Relaxed);
            if before.saturating_add(length) > this.most {
                this.counter.exceeded.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(OutgoingError::TooLong(this.most))));
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
