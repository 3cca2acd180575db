//! What came of a call, as the record keeps it.

use std::net::SocketAddr;
use std::time::Duration;

use countersign_core::money::Money;

use super::under_way::UnderWay;
use crate::judge::breaker;
use crate::record::{CallEnd, Record};

/// Closed; the record and the metrics know these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Answered,
    /// The name resolved to an address that must not be reached.
    AddressRefused,
    Unreachable,
    Timeout,
    RequestTooLarge,
    ResponseTooLarge,
    /// It answered with what cannot be passed on.
    BadAnswer,
    /// It was lost before its answer was there.
    Broken,
    /// A mail server said no.
    MailRejected,
    /// The sandbox went away first.
    SandboxGone,
    /// The broker had to end.
    CutOff,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::AddressRefused => "address-refused",
            Outcome::Unreachable => "unreachable",
            Outcome::Timeout => "timeout",
            Outcome::RequestTooLarge => "request-too-large",
            Outcome::ResponseTooLarge => "response-too-large",
            Outcome::BadAnswer => "bad-answer",
            Outcome::Broken => "broken",
            Outcome::MailRejected => "mail-rejected",
            Outcome::SandboxGone => "sandbox-gone",
            Outcome::CutOff => "cut-off",
        }
    }

    /// What it says of the host.
    pub fn of_host(self) -> breaker::Outcome {
        match self {
            Outcome::Answered | Outcome::ResponseTooLarge | Outcome::MailRejected => breaker::Outcome::Success,
            Outcome::Unreachable | Outcome::Timeout | Outcome::BadAnswer | Outcome::Broken => breaker::Outcome::Failure,
            Outcome::AddressRefused | Outcome::RequestTooLarge | Outcome::SandboxGone | Outcome::CutOff => {
                breaker::Outcome::Nothing
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct End {
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub address: Option<SocketAddr>,
    pub received: u64,
    pub cost: Money,
}

/// Between tries to record an end; until it is recorded the call counts as under way, at its most.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3)];

impl<R: Record> UnderWay<R> {
    pub async fn record_end(&self, number: u32, end: End) {
        let End { outcome, status, address, received, cost } = end;
        let outcome = outcome.as_str();
        let sent = self.counter.bytes();
        let took = self.started.elapsed();
        let address = address.map(|address| address.to_string());
        let call_end = CallEnd { outcome, status, address: address.clone(), sent, received, cost };
        let mut result = self.broker.record.end_call(&self.of, number, call_end.clone()).await;
        for pause in PAUSES {
            let Err(error) = &result else { break };
            tracing::warn!(number, %error, "the end of a call is not recorded yet");
            tokio::time::sleep(pause).await;
            result = self.broker.record.end_call(&self.of, number, call_end.clone()).await;
        }
        if let Err(error) = result {
            self.broker.metrics.unrecorded();
            tracing::error!(number, outcome, %error, "the end of a call is not recorded; it counts at its most");
        }
        self.broker.metrics.call(outcome, took);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (method, url) = (&self.method, self.target.recorded());
        tracing::info!(number, method, url, outcome, status, address, sent, received, %cost, milliseconds, "call");
    }
}
