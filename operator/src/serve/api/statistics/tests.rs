//! The routes, with a real PostgreSQL behind them; only the API server, which says who reads and what they may, is a
//! double.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{Request, Response};
use kube::Client;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::database::Database;
use crate::metrics::Metrics;
use crate::serve::api::{Shared, router};

/// An API server that knows two readers by their tokens: `all` may list Tasks everywhere, `alpha` in that namespace.
async fn api_server(request: Request<kube::client::Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let asked: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
    let status = match asked["kind"].as_str().unwrap() {
        "TokenReview" => {
            let token = asked["spec"]["token"].as_str().unwrap();
            let known = ["all", "alpha"].contains(&token);
            json!({"authenticated": known, "user": {"username": token}})
        }
        _ => {
            let (user, what) = (asked["spec"]["user"].as_str().unwrap(), &asked["spec"]["resourceAttributes"]);
            assert_eq!((&what["verb"], &what["resource"]), (&json!("list"), &json!("tasks")));
            json!({"allowed": user == "all" || what["namespace"].as_str() == Some(user)})
        }
    };
    let review = json!({"apiVersion": asked["apiVersion"], "kind": asked["kind"], "metadata": {}, "spec": asked["spec"],
        "status": status});
    Ok(Response::new(Body::from(review.to_string())))
}

async fn api() -> Router {
    let store = Database::new().await.fresh_store().await;
    let books = include_str!("../../../../store/tests/store/ledger.sql");
    sqlx::raw_sql(books).execute(store.pool()).await.unwrap();
    let client = Client::new(tower::service_fn(api_server), "default");
    router(Shared::new(client, store, 1000, Metrics::new().unwrap()))
        .layer(MockConnectInfo(SocketAddr::from(([10, 0, 0, 1], 40_000))))
}

async fn ask(api: &Router, token: &str, path: &str) -> (u16, Value) {
    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
    let response = api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{body:?}")))
}

async fn items(api: &Router, path: &str) -> Value {
    let (status, page) = ask(api, "all", path).await;
    assert_eq!(status, 200, "{path}: {page}");
    page["items"].clone()
}

#[tokio::test]
async fn sums_are_of_what_was_asked_for_and_money_is_decimal_strings() {
    let api = api().await;
    let spend = |rest: &str| format!("/api/v1/statistics/spend{rest}");
    assert_eq!(
        items(&api, &spend("")).await,
        json!([
            {"day": "2026-11-21", "spent": "0.000031", "attempts": 3, "overruns": 1},
            {"day": "2026-11-20", "spent": "0.00004", "attempts": 1, "overruns": 0},
        ])
    );
    assert_eq!(
        items(&api, &spend("?by=agent&since=2026-11-21")).await,
        json!([
            {"namespace": "alpha", "agent": "robot", "spent": "0.000024", "attempts": 1, "overruns": 1},
            {"namespace": "beta", "agent": "robot", "spent": "0.000005", "attempts": 1, "overruns": 0},
            {"namespace": "alpha", "spent": "0.000002", "attempts": 1, "overruns": 0},
        ])
    );
    assert_eq!(items(&api, &spend("?by=skill&until=2026-11-21")).await[0]["skill"], "image");
    assert_eq!(items(&api, &spend("?by=namespace")).await[1]["namespace"], "beta");
    let decisions = items(&api, "/api/v1/statistics/decisions?since=2026-11-21").await;
    assert_eq!(
        decisions[1],
        json!({"day": "2026-11-21", "namespace": "alpha", "agent": "robot", "priority": "High", "verdict": "Allowed",
            "decisions": 2, "amount": "0.00003"})
    );
    let reasons = items(&api, "/api/v1/statistics/reasons?limit=1").await;
    assert_eq!(
        reasons,
        json!([{"namespace": "alpha", "agent": "robot", "outcome": "Rejected", "reason": "OverBudget", "count": 2,
            "lastSeen": "2026-11-21T02:00:00Z"}])
    );
    let past = items(&api, "/api/v1/statistics/budgets?current=false&scope=Namespace&window=Day").await;
    assert_eq!(
        past,
        json!([{"scope": "Namespace", "subject": "alpha", "namespace": "alpha", "name": null, "window": "Day",
            "startsAt": "2026-11-20T00:00:00Z", "endsAt": "2026-11-21T00:00:00Z", "current": false, "limit": "0.0001",
            "spent": "0.00004", "held": "0", "left": "0.00006", "percent": 40}])
    );
}

#[tokio::test]
async fn who_may_list_tasks_of_one_namespace_sees_the_sums_of_that_one() {
    let api = api().await;
    for kind in ["spend", "decisions", "reasons", "budgets"] {
        assert_eq!(ask(&api, "alpha", &format!("/api/v1/statistics/{kind}")).await.0, 403, "{kind}");
        assert_eq!(ask(&api, "alpha", &format!("/api/v1/namespaces/beta/statistics/{kind}")).await.0, 403, "{kind}");
        assert_eq!(ask(&api, "nobody", &format!("/api/v1/statistics/{kind}")).await.0, 401, "{kind}");
        let (status, page) = ask(&api, "alpha", &format!("/api/v1/namespaces/alpha/statistics/{kind}")).await;
        assert_eq!(status, 200, "{kind}: {page}");
        let (_, all) = ask(&api, "all", &format!("/api/v1/statistics/{kind}")).await;
        let text = page.to_string();
        assert!(!text.contains("beta") && !text.contains("Cluster"), "{text}");
        assert_ne!(all["items"], page["items"], "{kind}");
    }
    let (_, spent) = ask(&api, "alpha", "/api/v1/namespaces/alpha/statistics/spend?by=namespace").await;
    assert_eq!(spent["items"], json!([{"namespace": "alpha", "spent": "0.000066", "attempts": 3, "overruns": 1}]));
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap() {
    let api = api().await;
    for path in ["spend?by=agent&", "spend?by=day&", "decisions?", "reasons?", "budgets?"] {
        let path = format!("/api/v1/statistics/{path}");
        let whole = items(&api, &path).await;
        let (mut pages, mut next) = (Vec::new(), String::new());
        loop {
            let (status, page) = ask(&api, "all", &format!("{path}limit=1{next}")).await;
            assert_eq!((status, page["items"].as_array().unwrap().len()), (200, 1), "{page}");
            pages.push(page["items"][0].clone());
            match page["continue"].as_str() {
                Some(token) => next = format!("&continue={token}"),
                None => break,
            }
        }
        assert_eq!(json!(pages), whole, "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let api = api().await;
    for (path, told) in [
        ("spend?by=colour", "colour"),
        ("spend?since=yesterday", "2026-11-21"),
        ("spend?since=2026-11-31", "since"),
        ("spend?limit=1001", "limit"),
        ("spend?continue=nonsense", "continue"),
        ("spend?agent=x", "agent"),
        ("decisions?until=21.11.2026", "until"),
        ("reasons?since=2026-11-21", "since"),
        ("budgets?scope=World", "World"),
        ("budgets?window=Week", "Week"),
        ("budgets?current=perhaps", "`true`"),
    ] {
        let (status, problem) = ask(&api, "all", &format!("/api/v1/statistics/{path}")).await;
        assert_eq!(status, 400, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{path}: {problem}");
    }
}
