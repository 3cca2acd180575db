//! A web request: the head of the answer, then its body as it comes.

use std::net::SocketAddr;

use axum::body::Body;
use axum::response::Response;
use countersign_core::money::Money;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use tokio::sync::mpsc;

use super::answer::{self, Passing, Piece};
use super::end::{End, Outcome};
use super::under_way::{Failed, Head, UnderWay};
use crate::judge::breaker;
use crate::judge::headers;
use crate::judge::usage::Meter;
use crate::limits::CallPermit;
use crate::record::Record;
use crate::refusal::{Reason, Refusal};
use crate::upstream::connect::{NotConnected, addresses};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::web::{Ready, ready};

impl<R: Record> UnderWay<R> {
    pub async fn web(&self, number: u32, request: hyper::Request<Outgoing>, permit: CallPermit, mut head: Head) {
        match self.ask(request, &mut head).await {
            Ok((response, address)) => {
                let down = response.status().is_server_error();
                permit.settle(if down { breaker::Outcome::Failure } else { breaker::Outcome::Success });
                self.pass_on(number, response, address, head).await;
            }
            Err(failed) => self.fail(number, failed, permit, head).await,
        }
    }

    async fn ask(
        &self,
        request: hyper::Request<Outgoing>,
        head: &mut Head,
    ) -> Result<(hyper::Response<Incoming>, SocketAddr), Failed> {
        let end = |outcome, address, cost| End { outcome, status: None, address, received: 0, cost };
        let reached = self.unless_stopped(head.closed(), self.reach()).await;
        let connected = reached
            .map_err(|outcome| Failed { end: end(outcome, None, Money::ZERO), refusal: self.stopped(outcome) })?;
        let connected = connected.map_err(|why| self.not_connected(why))?;
        let address = connected.address;
        let failed = |outcome, refusal| Failed { end: end(outcome, Some(address), self.reserved.most), refusal };
        match self.unless_stopped(head.closed(), connected.send(request)).await {
            Err(outcome) => Err(failed(outcome, self.stopped(outcome))),
            Ok(Err(_)) if self.counter.exceeded() => {
                let detail = format!("the body is longer than {} bytes", self.broker.limits.request_bytes);
                Err(failed(Outcome::RequestTooLarge, Refusal::new(Reason::RequestTooLarge, detail)))
            }
            Ok(Err(error)) if self.counter.broken() => {
                let detail = format!("the body did not come to its end: {error}");
                Err(failed(Outcome::SandboxGone, Refusal::new(Reason::BadRequest, detail)))
            }
            Ok(Err(error)) => {
                let detail = format!("{} did not answer as it should: {error}", self.target.authority());
                Err(failed(Outcome::Broken, Refusal::new(Reason::Unreachable, detail)))
            }
            Ok(Ok(response)) => match self.unfit(&response) {
                None => Ok((response, address)),
                Some((outcome, refusal)) => {
                    let mut failed = failed(outcome, refusal);
                    failed.end.status = Some(response.status().as_u16());
                    Err(failed)
                }
            },
        }
    }

    async fn reach(&self) -> Result<Ready, NotConnected> {
        let broker = &self.broker;
        let addresses = addresses(&*broker.resolver, &broker.guard, &self.target, &self.egress.addresses).await?;
        ready(&broker.trust, &self.target, &addresses, broker.limits.connect).await
    }

    /// Why an answer cannot be passed on, seen from its head.
    fn unfit(&self, response: &hyper::Response<Incoming>) -> Option<(Outcome, Refusal)> {
        let host = self.target.authority();
        let most = self.broker.limits.response_bytes;
        if response.status().is_informational() {
            let refusal = Refusal::new(Reason::BadAnswer, format!("{host} wants to speak another protocol"));
            return Some((Outcome::BadAnswer, refusal));
        }
        let body = response.body();
        if body.size_hint().exact().is_some_and(|bytes| bytes > most) {
            let refusal = Refusal::new(Reason::ResponseTooLarge, format!("{host} answers with more than {most} bytes"));
            return Some((Outcome::ResponseTooLarge, refusal));
        }
        if self.redactor.is_some() && !body.is_end_stream() && !headers::is_plain(response.headers()) {
            let detail =
                format!("{host} answers encoded although it was asked not to, so a credential could hide in it");
            return Some((Outcome::BadAnswer, Refusal::new(Reason::BadAnswer, detail)));
        }
        None
    }

    async fn pass_on(&self, number: u32, response: hyper::Response<Incoming>, address: SocketAddr, head: Head) {
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let meter = self.reserved.by_token.then(|| Meter::new(content_type));
        let passing = Passing::new(meter, self.redactor.clone(), self.broker.limits.response_bytes);
        let end =
            |outcome, received, cost| End { outcome, status: Some(status), address: Some(address), received, cost };
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = headers::response(&parts.headers, self.redactor.as_ref());
        if body.is_end_stream() {
            let end = end(Outcome::Answered, 0, self.settle(passing));
            self.around(number, end, async { drop(head.send(Ok(answer))) }).await;
            return;
        }
        let (sender, receiver) = mpsc::channel(2);
        *answer.body_mut() = answer::body(receiver);
        let most = self.reserved.most;
        if head.send(Ok(answer)).is_err() {
            self.record_end(number, end(Outcome::SandboxGone, 0, most)).await;
            return;
        }
        let (outcome, mut passing, last) = self.pump(body, passing, &sender).await;
        let received = passing.received();
        if outcome != Outcome::Answered {
            // Without a word of an end the sandbox sees a body that was cut off.
            self.record_end(number, end(outcome, received, most)).await;
            return;
        }
        let rest = passing.rest();
        let tell = async {
            for bytes in [last, rest] {
                if !bytes.is_empty() {
                    drop(sender.send(Piece::Data(bytes)).await);
                }
            }
            drop(sender.send(Piece::End).await);
        };
        let cost = self.settle(passing);
        self.around(number, end(outcome, received, cost), tell).await;
    }

    /// Tells the sandbox of the end and records it: where money counts the record comes first, so that its next call finds
    /// what this one left.
    async fn around(&self, number: u32, end: End, tell: impl Future<Output = ()>) {
        let first = self.tariff.is_some();
        if first {
            self.record_end(number, end.clone()).await;
        }
        // A sandbox that does not read is not waited for longer than the call may take.
        let _told = self.unless_stopped(std::future::pending(), tell).await;
        if !first {
            self.record_end(number, end).await;
        }
    }

    fn settle(&self, passing: Passing) -> Money {
        match &self.tariff {
            Some(tariff) => tariff.settle(&self.reserved, passing.usage()),
            None => self.reserved.most,
        }
    }

    /// Passes everything on but what came last, once that is known to be the last.
    async fn pump(
        &self,
        mut body: Incoming,
        mut passing: Passing,
        sender: &mpsc::Sender<Piece>,
    ) -> (Outcome, Passing, bytes::Bytes) {
        let nothing = bytes::Bytes::new();
        loop {
            let frame = match self.unless_stopped(sender.closed(), answer::next(&mut body)).await {
                Err(outcome) => return (outcome, passing, nothing),
                Ok(None) => return (Outcome::Answered, passing, nothing),
                Ok(Some(Err(_))) => return (Outcome::Broken, passing, nothing),
                Ok(Some(Ok(data))) => data,
            };
            let Some(bytes) = passing.push(&frame) else { return (Outcome::ResponseTooLarge, passing, nothing) };
            if body.is_end_stream() {
                return (Outcome::Answered, passing, bytes);
            }
            if bytes.is_empty() {
                continue;
            }
            match self.unless_stopped(std::future::pending(), sender.send(Piece::Data(bytes))).await {
                Err(outcome) => return (outcome, passing, nothing),
                Ok(Err(_)) => return (Outcome::SandboxGone, passing, nothing),
                Ok(Ok(())) => {}
            }
        }
    }
}
