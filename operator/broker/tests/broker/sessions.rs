//! Tokens and sessions: who somebody is, and for how long.

use serde_json::json;

use crate::client::Client;
use crate::world::{ATTEMPT, World};

#[tokio::test]
async fn a_token_is_taken_once() {
    let world = World::new(json!({"effect": "Read"})).await;
    let client = Client::new(world.address, &world.authority.pem);
    let token = world.token(ATTEMPT);
    assert_eq!(client.open(ATTEMPT, &token).await.status, 201);
    let second = client.open(ATTEMPT, &token).await;
    assert_eq!((second.status, second.refused().as_str()), (409, "token-used"));
}

#[tokio::test]
async fn of_many_at_once_one_gets_the_session() {
    let world = World::new(json!({"effect": "Read"})).await;
    let client = Client::new(world.address, &world.authority.pem);
    let token = world.token(ATTEMPT);
    let all = futures::future::join_all((0..16).map(|_| client.open(ATTEMPT, &token))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(all.iter().filter(|answer| answer.status == 409).count(), 15);
}

#[tokio::test]
async fn a_token_of_another_attempt_opens_nothing() {
    let world = World::new(json!({"effect": "Read"})).await;
    world.admit("attempt-2", json!({"effect": "Read"}));
    let client = Client::new(world.address, &world.authority.pem);
    for (attempt, token) in [
        (ATTEMPT, world.token("attempt-2")),
        (ATTEMPT, String::new()),
        (ATTEMPT, "x".repeat(43)),
        ("attempt-3", world.token("attempt-3")),
        ("", String::new()),
    ] {
        let answer = client.open(attempt, &token).await;
        assert_eq!((answer.status, answer.refused().as_str()), (401, "token"), "{attempt} {token}");
    }
    // The right one still works: what was wrong took nothing.
    assert_eq!(client.open(ATTEMPT, &world.token(ATTEMPT)).await.status, 201);
    for body in ["", "{}", "[]", r#"{"attempt":"a","attempt":"b","token":"c"}"#, r#"{"attempt":"a","token":"c","x":1}"#]
    {
        assert_eq!(client.send("POST", "/v1/sessions", &[], body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn nothing_is_done_without_a_session_or_after_the_end() {
    let world = World::new(json!({"effect": "Read", "workspace": "Write"})).await;
    let mut stranger = Client::new(world.address, &world.authority.pem);
    for session in [None, Some(String::new()), Some("guess".to_owned()), Some(world.token(ATTEMPT))] {
        stranger.session = session;
        for (method, path) in
            [("GET", "/v1/forward"), ("PUT", "/v1/blobs"), ("PUT", "/v1/trees"), ("GET", "/v1/blobs/x")]
        {
            let answer = stranger.send(method, path, &[("countersign-url", "https://a.example/")], "").await;
            assert_eq!((answer.status, answer.refused().as_str()), (401, "session"), "{method} {path}");
        }
    }
    let client = world.client().await;
    assert_eq!(client.get("https://a.example/").await.refused(), "egress-denied");
    world.record.with(|state| state.attempts.get_mut(ATTEMPT).unwrap().over = true);
    let after = client.get("https://a.example/").await;
    assert_eq!((after.status, after.refused().as_str()), (410, "attempt-over"));
    world.admit("attempt-2", json!({"effect": "Read"}));
    world.record.with(|state| state.attempts.get_mut("attempt-2").unwrap().over = true);
    let late = client.open("attempt-2", &world.token("attempt-2")).await;
    assert_eq!((late.status, late.refused().as_str()), (410, "attempt-over"));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_whoever_connects_next() {
    let mut world = World::new(json!({"effect": "Read"})).await;
    assert!(!world.certificate.refresh().unwrap());
    let other = crate::world::Authority::new();
    let (certificate, key) = other.issue(&[crate::world::NAME]);
    std::fs::write(world.folder.path().join("tls.crt"), &certificate).unwrap();
    assert!(world.certificate.refresh().is_err(), "the key is not its own yet");
    let old = Client::new(world.address, &world.authority.pem);
    assert_eq!(old.send("GET", "/nothing", &[], "").await.status, 404, "the old one goes on");
    std::fs::write(world.folder.path().join("tls.key"), &key).unwrap();
    assert!(world.certificate.refresh().unwrap());
    let new = Client::new(world.address, &other.pem);
    assert_eq!(new.send("GET", "/nothing", &[], "").await.refused(), "not-found");
}
