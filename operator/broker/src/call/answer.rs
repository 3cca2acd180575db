//! An answer's body on its way to the sandbox: bounded, priced and without the credential.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::judge::redact::{Redactor, Stream};
use crate::judge::usage::{Meter, Usage};

pub enum Piece {
    Data(Bytes),
    /// Only with it does the body end well.
    End,
}

pub fn body(receiver: mpsc::Receiver<Piece>) -> Body {
    let pieces = stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Data(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the answer was cut off")), None)),
        }
    });
    Body::from_stream(pieces)
}

/// The next bytes; trailers are headers that nobody would look through, and are left out.
pub async fn next(body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

pub struct Passing {
    meter: Option<Meter>,
    redact: Option<Stream>,
    most: u64,
    received: u64,
}

impl Passing {
    pub fn new(meter: Option<Meter>, redactor: Option<Redactor>, most: u64) -> Passing {
        Passing { meter, redact: redactor.map(Redactor::stream), most, received: 0 }
    }

    /// What of it can be passed on; `None` where it is too much.
    pub fn push(&mut self, data: &Bytes) -> Option<Bytes> {
        self.received = self.received.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if self.received > self.most {
            return None;
        }
        if let Some(meter) = &mut self.meter {
            meter.push(data);
        }
        Some(match &mut self.redact {
            Some(redact) => redact.push(data),
            None => data.clone(),
        })
    }

    /// What was held back, once nothing more comes.
    pub fn rest(&mut self) -> Bytes {
        self.redact.as_mut().map(Stream::finish).unwrap_or_default()
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn usage(self) -> Option<Usage> {
        self.meter.and_then(Meter::finish)
    }
}
