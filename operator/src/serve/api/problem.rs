//! What a reader is told when there is no answer: problem details (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_service::causes::told;
use countersign_service::problem;
use countersign_store::StoreError;

#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    /// Seconds after which another try is worth it.
    retry_after: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), retry_after: None }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn unauthenticated(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    pub fn too_many(seconds: u32) -> Problem {
        let detail = format!("too many requests of yours; wait {seconds} s");
        Problem { retry_after: Some(seconds), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        if error.is_unavailable() {
            return Problem::unavailable("the record cannot be read just now: PostgreSQL does not answer");
        }
        // What PostgreSQL said is for the operator's own log.
        tracing::error!(error = told(&error), "a reader was not answered");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the record could not be read; the operator's log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem { status, detail, retry_after } = self;
        let mut response = problem::response("about:blank", status, &detail, retry_after.map(u64::from));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
