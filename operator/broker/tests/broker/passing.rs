//! What goes through, what does not, and what nobody can smuggle.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::client::read;
use crate::upstream::{Upstream, chunks, status, text};
use crate::world::{World, loopback};

async fn world(upstream: &Upstream) -> World {
    let egress = loopback("127.0.0.1", upstream.address.port(), json!({}));
    World::new(json!({"effect": "External", "egress": [egress]})).await
}

#[tokio::test]
async fn bodies_and_headers_go_both_ways() {
    let upstream = Upstream::start("127.0.0.1", None, |seen| async move {
        let mut answer = text(seen.body);
        *answer.status_mut() = 201.try_into().unwrap();
        answer.headers_mut().insert("x-theirs", "1".parse().unwrap());
        answer.headers_mut().insert("countersign-refused", "forged".parse().unwrap());
        answer.headers_mut().append("set-cookie", "a=1".parse().unwrap());
        answer.headers_mut().append("set-cookie", "b=2".parse().unwrap());
        answer
    })
    .await;
    let world = world(&upstream).await;
    let headers = [
        ("x-mine", "1"),
        ("countersign-authorization", "Bearer mine"),
        ("x-http-method-override", "DELETE"),
        ("x-forwarded-for", "10.0.0.1"),
        ("te", "trailers"),
    ];
    let body = vec![b'x'; 300_000];
    let client = world.client().await;
    let answer = client.forward("POST", &upstream.url("/"), &headers, body.clone()).await;
    assert_eq!((answer.status, answer.body.len()), (201, body.len()));
    assert_eq!(answer.headers["x-theirs"], "1");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert!(!answer.headers.contains_key("countersign-refused"), "only the broker says so");
    let seen = &upstream.seen()[0];
    assert_eq!(
        (&seen.headers["x-mine"], &seen.headers["authorization"]),
        (&"1".parse().unwrap(), &"Bearer mine".parse().unwrap())
    );
    assert_eq!(seen.headers["content-length"], body.len().to_string());
    for name in ["x-http-method-override", "x-forwarded-for", "te", "countersign-url", "countersign-authorization"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    let session = client.session.unwrap();
    assert!(seen.headers.values().all(|value| !value.to_str().unwrap().contains(&session)), "the session stays here");
}

#[tokio::test]
async fn a_stream_passes_as_it_comes() {
    let upstream = Upstream::start("127.0.0.1", None, |_| async {
        chunks("text/event-stream", vec!["data: 1\n\n".into(), "data: 2\n\n".into()], Duration::from_millis(50))
    })
    .await;
    let world = world(&upstream).await;
    let response =
        world.client().await.begin("GET", "/v1/forward", &[("countersign-url", &upstream.url("/"))], "").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let answer = read(response).await;
    assert_eq!((answer.text().as_str(), answer.whole), ("data: 1\n\ndata: 2\n\n", true));
}

#[tokio::test]
async fn heads_without_bodies_pass() {
    let upstream = Upstream::start("127.0.0.1", None, |seen| async move {
        match seen.path.as_str() {
            "/204" => status(204, &[]),
            "/304" => status(304, &[("etag", "\"x\"")]),
            _ => text("body"),
        }
    })
    .await;
    let world = world(&upstream).await;
    let client = world.client().await;
    for (method, path, expected) in [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/", 200)] {
        let answer = client.forward(method, &upstream.url(path), &[], "").await;
        assert_eq!((answer.status, answer.body.len(), answer.whole), (expected, 0, true), "{method} {path}");
    }
    let length = client.forward("HEAD", &upstream.url("/"), &[], "").await.headers["content-length"].clone();
    assert_eq!(length, "4");
    world.settled().await;
    assert!(world.outcomes().iter().all(|outcome| outcome == "answered"));
}

#[tokio::test]
async fn what_is_too_large_is_stopped_on_either_side() {
    let upstream = Upstream::start("127.0.0.1", None, |seen| async move {
        let chunk = Bytes::from(vec![b'x'; 256 * 1024]);
        match seen.path.as_str() {
            "/declared" => text(vec![b'x'; 1024 * 1024 + 1]),
            "/endless" => chunks("text/plain", vec![chunk; 64], Duration::ZERO),
            _ => text("small"),
        }
    })
    .await;
    let world = world(&upstream).await;
    let client = world.client().await;
    let declared = client.get(&upstream.url("/declared")).await;
    assert_eq!((declared.status, declared.refused().as_str()), (507, "response-too-large"));
    let endless = client.get(&upstream.url("/endless")).await;
    assert!(!endless.whole && endless.body.len() <= 1024 * 1024, "cut off, and seen to be: {}", endless.body.len());
    let sent = client.post(&upstream.url("/"), vec![b'x'; 1024 * 1024 + 1]).await;
    assert_eq!((sent.status, sent.refused().as_str()), (413, "request-too-large"));
    // In chunks it is not known beforehand.
    let session = client.session.clone().unwrap();
    let chunk = format!("40000\r\n{}\r\n", "x".repeat(0x40000));
    let raw = client
        .raw(&format!(
            "POST /v1/forward HTTP/1.1\r\nhost: b\r\nauthorization: Bearer {session}\r\ncountersign-url: {}\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n{}0\r\n\r\n",
            upstream.url("/"),
            chunk.repeat(5)
        ))
        .await;
    assert!(raw.starts_with("HTTP/1.1 413") || raw.is_empty(), "{}", &raw[..raw.len().min(200)]);
    world.settled().await;
    assert_eq!(world.outcomes(), ["response-too-large", "response-too-large", "request-too-large"]);
}

#[tokio::test]
async fn no_second_request_can_be_smuggled() {
    let upstream = Upstream::start("127.0.0.1", None, |seen| async move { text(seen.path) }).await;
    let world = world(&upstream).await;
    let client = world.client().await;
    let session = client.session.clone().unwrap();
    let head = |url: &str, more: &str| {
        format!(
            "POST /v1/forward HTTP/1.1\r\nhost: b\r\nauthorization: Bearer {session}\r\ncountersign-url: {url}\r\nconnection: close\r\n{more}\r\n"
        )
    };
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let url = upstream.url("/");
    for request in [
        // Two lengths, and a chunked body with another length.
        format!("{}0\r\n\r\n{smuggled}", head(&url, "content-length: 5\r\ntransfer-encoding: chunked\r\n")),
        format!("{}0\r\n\r\n{smuggled}", head(&url, "transfer-encoding: chunked\r\ncontent-length: 60\r\n")),
        format!("{}{smuggled}", head(&url, "content-length: 0\r\ncontent-length: 40\r\n")),
        format!("{}{smuggled}", head(&url, "transfer-encoding: xchunked\r\n")),
        format!("{}{smuggled}", head(&url, "transfer-encoding: chunked, identity\r\n")),
        format!("{}{smuggled}", head(&url, "transfer-encoding : chunked\r\n")),
        format!("{}{smuggled}", head(&url, "content-length: +5\r\n")),
        // Line breaks in the URL, encoded in every way.
        head(&format!("{url}%0d%0aGET%20/smuggled"), ""),
        head(&format!("{url}?a=%0d%0a%0d%0aGET%20/smuggled"), ""),
        head(&format!("{url}\x0bGET"), ""),
        head(&url, "x-mine: a\rGET /smuggled HTTP/1.1\r\n"),
    ] {
        client.raw(&request).await;
    }
    world.settled().await;
    for seen in upstream.seen() {
        assert!(!seen.path.starts_with("/smuggled"), "{seen:?}");
        let lengths = seen.headers.get_all("content-length").iter().count();
        let chunked = seen.headers.contains_key("transfer-encoding");
        assert!(lengths + usize::from(chunked) <= 1, "{seen:?}");
        assert!(!String::from_utf8_lossy(&seen.body).contains("smuggled"), "{seen:?}");
    }
    assert_eq!(upstream.seen().len(), world.record.calls().len(), "every request is a call of the record");
}

#[tokio::test]
async fn what_an_upstream_cannot_say_is_no_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answers = [
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1_000_000)),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy".to_owned(),
        String::new(),
    ];
    let count = answers.len();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let egress = loopback("127.0.0.1", port, json!({}));
    let mut limits = crate::world::limits();
    limits.breaker.failures = 100;
    let world = World::with(json!({"effect": "External", "egress": [egress]}), limits, &[]).await;
    let client = world.client().await;
    for number in 0..count {
        let refused = client.get(&format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(refused.status, 502, "{number}");
        assert!(["bad-answer", "unreachable"].contains(&refused.refused().as_str()));
    }
}
