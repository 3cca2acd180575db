//! A client that vanished with something in its hands holds nobody for long.

use std::time::{Duration, Instant};

use countersign_store::{Store, StoreError, StoreOptions, Timeouts, within};
use sqlx::{Connection, Executor, PgConnection};

use crate::database::Database;
use crate::story;

/// Short, so that the test is; every one of them is a whole number of seconds on a cluster.
fn store(url: &str, idle: Duration, lock: Duration) -> Store {
    let timeouts = Timeouts { lock, idle_in_transaction: idle, ..Timeouts::default() };
    let options =
        StoreOptions { url: url.to_owned(), max_connections: 4, acquire_timeout: Duration::from_secs(5), timeouts };
    Store::open(&options).unwrap()
}

const BUDGETS: &str = "select 1 from budgets for update";

/// A store with a Task that was paid for, so that budgets have their rows.
async fn paid(url: &str, idle: Duration, lock: Duration) -> Store {
    let store = store(url, idle, lock);
    store.migrate().await.unwrap();
    let story = story::paid();
    let mut version = None;
    for changes in &story.batches {
        version = Some(store.commit(story::UID, version, changes).await.unwrap());
    }
    store
}

#[tokio::test]
async fn others_go_on_within_seconds_of_one_of_ours_that_vanished_with_a_lock() {
    let url = Database::new().await.empty().await;
    let store = paid(&url, Duration::from_secs(1), Duration::from_secs(30)).await;
    let mut vanished = store.pool().begin().await.unwrap();
    vanished.execute(BUDGETS).await.unwrap();
    let start = Instant::now();
    // All that the pool has left wait for the same rows.
    let waits = || async { store.pool().begin().await.unwrap().execute(BUDGETS).await };
    let (one, two, three) = tokio::join!(waits(), waits(), waits());
    for waited in [one, two, three] {
        waited.unwrap();
    }
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(500) && waited < Duration::from_secs(5), "{waited:?}");
    let error = vanished.execute("select 1").await.unwrap_err();
    assert!(StoreError::from(error).is_unavailable(), "whoever comes back tries again");
}

#[tokio::test]
async fn a_lock_of_somebody_elses_is_not_waited_for_and_what_needs_it_not_goes_on() {
    let url = Database::new().await.empty().await;
    let store = paid(&url, Duration::from_secs(10), Duration::from_millis(300)).await;
    let mut stranger = PgConnection::connect(&url).await.unwrap();
    stranger.execute("begin").await.unwrap();
    stranger.execute(BUDGETS).await.unwrap();
    let start = Instant::now();
    let waits = || async { store.pool().begin().await.unwrap().execute(BUDGETS).await.unwrap_err() };
    let (one, two, three) = tokio::join!(waits(), waits(), waits());
    for error in [one, two, three] {
        assert!(StoreError::from(error).is_unavailable(), "it is tried again");
    }
    store.ping().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn bringing_the_schema_up_to_date_takes_as_long_as_it_takes() {
    let url = Database::new().await.empty().await;
    let short = Duration::from_millis(300);
    let timeouts = Timeouts { statement: short, lock: short, idle_in_transaction: short, ..Timeouts::default() };
    let options =
        StoreOptions { url: url.clone(), max_connections: 1, acquire_timeout: Duration::from_secs(5), timeouts };
    let store = Store::open(&options).unwrap();
    store.migrate().await.unwrap();
    // Another replica is at it for longer than any statement may take: sqlx waits for its advisory lock.
    let mut other = PgConnection::connect(&url).await.unwrap();
    other.execute("begin").await.unwrap();
    other.execute("lock table _sqlx_migrations in access exclusive mode").await.unwrap();
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    tokio::time::sleep(short * 3).await;
    assert!(!migrating.is_finished(), "it waits");
    other.execute("rollback").await.unwrap();
    migrating.await.unwrap().unwrap();
    let error = store.pool().execute("select pg_sleep(2)").await.unwrap_err();
    assert!(StoreError::from(error).is_unavailable(), "others are cut off");
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_given_up_and_so_is_its_connection() {
    let url = Database::new().await.empty().await;
    let store = store(&url, Duration::from_secs(10), Duration::from_secs(10));
    let limit = Duration::from_millis(300);
    let slow = async { Ok::<_, StoreError>(store.pool().execute("select pg_sleep(20)").await?) };
    let start = Instant::now();
    let error = within(limit, slow).await.unwrap_err();
    assert!(error.is_unavailable() && format!("{error:?}").contains("did not answer in time"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    store.ping().await.unwrap();
}
