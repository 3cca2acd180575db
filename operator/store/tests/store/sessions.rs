//! The broker's side of the record.

use countersign_core::money::Money;
use countersign_core::record::Change;
use countersign_store::{Admitted, Begun, Call, CallEnd, Role, Store};
use jiff::Timestamp;

use crate::database::{Database, open};
use crate::story;

const PASSWORD: &str = "test";

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

fn micros(amount: u64) -> Money {
    Money::from_micros(amount)
}

fn call(reserved: u64, ceiling: Option<u64>) -> Call<'static> {
    let ceiling = ceiling.map(Money::from_micros);
    Call { method: "GET", url: "https://api.example.com/v1/price", reserved: micros(reserved), ceiling }
}

fn end(cost: u64) -> CallEnd<'static> {
    let address = Some("203.0.113.7:443".to_owned());
    CallEnd { outcome: "answered", status: Some(200), address, sent: 3, received: 5, cost: micros(cost) }
}

/// A Task whose attempt was let in and runs, as the owner sees it and as the broker's role does.
async fn running(database: &Database) -> (Store, Store, Admitted) {
    let url = database.empty().await;
    let owner = open(url.clone());
    owner.migrate().await.unwrap();
    let (_, server) = url.split_once('@').unwrap();
    let broker = format!("postgres://countersign_test_broker:{PASSWORD}@{server}");
    owner.grant(Role::Broker, &broker).await.unwrap();
    let (mut seen, mut key) = (None, None);
    'story: for changes in &story::signed().batches {
        seen = Some(owner.commit(story::UID, seen, changes).await.unwrap());
        for change in changes {
            match change {
                Change::Intend { key: intended, .. } => key = Some(intended.clone()),
                Change::Admit { .. } => break 'story,
                _ => {}
            }
        }
    }
    let store = open(broker);
    let admitted = store.admitted(&key.unwrap()).await.unwrap().unwrap();
    (owner, store, admitted)
}

#[tokio::test]
async fn a_token_is_taken_once_and_a_session_leads_to_its_attempt() {
    let (owner, store, attempt) = running(&Database::new().await).await;
    assert!(!attempt.over);
    assert_eq!(attempt.launch.secrets.get("price-api").map(String::as_str), Some("17"));
    assert!(store.admitted("no-such").await.unwrap().is_none());
    assert!(store.session(&[1; 32]).await.unwrap().is_none());
    let (one, other) = ([1; 32], [2; 32]);
    let (first, second) =
        tokio::join!(store.open_session(&attempt, &one, now()), store.open_session(&attempt, &other, now()));
    assert_eq!(u8::from(first.unwrap()) + u8::from(second.unwrap()), 1, "two at once: one has it");
    assert!(!store.open_session(&attempt, &[3; 32], now()).await.unwrap());
    let mut found = Vec::new();
    for secret in [one, other, [3; 32]] {
        found.extend(store.session(&secret).await.unwrap());
    }
    assert_eq!(found.iter().map(|found| found.attempt.as_str()).collect::<Vec<_>>(), [attempt.attempt.as_str()]);
    owner.close().await;
}

#[tokio::test]
async fn calls_at_once_never_cost_more_than_the_ceiling() {
    let database = Database::new().await;
    let (owner, store, attempt) = running(&database).await;
    store.open_session(&attempt, &[1; 32], now()).await.unwrap();
    let calls = (0..32).map(|_| {
        let (store, attempt) = (store.clone(), attempt.clone());
        tokio::spawn(async move { store.begin_call(&attempt, &call(30, Some(100)), now()).await.unwrap() })
    });
    let mut begun = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        begun.push(call.await.unwrap());
    }
    let mut numbers: Vec<u32> =
        begun.iter().filter_map(|b| if let Begun::Number(n) = b { Some(*n) } else { None }).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);
    let refused = begun.iter().filter(|begun| **begun == Begun::CeilingReached { cost: micros(90) }).count();
    assert_eq!(refused, 29);
    // What a call did not cost can be spent; what it cost beyond its reservation counts as well.
    store.end_call(&attempt, 1, end(5), now()).await.unwrap();
    store.end_call(&attempt, 1, end(0), now()).await.unwrap();
    assert_eq!(database.scalar(&owner, "select cost from sessions").await, 65, "the first end stands");
    assert_eq!(
        store.begin_call(&attempt, &call(36, Some(100)), now()).await.unwrap(),
        Begun::CeilingReached { cost: micros(65) }
    );
    assert_eq!(store.begin_call(&attempt, &call(35, Some(100)), now()).await.unwrap(), Begun::Number(4));
    let told = database
        .scalar(&owner, "select count(*) from log_entries where kind in ('openSession', 'beginCall', 'endCall')")
        .await;
    assert_eq!(told, 1 + 4 + 1);
    owner.close().await;
}

#[tokio::test]
async fn nothing_more_is_called_once_the_attempt_or_its_task_is_over() {
    let database = Database::new().await;
    let (owner, store, attempt) = running(&database).await;
    store.open_session(&attempt, &[1; 32], now()).await.unwrap();
    let cancel = "update tasks set ending_cause = 'Cancelled', ending_at = now()";
    database.execute(&owner, cancel).await.unwrap();
    assert!(store.session(&[1; 32]).await.unwrap().unwrap().over);
    let failed = "update tasks set ending_cause = 'StepFailed'";
    database.execute(&owner, failed).await.unwrap();
    assert!(!store.session(&[1; 32]).await.unwrap().unwrap().over, "what runs may finish");
    database.execute(&owner, "update attempts set outcome = 'TimedOut', finished_at = now()").await.unwrap();
    assert_eq!(store.begin_call(&attempt, &call(1, None), now()).await.unwrap(), Begun::Over);
    assert_eq!(database.scalar(&owner, "select count(*) from calls").await, 0);
    owner.close().await;
}

#[tokio::test]
async fn files_are_kept_by_their_content_within_a_bound() {
    let database = Database::new().await;
    let (owner, store, attempt) = running(&database).await;
    store.open_session(&attempt, &[1; 32], now()).await.unwrap();
    let kept = store.keep_file(&attempt, b"hello", 10).await.unwrap().unwrap();
    assert_eq!(store.file(kept).await.unwrap().as_deref(), Some(b"hello".as_slice()));
    assert_eq!(store.kept(&attempt).await.unwrap(), [kept].into());
    assert_eq!(store.keep_file(&attempt, b"again!", 10).await.unwrap(), None);
    assert_eq!(store.keep_file(&attempt, b"hello", 10).await.unwrap(), Some(kept), "the same content is kept once");
    assert_eq!(database.scalar(&owner, "select count(*) from files").await, 1);
    owner.close().await;
}

#[tokio::test]
async fn the_brokers_role_adds_calls_and_files_and_changes_nothing_else() {
    let database = Database::new().await;
    let (owner, store, attempt) = running(&database).await;
    assert!(store.is_migrated().await.unwrap());
    store.open_session(&attempt, &[1; 32], now()).await.unwrap();
    for statement in [
        "select * from outputs",
        "select * from approvals",
        "select * from log_payloads",
        "update tasks set name = 'x'",
        "update attempts set launch = 'null'",
        "update attempts set outcome = 'Succeeded'",
        "insert into attempts (key) values ('x')",
        "insert into approvals (name) values ('x')",
        "update sessions set secret = sha256('x')",
        "delete from sessions",
        "update calls set url = 'x'",
        "update calls set reserved = 0",
        "delete from calls",
        "update files set body = 'x'",
        "delete from files",
        "delete from kept",
        "update log_entries set kind = 'x'",
        "delete from log_pending",
        "insert into log_leaves values (0)",
    ] {
        let refused = database.execute(&store, statement).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
    owner.close().await;
}
