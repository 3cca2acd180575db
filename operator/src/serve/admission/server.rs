//! The HTTPS server that the API server calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, body::Bytes};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use countersign_core::approval::Seal;
use countersign_crds::{AgentReference, Identity};
use jiff::Timestamp;
use kube::Client;
use kube::core::DynamicObject;
use kube::core::admission::AdmissionReview;

use super::access::demand;
use super::bounds::{Bounds, Gate};
use super::mark::{self, Runs};
use super::review::{self, Admitted, Mutation, Refusal, Review};
use super::way::Door;
use crate::keys;
use crate::metrics::Metrics;
use crate::watch::caches::Caches;

const PORT: u16 = 9443;
/// Two objects of the API server's own limit, and some.
const BODY_LIMIT: usize = 8 * 1024 * 1024;
/// A TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What every request needs.
#[derive(Clone)]
pub struct Shared {
    pub client: Client,
    pub service_account: String,
    pub seal: keys::Shared<Seal>,
    pub bound: Arc<BoundTo>,
    pub runs: Arc<Runs>,
    pub metrics: Metrics,
    pub door: Door,
}

/// As [`review::Bound`], from what is watched.
pub type BoundTo =
    dyn Fn(&str, Option<&AgentReference>, &Identity) -> Result<Option<AgentReference>, Refusal> + Send + Sync;

/// Which Agents requesters are bound to, as the Agents are seen.
pub fn bound_by(caches: Arc<Caches>) -> Arc<BoundTo> {
    Arc::new(move |namespace: &str, named: Option<&AgentReference>, requester: &Identity| {
        if caches.missing().contains(&"agents") {
            return Err(Refusal { code: 503, message: "the operator is starting; try again".to_owned() });
        }
        caches.bound(namespace, named, requester).map_err(|error| Refusal::forbidden(&error.to_string()))
    })
}

pub fn router(shared: Shared, bounds: Bounds) -> Router {
    Router::new()
        .route("/mutate/{path}", post(mutate))
        .route("/validate/{path}", post(validate))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .route_layer(middleware::from_fn_with_state(bounds, within_bounds))
        .route_layer(middleware::from_fn_with_state(shared.door.clone(), only_by_the_door))
        .with_state(shared)
}

/// Nothing is read of what comes by another path.
async fn only_by_the_door(
    State(door): State<Door>,
    Path(path): Path<String>,
    request: Request,
    next: Next,
) -> Response {
    if door.opens(&path) { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

async fn within_bounds(
    State(bounds): State<Bounds>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let answered = async {
        let _counted = bounds.ask(client.ip()).await;
        next.run(request).await
    };
    tokio::time::timeout(bounds.patience, answered)
        .await
        .unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

/// Serves until the handle says otherwise.
pub async fn serve(
    router: Router,
    bounds: Bounds,
    tls: RustlsConfig,
    handle: Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let acceptor = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE).acceptor(Gate(bounds));
    let server = axum_server::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).acceptor(acceptor).handle(handle);
    server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

async fn mutate(State(shared): State<Shared>, body: Bytes) -> Response {
    let request = match read(&body) {
        Ok(request) => request,
        Err(complaint) => return complaint,
    };
    let result = stamp(&shared, &request).await;
    answer(&shared, &request, &result)
}

async fn stamp(shared: &Shared, request: &Review) -> Result<Admitted, Refusal> {
    let starting = || Refusal { code: 503, message: "the operator is starting; try again".to_owned() };
    let seal = shared.seal.get().ok_or_else(starting)?;
    let marked = mark::read(&shared.client, &*shared.runs, request).await?;
    let Mutation { admitted, takes } =
        review::mutate(Timestamp::now(), &shared.service_account, &seal, &*shared.bound, marked, request)?;
    if let Some(right) = takes {
        demand(&shared.client, &review::user(request), &right).await?;
    }
    Ok(admitted)
}

async fn validate(State(shared): State<Shared>, body: Bytes) -> Response {
    // Compiling a Plan's expressions takes its time; other requests go on meanwhile.
    let work = move || match read(&body) {
        Ok(request) => answer(&shared, &request, &review::validate(&shared.service_account, &request)),
        Err(complaint) => complaint,
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[expect(clippy::result_large_err, reason = "the error is the response")]
fn read(body: &[u8]) -> Result<Review, Response> {
    match serde_json::from_slice::<AdmissionReview<DynamicObject>>(body) {
        Ok(AdmissionReview { request: Some(request), .. }) => Ok(request),
        Ok(_) => Err((StatusCode::BAD_REQUEST, "the review holds no request").into_response()),
        Err(error) => Err((StatusCode::BAD_REQUEST, format!("not an AdmissionReview: {error}")).into_response()),
    }
}

fn answer(shared: &Shared, request: &Review, result: &Result<Admitted, Refusal>) -> Response {
    shared.metrics.admission(review::resource(request), result.is_ok());
    if let Err(refusal) = result {
        tracing::info!(resource = review::resource(request), namespace = ?request.namespace, name = %request.name,
            user = ?request.user_info.username, refusal = %refusal.message, "refused");
    }
    Json(review::response(&request.uid, result)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::extract::connect_info::MockConnectInfo;
    use axum::http::Request;
    use base64::Engine;
    use countersign_core::agent;
    use countersign_crds::{AgentSpec, RbacSubject};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    const OPERATOR: &str = "system:serviceaccount:ops:countersign";
    const PATH: &str = "a-path-that-the-configuration-tells";

    fn served(may_sign: bool) -> Router {
        served_by(shared(may_sign))
    }

    fn served_by(shared: Shared) -> Router {
        let client = MockConnectInfo(SocketAddr::from(([10, 0, 0, 1], 40_000)));
        router(shared, Bounds::new(Duration::from_secs(1))).layer(client)
    }

    fn post(root: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
        Request::post(format!("{root}/{path}")).body(body.into()).unwrap()
    }

    /// An API server that answers whether somebody may sign, at the edge of the machine.
    fn shared(may_sign: bool) -> Shared {
        let answer = tower::service_fn(move |asked: Request<kube::client::Body>| async move {
            if asked.uri().path().ends_with("/tasks/t") {
                let task = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": "t", "uid": "u"}});
                return Ok(axum::http::Response::new(Body::from(task.to_string())));
            }
            let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "metadata": {}, "spec": {}, "status": {"allowed": may_sign}});
            Ok::<_, std::convert::Infallible>(axum::http::Response::new(Body::from(review.to_string())))
        });
        let seal = keys::Shared::default();
        seal.set(Seal::from_secret(&[7; 32]).unwrap());
        let client = Client::new(answer, "default");
        // One account is bound, and one to two Agents.
        let bound: Arc<BoundTo> = Arc::new(|namespace, named, requester| {
            let subject = |user: &str| RbacSubject::user(user);
            let spec =
                |subjects| AgentSpec { subjects, ..serde_json::from_value(json!({"allowedSkills": []})).unwrap() };
            let agents = [
                ("ops", "flux", spec(vec![subject("flux"), subject("torn")])),
                ("ops", "b", spec(vec![subject("torn")])),
            ];
            let placed = agents.iter().map(|(namespace, name, spec)| (*namespace, *name, spec));
            let found = agent::bound(namespace, named, Some(requester), placed);
            let found = found.map_err(|error| Refusal::forbidden(&error.to_string()))?;
            Ok(found
                .map(|(namespace, name, _)| AgentReference { name: name.into(), namespace: Some(namespace.into()) }))
        });
        let runs: Arc<Runs> = Arc::new(|_| Box::pin(std::future::ready(Ok(None))));
        let door = Door::default();
        door.open(&[PATH]);
        let (service_account, metrics) = (OPERATOR.to_owned(), Metrics::new().unwrap());
        Shared { client, service_account, seal, bound, runs, metrics, door }
    }

    #[tokio::test]
    async fn a_task_is_of_the_agent_that_its_requester_is_bound_to() {
        let task = |more: Value| {
            let mut spec = json!({"type": "t"});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            object("Task", spec)
        };
        let named = |name: &str, namespace: &str| task(json!({"agentRef": {"name": name, "namespace": namespace}}));
        let flux = json!({"name": "flux", "namespace": "ops"});
        let kind = ("Task", "tasks");
        let path = "/mutate";
        let ref_of = |answer: &Value| {
            let operations = patches(answer);
            operations
                .iter()
                .find(|operation| operation["path"] == "/spec/agentRef")
                .map(|found| found["value"].clone())
        };
        let silent = ask(path, kind, "CREATE", "flux", task(json!({})), Value::Null).await;
        assert_eq!(ref_of(&silent), Some(flux.clone()));
        let named_its_own = ask(path, kind, "CREATE", "flux", named("flux", "ops"), Value::Null).await;
        assert_eq!((ref_of(&named_its_own), &named_its_own["allowed"]), (None, &json!(true)));
        let another = ask(path, kind, "CREATE", "flux", named("free", "ns"), Value::Null).await;
        let message = another["status"]["message"].as_str().unwrap();
        assert!(message.contains("flux acts as the Agent ops/flux, and the Task names ns/free"), "{message}");
        let torn = ask(path, kind, "CREATE", "torn", task(json!({})), Value::Null).await;
        let message = torn["status"]["message"].as_str().unwrap();
        assert!(message.contains("several Agents (ops/b, ops/flux)"), "{message}");
        // Applied again from Git, which names no Agent.
        let again = ask(path, kind, "UPDATE", "flux", task(json!({})), named("flux", "ops")).await;
        assert_eq!(ref_of(&again), Some(flux));
        let free = ask(path, kind, "CREATE", "alice", task(json!({})), Value::Null).await;
        assert_eq!(ref_of(&free), None);
    }

    #[tokio::test]
    async fn naming_an_agent_takes_the_right_to_use_it() {
        let new = object("Task", json!({"type": "t", "agentRef": {"name": "free"}}));
        for (may, allowed) in [(true, true), (false, false)] {
            let answer =
                ask_of(shared(may), "/mutate", ("Task", "tasks"), "CREATE", "alice", new.clone(), Value::Null).await;
            assert_eq!(answer["allowed"], allowed, "{answer}");
            if !allowed {
                let message = answer["status"]["message"].as_str().unwrap();
                assert!(
                    message.contains(
                        "spec.agentRef: you may not act as the Agent free; it takes the verb use on agents/free"
                    ),
                    "{message}"
                );
                assert!(message.contains("in namespace ns"), "{message}");
            }
        }
    }

    async fn ask(path: &str, kind: (&str, &str), operation: &str, user: &str, new: Value, old: Value) -> Value {
        ask_of(shared(true), path, kind, operation, user, new, old).await
    }

    async fn ask_of(
        shared: Shared,
        path: &str,
        kind: (&str, &str),
        operation: &str,
        user: &str,
        new: Value,
        old: Value,
    ) -> Value {
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
        let response = served_by(shared).oneshot(post(path, PATH, review.to_string())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["response"].clone()
    }

    fn approval(spec: Value) -> Value {
        let mut whole = json!({
            "taskRef": {"name": "t", "uid": "u"}, "step": "s", "attempt": 1,
            "digest": format!("sha256:{}", "0".repeat(64)), "expiresAt": "2999-01-01T00:00:00Z",
            "requester": {"user": "dave"}, "risk": "Low", "required": {"count": 1},
            "subject": {"skill": "k", "effect": "Read", "input": {}, "image": "i"},
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Approval", "metadata": {"name": "a"}, "spec": whole})
    }

    #[tokio::test]
    async fn a_patch_becomes_a_stamped_decision() {
        let new = approval(json!({"approved": true, "reason": "fine"}));
        let path = "/mutate";
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
    async fn whoever_may_not_sign_for_the_risk_is_refused() {
        let new = approval(json!({"approved": true}));
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "name": "a", "namespace": "ns", "operation": "UPDATE", "object": new, "oldObject": approval(json!({})),
            "kind": {"group": "countersign.dev", "version": "v1alpha1", "kind": "Approval"},
            "resource": {"group": "countersign.dev", "version": "v1alpha1", "resource": "approvals"},
            "userInfo": {"username": "eve"}, "options": null, "dryRun": false}});
        let response = served(false).oneshot(post("/mutate", PATH, review.to_string())).await.unwrap();
        let body: Value = serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap();
        let message = body["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains("the verb approve on riskclasses/low"), "{message}");
    }

    #[tokio::test]
    async fn what_a_task_leaves_behind_is_not_signed_for() {
        for (uid, allowed) in [("u", true), ("of-one-that-is-gone", false)] {
            let of = json!({"taskRef": {"name": "t", "uid": uid}});
            let mut signed = of.clone();
            signed["approved"] = json!(true);
            let kind = ("Approval", "approvals");
            let answer = ask("/mutate", kind, "UPDATE", "alice", approval(signed), approval(of)).await;
            assert_eq!(answer["allowed"], allowed, "{answer}");
            if !allowed {
                let message = answer["status"]["message"].as_str().unwrap();
                assert!(message.contains("the Task t that it is of is gone"), "{message}");
            }
        }
    }

    /// The first operation of an answer's patch.
    fn patch(answer: &Value) -> Value {
        patches(answer)[0].clone()
    }

    fn patches(answer: &Value) -> Vec<Value> {
        let Some(patch) = answer["patch"].as_str() else { return Vec::new() };
        let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        serde_json::from_slice(&patch).unwrap()
    }

    #[tokio::test]
    async fn the_requester_is_who_creates_it_whatever_it_says_and_stays_so() {
        let steps = json!([{"name": "a", "skill": "k"}]);
        for (kind, spec) in [(("Task", "tasks"), json!({"type": "t"})), (("Plan", "plans"), json!({"steps": steps}))] {
            let with = |requester: Option<Value>| {
                let mut spec = spec.clone();
                spec.as_object_mut().unwrap().extend(requester.map(|requester| ("requester".to_owned(), requester)));
                object(kind.0, spec)
            };
            let sent = with(Some(json!({"user": "boss"})));
            let created = ask("/mutate", kind, "CREATE", "alice", sent.clone(), Value::Null).await;
            assert_eq!(patch(&created)["value"], json!({"user": "alice", "groups": ["people"]}));
            let old = with(Some(json!({"user": "alice"})));
            let updated = ask("/mutate", kind, "UPDATE", "mallory", sent.clone(), old.clone()).await;
            assert_eq!(patch(&updated)["value"], json!({"user": "alice"}));
            // What Git holds names nobody, and is applied again and again.
            let applied = ask("/mutate", kind, "UPDATE", "flux", with(None), old).await;
            assert_eq!(patch(&applied)["value"], json!({"user": "alice"}));
            // One that nobody was known to have created is nobody's later either.
            let claimed = ask("/mutate", kind, "UPDATE", "boss", sent, with(None)).await;
            assert_eq!(patch(&claimed)["op"], "remove");
        }
    }

    #[tokio::test]
    async fn the_operators_own_copy_of_a_plan_keeps_the_tasks_requester() {
        let spec = json!({"taskRef": {"name": "t", "uid": "u"}, "digest": "d", "requester": {"user": "alice"},
            "steps": [{"name": "a", "skill": "k"}]});
        let copied = ask("/mutate", ("Plan", "plans"), "CREATE", OPERATOR, object("Plan", spec), Value::Null).await;
        assert_eq!((&copied["allowed"], &copied["patch"]), (&json!(true), &Value::Null), "{copied}");
    }

    #[tokio::test]
    async fn what_is_not_of_its_type_is_named() {
        let new = approval(json!({"approved": "yes"}));
        let answer = ask("/mutate", ("Approval", "approvals"), "UPDATE", "alice", new, approval(json!({}))).await;
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.contains("spec.approved") && message.contains("expected a boolean"), "{message}");
    }

    #[tokio::test]
    async fn an_approval_made_by_somebody_else_is_refused() {
        let answer =
            ask("/mutate", ("Approval", "approvals"), "CREATE", "alice", approval(json!({})), Value::Null).await;
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
            (
                "Task",
                "tasks",
                json!({"type": "t", "priority": "High"}),
                "spec.priority: without an Agent it is Normal at most; name one in spec.agentRef",
            ),
            ("Task", "tasks", json!({"type": "t", "parameters": {"n": 9_007_199_254_740_993_i64}}), "spec.parameters"),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "tsak.type == 'x'", "effect": "Allow"}]}),
                "spec.rules[0].match: rule \"r\": 1:1: unknown variable \"tsak\"",
            ),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "task.namespac == 'x'", "effect": "Allow"}]}),
                "spec.rules[0].match: rule \"r\": 1:5: task has no member \"namespac\"; did you mean \"namespace\"?",
            ),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "task.name + 1", "effect": "Allow"}]}),
                "+ does not go between a string and a number",
            ),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "task.name", "effect": "Allow"}]}),
                "the expression is a string; it has to be true or false",
            ),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "namespace == 'x'", "effect": "Allow"}]}),
                "as in task.namespace",
            ),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "task.name.matches(r'\\w{400}')", "effect": "Allow"}]}),
                "1:19: matches: the pattern takes more than 1048576 bytes of memory",
            ),
            (
                "Policy",
                "policies",
                json!({"rules": [{"name": "r", "match": "true", "effect": "RequireApproval", "approval": {"expiresAfter": "0s"}}]}),
                "spec.rules[0].approval.expiresAfter: 0s is not between 1s and 2160h0m0s",
            ),
            (
                "Plan",
                "plans",
                json!({"steps": [{"name": "a", "skill": "k", "timeout": "0s"}]}),
                "spec.steps[0] (a).timeout: 0s is not between 1s and 24h0m0s",
            ),
            (
                "Plan",
                "plans",
                json!({"steps": [{"name": "a", "skill": "k", "timeout": "48h"}]}),
                "spec.steps[0] (a).timeout: 48h0m0s is not between 1s and 24h0m0s",
            ),
            (
                "Plan",
                "plans",
                json!({"steps": [{"name": "a", "skill": "k", "retry": {"limit": 1, "backoff": "0s"}}]}),
                "spec.steps[0] (a).retry.backoff: 0s is not between",
            ),
            (
                "Skill",
                "skills",
                json!({"effect": "Read", "builtin": {"name": "generic_action"}, "timeout": "48h"}),
                "spec.timeout: 48h0m0s is not between",
            ),
            (
                "Skill",
                "skills",
                json!({"effect": "Read", "builtin": {"name": "generic_action"}, "expectedDuration": "0s"}),
                "spec.expectedDuration: 0s is not between",
            ),
            (
                "Skill",
                "skills",
                json!({"effect": "Read", "builtin": {"name": "json_transform", "program": ".a | nosuch"}}),
                "spec.builtin.program: 1:6: undefined filter: nosuch",
            ),
            (
                "Task",
                "tasks",
                json!({"type": "t", "parameters": {"a": ["x", "y\u{0}z"]}}),
                "spec.parameters.a[1]: holds the character U+0000",
            ),
            ("Task", "tasks", json!({"type": "monitor_"}), "spec.type: becomes the value of a label"),
            (
                "Plan",
                "plans",
                json!({"steps": [{"name": "sum_", "skill": "k"}]}),
                "spec.steps[0] (sum_).name: becomes the value of a label",
            ),
            ("Task", "tasks", json!({"type": "t", "goal": "\u{0}"}), "spec.goal: holds the character U+0000"),
            (
                "Plan",
                "plans",
                json!({"steps": [{"name": "a", "skill": "k", "input": {"x": "\u{0}"}}]}),
                "spec.steps[0].input.x: holds the character U+0000",
            ),
            (
                "Plan",
                "plans",
                json!({"steps": [{"name": "a", "skill": "k", "input": {"x": "x".repeat(1 << 20)}}]}),
                "bytes of JSON; at most 1048576",
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
    async fn a_reason_that_cannot_be_stored_is_refused_and_an_annotation_too() {
        let new = approval(json!({"approved": false, "reason": "no\u{0}"}));
        let answer = ask("/mutate", ("Approval", "approvals"), "UPDATE", "bob", new, approval(json!({}))).await;
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("spec.reason: holds the character U+0000"), "{message}");
        let mut task = object("Task", json!({"type": "t"}));
        task["metadata"]["annotations"] = json!({"countersign.dev/on-behalf-of": "a\u{0}"});
        let answer = ask("/validate", ("Task", "tasks"), "CREATE", "alice", task, Value::Null).await;
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("metadata.annotations[countersign.dev/on-behalf-of]: "), "{message}");
    }

    #[tokio::test]
    async fn a_body_that_is_no_review_is_a_bad_request() {
        let response = served(true).oneshot(post("/validate", PATH, "{}")).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn no_other_path_than_the_one_that_is_told_is_answered() {
        for (root, path) in [("/mutate", "another"), ("/validate", "another"), ("/mutate", ""), ("/other", PATH)] {
            let response = served(true).oneshot(post(root, path, "{}")).await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{root}/{path}");
        }
        // Nothing of a body is waited for: this one never comes.
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let response = served(true).oneshot(post("/mutate", "another", never)).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_body_that_never_comes_or_is_too_large_is_not_waited_for() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let response = served(true).oneshot(post("/mutate", PATH, never)).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let large = vec![b' '; BODY_LIMIT + 1];
        let response = served(true).oneshot(post("/mutate", PATH, large)).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
