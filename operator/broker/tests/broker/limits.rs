//! Rates, rests, effects, times, and a record that is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::upstream::{Upstream, status, text};
use crate::world::{ATTEMPT, World, limits, loopback};

#[tokio::test]
async fn without_the_record_nothing_leaves() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    let world = World::new(json!({"effect": "External", "egress": [egress]})).await;
    let client = world.client().await;
    world.record.with(|state| state.away = true);
    let refused = client.get(&upstream.url("/")).await;
    assert_eq!((refused.status, refused.refused().as_str()), (503, "record-unavailable"));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(client.open(ATTEMPT, &world.token(ATTEMPT)).await.status, 503);
    assert_eq!(upstream.connections(), 0);
    world.record.with(|state| state.away = false);
    assert_eq!(client.get(&upstream.url("/")).await.status, 200);
}

#[tokio::test]
async fn an_end_is_recorded_once_the_record_is_back() {
    let world_record = Arc::new(std::sync::Mutex::new(None::<crate::record::Memory>));
    let record = Arc::clone(&world_record);
    let upstream = Upstream::start("127.0.0.1", None, move |_| {
        // It goes away while the call is out.
        record.lock().unwrap().as_ref().unwrap().with(|state| state.away = true);
        async { text("ok") }
    })
    .await;
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    let world = World::new(json!({"effect": "External", "egress": [egress]})).await;
    *world_record.lock().unwrap() = Some(world.record.clone());
    let client = world.client().await;
    let url = upstream.url("/");
    let asking = tokio::spawn(async move { client.get(&url).await });
    while upstream.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.record.with(|state| state.away = false);
    assert_eq!(asking.await.unwrap().text(), "ok");
    world.settled().await;
    assert_eq!(world.outcomes(), ["answered"]);
}

#[tokio::test]
async fn a_skill_has_a_rate_that_all_its_attempts_share() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    let contract = json!({"effect": "External", "egress": [egress], "callsPerMinute": 4});
    let world = World::new(contract.clone()).await;
    world.admit("attempt-2", contract);
    let (one, two) = (world.client().await, world.client_of("attempt-2").await);
    for client in [&one, &two, &one, &two] {
        assert_eq!(client.get(&upstream.url("/")).await.status, 200);
    }
    for client in [&one, &two] {
        let refused = client.get(&upstream.url("/")).await;
        assert_eq!((refused.status, refused.refused().as_str()), (429, "rate-limited"));
        let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
    }
    assert_eq!(upstream.seen().len(), 4);
}

#[tokio::test]
async fn a_host_that_fails_is_given_a_rest_and_another_try() {
    let well = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&well);
    let upstream = Upstream::start("127.0.0.1", None, move |_| {
        let code = if now.load(Ordering::Relaxed) { 200 } else { 503 };
        async move { status(code, &[]) }
    })
    .await;
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    let world = World::new(json!({"effect": "External", "egress": [egress]})).await;
    let client = world.client().await;
    let url = upstream.url("/");
    for _ in 0..3 {
        let answer = client.get(&url).await;
        assert!(answer.status == 503 && !answer.headers.contains_key("countersign-refused"), "its own answer");
    }
    let open = client.get(&url).await;
    assert_eq!((open.status, open.refused().as_str()), (503, "circuit-open"));
    assert_eq!(open.headers["retry-after"], "1");
    assert_eq!((upstream.connections(), world.record.calls().len()), (3, 3));
    // One try after the rest fails, and it rests again.
    let tried = || async {
        loop {
            let answer = client.get(&url).await;
            if !answer.headers.contains_key("countersign-refused") {
                return answer.status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(tried().await, 503);
    assert_eq!(client.get(&url).await.refused(), "circuit-open");
    well.store(true, Ordering::Relaxed);
    assert_eq!(tried().await, 200);
    assert_eq!(client.get(&url).await.status, 200);
    assert_eq!(upstream.connections(), 6);
}

#[tokio::test]
async fn a_slow_upstream_is_not_waited_for_longer_than_the_attempt_lives() {
    let upstream = Upstream::start("127.0.0.1", None, |_| std::future::pending()).await;
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    let world = World::new(json!({"effect": "External", "egress": [egress.clone()]})).await;
    let contract = json!({"effect": "External", "egress": [egress]});
    world.admit_launch("short", json!({"contract": contract, "timeout_seconds": 1}));
    let started = std::time::Instant::now();
    let late = world.client_of("short").await.get(&upstream.url("/")).await;
    assert_eq!((late.status, late.refused().as_str()), (504, "timeout"));
    assert!(started.elapsed() < limits().call / 2);
}

#[tokio::test]
async fn a_sandbox_that_goes_away_ends_its_call() {
    let upstream = Upstream::start("127.0.0.1", None, |_| std::future::pending()).await;
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    let world = World::new(json!({"effect": "External", "egress": [egress]})).await;
    let client = world.client().await;
    let url = upstream.url("/");
    let asking = tokio::spawn(async move { client.get(&url).await.status });
    while upstream.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    asking.abort();
    world.settled().await;
    assert_eq!(world.outcomes(), ["sandbox-gone"]);
}

#[tokio::test]
async fn a_broker_that_ends_leaves_no_call_without_an_end() {
    let upstream = Upstream::start("127.0.0.1", None, |_| std::future::pending()).await;
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    let world = World::new(json!({"effect": "External", "egress": [egress]})).await;
    let client = world.client().await;
    let url = upstream.url("/");
    let asking = tokio::spawn(async move { client.get(&url).await });
    while upstream.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.broker.calls.close();
    world.broker.cut.cancel();
    world.broker.calls.wait().await;
    assert_eq!(world.outcomes(), ["cut-off"]);
    assert_eq!(asking.await.unwrap().refused(), "ending");
}

#[tokio::test]
async fn a_skill_that_reads_sends_nothing_else() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("{}") }).await;
    let port = upstream.address.port();
    let node = loopback(
        "127.0.0.1",
        port,
        json!({"methods": [], "jsonRpc": ["eth_call", "eth_sendRawTransaction"], "paths": ["/rpc"]}),
    );
    let world = World::new(
        json!({"effect": "Read", "egress": [loopback("127.0.0.1", port, json!({"paths": ["/web"]})), node]}),
    )
    .await;
    let client = world.client().await;
    let call = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
    assert_eq!(client.get(&upstream.url("/web")).await.status, 200);
    assert_eq!(client.post(&upstream.url("/web"), "x").await.refused(), "egress-denied");
    let plain = [("content-type", "text/plain; charset=utf-16")];
    assert_eq!(client.forward("POST", &upstream.url("/rpc"), &plain, call("eth_call")).await.status, 200);
    assert_eq!(upstream.seen().pop().unwrap().headers["content-type"], "application/json");
    for body in [
        call("eth_sendRawTransaction"),
        format!("[{},{}]", call("eth_call"), call("eth_sendRawTransaction")),
        r#"{"jsonrpc":"2.0","method":"eth_call","Method":"eth_sendRawTransaction"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"eth_call","method":"eth_sendRawTransaction"}"#.to_owned(),
    ] {
        assert_eq!(client.post(&upstream.url("/rpc"), body.clone()).await.refused(), "egress-denied", "{body}");
    }
    let encoded =
        client.forward("POST", &upstream.url("/rpc"), &[("content-encoding", "gzip")], call("eth_call")).await;
    assert_eq!(encoded.refused(), "bad-request");
    assert_eq!(upstream.seen().len(), 2);
    let text = world.metrics.render().unwrap();
    assert!(text.contains("countersign_broker_refused_total{reason=\"egress-denied\"} 5"), "{text}");
    assert!(!text.contains("127.0.0.1") && !text.contains("caller"), "no label names a host or a Skill");
}
