//! A payment: the sandbox asks for it to be made, and is told how it stands. What is paid, to whom and how much is in
//! the attempt's launch, as it was judged and signed for; nothing that the sandbox sends has a say in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_core::money::Money;
use countersign_core::payment::Payment;
use countersign_crds::PaymentState;
use serde_json::json;

use crate::broker::Broker;
use crate::judge::headers;
use crate::judge::price::Tariff;
use crate::record::{Admitted, CallEnd, PaymentProblem, Record, RecordError, RequestedPayment};
use crate::refusal::{Reason, Refusal};

/// Where sandboxes ask: a name that no resolver knows (RFC 9476 has `.internal` for such), so it can be no host's.
const HOST: &str = "https://payment.countersign.internal/";
/// How long an answer may wait for the payment to be final.
const PATIENCE: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(250);

/// Whether a request is for a payment.
pub fn is_for(headers: &HeaderMap) -> bool {
    headers.get(headers::URL).is_some_and(|url| url.as_bytes() == HOST.as_bytes())
}

/// Asks for the attempt's payment, once however often it is asked, and waits a while for it to be final.
pub async fn pay<R: Record>(broker: Arc<Broker<R>>, of: Admitted, method: &Method) -> Result<Response, Refusal> {
    let Some(payment) = of.launch.payment.clone() else {
        let detail = "the attempt may not pay anything; its Skill has no payment";
        return Err(Refusal::new(Reason::EgressDenied, detail));
    };
    if method != Method::POST {
        return Err(Refusal::new(Reason::BadRequest, "a payment is asked for with POST"));
    }
    let tariff = of.launch.contract.cost.as_ref().map(Tariff::of).transpose()?;
    let ceiling = tariff.map(|tariff| tariff.most.for_calls());
    // Whatever becomes of the sandbox's connection, the end of what was begun is recorded.
    let calls = broker.calls.clone();
    let waiting = calls.spawn(async move { wait(&broker, &of, &payment, ceiling).await });
    waiting.await.unwrap_or_else(|_| Err(Refusal::new(Reason::Ending, "the broker ended before the payment was made")))
}

async fn wait<R: Record>(
    broker: &Broker<R>,
    of: &Admitted,
    payment: &Payment,
    ceiling: Option<Money>,
) -> Result<Response, Refusal> {
    let started = Instant::now();
    loop {
        let standing = broker.record.request_payment(of, payment, ceiling).await?;
        let RequestedPayment { state, transaction, place, last_error, call, cost, open } = &standing;
        let over = state.is_over();
        if over && *open {
            end(broker, of, *call, *state, *cost, started.elapsed()).await?;
        }
        if over || started.elapsed() >= PATIENCE || broker.cut.is_cancelled() {
            let answer = json!({
                "payment": payment.id,
                "mode": payment.mode,
                "state": state,
                "transaction": transaction,
                "block": place,
                "message": last_error,
            });
            return Ok((StatusCode::OK, Json(answer)).into_response());
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = broker.cut.cancelled() => {}
        }
    }
}

/// What did not move costs nothing.
async fn end<R: Record>(
    broker: &Broker<R>,
    of: &Admitted,
    call: u32,
    state: PaymentState,
    cost: Money,
    took: Duration,
) -> Result<(), RecordError> {
    let (outcome, cost) = match state {
        PaymentState::Confirmed => ("paid", cost),
        PaymentState::Refused | PaymentState::Dead | PaymentState::Waiting | PaymentState::Submitted => {
            ("not-paid", Money::ZERO)
        }
    };
    let end = CallEnd { outcome, status: None, address: None, sent: 0, received: 0, cost };
    broker.record.end_call(of, call, end).await?;
    broker.metrics.call(outcome, took);
    tracing::info!(number = call, outcome, %cost, "payment");
    Ok(())
}

impl From<PaymentProblem> for Refusal {
    fn from(problem: PaymentProblem) -> Refusal {
        let reason = match problem {
            PaymentProblem::Over => Reason::AttemptOver,
            PaymentProblem::CeilingReached(_) => Reason::CostCeiling,
            PaymentProblem::Differs => Reason::EgressDenied,
            PaymentProblem::Store(error) => return RecordError::from(error).into(),
        };
        Refusal::new(reason, problem.to_string())
    }
}
