//! `/healthz`, `/readyz` and `/metrics`, in plain HTTP for the kubelet and Prometheus.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::caches::lock;
use crate::metrics::Metrics;

pub const PORT: u16 = 8080;

/// What must be well for this replica to take traffic: a name and, where it is not, what is wrong.
#[derive(Clone, Default)]
pub struct Readiness {
    unmet: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Readiness {
    pub fn set(&self, condition: &'static str, state: Result<(), String>) {
        let mut unmet = lock(&self.unmet);
        match state {
            Ok(()) => {
                if unmet.remove(condition).is_some() {
                    tracing::info!(condition, "is well");
                }
            }
            Err(problem) => {
                if unmet.get(condition) != Some(&problem) {
                    tracing::warn!(condition, %problem, "is not well");
                }
                unmet.insert(condition, problem);
            }
        }
    }

    /// One line for each condition that is not met.
    fn report(&self) -> Vec<String> {
        lock(&self.unmet).iter().map(|(condition, problem)| format!("{condition}: {problem}")).collect()
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
pub async fn serve(router: Router) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let unmet = shared.readiness.report();
    if unmet.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, unmet.join("\n") + "\n").into_response()
}

async fn render(State(shared): State<Shared>) -> Response {
    match shared.metrics.render() {
        Ok(text) => ([("content-type", "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn readiness_says_what_is_wrong_and_recovers() {
        let readiness = Readiness::default();
        let router = router(readiness.clone(), Metrics::new().unwrap());
        assert_eq!(ask(&router, "/readyz").await, (StatusCode::OK, "ok\n".into()));
        readiness.set("postgresql", Err("connection refused".into()));
        let expected = "postgresql: connection refused\n".to_owned();
        assert_eq!(ask(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, expected));
        assert_eq!(ask(&router, "/healthz").await.0, StatusCode::OK);
        readiness.set("postgresql", Ok(()));
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format() {
        let metrics = Metrics::new().unwrap();
        metrics.act("create_job", true);
        metrics.leading(true);
        let (status, text) = ask(&router(Readiness::default(), metrics), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("countersign_acts_total{kind=\"create_job\",result=\"done\"} 1"), "{text}");
        assert!(text.contains("countersign_leader 1"), "{text}");
    }
}
