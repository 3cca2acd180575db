//! The operator's role in PostgreSQL: enough for its work, and not enough to change what was recorded.

use countersign_core::event::Event;
use countersign_core::tlog::{CosigningKey, SigningKey};
use countersign_store::{LogKeys, Rights, Role, Store};

use crate::database::{Database, open};
use crate::story;

const ROLE: &str = "countersign_test_operator";
const PASSWORD: &str = "not a secret: 100% test";

/// A database whose owner has let the operator's role in.
async fn granted(database: &Database) -> (Store, String) {
    let url = database.empty().await;
    let owner = open(url.clone());
    owner.migrate().await.unwrap();
    assert_eq!(owner.rights().await.unwrap(), Rights::Everything);
    assert_eq!(owner.grant(Role::Operator, &url).await.unwrap(), Rights::Everything, "one role for all");
    let (_, server) = url.split_once('@').unwrap();
    let operator = format!("postgres://{ROLE}:not%20a%20secret%3A%20100%25%20test@{server}");
    let (one, other) = tokio::join!(owner.grant(Role::Operator, &operator), owner.grant(Role::Operator, &operator));
    assert_eq!((one.unwrap(), other.unwrap()), (Rights::AddOnly, Rights::AddOnly), "two replicas at once");
    database.execute(&owner, &format!("alter role {ROLE} password '{PASSWORD}'")).await.unwrap();
    (owner, operator)
}

#[tokio::test]
async fn the_operators_role_works_and_cannot_change_what_was_recorded() {
    let database = Database::new().await;
    // All that the operator does.
    for story in story::all() {
        let (_, operator) = granted(&database).await;
        let store = open(operator);
        let mut seen = None;
        for changes in &story.batches {
            seen = Some(store.commit(story::UID, seen, changes).await.unwrap());
        }
    }
    let (owner, operator) = granted(&database).await;
    let store = open(operator);
    assert!(store.is_migrated().await.unwrap());
    assert_eq!(store.rights().await.unwrap(), Rights::AddOnly);
    let mut seen = None;
    for changes in &story::signed().batches {
        seen = Some(store.commit(story::UID, seen, changes).await.unwrap());
    }
    let key = |secret| SigningKey::new("countersign.test/log", [secret; 32]).unwrap();
    let now = "2026-11-21T00:00:00Z".parse().unwrap();
    let mut keys = LogKeys { current: key(7), next: None };
    store.sequence(&keys, now, 10).await.unwrap().unwrap();
    keys.next = Some(key(8));
    while store.sequence(&keys, now, 10).await.unwrap().is_some() {}
    let witness = CosigningKey::new("witness.test", [1; 32]).unwrap().witness_key();
    let (size, _) = store.checkpoint().await.unwrap().unwrap();
    store.keep_cosignature(&witness, size, "a line", now).await.unwrap();
    let lead = Event::Lead { replica: "r".into(), version: "1".into(), runner_image: "i".into(), at: now };
    store.tell(None, &lead).await.unwrap();

    // And what it does not.
    for statement in [
        "update log_entries set kind = 'x'",
        "delete from log_entries",
        "delete from log_payloads",
        "update log_payloads set body = 'x'",
        "delete from log_leaves",
        "update log_leaves set hash = sha256('x')",
        "delete from log_tiles",
        "update log_tiles set level = 1",
        "update log_checkpoints set note = 'x'",
        "delete from log_checkpoints",
        "delete from log_keys",
        "update log_cosignatures set line = 'x'",
        "delete from log_cosignatures",
        "update signatures set signer = 'x'",
        "delete from signatures",
        "update attempts set digest = 'x'",
        "update attempts set key = 'x'",
        "update attempts set launch = 'null'",
        "delete from attempts",
        "update approvals set covers = '{}'",
        "update approvals set digest = 'x'",
        "update approvals set requester = '{}'",
        "delete from approvals",
        "update tasks set requester = '{}'",
        "update plans set steps = '[]'",
        "delete from tasks",
        "update outputs set body = 'x'",
        "insert into brokers (id, fingerprints) values ('x', '{}')",
        "update brokers set fingerprints = '{}'",
        "delete from brokers",
        "truncate log_entries cascade",
        "alter table log_entries disable trigger user",
        "drop table log_entries",
        "drop trigger log_entries_append_only on log_entries",
        "create or replace function refuse_change() returns trigger language plpgsql as 'begin return new; end'",
    ] {
        let refused = database.execute(&store, statement).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied") || refused.contains("must be owner"), "{statement}: {refused}");
    }
    // A tile may grow, and nothing else.
    let refused = database.execute(&store, "update log_tiles set hashes = sha256('x')").await.unwrap_err().to_string();
    assert!(refused.contains("only grows"), "{refused}");
    store.close().await;
    owner.close().await;
}
