//! The record in a real PostgreSQL, before a real witness on loopback.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use countersign_core::tlog::{CosigningKey, SigningKey};
use countersign_store::LogKeys;
use countersign_witness::metrics::Metrics;
use countersign_witness::witness::Witness;

use super::super::TURN;
use super::*;
use crate::database::Database;
use crate::silence::Silence;

fn log_key() -> SigningKey {
    SigningKey::new("countersign.test/log", [7; 32]).unwrap()
}

/// Puts so many entries more into a log, in one checkpoint.
async fn grow(database: &Database, store: &Store, entries: usize, text: &str) {
    let statement = format!(
        "with e as (insert into log_entries (kind, at, body) select 'filler', now(), convert_to('{text}' || n, 'UTF8')
         from generate_series(1, {entries}) n returning id) insert into log_pending select id from e"
    );
    database.execute(store, &statement).await.unwrap();
    let keys = LogKeys { current: log_key(), next: None };
    store.sequence(&keys, clock::now(), 1_000_000).await.unwrap().unwrap();
}

/// A witness that keeps its state in this folder; where it is, by the key that its clients are given.
fn witness(folder: &Path, cosigns_with: u8, known_by: u8) -> settings::Witness {
    let key = |secret| CosigningKey::new("witness.test", [secret; 32]).unwrap();
    let witness = Witness::open(key(cosigns_with), folder, vec![log_key().verifying_key()], Metrics::new().unwrap());
    let router = countersign_witness::serve::router(Arc::new(witness.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(countersign_witness::serve::serve(router, listener, axum_server::Handle::new()));
    let said =
        serde_json::json!([{"url": format!("http://{address}"), "key": key(known_by).witness_key().to_string()}]);
    let source = |_: &str| Some(said.to_string());
    settings::witness::read(&countersign_service::settings::Source(&source)).unwrap().remove(0)
}

/// Shows it the newest checkpoint: what came of it, and the size that is cosigned after it.
async fn show(store: &Store, witness: &settings::Witness) -> (Result<(), Submitted>, u64) {
    let standing = store.witnessed(&witness.key).await.unwrap().unwrap();
    let ended = submit(store, TURN, &Client::new(witness), witness, &standing).await.unwrap();
    let cosigned = store.witnessed(&witness.key).await.unwrap().unwrap().cosigned;
    (ended.map_err(|failed| failed.outcome), cosigned)
}

#[tokio::test]
async fn a_witness_follows_the_log_whatever_either_of_them_has_forgotten() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let folders = [0; 3].map(|_| tempfile::tempdir().unwrap());
    let one = witness(folders[0].path(), 1, 1);
    grow(&database, &store, 300, "a").await;
    assert_eq!(show(&store, &one).await, (Ok(()), 300));
    grow(&database, &store, 1, "b").await;
    assert_eq!(show(&store, &one).await, (Ok(()), 301));
    let (_, note) = store.checkpoint().await.unwrap().unwrap();
    assert!(one.key.find(&note).is_ok(), "{note}");

    // One that has begun from nothing since, under the same key.
    grow(&database, &store, 400, "c").await;
    let forgetful = settings::Witness { url: witness(folders[1].path(), 1, 1).url, ..one.clone() };
    assert_eq!(show(&store, &forgetful).await, (Ok(()), 701));
    // And back to the first, which is behind what is on record.
    grow(&database, &store, 5, "d").await;
    assert_eq!(show(&store, &one).await, (Ok(()), 706));
    // Its answer was lost: it has cosigned what is not on record.
    sqlx::raw_sql("alter table log_cosignatures disable trigger user; delete from log_cosignatures where size = 706")
        .execute(store.pool())
        .await
        .unwrap();
    assert_eq!(show(&store, &one).await, (Ok(()), 706));

    // Who answers with another key than the one that is known.
    let impostor = witness(folders[2].path(), 3, 2);
    assert_eq!(show(&store, &impostor).await, (Err(Submitted::Forged), 0));
}

#[tokio::test]
async fn a_log_that_was_put_back_or_forked_is_told_so() {
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let one = witness(folder.path(), 1, 1);
    let store = database.fresh_store().await;
    grow(&database, &store, 20, "a").await;
    grow(&database, &store, 20, "b").await;
    assert_eq!(show(&store, &one).await, (Ok(()), 40));

    // From a backup: shorter, then as long, then longer, with other entries.
    let restored = database.fresh_store().await;
    grow(&database, &restored, 20, "a").await;
    assert_eq!(show(&restored, &one).await, (Err(Submitted::Ahead), 0));
    grow(&database, &restored, 20, "x").await;
    assert_eq!(show(&restored, &one).await, (Err(Submitted::SplitView), 0));
    grow(&database, &restored, 20, "y").await;
    assert_eq!(show(&restored, &one).await, (Err(Submitted::Refused), 0));
    // The one that it knows goes on.
    grow(&database, &store, 20, "c").await;
    assert_eq!(show(&store, &one).await, (Ok(()), 60));
}

#[test]
fn a_size_that_is_told_is_begun_with_once_and_what_it_shows_is_named() {
    for (old, told, newest, began, expected) in [
        (5, 3, 9, 5, None),
        (0, 9, 9, 0, None),
        (5, 0, 9, 5, None),
        (5, 10, 9, 5, Some(Submitted::Ahead)),
        (9, 9, 9, 5, Some(Submitted::SplitView)),
        (5, 5, 9, 5, Some(Submitted::Refused)),
        (3, 5, 9, 5, Some(Submitted::Refused)),
    ] {
        let found = goes_on(old, told, newest, began).err().map(|failed| failed.outcome);
        assert_eq!(found, expected, "{old} {told} {newest} {began}");
    }
}

#[test]
fn a_witness_that_fails_is_left_alone_longer_each_time() {
    let seconds: Vec<u64> = [0, 1, 2, 3, 6, 7, 8, 4_000_000_000].map(|n| pause(n).as_secs()).to_vec();
    assert_eq!(seconds, [0, 1, 2, 4, 32, 60, 60, 60]);
}

#[tokio::test]
async fn a_server_that_answers_nothing_more_is_given_up() {
    let database = Database::new().await;
    let url = database.empty().await;
    let store = crate::database::open(url.clone());
    store.migrate().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let one = witness(folder.path(), 1, 1);
    let patience = Duration::from_secs(1);
    // From nothing, and from what it cosigned before.
    for (size, text) in [(10, "a"), (20, "b")] {
        grow(&database, &store, 10, text).await;
        let way = Silence::before(&url).await;
        let through = crate::database::open(way.url.clone());
        let standing = through.witnessed(&one.key).await.unwrap().unwrap();
        let client = Client::new(&one);
        way.falls();
        let submitted = submit(&through, patience, &client, &one, &standing);
        // Sooner than a pool gives up to connect.
        let ended = tokio::time::timeout(4 * patience, submitted).await.expect(text);
        assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{text}");
        assert_eq!(show(&store, &one).await, (Ok(()), size), "{text}");
    }
}
