//! A mail: one message, one answer.

use std::net::SocketAddr;

use axum::Json;
use axum::response::{IntoResponse, Response};
use countersign_core::money::Money;
use lettre::transport::smtp::response::Response as Said;
use serde_json::json;

use super::end::{End, Outcome};
use super::under_way::{Failed, Head, UnderWay};
use crate::judge::mail::Mail;
use crate::judge::target::TargetHost;
use crate::limits::CallPermit;
use crate::record::Record;
use crate::refusal::{Reason, Refusal};
use crate::upstream::connect::{NotConnected, addresses};
use crate::upstream::mail::{MailFailure, Secured, secure};

impl<R: Record> UnderWay<R> {
    pub async fn mail(
        &self,
        number: u32,
        mail: &Mail,
        login: Option<(String, String)>,
        permit: CallPermit,
        mut head: Head,
    ) {
        match self.deliver(mail, login, &mut head).await {
            Ok((said, address)) => {
                permit.settle(Outcome::Answered.of_host());
                let status = Some(u16::from(said.code()));
                let end = End {
                    outcome: Outcome::Answered,
                    status,
                    address: Some(address),
                    received: 0,
                    cost: self.reserved.most,
                };
                self.record_end(number, end).await;
                drop(head.send(Ok(self.accepted(mail, &said))));
            }
            Err(failed) => self.fail(number, failed, permit, head).await,
        }
    }

    async fn deliver(
        &self,
        mail: &Mail,
        login: Option<(String, String)>,
        head: &mut Head,
    ) -> Result<(Said, SocketAddr), Failed> {
        let stopped = |outcome, address, cost| Failed {
            end: End { outcome, status: None, address, received: 0, cost },
            refusal: self.stopped(outcome),
        };
        let secured = self.unless_stopped(head.closed(), self.reach_mail()).await;
        let secured = secured.map_err(|outcome| stopped(outcome, None, Money::ZERO))?;
        let secured = secured.map_err(|why| self.not_connected(why))?;
        let address = secured.address;
        let sent = self.unless_stopped(head.closed(), secured.send(login, mail)).await;
        let sent = sent.map_err(|outcome| stopped(outcome, Some(address), self.reserved.most))?;
        self.counter.add(mail.message.len());
        sent.map(|said| (said, address)).map_err(|failure| self.not_delivered(failure, address))
    }

    async fn reach_mail(&self) -> Result<Secured, NotConnected> {
        let broker = &self.broker;
        let addresses = addresses(&*broker.resolver, &broker.guard, &self.target, &self.egress.addresses).await?;
        let name = match &self.target.host {
            TargetHost::Name(name) => name.clone(),
            TargetHost::Address(address) => address.to_string(),
        };
        let failed = |why: String| NotConnected::Unreachable(why);
        let tls = broker.trust.mail(&name).map_err(|error| failed(error.to_string()))?;
        secure(&tls, self.target.protocol, &addresses, broker.limits.connect).await.map_err(|failure| match failure {
            MailFailure::NotSent(why) | MailFailure::Lost(why) | MailFailure::Rejected { code: _, why } => failed(why),
        })
    }

    fn not_delivered(&self, failure: MailFailure, address: SocketAddr) -> Failed {
        let (outcome, status, reason, why) = match failure {
            MailFailure::NotSent(why) => (Outcome::Unreachable, None, Reason::Unreachable, why),
            MailFailure::Lost(why) => (Outcome::Broken, None, Reason::Unreachable, why),
            MailFailure::Rejected { code, why } => (Outcome::MailRejected, code, Reason::MailRejected, why),
        };
        let detail = format!("{}: {}", self.target.authority(), self.clean(&why));
        let end = End { outcome, status, address: Some(address), received: 0, cost: self.reserved.most };
        Failed { end, refusal: Refusal::new(reason, detail) }
    }

    fn accepted(&self, mail: &Mail, said: &Said) -> Response {
        let to: Vec<String> = mail.envelope.to().iter().map(ToString::to_string).collect();
        let lines: Vec<&str> = said.message().collect();
        let response = self.clean(&format!("{} {}", said.code(), lines.join(" ")));
        Json(json!({"accepted": to, "response": response})).into_response()
    }

    fn clean(&self, text: &str) -> String {
        self.redactor.as_ref().map_or_else(|| text.to_owned(), |redactor| redactor.text(text))
    }
}
