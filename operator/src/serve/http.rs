//! `/healthz`, `/readyz` and `/metrics`, in plain HTTP for the kubelet and Prometheus.
//!
//! `/readyz` says whether everything is well. `/readyz/admission` says whether this replica can serve the webhook,
//! which the kubelet asks: while PostgreSQL is away people must still be able to sign, cancel and ask for work.

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
    conditions: Arc<Mutex<BTreeMap<&'static str, Condition>>>,
}

#[derive(Default)]
struct Condition {
    /// What is wrong now.
    problem: Option<String>,
    /// Whether it was well at some time; what never was is perhaps set up wrongly.
    was_well: bool,
}

/// What a replica can serve admission without, once it had it.
const NOT_FOR_ADMISSION: [&str; 1] = ["postgresql"];

impl Readiness {
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        let mut conditions = lock(&self.conditions);
        let condition = conditions.entry(name).or_default();
        match (&condition.problem, &state) {
            (Some(_), Ok(())) => tracing::info!(condition = name, "is well"),
            (before, Err(problem)) if before.as_ref() != Some(problem) => {
                tracing::warn!(condition = name, %problem, "is not well");
            }
            _ => {}
        }
        condition.was_well |= state.is_ok();
        condition.problem = state.err();
    }

    /// One line for each condition that is not met.
    fn report(&self, forgiven: impl Fn(&str, &Condition) -> bool) -> Vec<String> {
        let conditions = lock(&self.conditions);
        let unmet = conditions.iter().filter(|(name, condition)| !forgiven(name, condition));
        unmet.filter_map(|(name, condition)| Some(format!("{name}: {}", condition.problem.as_ref()?))).collect()
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
    answer(&shared.readiness.report(|_, _| false))
}

async fn admission(State(shared): State<Shared>) -> Response {
    let forgiven = |name: &str, condition: &Condition| condition.was_well && NOT_FOR_ADMISSION.contains(&name);
    answer(&shared.readiness.report(forgiven))
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
        assert_eq!(ask(&router, "/readyz/admission").await.0, StatusCode::SERVICE_UNAVAILABLE, "it was never well");
        readiness.set("postgresql", Ok(()));
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::OK);
        readiness.set("postgresql", Err("connection refused".into()));
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(&router, "/readyz/admission").await.0, StatusCode::OK, "signatures can still be given");
        readiness.set("certificates", Err("none".into()));
        assert_eq!(ask(&router, "/readyz/admission").await.0, StatusCode::SERVICE_UNAVAILABLE);
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
