//! Why there is no answer: problem details (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// `kind` is the problem's type; `retry_after` the seconds after which another try is worth it.
pub fn response(kind: &str, status: StatusCode, detail: &str, retry_after: Option<u64>) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let mut response = (status, Json(Body { r#type: kind, title, status: status.as_u16(), detail })).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
