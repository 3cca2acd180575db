//! `/healthz`, `/readyz` and `/metrics`, in plain HTTP for the kubelet and Prometheus.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use countersign_service::causes::told;
use countersign_store::{Store, within};

use crate::metrics::Metrics;

/// For how long PostgreSQL is waited for; whoever asks waits no longer either.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Shared {
    store: Store,
    metrics: Metrics,
}

pub fn router(store: Store, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(Shared { store, metrics })
}

/// Whether the record can be reached, and its schema is the one that this version works with.
async fn ready(State(Shared { store, metrics: _ }): State<Shared>) -> Response {
    match within(PATIENCE, store.is_migrated()).await {
        Ok(true) => "ok".into_response(),
        Ok(false) => (StatusCode::SERVICE_UNAVAILABLE, "the schema is older than this signer").into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn text(State(Shared { store, metrics }): State<Shared>) -> Response {
    match within(PATIENCE, store.outbox_standing()).await {
        Ok(standing) => metrics.standing(&standing),
        Err(error) => tracing::warn!(error = told(&error), "the outbox cannot be counted"),
    }
    match metrics.text() {
        Ok(text) => text.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
