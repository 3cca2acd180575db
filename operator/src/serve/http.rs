//! `/healthz`, `/readyz` and `/metrics`, in plain HTTP for the kubelet and Prometheus.
//!
//! `/readyz` says whether everything is well. `/readyz/admission` says whether this replica can serve the webhook, and
//! nothing more, which the kubelet asks: a first replica that starts, and all of them while PostgreSQL is away, must let
//! people sign, cancel and ask for work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;
use crate::watch::caches::lock;

pub const PORT: u16 = 8080;

/// What must be well for this replica to take traffic: a name and, where it is not, what is wrong.
#[derive(Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
}

/// What serving the webhook takes: each of them must have been found well. Of the caches it is the Agents, which requesters
/// may be bound to.
const FOR_ADMISSION: [&str; 3] = ["caches", "certificates", "seal"];
/// Of a replica that drains.
const RUNNING: &str = "running";

impl Readiness {
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        let before = lock(&self.conditions).insert(name, state.clone());
        match (before, state) {
            (Some(Err(_)), Ok(())) => tracing::info!(condition = name, "is well"),
            (before, Err(problem)) if before != Some(Err(problem.clone())) => {
                tracing::warn!(condition = name, %problem, "is not well");
            }
            _ => {}
        }
    }

    /// From now on this replica is asked for nothing new.
    pub fn drain(&self) {
        self.set(RUNNING, Err("told to end".to_owned()));
    }

    /// One line for each condition that is not met.
    fn report(&self) -> Vec<String> {
        let conditions = lock(&self.conditions);
        conditions.iter().filter_map(|(name, state)| Some(format!("{name}: {}", state.as_ref().err()?))).collect()
    }

    /// The same of what serving the webhook takes.
    fn report_admission(&self) -> Vec<String> {
        let conditions = lock(&self.conditions);
        let unknown = Err("not known yet".to_owned());
        let needed = FOR_ADMISSION.map(|name| (name, conditions.get(name).unwrap_or(&unknown)));
        let drains = conditions.get(RUNNING).map(|state| (RUNNING, state));
        let unmet = needed.into_iter().chain(drains);
        unmet.filter_map(|(name, state)| Some(format!("{name}: {}", state.as_ref().err()?))).collect()
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
        .route("/readyz/admission", get(admission))
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
    answer(&shared.readiness.report())
}

async fn admission(State(shared): State<Shared>) -> Response {
    answer(&shared.readiness.report_admission())
}

fn answer(unmet: &[String]) -> Response {
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
    async fn the_webhook_is_ready_with_its_certificate_and_seal_and_until_it_drains() {
        let readiness = Readiness::default();
        let router = router(readiness.clone(), Metrics::new().unwrap());
        readiness.set("postgresql", Err("connection refused".into()));
        let (status, said) = ask(&router, "/readyz/admission").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(said, "caches: not known yet\ncertificates: not known yet\nseal: not known yet\n");
        readiness.set("caches", Ok(()));
        readiness.set("certificates", Ok(()));
        assert_eq!(ask(&router, "/readyz/admission").await.0, StatusCode::SERVICE_UNAVAILABLE);
        readiness.set("seal", Ok(()));
        assert_eq!(ask(&router, "/readyz/admission").await.0, StatusCode::OK, "whatever becomes of PostgreSQL");
        readiness.set("certificates", Err("none".into()));
        assert_eq!(ask(&router, "/readyz/admission").await.0, StatusCode::SERVICE_UNAVAILABLE);
        readiness.set("certificates", Ok(()));
        readiness.drain();
        let (status, said) = ask(&router, "/readyz/admission").await;
        assert_eq!((status, said.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "running: told to end\n"));
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format() {
        let metrics = Metrics::new().unwrap();
        metrics.action("create_job", true);
        metrics.leading(true);
        let (status, text) = ask(&router(Readiness::default(), metrics), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("countersign_actions_total{kind=\"create_job\",result=\"done\"} 1"), "{text}");
        assert!(text.contains("countersign_leader 1"), "{text}");
    }
}
