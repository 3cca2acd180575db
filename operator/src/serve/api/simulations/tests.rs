//! The routes, with a real PostgreSQL behind them; only the API server is a double, which takes note of what it is
//! asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{Method, Request, Response, StatusCode};
use countersign_core::cel::CelEvaluator;
use countersign_core::decide::Config;
use countersign_core::judge::PolicyJudge;
use jiff::SignedDuration;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::database::Database;
use crate::keys;
use crate::metrics::Metrics;
use crate::reconciler;
use crate::reconciler::action::JobSettings;
use crate::reconciler::guard::Expected;
use crate::serve::api::{Shared, router};
use crate::watch::caches::Caches;
use crate::watch::trigger::Trigger;

/// The requests that could have changed something.
type Writes = Arc<Mutex<Vec<String>>>;

/// An API server with a few objects, on which `maker` may create Tasks in the namespace team, and `reader` list them.
async fn api_server(writes: Writes, request: Request<kube::client::Body>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let answer = |status: StatusCode, body: Value| {
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        Ok(response)
    };
    if parts.method == Method::POST && (path.ends_with("tokenreviews") || path.ends_with("subjectaccessreviews")) {
        let asked: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
        return answer(StatusCode::CREATED, review(&asked));
    }
    if parts.method != Method::GET {
        writes.lock().unwrap().push(format!("{} {path}", parts.method));
        return answer(StatusCode::FORBIDDEN, json!({"kind": "Status", "code": 403}));
    }
    if query.contains("watch=true") {
        return std::future::pending().await;
    }
    let weekly = json!({"metadata": {"name": "weekly", "namespace": "team"}, "spec": {"steps": [
        {"name": "look", "skill": "look"}, {"name": "buy", "skill": "buy", "needs": ["look"]}]}});
    let items = match path.rsplit('/').next().unwrap() {
        "weekly" => return answer(StatusCode::OK, weekly),
        "skills" => json!([
            skill("look", json!({})),
            skill(
                "buy",
                json!({"cost": {"ceiling": "2", "perAttempt": "0.5"},
            "egress": [{"host": "api.example.com"}], "effect": "Irreversible"})
            )
        ]),
        "policies" => json!([policy(
            "ops",
            "starter",
            json!({"rules": [
            {"name": "all", "match": "true", "effect": "Allow"},
            {"name": "for-good", "match": "skill.effect == 'Irreversible'", "effect": "RequireApproval", "risk": "High"}],
            "budget": {"namespace": {"daily": "10"}}})
        )]),
        "agents" => {
            json!([{"metadata": {"name": "batch", "namespace": "team"}, "spec": {"allowedSkills": ["look"]}}])
        }
        name if path.contains("/plans/") => {
            let message = format!("plans {name:?} not found");
            return answer(
                StatusCode::NOT_FOUND,
                json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": message}),
            );
        }
        _ => json!([]),
    };
    answer(
        StatusCode::OK,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
    )
}

fn review(asked: &Value) -> Value {
    let status = if asked["kind"] == "TokenReview" {
        let token = asked["spec"]["token"].as_str().unwrap();
        json!({"authenticated": token != "nobody", "user": {"username": token, "groups": ["people"]}})
    } else {
        let (user, what) = (asked["spec"]["user"].as_str().unwrap(), &asked["spec"]["resourceAttributes"]);
        assert!(["tasks", "agents"].contains(&what["resource"].as_str().unwrap()));
        let verb = if user == "maker" { "create" } else { "list" };
        json!({"allowed": what["verb"] == verb && what["namespace"] == "team"})
    };
    json!({"apiVersion": asked["apiVersion"], "kind": asked["kind"], "metadata": {}, "spec": asked["spec"], "status": status})
}

fn skill(name: &str, more: Value) -> Value {
    let mut spec = json!({"effect": "Read", "builtin": {"name": "generic_action"}, "idempotent": true});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Policy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

struct Bench {
    api: Router,
    store: Store,
    simulator: Arc<Simulator>,
    writes: Writes,
}

impl Bench {
    async fn new() -> Bench {
        let store = Database::new().await.fresh_store().await;
        let writes = Writes::default();
        let noted = Arc::clone(&writes);
        let client = Client::new(tower::service_fn(move |request| api_server(Arc::clone(&noted), request)), "default");
        let metrics = Metrics::new().unwrap();
        let caches = Caches::start(&client, "ops", &Arc::new(Trigger::default()));
        caches.wait_until_synced().await;
        let context = Context {
            client: client.clone(),
            watching: client.clone(),
            store: store.clone(),
            caches,
            config: Config {
                runner_image: "runner@sha256:0".into(),
                broker: true,
                networks: Default::default(),
                require_network_policy: false,
                start_deadline: SignedDuration::from_secs(300),
                planning_deadline: SignedDuration::from_hours(1),
            },
            judge: PolicyJudge::new(CelEvaluator::new()),
            jobs: JobSettings { runner_image: "runner@sha256:0".into(), ttl_seconds: 60, user_namespaces: true },
            operator_namespace: "ops".into(),
            metrics: metrics.clone(),
            seal: keys::Shared::default(),
            log_keys: keys::Shared::default(),
            broker: keys::Shared::default(),
            networks: reconciler::networks::Networks::default(),
            guard: Expected::new("sa", "countersign", "ops").unwrap(),
            recorder: Recorder::new(client.clone(), Reporter { controller: "countersign".into(), instance: None }),
            recent: reconciler::context::Recent::default(),
            remembered: reconciler::context::Remembered::default(),
            failures: reconciler::context::Failures::default(),
        };
        let simulator = Arc::new(Simulator::new(Arc::new(context)));
        let shared = Shared::new(client, store.clone(), 1000, metrics);
        let api = router(shared)
            .layer(Extension(Arc::clone(&simulator)))
            .layer(MockConnectInfo(SocketAddr::from(([10, 0, 0, 1], 40_000))));
        Bench { api, store, simulator, writes }
    }

    async fn ask(&self, token: &str, path: &str, body: impl ToString) -> (u16, Value) {
        let path = format!("/api/v1/namespaces/{path}");
        let request = Request::post(path).header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.api.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 22).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{body:?}")))
    }

    async fn simulate(&self, body: Value) -> Value {
        let (status, simulation) = self.ask("maker", "team/simulations", body).await;
        assert_eq!(status, 200, "{simulation}");
        simulation
    }

    /// How many rows there are.
    async fn rows(&self) -> i64 {
        let query = "select (select count(*) from tasks) + (select count(*) from log_entries)
                     + (select count(*) from budgets) + (select count(*) from reservations)";
        sqlx::query_scalar(query).fetch_one(self.store.pool()).await.unwrap()
    }
}

fn task(spec: Value) -> Value {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "t"}, "spec": spec})
}

#[tokio::test]
async fn a_task_is_simulated_as_its_caller_would_create_it_and_nothing_is_written() {
    let bench = Bench::new().await;
    let before = bench.rows().await;
    let spec = json!({"planRef": {"name": "weekly"}, "requester": {"user": "boss"}});
    let found = bench.simulate(json!({"task": task(spec)})).await;
    assert_eq!((&found["version"], &found["feasible"], &found["namespace"]), (&json!(1), &json!(true), &json!("team")));
    assert_eq!(found["plan"]["source"], "plan team/weekly");
    assert_eq!(found["cost"], json!({"minimum": "0.5", "expected": "0.5", "maximum": "2", "complete": true}));
    assert_eq!(found["irreversibleSteps"], json!(["buy"]));
    let from = found["approvals"][0]["from"].as_str().unwrap();
    assert!(from.starts_with("one person other than maker, with the right to approve riskclasses/high"), "{from}");
    assert_eq!(found["budgets"][0]["left"], "9.5");
    assert!(found.get("comparison").is_none());
    let missing = bench.simulate(json!({"task": task(json!({"planRef": {"name": "gone"}}))})).await;
    assert_eq!((&missing["feasible"], &missing["obstacles"][0]["reason"]), (&json!(false), &json!("PlanNotFound")));
    assert_eq!(bench.rows().await, before);
    assert_eq!(*bench.writes.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn history_and_what_others_spent_count() {
    let bench = Bench::new().await;
    let rows = r#"
        insert into tasks (uid, namespace, name, version, adopted_at, spec) values ('u', 'team', 't', 1, now(), '{}');
        insert into steps (task_uid, name, position) values ('u', 's', 1);
        insert into attempts (key, task_uid, step, number, digest, input_digest, intended_at, launch, pod_uid,
                              admitted_at, outcome, finished_at)
            values ('k', 'u', 's', 1, 'd', 'd', now() - interval '90 seconds', '{"skill": "buy"}', 'p', now(), 'Succeeded', now());
        insert into budgets (scope, subject, "window", starts_at, ends_at, spent)
            values ('Namespace', 'team', 'Day', date_trunc('day', now(), 'UTC'), date_trunc('day', now(), 'UTC') + interval '1 day', 9000000)"#;
    sqlx::raw_sql(rows).execute(bench.store.pool()).await.unwrap();
    let steps = json!([{"name": "buy", "skill": "buy"}]);
    let found = bench.simulate(json!({"task": task(json!({"plan": {"steps": steps}}))})).await;
    assert_eq!(found["steps"][0]["duration"], json!({"p50Seconds": 90.0, "p95Seconds": 90.0, "source": "History"}));
    assert_eq!(found["steps"][0]["budget"]["verdict"], "Deferred");
}

#[tokio::test]
async fn policies_can_be_tried_on_a_task() {
    let bench = Bench::new().await;
    let steps = json!([{"name": "look", "skill": "look"}, {"name": "buy", "skill": "buy"}]);
    let task = task(json!({"plan": {"steps": steps}}));
    let strict = json!({"rules": [{"name": "no", "match": "skill.name == 'look'", "effect": "Deny"}]});
    // In no namespace of its own it is tried in the Task's, beside those that there are.
    let mut own = policy("", "strict", strict.clone());
    own["metadata"] = json!({"name": "strict"});
    let found = bench.simulate(json!({"task": task, "policies": [own]})).await;
    assert_eq!(found["feasible"], json!(false));
    let comparison = &found["comparison"];
    assert_eq!((&comparison["policies"], &comparison["feasibleToday"]), (&json!(["team/strict"]), &json!(true)));
    let difference = &comparison["differences"][0];
    assert_eq!(comparison["differences"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&difference["step"], &difference["today"]["decision"], &difference["tried"]["decision"]),
        (&json!("look"), &json!("Allow"), &json!("Deny"))
    );
    // In the place of the one of its name.
    let found = bench.simulate(json!({"task": task, "policies": [policy("ops", "starter", strict)]})).await;
    let reasons: Vec<&Value> =
        found["steps"].as_array().unwrap().iter().map(|step| &step["reasons"][0]["rule"]).collect();
    assert_eq!(reasons, ["no", "no-rule-matched"]);
}

#[tokio::test]
async fn who_may_create_tasks_may_simulate_and_who_may_list_them_may_replay() {
    let bench = Bench::new().await;
    let asked = json!({"task": task(json!({"type": "t"}))});
    let tried =
        json!({"policies": [policy("ops", "p", json!({"rules": [{"name": "a", "match": "true", "effect": "Deny"}]}))]});
    for (token, path, body, expected) in [
        ("maker", "team/simulations", &asked, 200),
        ("reader", "team/simulations", &asked, 403),
        ("maker", "other/simulations", &asked, 403),
        ("nobody", "team/simulations", &asked, 401),
        ("reader", "team/simulations/replays", &tried, 200),
        ("maker", "team/simulations/replays", &tried, 403),
        ("reader", "other/simulations/replays", &tried, 403),
    ] {
        let (status, answer) = bench.ask(token, path, body).await;
        assert_eq!(status, expected, "{token} {path}: {answer}");
        if status == 403 {
            let verb = if path.ends_with("replays") { "list" } else { "create" };
            assert!(answer["detail"].as_str().unwrap().contains(&format!("may not {verb} tasks")), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_would_not_be_admitted_is_refused_with_field_and_fix() {
    let bench = Bench::new().await;
    let of = |spec: Value| json!({"task": task(spec)});
    let step = |more: Value| {
        let mut step = json!({"name": "a", "skill": "look"});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(json!({"plan": {"steps": [step]}}))
    };
    let mut elsewhere = of(json!({"type": "t"}));
    elsewhere["task"]["metadata"]["namespace"] = json!("other");
    let mut agent = of(json!({"type": "t"}));
    agent["task"]["kind"] = json!("Agent");
    let rule = |matches: &str| json!({"rules": [{"name": "r", "match": matches, "effect": "Allow"}]});
    let tried = |policy: Value| json!({"task": task(json!({"type": "t"})), "policies": [policy]});
    let mut nameless = policy("team", "p", rule("true"));
    nameless["metadata"] = json!({});
    let many: Vec<Value> = (0..2001).map(|n| json!({"name": format!("s{n}"), "skill": "look"})).collect();
    for (body, words) in [
        (json!({}), "missing field `task`"),
        (json!({"task": task(json!({"type": "t"})), "polices": []}), "unknown field `polices`"),
        (of(json!({"type": "t", "prority": "Low"})), "task.spec.prority: unknown field"),
        (of(json!({"type": "t", "priority": "Urgent"})), "task.spec.priority"),
        (of(json!({})), "task.spec: set exactly one of type, planRef and plan"),
        (of(json!({"type": "t", "planRef": {"name": "weekly"}})), "task.spec: set exactly one of"),
        (of(json!({"type": "Not a type"})), "task.spec.type"),
        (of(json!({"type": "t", "budget": "-1"})), "task.spec.budget"),
        (of(json!({"plan": {"steps": many}})), "task.spec.plan.steps"),
        (step(json!({"retry": {"limit": 99}})), "task.spec.plan.steps[0].retry.limit"),
        (step(json!({"needs": ["b"]})), "task.spec.plan.steps[0] (a).needs[0]: there is no step \"b\""),
        (step(json!({"input": {"x": "${task.parameters.n}"}})), "add it to spec.parameters"),
        (elsewhere, "task.metadata.namespace: is other, and the path says team"),
        (agent, "task.kind: is Agent, not Task"),
        (tried(policy("team", "p", rule("tsak.type == 'x'"))), "policies[0].spec.rules[0].match"),
        (
            tried(policy("team", "p", json!({"rules": [{"name": "r", "match": "true", "effect": "Perhaps"}]}))),
            "policies[0].spec.rules[0].effect",
        ),
        (
            tried(policy("team", "p", json!({"budget": {"cluster": {"daily": "1"}}}))),
            "policies[0].spec.budget.cluster: is for a Policy in the operator's own namespace",
        ),
        (tried(nameless), "policies[0].metadata.name"),
    ] {
        let (status, answer) = bench.ask("maker", "team/simulations", &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{words}: {answer}");
    }
    let twice = r#"{"task": {"spec": {"type": "a"}}, "task": {"spec": {"type": "b"}}}"#;
    assert_eq!(bench.ask("maker", "team/simulations", twice).await.0, 400);
    let large = json!({"task": task(json!({"type": "t", "goal": "x".repeat(BODY_LIMIT)}))});
    assert_eq!(bench.ask("maker", "team/simulations", large).await.0, 413);
    let tried = |more: Value| {
        let mut body = json!({"policies": [policy("team", "p", rule("true"))]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, words) in [
        (tried(json!({"policies": []})), "policies: is empty"),
        (tried(json!({"last": 0})), "last: 0 is not between 1 and 200"),
        (tried(json!({"last": 201})), "last: 201 is not between 1 and 200"),
    ] {
        let (status, answer) = bench.ask("reader", "team/simulations/replays", &body).await;
        assert_eq!((status, answer["detail"].as_str().unwrap().contains(words)), (400, true), "{answer}");
    }
}

#[tokio::test]
async fn policies_can_be_tried_on_what_is_on_record() {
    let bench = Bench::new().await;
    let steps = json!([{"name": "look", "skill": "look", "input": {"n": "${task.parameters.n}"}}]);
    let digest = format!("sha256:{}", "0".repeat(64));
    for n in 0..3 {
        let spec = json!({"plan": {"steps": steps}, "parameters": {"n": n}});
        let rows = format!(
            r#"insert into tasks (uid, namespace, name, version, adopted_at, spec, requester)
               values ('u{n}', 'team', 't{n}', 1, now() + {n} * interval '1 second', '{spec}', '{{"user": "dave"}}');
               insert into plans (task_uid, name, digest, source, parallelism, steps, parameters, stamped_at)
               values ('u{n}', 'plan', '{digest}', 'inline plan', 1, '{steps}', '{{"n": {n}}}', now());
               insert into steps (task_uid, name, position, outcome, finished_at) values ('u{n}', 'look', 1, 'Succeeded', now());
               insert into attempts (key, task_uid, step, number, digest, input_digest, intended_at, launch)
               values ('k{n}', 'u{n}', 'look', 1, '{digest}', '{digest}', now(), '{{"skill": "look", "input": {{"n": {n}}}}}')"#
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(bench.store.pool()).await.unwrap();
    }
    let before = bench.rows().await;
    let tried =
        json!({"rules": [{"name": "not-one", "match": "has(step.input.n) && step.input.n == 1", "effect": "Deny"}]});
    let asked = json!({"policies": [policy("team", "p", tried)], "last": 2});
    let (status, found) = bench.ask("reader", "team/simulations/replays", &asked).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!((&found["tasks"], &found["steps"], &found["cut"]), (&json!(2), &json!(2), &json!(false)));
    let [difference] = &found["differences"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&difference["task"], &difference["tried"]["decision"]), (&json!("t1"), &json!("Deny")));
    assert_eq!(bench.rows().await, before);
    assert_eq!(*bench.writes.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn so_many_run_at_once_and_the_next_is_told_to_come_again() {
    let bench = Bench::new().await;
    let held = bench.simulator.turn(AT_ONCE).await.unwrap();
    let asked = json!({"task": task(json!({"type": "t"}))});
    let begun = tokio::time::Instant::now();
    let (status, answer) = bench.ask("maker", "team/simulations", &asked).await;
    assert_eq!(status, 503, "{answer}");
    assert!(begun.elapsed() >= WAIT, "it waits for a while");
    drop(held);
    assert_eq!(bench.ask("maker", "team/simulations", &asked).await.0, 200);
}
