//! Which Secrets the brokers have: what all that live agree on, and who may say so.

use std::collections::BTreeMap;

use countersign_store::{BROKER_LIVES, Role};

use crate::database::{Database, open};

#[tokio::test]
async fn a_fingerprint_counts_while_every_broker_that_lives_tells_it() {
    let database = Database::new().await;
    let url = database.empty().await;
    let owner = open(url.clone());
    owner.migrate().await.unwrap();
    let (_, server) = url.split_once('@').unwrap();
    let role = format!("postgres://countersign_test_brokers:test@{server}");
    owner.grant(Role::Broker, &role).await.unwrap();
    let broker = open(role);
    let has = |fingerprint: &str| BTreeMap::from([("api".to_owned(), fingerprint.to_owned())]);
    assert_eq!(owner.fingerprints().await.unwrap(), BTreeMap::new(), "nobody has told anything");
    broker.tell_fingerprints("one", &has("1")).await.unwrap();
    broker.tell_fingerprints("two", &has("1")).await.unwrap();
    assert_eq!(owner.fingerprints().await.unwrap()["api"].as_deref(), Some("1"));
    broker.tell_fingerprints("one", &has("2")).await.unwrap();
    assert_eq!(owner.fingerprints().await.unwrap()["api"], None, "one of them has something else");
    // The other has died: it tells nothing any more.
    let dead = format!(
        "update brokers set seen_at = now() - make_interval(secs => {}) where id = 'two'",
        BROKER_LIVES.as_secs() + 1
    );
    database.execute(&owner, &dead).await.unwrap();
    assert_eq!(owner.fingerprints().await.unwrap()["api"].as_deref(), Some("2"));
    broker.tell_fingerprints("three", &has("3")).await.unwrap();
    assert_eq!(owner.fingerprints().await.unwrap()["api"], None);
    broker.forget_broker("three").await.unwrap();
    assert_eq!(owner.fingerprints().await.unwrap()["api"].as_deref(), Some("2"), "it has said that it ends");
    let long_ago = "update brokers set seen_at = now() - interval '2 hours' where id = 'two'";
    database.execute(&owner, long_ago).await.unwrap();
    broker.tell_fingerprints("one", &has("2")).await.unwrap();
    assert_eq!(database.scalar(&owner, "select count(*) from brokers").await, 1, "the dead do not pile up");
    for store in [broker, owner] {
        store.close().await;
    }
}
