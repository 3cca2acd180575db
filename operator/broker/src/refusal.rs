//! What a sandbox is told where the broker itself answers: problem details (RFC 9457), and a header by which such an
//! answer is told from an upstream's.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_service::problem;

use crate::judge::allow::Denied;
use crate::judge::credential::CredentialError;
use crate::judge::headers::REFUSED;
use crate::judge::mail::MailError;
use crate::judge::price::PriceError;
use crate::judge::target::TargetError;
use crate::record::RecordError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub detail: String,
    retry_after: Option<u64>,
}

/// Closed, so that it can label a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    BadRequest,
    Token,
    TokenUsed,
    Session,
    AttemptOver,
    EgressDenied,
    AddressRefused,
    CostCeiling,
    PriceUnknown,
    RequestTooLarge,
    ResponseTooLarge,
    WorkspaceFull,
    RateLimited,
    Busy,
    Unreachable,
    BadAnswer,
    MailRejected,
    CircuitOpen,
    Timeout,
    CredentialMissing,
    CredentialChanged,
    RecordUnavailable,
    NotFound,
    Ending,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        self.parts().0
    }

    fn parts(self) -> (&'static str, StatusCode) {
        match self {
            Reason::BadRequest => ("bad-request", StatusCode::BAD_REQUEST),
            Reason::Token => ("token", StatusCode::UNAUTHORIZED),
            Reason::TokenUsed => ("token-used", StatusCode::CONFLICT),
            Reason::Session => ("session", StatusCode::UNAUTHORIZED),
            Reason::AttemptOver => ("attempt-over", StatusCode::GONE),
            Reason::EgressDenied => ("egress-denied", StatusCode::FORBIDDEN),
            Reason::AddressRefused => ("address-refused", StatusCode::FORBIDDEN),
            Reason::CostCeiling => ("cost-ceiling", StatusCode::PAYMENT_REQUIRED),
            Reason::PriceUnknown => ("price-unknown", StatusCode::UNPROCESSABLE_ENTITY),
            Reason::RequestTooLarge => ("request-too-large", StatusCode::PAYLOAD_TOO_LARGE),
            Reason::ResponseTooLarge => ("response-too-large", StatusCode::INSUFFICIENT_STORAGE),
            Reason::WorkspaceFull => ("workspace-full", StatusCode::INSUFFICIENT_STORAGE),
            Reason::RateLimited => ("rate-limited", StatusCode::TOO_MANY_REQUESTS),
            Reason::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE),
            Reason::Unreachable => ("unreachable", StatusCode::BAD_GATEWAY),
            Reason::BadAnswer => ("bad-answer", StatusCode::BAD_GATEWAY),
            Reason::MailRejected => ("mail-rejected", StatusCode::BAD_GATEWAY),
            Reason::CircuitOpen => ("circuit-open", StatusCode::SERVICE_UNAVAILABLE),
            Reason::Timeout => ("timeout", StatusCode::GATEWAY_TIMEOUT),
            Reason::CredentialMissing => ("credential-missing", StatusCode::SERVICE_UNAVAILABLE),
            Reason::CredentialChanged => ("credential-changed", StatusCode::CONFLICT),
            Reason::RecordUnavailable => ("record-unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Reason::NotFound => ("not-found", StatusCode::NOT_FOUND),
            Reason::Ending => ("ending", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl Refusal {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal { reason, detail: detail.into(), retry_after: None }
    }

    /// In whole seconds, rounded up.
    pub fn after(self, wait: Duration) -> Refusal {
        Refusal { retry_after: Some(wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)), ..self }
    }
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Refusal {
        Refusal::new(Reason::BadRequest, format!("countersign-url: {error}"))
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        Refusal::new(Reason::EgressDenied, denied.to_string())
    }
}

impl From<PriceError> for Refusal {
    fn from(error: PriceError) -> Refusal {
        Refusal::new(Reason::PriceUnknown, error.to_string())
    }
}

impl From<MailError> for Refusal {
    fn from(error: MailError) -> Refusal {
        Refusal::new(Reason::BadRequest, error.to_string())
    }
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Refusal {
        let reason = match error {
            CredentialError::WebhookId => Reason::BadRequest,
            CredentialError::Empty { .. }
            | CredentialError::NotAHeader { .. }
            | CredentialError::Username(_)
            | CredentialError::NoLogin { .. }
            | CredentialError::SignedMail { .. } => Reason::CredentialMissing,
        };
        Refusal::new(reason, error.to_string())
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Refusal {
        // What PostgreSQL said is for the broker's own log.
        tracing::error!(%error, "the record cannot be used");
        let detail = "the record cannot be written just now, so nothing leaves";
        Refusal::new(Reason::RecordUnavailable, detail).after(Duration::from_secs(1))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { reason, detail, retry_after } = self;
        let (name, status) = reason.parts();
        let mut response = problem::response(name, status, &detail, retry_after);
        // For whoever counts it.
        response.extensions_mut().insert(reason);
        response.headers_mut().insert(REFUSED, HeaderValue::from_static(name));
        response
    }
}
