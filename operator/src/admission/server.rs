//! The HTTPS server that the API server calls.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, body::Bytes};
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::core::admission::AdmissionReview;

use super::review::{self, Admitted, Refusal, Review};
use crate::metrics::Metrics;

const PORT: u16 = 9443;
/// Two objects of the API server's own limit, and some.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

#[derive(Clone)]
struct Shared {
    service_account: String,
    metrics: Metrics,
}

pub fn router(service_account: &str, metrics: Metrics) -> Router {
    Router::new()
        .route("/mutate/approvals", post(mutate))
        .route("/validate", post(validate))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Shared { service_account: service_account.to_owned(), metrics })
}

/// Serves until the process ends.
pub async fn serve(router: Router, tls: RustlsConfig) -> anyhow::Result<()> {
    axum_server::bind_rustls(SocketAddr::from(([0, 0, 0, 0], PORT)), tls).serve(router.into_make_service()).await?;
    Ok(())
}

async fn mutate(State(shared): State<Shared>, body: Bytes) -> Response {
    answer(&shared, &body, |request| review::mutate(Timestamp::now(), &shared.service_account, request))
}

async fn validate(State(shared): State<Shared>, body: Bytes) -> Response {
    // Compiling a Plan's expressions takes its time; other requests go on meanwhile.
    let shared_too = shared.clone();
    let work = move || answer(&shared_too, &body, |request| review::validate(&shared_too.service_account, request));
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn answer(shared: &Shared, body: &[u8], decide: impl FnOnce(&Review) -> Result<Admitted, Refusal>) -> Response {
    let request: Review = match serde_json::from_slice::<AdmissionReview<DynamicObject>>(body) {
        Ok(AdmissionReview { request: Some(request), .. }) => request,
        Ok(_) => return (StatusCode::BAD_REQUEST, "the review holds no request").into_response(),
        Err(error) => return (StatusCode::BAD_REQUEST, format!("not an AdmissionReview: {error}")).into_response(),
    };
    let result = decide(&request);
    shared.metrics.admission(review::resource(&request), result.is_ok());
    if let Err(refusal) = &result {
        tracing::info!(resource = review::resource(&request), namespace = ?request.namespace, name = %request.name,
            user = ?request.user_info.username, refusal = %refusal.message, "refused");
    }
    Json(review::response(&request.uid, &result)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use base64::Engine;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    const OPERATOR: &str = "system:serviceaccount:ops:countersign";

    async fn ask(path: &str, kind: (&str, &str), operation: &str, user: &str, new: Value, old: Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1", "name": "x", "namespace": "ns", "operation": operation, "object": new, "oldObject": old,
                "kind": {"group": "countersign.dev", "version": "v1alpha1", "kind": kind.0},
                "resource": {"group": "countersign.dev", "version": "v1alpha1", "resource": kind.1},
                "userInfo": {"username": user, "groups": ["people"]},
                "options": null, "dryRun": false,
            },
        });
        let request = Request::post(path).body(Body::from(review.to_string())).unwrap();
        let response = router(OPERATOR, Metrics::new().unwrap()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["response"].clone()
    }

    fn approval(spec: Value) -> Value {
        let mut whole = json!({
            "taskRef": {"name": "t", "uid": "u"}, "step": "s", "attempt": 1,
            "digest": format!("sha256:{}", "0".repeat(64)), "expiresAt": "2999-01-01T00:00:00Z",
            "subject": {"skill": "k", "effect": "Read", "risk": "Low", "input": {}, "image": "i"},
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Approval", "metadata": {"name": "a"}, "spec": whole})
    }

    #[tokio::test]
    async fn a_patch_becomes_a_stamped_decision() {
        let new = approval(json!({"approved": true, "reason": "fine"}));
        let path = "/mutate/approvals";
        let answer = ask(path, ("Approval", "approvals"), "UPDATE", "alice", new, approval(json!({}))).await;
        assert_eq!(answer["allowed"], true, "{answer}");
        let patch = base64::engine::general_purpose::STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        let spec = &patch[0]["value"];
        assert_eq!(spec["decisions"][0]["user"], "alice");
        assert_eq!(spec["decisions"][0]["reason"], "fine");
        assert!(spec.get("approved").is_none() && spec.get("reason").is_none(), "{spec}");
    }

    #[tokio::test]
    async fn an_approval_made_by_somebody_else_is_refused() {
        let answer =
            ask("/mutate/approvals", ("Approval", "approvals"), "CREATE", "alice", approval(json!({})), Value::Null)
                .await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)), "{answer}");
    }

    fn object(kind: &str, spec: Value) -> Value {
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec})
    }

    #[tokio::test]
    async fn what_can_be_known_to_be_wrong_is_refused_with_field_and_fix() {
        let step = |name: &str, needs: Value| json!({"name": name, "skill": "k", "needs": needs});
        let cases = [
            ("Plan", "plans", json!({"steps": [step("a", json!(["b"])), step("b", json!(["a"]))]}), "cycle"),
            (
                "Plan",
                "plans",
                json!({"steps": [step("a", json!(["b"]))]}),
                "spec.steps[0] (a).needs[0]: there is no step \"b\"",
            ),
            (
                "Task",
                "tasks",
                json!({"plan": {"steps": [{"name": "a", "skill": "k", "input": {"x": "${task.parameters.wallet}"}}]}}),
                "the Task has no parameter \"wallet\"; add it to spec.parameters",
            ),
            ("Task", "tasks", json!({"type": "t", "parameters": {"n": 9_007_199_254_740_993_i64}}), "spec.parameters"),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "tsak.type == 'x'", "effect": "Allow"}]}),
                "spec.rules[0].match: rule \"r\": 1:1: unknown variable \"tsak\"",
            ),
            (
                "Skill",
                "skills",
                json!({"effect": "Read", "builtin": {"name": "generic_action"}, "input": {"type": "nonsense"}}),
                "spec.input: is not a JSON Schema",
            ),
            (
                "Plan",
                "plans",
                json!({"taskRef": {"name": "t", "uid": "u"}, "digest": "d", "steps": [step("a", json!([]))]}),
                "spec.taskRef",
            ),
        ];
        for (kind, resource, spec, expected) in cases {
            let answer = ask("/validate", (kind, resource), "CREATE", "alice", object(kind, spec), Value::Null).await;
            assert_eq!(answer["allowed"], false, "{kind}: {answer}");
            let message = answer["status"]["message"].as_str().unwrap();
            assert!(message.contains(expected), "{kind}: {message}");
        }
    }

    #[tokio::test]
    async fn what_a_task_runs_never_changes_and_the_rest_may() {
        let task = |parameters: Value, cancel: bool| {
            object("Task", json!({"type": "t", "parameters": parameters, "cancel": cancel}))
        };
        let old = task(json!({"a": 1}), false);
        for (new, allowed) in [(task(json!({"a": 1}), true), true), (task(json!({"a": 2}), false), false)] {
            let answer = ask("/validate", ("Task", "tasks"), "UPDATE", "alice", new, old.clone()).await;
            assert_eq!(answer["allowed"], allowed, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_no_review_is_a_bad_request() {
        let request = Request::post("/validate").body(Body::from("{}")).unwrap();
        let response = router(OPERATOR, Metrics::new().unwrap()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    }
}
