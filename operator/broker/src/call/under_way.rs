//! A call that was judged: it is recorded, then it leaves.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use countersign_core::money::Money;
use countersign_crds::Egress;
use tokio::sync::oneshot;

use super::Errand;
use super::end::{End, Outcome};
use crate::broker::Broker;
use crate::judge::price::{CostCeiling, Reserved, Tariff};
use crate::judge::redact::Redactor;
use crate::judge::target::Target;
use crate::limits::CallPermit;
use crate::record::{Admitted, Begun, Call, Record};
use crate::refusal::{Reason, Refusal};
use crate::upstream::connect::NotConnected;
use crate::upstream::outgoing::Counter;

pub struct UnderWay<R> {
    pub broker: Arc<Broker<R>>,
    pub of: Admitted,
    pub target: Target,
    pub egress: Egress,
    pub tariff: Option<Tariff>,
    pub reserved: Reserved,
    pub redactor: Option<Redactor>,
    pub counter: Counter,
    pub method: String,
    pub started: Instant,
    pub deadline: tokio::time::Instant,
}

/// To the sandbox: what it is told first.
pub type Head = oneshot::Sender<Result<Response, Refusal>>;

/// Why a call came to nothing, and what the sandbox is told.
pub struct Failed {
    pub end: End,
    pub refusal: Refusal,
}

impl<R: Record> UnderWay<R> {
    pub async fn run(self, errand: Errand, permit: CallPermit, head: Head) {
        match self.begin().await {
            Ok(number) => match errand {
                Errand::Web(request) => self.web(number, *request, permit, head).await,
                Errand::Mail { mail, login } => self.mail(number, &mail, login, permit, head).await,
            },
            // Where nobody listens any more there is nobody to tell.
            Err(refusal) => drop(head.send(Err(refusal))),
        }
    }

    async fn begin(&self) -> Result<u32, Refusal> {
        let most = self.tariff.as_ref().map(|tariff| tariff.most);
        let url = self.target.recorded();
        let reserved = self.reserved.most;
        let call = Call { method: &self.method, url: &url, reserved, ceiling: most.map(CostCeiling::for_calls) };
        match self.broker.record.begin_call(&self.of, &call).await? {
            Begun::Number(number) => Ok(number),
            Begun::CeilingReached { cost } => {
                let most = most.map_or_else(|| Money::ZERO.to_string(), |most| most.to_string());
                let detail = format!(
                    "this call may cost {reserved}, calls before it cost {cost}, and all of them may cost {most}; \
                     raise cost.ceiling of Skill {}, or ask for less",
                    self.of.launch.skill
                );
                Err(Refusal::new(Reason::CostCeiling, detail))
            }
            Begun::Over => Err(Refusal::new(Reason::AttemptOver, "the attempt has ended")),
        }
    }

    /// Waits for `work`, unless the sandbox goes away, time is up, or the broker must end.
    pub async fn unless_stopped<T>(
        &self,
        gone: impl Future<Output = ()>,
        work: impl Future<Output = T>,
    ) -> Result<T, Outcome> {
        tokio::select! {
            // What is done counts, whatever else is.
            biased;
            done = work => Ok(done),
            () = gone => Err(Outcome::SandboxGone),
            () = tokio::time::sleep_until(self.deadline) => Err(Outcome::Timeout),
            () = self.broker.cut.cancelled() => Err(Outcome::CutOff),
        }
    }

    /// Ends the call before anything of it was answered.
    pub async fn fail(&self, number: u32, failed: Failed, permit: CallPermit, head: Head) {
        let Failed { end, refusal } = failed;
        permit.settle(end.outcome.of_host());
        self.record_end(number, end).await;
        drop(head.send(Err(refusal)));
    }

    /// What the sandbox is told where its call was stopped.
    pub fn stopped(&self, outcome: Outcome) -> Refusal {
        if outcome == Outcome::CutOff {
            return Refusal::new(Reason::Ending, "the broker had to end").after(Duration::from_secs(1));
        }
        let most = self.deadline.into_std().saturating_duration_since(self.started);
        let detail = format!("{} did not answer within {} s", self.target.authority(), most.as_secs_f32());
        Refusal::new(Reason::Timeout, detail)
    }

    /// Nothing of the request left, so it cost nothing.
    pub fn not_connected(&self, why: NotConnected) -> Failed {
        let (outcome, refusal) = match why {
            NotConnected::Refused(error) => (
                Outcome::AddressRefused,
                Refusal::new(Reason::AddressRefused, format!("{} resolves to {error}", self.target.host)),
            ),
            NotConnected::Unreachable(why) => (
                Outcome::Unreachable,
                Refusal::new(Reason::Unreachable, format!("{} cannot be reached: {why}", self.target.authority())),
            ),
        };
        Failed { end: End { outcome, status: None, address: None, received: 0, cost: Money::ZERO }, refusal }
    }
}
