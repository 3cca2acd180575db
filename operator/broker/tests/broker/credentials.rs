//! Credentials: shown to the upstream, never to the sandbox.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::upstream::{Upstream, chunks, text};
use crate::world::{World, loopback};

const SECRET: &str = "s3cr3t/value+42";

async fn world(upstream: &Upstream, credential: Value) -> World {
    let mut all = json!({"secret": "api", "key": "token"});
    all.as_object_mut().unwrap().extend(credential.as_object().unwrap().clone());
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({"credential": all}));
    let world = World::new(json!({"effect": "External", "egress": [egress]})).await;
    world.secret("api", "token", SECRET).await;
    world
}

#[tokio::test]
async fn the_upstream_sees_the_credential_and_not_the_sandboxs_own() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    for (credential, name, shown) in [
        (json!({}), "authorization", format!("Bearer {SECRET}")),
        (json!({"header": "x-api-key"}), "x-api-key", SECRET.to_owned()),
        (json!({"username": "me"}), "authorization", format!("Basic {}", STANDARD.encode(format!("me:{SECRET}")))),
    ] {
        let world = world(&upstream, credential).await;
        let mine = [("countersign-authorization", "Bearer mine"), ("x-api-key", "mine"), ("accept-encoding", "gzip")];
        let client = world.client().await;
        assert_eq!(client.forward("POST", &upstream.url("/"), &mine, "{}").await.status, 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.headers.get_all(name).iter().collect::<Vec<_>>(), [shown.as_str()]);
        assert!(seen.headers.get("authorization").is_none_or(|value| value != "Bearer mine"));
        assert_eq!(seen.headers["accept-encoding"], "identity");
        // One that was rotated is not what was signed for; an attempt that was decided since shows it at once.
        world.rotate("api", "token", "rotated");
        let before = upstream.seen().len();
        let refused = client.get(&upstream.url("/")).await;
        assert_eq!((refused.status, refused.refused().as_str()), (409, "credential-changed"));
        assert_eq!(upstream.seen().len(), before, "nothing has left");
        world.secret("api", "token", "rotated").await;
        assert_eq!(client.get(&upstream.url("/")).await.status, 200);
        assert_ne!(upstream.seen().pop().unwrap().headers[name], shown);
    }
}

#[tokio::test]
async fn signatures_are_over_what_is_sent() {
    use hmac::{Hmac, KeyInit, Mac};
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let mac = |text: &[u8]| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    };
    let body = r#"{"event":"x"}"#;
    let hub = world(&upstream, json!({"scheme": "HmacSha256"})).await;
    assert_eq!(hub.client().await.post(&upstream.url("/"), body).await.status, 200);
    let seen = upstream.seen().pop().unwrap();
    let expected = format!("sha256={}", countersign_core::digest::hex(&mac(body.as_bytes())));
    assert_eq!(seen.headers["x-hub-signature-256"], expected);

    let standard = world(&upstream, json!({"scheme": "StandardWebhook"})).await;
    let client = standard.client().await;
    assert_eq!(client.post(&upstream.url("/"), body).await.refused(), "bad-request", "it has no id");
    let id = [("webhook-id", "msg_1"), ("webhook-signature", "v1,forged")];
    assert_eq!(client.forward("POST", &upstream.url("/"), &id, body).await.status, 200);
    let seen = upstream.seen().pop().unwrap();
    let time = seen.headers["webhook-timestamp"].to_str().unwrap();
    let signed = mac(format!("msg_1.{time}.{body}").as_bytes());
    assert_eq!(seen.headers["webhook-signature"], format!("v1,{}", STANDARD.encode(signed)));
}

#[tokio::test]
async fn an_upstream_that_echoes_the_credential_tells_the_sandbox_nothing() {
    let basic = STANDARD.encode(format!("me:{SECRET}"));
    let forms = [
        SECRET.to_owned(),
        basic.clone(),
        STANDARD.encode(SECRET),
        countersign_core::digest::hex(SECRET.as_bytes()),
        "s3cr3t%2Fvalue%2B42".to_owned(),
    ];
    let all = forms.join("|");
    let upstream = Upstream::start("127.0.0.1", None, move |seen| {
        let all = all.clone();
        async move {
            let shown = seen.headers["authorization"].to_str().unwrap().to_owned();
            let mut answer = match seen.path.as_str() {
                "/split" => {
                    let bytes = Bytes::from(format!("<{all}|{shown}>"));
                    let every = (0..bytes.len()).map(|at| bytes.slice(at..=at)).collect();
                    chunks("text/plain", every, Duration::ZERO)
                }
                _ => text(format!("<{all}|{shown}>")),
            };
            let headers = answer.headers_mut();
            headers.insert("x-echo", shown.parse().unwrap());
            headers.insert("location", format!("https://evil.example/?k={all}").parse().unwrap());
            answer
        }
    })
    .await;
    let world = world(&upstream, json!({"username": "me"})).await;
    let client = world.client().await;
    for path in ["/", "/split"] {
        let answer = client.get(&upstream.url(path)).await;
        let everything = format!("{:?} {}", answer.headers, answer.text());
        for form in &forms {
            assert!(!everything.contains(form.trim_end_matches('=')), "{path}: {form} in {everything}");
        }
        let text = answer.text();
        assert!(answer.whole && text.starts_with('<') && text.ends_with('>'), "{text}");
        assert_eq!(text.matches("[redacted by the broker]").count(), 6, "{text}");
        assert!(answer.headers["x-echo"].to_str().unwrap().contains("[redacted by the broker]"));
        assert!(answer.headers.get("content-length").is_none(), "it would no longer be right");
    }
}

#[tokio::test]
async fn an_encoded_answer_cannot_hide_it() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async {
        let mut answer = text("\u{1f}not readable");
        answer.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        answer
    })
    .await;
    let world = world(&upstream, json!({})).await;
    let refused = world.client().await.get(&upstream.url("/")).await;
    assert_eq!((refused.status, refused.refused().as_str()), (502, "bad-answer"));
}

#[tokio::test]
async fn a_missing_secret_stops_the_call_and_not_more() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async { text("ok") }).await;
    let world = world(&upstream, json!({"key": "absent"})).await;
    let client = world.client().await;
    let refused = client.get(&upstream.url("/")).await;
    assert_eq!((refused.status, refused.refused().as_str()), (503, "credential-missing"));
    assert!(refused.text().contains("Secret api") && refused.text().contains("broker.secrets"), "{}", refused.text());
    assert_eq!((upstream.connections(), world.record.calls().len()), (0, 0));
    world.secret("api", "absent", "now there").await;
    assert_eq!(client.get(&upstream.url("/")).await.status, 200);
}
