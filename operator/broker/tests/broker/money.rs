//! What calls cost: set aside before they leave, settled by what the answer says.

use std::time::Duration;

use bytes::Bytes;
use countersign_core::money::Money;
use serde_json::{Value, json};

use crate::upstream::{Upstream, chunks, text};
use crate::world::{World, loopback};

fn contract(port: u16, cost: Value) -> Value {
    json!({"effect": "External", "egress": [loopback("127.0.0.1", port, json!({}))], "cost": cost})
}

fn tokens() -> Value {
    json!({"ceiling": "1", "perMillionInputTokens": "1", "perMillionOutputTokens": "10"})
}

#[tokio::test]
async fn the_ceiling_holds_against_many_calls_at_once() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let world = World::new(contract(upstream.address.port(), json!({"ceiling": "0.5", "perCall": "0.05"}))).await;
    let client = world.client().await;
    let calls = (0..32).map(|_| {
        let (client, url) = (client.clone(), upstream.url("/"));
        async move { client.get(&url).await }
    });
    let answers = futures::future::join_all(calls).await;
    let allowed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(allowed, 10, "ten at 0.05 are 0.5");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.refused().as_str()), (402, "cost-ceiling"));
        assert!(refused.text().contains("0.5"), "{}", refused.text());
    }
    assert_eq!(upstream.seen().len(), 10);
    assert_eq!(
        world.record.with(|state| (state.peak, state.spent)),
        (Money::from_micros(500_000), Money::from_micros(500_000))
    );
}

#[tokio::test]
async fn what_the_attempt_itself_costs_is_not_left_for_calls() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let port = upstream.address.port();
    for (cost, allowed, told) in [
        (json!({"ceiling": "0.5", "perAttempt": "0.4", "perCall": "0.05"}), 2, "0.1, which is 0.5 less the 0.4"),
        (json!({"ceiling": "0.5", "perAttempt": "0.46", "perCall": "0.05"}), 0, "0.04, which is 0.5 less the 0.46"),
        (json!({"ceiling": "0.5", "perAttempt": "0.5", "perCall": "0.05"}), 0, "0, which is 0.5 less the 0.5"),
        (json!({"ceiling": "0", "perCall": "0.05"}), 0, "may cost 0; raise cost.ceiling"),
    ] {
        let world = World::new(contract(port, cost.clone())).await;
        let client = world.client().await;
        for _ in 0..allowed {
            assert_eq!(client.get(&upstream.url("/")).await.status, 200, "{cost}");
        }
        let refused = client.get(&upstream.url("/")).await;
        assert_eq!((refused.status, refused.refused().as_str()), (402, "cost-ceiling"), "{cost}");
        assert!(refused.text().contains(told), "{}", refused.text());
        assert_eq!(world.record.with(|state| state.peak), Money::from_micros(50_000 * allowed), "{cost}");
    }
    // Calls that have no price pass, whatever is left for those that have one.
    let before = upstream.seen().len();
    for cost in [json!({"ceiling": "0"}), json!({"ceiling": "0.5", "perAttempt": "0.5"})] {
        let world = World::new(contract(port, cost.clone())).await;
        let client = world.client().await;
        for _ in 0..3 {
            assert_eq!(client.get(&upstream.url("/")).await.status, 200, "{cost}");
        }
    }
    assert_eq!(upstream.seen().len(), before + 6);
}

#[tokio::test]
async fn tokens_are_settled_by_the_answers_usage() {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3});
    let stream = format!("data: {{\"choices\":[]}}\n\ndata: {}\n\ndata: [DONE]\n\n", json!({"usage": usage}));
    let upstream = Upstream::start("127.0.0.1", None, move |seen| {
        let (usage, stream) = (usage.clone(), Bytes::from(stream.clone()));
        async move {
            match seen.path.as_str() {
                "/json" => {
                    let mut answer = text(json!({"usage": usage}).to_string());
                    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
                    answer
                }
                "/stream" => {
                    let every = (0..stream.len()).map(|at| stream.slice(at..=at)).collect();
                    chunks("text/event-stream; charset=utf-8", every, Duration::ZERO)
                }
                _ => text("no usage"),
            }
        }
    })
    .await;
    let world = World::new(contract(upstream.address.port(), tokens())).await;
    let client = world.client().await;
    let body = json!({"max_tokens": 1000}).to_string();
    let reserved = Money::from_micros(body.len() as u64 + 10_000);
    for (path, cost) in [("/json", Money::from_micros(37)), ("/stream", Money::from_micros(37)), ("/none", reserved)] {
        assert_eq!(client.post(&upstream.url(path), body.clone()).await.status, 200);
        // The end was recorded before its last byte was passed on.
        let call = world.record.calls().pop().unwrap();
        assert_eq!((call.reserved, call.cost, call.outcome.as_deref()), (reserved, cost, Some("answered")), "{path}");
    }
}

#[tokio::test]
async fn a_price_that_cannot_be_known_is_no_call() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let world = World::new(contract(upstream.address.port(), tokens())).await;
    let client = world.client().await;
    for body in ["{}", "not json", r#"{"max_tokens":1,"max_tokens":99999}"#, r#"{"max_tokens":1,"MAX_TOKENS":99999}"#] {
        let refused = client.post(&upstream.url("/"), body).await;
        assert_eq!((refused.status, refused.refused().as_str()), (422, "price-unknown"), "{body}");
    }
    let encoded =
        client.forward("POST", &upstream.url("/"), &[("content-encoding", "gzip")], r#"{"max_tokens":1}"#).await;
    assert_eq!(encoded.refused(), "bad-request");
    assert_eq!((upstream.connections(), world.record.calls().len()), (0, 0));
    // Without a body there are no tokens.
    assert_eq!(client.get(&upstream.url("/v1/models")).await.status, 200);
    assert_eq!(world.record.calls()[0].reserved, Money::ZERO);
}

#[tokio::test]
async fn what_did_not_leave_costs_nothing_and_what_was_lost_costs_its_most() {
    let upstream = Upstream::start("127.0.0.1", None, |seen| async move {
        if seen.path == "/cut" {
            return chunks(
                "application/json",
                vec!["{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}".into(); 9000],
                Duration::from_millis(1),
            );
        }
        std::future::pending().await
    })
    .await;
    let port = upstream.address.port();
    let mut limits = crate::world::limits();
    limits.call = Duration::from_millis(300);
    let mut contract = contract(port, tokens());
    contract["egress"].as_array_mut().unwrap().push(loopback("127.0.0.3", port, json!({})));
    let world = World::with(contract, limits, &[]).await;
    let client = world.client().await;
    let body = r#"{"max_tokens":1000}"#;
    let most = Money::from_micros(body.len() as u64 + 10_000);
    let nowhere = client.post(&format!("http://127.0.0.3:{port}/"), body).await;
    assert_eq!(nowhere.refused(), "unreachable");
    let late = client.post(&upstream.url("/hang"), body).await;
    assert_eq!((late.status, late.refused().as_str()), (504, "timeout"));
    let cut = client.post(&upstream.url("/cut"), body).await;
    assert!(!cut.whole);
    world.settled().await;
    let ends: Vec<_> = world.record.calls().into_iter().map(|call| (call.outcome.unwrap(), call.cost)).collect();
    let expected = [("unreachable", Money::ZERO), ("timeout", most), ("timeout", most)];
    assert_eq!(ends, expected.map(|(outcome, cost)| (outcome.to_owned(), cost)));
}
