//! A Task's files: what was given is read, what may be kept is kept, and nothing else.

use countersign_core::digest::Digest;
use serde_json::json;

use crate::world::{ATTEMPT, World};

fn tree(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files: serde_json::Map<_, _> = files
        .iter()
        .map(|(path, body)| ((*path).to_owned(), json!({"bytes": body.len(), "digest": Digest::of_bytes(body)})))
        .collect();
    countersign_core::json::canonical::to_vec(&json!({"files": files})).unwrap()
}

fn keep(world: &World, body: &[u8]) -> Digest {
    let digest = Digest::of_bytes(body);
    world.record.with(|state| state.files.insert(digest, body.to_vec()));
    digest
}

#[tokio::test]
async fn only_what_was_given_is_read() {
    let world = World::new(json!({"effect": "Read"})).await;
    let (mine, theirs) = (keep(&world, b"mine"), keep(&world, b"theirs"));
    let given = keep(&world, &tree(&[("a/b.txt", b"mine")]));
    let other = keep(&world, &tree(&[("c.txt", b"theirs")]));
    world.admit_launch(ATTEMPT, json!({"contract": {"effect": "Read", "workspace": "Read"}, "workspace": [given]}));
    let client = world.client().await;
    let get = |path: String| {
        let client = &client;
        async move { client.send("GET", &path, &[], "").await }
    };
    assert_eq!(get(format!("/v1/trees/{given}")).await.body, tree(&[("a/b.txt", b"mine")]));
    assert_eq!(get(format!("/v1/blobs/{mine}")).await.text(), "mine");
    for path in [
        format!("/v1/blobs/{theirs}"),
        format!("/v1/trees/{other}"),
        format!("/v1/trees/{mine}"),
        format!("/v1/blobs/{given}"),
        format!("/v1/blobs/{}", Digest::of_bytes("absent")),
        "/v1/blobs/sha256:x".to_owned(),
        "/v1/blobs/..%2fsessions".to_owned(),
    ] {
        assert_eq!(get(path.clone()).await.refused(), "not-found", "{path}");
    }
    for path in ["/v1/blobs", "/v1/trees"] {
        assert_eq!(client.send("PUT", path, &[], tree(&[])).await.refused(), "egress-denied", "it only reads");
    }
    // A Skill without a workspace sees nothing, whatever its launch lists.
    world.admit_launch("blind", json!({"contract": {"effect": "Read"}, "workspace": [given]}));
    let blind = world.client_of("blind").await;
    assert_eq!(blind.send("GET", &format!("/v1/trees/{given}"), &[], "").await.refused(), "not-found");
}

#[tokio::test]
async fn what_is_kept_has_bounds() {
    let world = World::new(json!({"effect": "Write", "workspace": "Write"})).await;
    let client = world.client().await;
    let kept = client.send("PUT", "/v1/blobs", &[], "hello").await;
    assert_eq!((kept.status, &kept.json()["digest"]), (201, &json!(Digest::of_bytes("hello"))));
    let body = tree(&[("a.txt", b"hello")]);
    let kept = client.send("PUT", "/v1/trees", &[], body.clone()).await;
    assert_eq!((kept.status, &kept.json()["digest"]), (201, &json!(Digest::of_bytes(&body))));
    // Another Task left it, and somebody knows its digest.
    keep(&world, b"theirs");
    let foreign = client.send("PUT", "/v1/trees", &[], tree(&[("a.txt", b"theirs")])).await;
    assert_eq!(foreign.refused(), "bad-request");
    assert!(foreign.text().contains("neither left nor was given"), "{}", foreign.text());
    assert_eq!(client.send("PUT", "/v1/trees", &[], tree(&[("../a", b"x")])).await.refused(), "bad-request");
    assert_eq!(client.send("PUT", "/v1/trees", &[], "{\"files\": {}}").await.refused(), "bad-request");
    let large = vec![1; 8 * 1024 * 1024];
    assert_eq!(
        client.send("PUT", "/v1/blobs", &[], [large.as_slice(), b"1"].concat()).await.refused(),
        "request-too-large"
    );
    for _ in 0..3 {
        assert_eq!(client.send("PUT", "/v1/blobs", &[], large.clone()).await.status, 201);
    }
    let full = client.send("PUT", "/v1/blobs", &[], large).await;
    assert_eq!((full.status, full.refused().as_str()), (507, "workspace-full"));
}
