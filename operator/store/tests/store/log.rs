//! The log in a real PostgreSQL: one order, one tree, and nobody who can change it without the sequencer noticing.

use std::error::Error;

use countersign_core::event::Selection;
use countersign_core::tlog::{Checkpoint, SigningKey, entry, leaf, verify_inclusion};
use countersign_store::{LogKeys, Store};
use jiff::Timestamp;

use crate::database::Database;
use crate::story;

fn key() -> SigningKey {
    numbered(7)
}

fn numbered(secret: u8) -> SigningKey {
    SigningKey::new("countersign.test/log", [secret; 32]).unwrap()
}

fn keys() -> LogKeys {
    LogKeys { current: key(), next: None }
}

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

/// A Task's changes, committed; returns how many there were.
async fn tell(store: &Store) -> usize {
    let story = story::signed();
    let mut seen = None;
    for changes in &story.batches {
        seen = Some(store.commit(story::UID, seen, changes).await.unwrap());
    }
    story.batches.iter().map(Vec::len).sum()
}

/// More entries than one tile holds, without Tasks.
async fn fill(database: &Database, store: &Store, entries: usize) {
    let statement = format!(
        "with e as (insert into log_entries (kind, at, body) select 'filler', now(), convert_to(n::text, 'UTF8')
         from generate_series(1, {entries}) n returning id) insert into log_pending select id from e"
    );
    database.execute(store, &statement).await.unwrap();
}

#[tokio::test]
async fn every_change_is_an_entry_that_is_proved_to_be_in_the_tree() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let changes = tell(&store).await;
    assert_eq!(store.checkpoint().await.unwrap(), None);
    let sequenced = store.sequence(&keys(), now(), 1000).await.unwrap().unwrap();
    assert_eq!(sequenced.added, changes);
    let (size, note) = store.checkpoint().await.unwrap().unwrap();
    let checkpoint = Checkpoint::open(&note, &key().verifying_key()).unwrap();
    assert_eq!((size, &checkpoint), (changes as u64, &sequenced.checkpoint));
    let selection = Selection::Task(story::UID.to_owned());
    let mut entries = store.log_entries(&selection, 0, size, 1000).await.unwrap();
    assert_eq!(entries.len(), changes);
    store.prove(&mut entries, size).await.unwrap();
    let mut kinds = Vec::new();
    for log_entry in &entries {
        let proof = log_entry.proof.as_ref().unwrap();
        verify_inclusion(&leaf(&log_entry.body), log_entry.index, size, proof, &checkpoint.root).unwrap();
        let opened = entry::open(&log_entry.body).unwrap();
        let event = entry::open_payload(&opened, log_entry.payload.as_ref().unwrap()).unwrap();
        assert_eq!(event["kind"], opened.kind.as_str());
        kinds.push(opened.kind);
    }
    assert_eq!(kinds.first().map(String::as_str), Some("adopt"));
    assert_eq!(store.sequence(&keys(), now(), 1000).await.unwrap(), None, "nothing is left to do");
}

#[tokio::test]
async fn the_tree_grows_over_many_runs_and_every_checkpoint_is_of_it() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    fill(&database, &store, 70_000).await;
    let mut sizes = Vec::new();
    while let Some(sequenced) = store.sequence(&keys(), now(), 9_999).await.unwrap() {
        sizes.push(sequenced.checkpoint.size);
    }
    assert_eq!(sizes, [9_999, 19_998, 29_997, 39_996, 49_995, 59_994, 69_993, 70_000]);
    let (size, note) = store.checkpoint().await.unwrap().unwrap();
    let checkpoint = Checkpoint::open(&note, &key().verifying_key()).unwrap();
    for index in [0, 255, 256, 65_535, 65_536, 69_999] {
        let entries = store.log_entries(&Selection::All, index, size, 1).await.unwrap();
        let proofs = store.inclusion_proofs(&[index], size).await.unwrap();
        verify_inclusion(&leaf(&entries[0].body), index, size, &proofs[0], &checkpoint.root).unwrap();
    }
}

#[tokio::test]
async fn of_two_sequencers_one_works_and_nothing_is_sequenced_twice() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    fill(&database, &store, 2_000).await;
    let run = || async {
        let mut added = 0;
        while database.scalar(&store, "select count(*) from log_pending").await > 0 {
            added += store.sequence(&keys(), now(), 100).await.unwrap().map_or(0, |sequenced| sequenced.added);
        }
        added
    };
    let (one, other) = tokio::join!(run(), run());
    assert_eq!(one + other, 2_000);
    assert_eq!(database.scalar(&store, "select count(*) from log_leaves").await, 2_000);
    assert_eq!(store.checkpoint().await.unwrap().unwrap().0, 2_000);
}

#[tokio::test]
async fn what_a_superuser_alters_is_never_signed() {
    let database = Database::new().await;
    for alteration in [
        "update log_checkpoints set root = sha256('x')",
        "update log_checkpoints set note = replace(note, 'log', 'fog')",
        "update log_tiles set hashes = sha256('x') || substring(hashes from 33) where level = 0 and index = 1",
        "delete from log_tiles where level = 1",
        "delete from log_checkpoints",
    ] {
        let store = database.fresh_store().await;
        fill(&database, &store, 300).await;
        store.sequence(&keys(), now(), 1000).await.unwrap().unwrap();
        fill(&database, &store, 1).await;
        let refused = database.execute(&store, alteration).await.unwrap_err().to_string();
        assert!(refused.contains("append-only") || refused.contains("only grows"), "{alteration}: {refused}");
        for table in ["log_checkpoints", "log_tiles"] {
            database.execute(&store, &format!("alter table {table} disable trigger user")).await.unwrap();
        }
        database.execute(&store, alteration).await.unwrap();
        let error = store.sequence(&keys(), now(), 1000).await.unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("the log was altered"), "{alteration}: {cause}");
    }
    let store = database.fresh_store().await;
    fill(&database, &store, 3).await;
    store.sequence(&keys(), now(), 1000).await.unwrap().unwrap();
    fill(&database, &store, 1).await;
    let other = LogKeys { current: numbered(8), next: None };
    let error = store.sequence(&other, now(), 1000).await.unwrap_err();
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("the log was altered"), "another key: {cause}");
}
