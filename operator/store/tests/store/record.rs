//! The record in a real PostgreSQL: what is loaded is what the core's own `apply` says, after every commit.

use std::time::{Duration, Instant};

use countersign_core::record::{Change, TaskRecord};
use countersign_store::{CommitError, Differences, Store, StoreOptions, Timeouts};

use crate::database::Database;
use crate::story::{self, Story};

/// Commits each batch and holds what is loaded against what the core makes of it.
async fn tell(store: &Store, story: &Story) -> TaskRecord {
    let mut record: Option<TaskRecord> = None;
    for changes in &story.batches {
        let seen = record.as_ref().map(|record| record.version);
        let version = store.commit(story::UID, seen, changes).await.unwrap();
        for change in changes {
            match (&mut record, change) {
                (None, Change::Adopt { uid, namespace, name, request, at, .. }) => {
                    let adopted = TaskRecord::adopt(uid.clone(), namespace.clone(), name.clone(), request.clone(), *at);
                    record = Some(adopted);
                }
                (Some(record), change) => record.apply(change).unwrap(),
                (None, other) => panic!("{other:?} came first"),
            }
        }
        let expected = record.as_mut().unwrap();
        expected.version = version;
        let loaded = store.load(story::UID).await.unwrap().unwrap();
        assert_eq!(&loaded, expected, "after {changes:#?}");
        assert_eq!(store.version(story::UID).await.unwrap(), Some(version));
    }
    record.unwrap()
}

#[tokio::test]
async fn what_is_loaded_is_what_the_core_says() {
    let database = Database::new().await;
    for story in story::all() {
        let store = database.fresh_store().await;
        let record = tell(&store, &story).await;
        let changes: usize = story.batches.iter().map(Vec::len).sum();
        let audited = database.scalar(&store, "select count(*) from audit").await;
        // What the ledger does with a reservation is told beside them.
        let settled = database.scalar(&store, "select count(*) from reservations where state <> 'Held'").await;
        assert_eq!(audited, changes as i64 + settled, "{}: one audit row a change", story.name);
        assert_eq!(store.ledger_differences().await.unwrap(), Differences::default(), "{}", story.name);
        println!("{}: {changes} changes, finished: {:?}", story.name, record.finished.map(|f| f.outcome));
    }
}

#[tokio::test]
async fn of_two_that_saw_the_same_version_one_wins() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let story = story::signed();
    store.commit(story::UID, None, &story.batches[0]).await.unwrap();
    let again = store.commit(story::UID, None, &story.batches[0]).await;
    assert!(matches!(again, Err(CommitError::Conflict)), "{again:?}");
    let (one, other) = tokio::join!(
        store.commit(story::UID, Some(0), &story.batches[1]),
        store.commit(story::UID, Some(0), &story.batches[1]),
    );
    assert_eq!([&one, &other].iter().filter(|result| result.is_ok()).count(), 1, "{one:?} {other:?}");
    assert!([one, other].iter().any(|result| matches!(result, Err(CommitError::Conflict))));
}

#[tokio::test]
async fn what_does_not_fit_leaves_no_trace() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let story = story::signed();
    let record = tell(&store, &story).await;
    for (name, change) in story::misfits() {
        let result = store.commit(story::UID, Some(record.version), &[change]).await;
        assert!(matches!(result, Err(CommitError::Refused(_))), "{name}: {result:?}");
        assert_eq!(store.load(story::UID).await.unwrap().as_ref(), Some(&record), "{name}");
    }
}

#[tokio::test]
async fn the_record_can_only_grow() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    tell(&store, &story::signed()).await;
    for statement in [
        "update log_entries set kind = 'x'",
        "delete from log_entries",
        "truncate log_entries cascade",
        "delete from attempts",
        "truncate attempts cascade",
        "update signatures set signer = 'x'",
        "delete from signatures",
        "truncate signatures",
    ] {
        let error = database.execute(&store, statement).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn replicas_may_bring_the_schema_up_to_date_at_once() {
    let database = Database::new().await;
    let url = database.empty().await;
    let open = || Store::open(&options(&url)).unwrap();
    let (a, b, c) = (open(), open(), open());
    let (a, b, c) = tokio::join!(a.migrate(), b.migrate(), c.migrate());
    for result in [a, b, c] {
        result.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_from_a_defect() {
    let store = Store::open(&StoreOptions {
        url: "postgres://u:p@127.0.0.1:1/d".into(),
        max_connections: 1,
        acquire_timeout: Duration::from_millis(300),
        timeouts: Timeouts::default(),
    })
    .unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    assert!(error.to_string().starts_with("PostgreSQL is not available"), "{error}");
    let database = Database::new().await;
    let store = database.fresh_store().await;
    database.execute(&store, "drop table log_entries cascade").await.unwrap();
    let error = store.commit(story::UID, None, &story::signed().batches[0]).await.unwrap_err();
    assert!(matches!(&error, CommitError::Store(error) if !error.is_unavailable()), "{error:?}");
}

#[tokio::test]
async fn a_plan_of_two_thousand_steps_is_read_quickly() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let story = story::wide(2_000);
    let start = Instant::now();
    tell(&store, &story).await;
    let told = start.elapsed();
    let start = Instant::now();
    for _ in 0..10 {
        store.load(story::UID).await.unwrap().unwrap();
    }
    let load = start.elapsed() / 10;
    println!("2,000 steps: recorded in {told:?}, loaded in {load:?}");
    assert!(load < Duration::from_millis(500), "{load:?}");
}

fn options(url: &str) -> StoreOptions {
    StoreOptions {
        url: url.to_owned(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(5),
        timeouts: Timeouts::default(),
    }
}
