//! `/healthz`, `/readyz` and `/metrics`, in plain HTTP for the kubelet and Prometheus.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;
use crate::record::Record;

const EVERY: Duration = Duration::from_secs(2);

/// Whether calls can be made; where not, why.
#[derive(Clone)]
pub struct Readiness(Arc<Mutex<Result<(), String>>>);

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness(Arc::new(Mutex::new(Err("the record was not reached yet".to_owned()))))
    }
}

impl Readiness {
    pub fn set(&self, state: Result<(), String>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != state {
            match &state {
                Ok(()) => tracing::info!("is ready"),
                Err(problem) => tracing::warn!(%problem, "is not ready"),
            }
        }
        *current = state;
    }

    fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps asking whether the record is there.
pub async fn watch<R: Record>(record: R, readiness: Readiness) {
    loop {
        readiness.set(record.ready().await.map_err(|error| format!("the record: {error}")));
        tokio::time::sleep(EVERY).await;
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    metrics: Metrics,
}

pub fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Shared { readiness, metrics })
}

/// Serves until the process ends.
pub async fn serve(router: Router, address: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.readiness.get() {
        Ok(()) => "ok\n".into_response(),
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem + "\n").into_response(),
    }
}

async fn render(State(shared): State<Shared>) -> Response {
    match shared.metrics.render() {
        Ok(text) => ([("content-type", "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
