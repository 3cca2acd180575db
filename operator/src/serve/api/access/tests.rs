//! A flood of made-up tokens, before an API server that takes note of what it is asked.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::middleware;
use axum::routing::get;
use countersign_store::{Store, StoreOptions, Timeouts};
use futures::future::join_all;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::metrics::Metrics;

/// What the API server was asked: how often, and how often at once.
#[derive(Default)]
struct Asked {
    reviews: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// The routes' layer, for callers of two requests a second each; the API server takes its time, and knows `alice`.
fn api(asked: &Arc<Asked>, takes: Duration) -> Router {
    let asked = Arc::clone(asked);
    let api_server = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
        let asked = Arc::clone(&asked);
        async move {
            asked.reviews.fetch_add(1, Ordering::SeqCst);
            asked.most.fetch_max(1 + asked.now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            tokio::time::sleep(takes).await;
            asked.now.fetch_sub(1, Ordering::SeqCst);
            let sent = request.into_body().collect_bytes().await.unwrap();
            let known = String::from_utf8_lossy(&sent).contains("alice");
            let status = json!({"authenticated": known, "user": {"username": "alice"}});
            let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
                "spec": {}, "status": status});
            Ok::<_, Infallible>(Response::new(Body::from(review.to_string())))
        }
    });
    let options = StoreOptions {
        url: "postgres://nobody@127.0.0.1:1/nothing".to_owned(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(1),
        timeouts: Timeouts::default(),
    };
    let client = Client::new(api_server, "default");
    let shared = Shared::new(client, Store::open(&options).unwrap(), 2, Metrics::new().unwrap());
    Router::new()
        .route("/", get(|| async { "read" }))
        .layer(middleware::from_fn_with_state(shared.clone(), authenticate))
        .with_state(shared)
}

async fn ask(api: &Router, from: IpAddr, token: &str) -> StatusCode {
    let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::new(from, 40_000)));
    api.clone().oneshot(request).await.unwrap().status()
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

#[tokio::test]
async fn made_up_tokens_of_one_address_are_not_all_asked_about_and_others_are_answered() {
    let asked = Arc::new(Asked::default());
    let api = api(&asked, Duration::ZERO);
    let mut told = Vec::new();
    for n in 0..500 {
        told.push(ask(&api, address(1), &format!("made-up-{n}")).await);
    }
    let reviews = asked.reviews.load(Ordering::SeqCst);
    assert!((100..=250).contains(&reviews), "{reviews}");
    let known = |status| told.iter().filter(|told| **told == status).count();
    assert_eq!(known(StatusCode::UNAUTHORIZED), reviews);
    assert_eq!(known(StatusCode::TOO_MANY_REQUESTS), 500 - reviews);
    assert_eq!(ask(&api, address(2), "alice").await, StatusCode::OK, "whatever the other one did");
}

#[tokio::test]
async fn many_addresses_together_ask_no_more_than_all_may() {
    let asked = Arc::new(Asked::default());
    let api = api(&asked, Duration::ZERO);
    let mut refused = 0;
    for n in (0..250).cycle().take(1000) {
        refused += usize::from(ask(&api, address(n), "made-up").await == StatusCode::SERVICE_UNAVAILABLE);
    }
    let reviews = asked.reviews.load(Ordering::SeqCst);
    assert!((400..800).contains(&reviews), "{reviews}");
    assert_eq!(refused, 1000 - reviews, "and no address asks too much by itself");
}

#[tokio::test]
async fn a_slow_api_server_is_not_asked_much_at_once() {
    for (addresses, most) in [(1, 4), (25, 16)] {
        let asked = Arc::new(Asked::default());
        let api = api(&asked, Duration::from_millis(20));
        let from = |n: u8| address(n % addresses);
        join_all((0..40).map(|n| ask(&api, from(n), "made-up"))).await;
        let at_once = asked.most.load(Ordering::SeqCst);
        assert_eq!(at_once, most, "{addresses} addresses");
    }
}

#[tokio::test]
async fn what_brings_no_token_is_not_asked_about() {
    let asked = Arc::new(Asked::default());
    let api = api(&asked, Duration::ZERO);
    for _ in 0..200 {
        assert_eq!(ask(&api, address(1), "").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(asked.reviews.load(Ordering::SeqCst), 0);
    assert_eq!(ask(&api, address(1), "alice").await, StatusCode::OK, "and nothing is used up by it");
}
