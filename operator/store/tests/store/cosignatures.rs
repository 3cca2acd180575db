//! What witnesses cosigned, beside the checkpoints; and the proofs that they are given.

use countersign_core::tlog::{Checkpoint, CosigningKey, SigningKey, verify_consistency};
use countersign_store::{LogKeys, Store, Witnessed};
use jiff::Timestamp;

use crate::database::Database;

fn key() -> SigningKey {
    SigningKey::new("countersign.test/log", [7; 32]).unwrap()
}

fn witness(number: u8) -> CosigningKey {
    CosigningKey::new(&format!("witness.test/{number}"), [number; 32]).unwrap()
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap()
}

/// Puts so many entries more into the log, in one checkpoint.
async fn grow(database: &Database, store: &Store, entries: usize, minute: i64) -> Checkpoint {
    database.fill(store, entries).await;
    let keys = LogKeys { current: key(), next: None };
    store.sequence(&keys, at(minute), 1_000_000).await.unwrap().unwrap().checkpoint
}

async fn cosign(store: &Store, number: u8, checkpoint: &Checkpoint) -> String {
    let line = witness(number).cosign(&checkpoint.sign(&key()), 1).unwrap();
    store.keep_cosignature(&witness(number).witness_key(), checkpoint.size, &line, at(0)).await.unwrap();
    line
}

#[tokio::test]
async fn every_checkpoint_is_proved_to_follow_from_every_one_before() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let mut checkpoints: Vec<Checkpoint> = Vec::new();
    for entries in [1, 1, 5, 248, 1, 1, 700, 65_000, 3] {
        checkpoints.push(grow(&database, &store, entries, 0).await);
    }
    let mut proofs = 0;
    for (place, new) in checkpoints.iter().enumerate() {
        for old in &checkpoints[..=place] {
            let proof = store.consistency_proof(old.size, new.size).await.unwrap();
            verify_consistency(old.size, new.size, &proof, &old.root, &new.root).unwrap();
            proofs += 1;
        }
        assert_eq!(store.consistency_proof(0, new.size).await.unwrap(), []);
    }
    assert_eq!(proofs, 45);
    let error = store.consistency_proof(checkpoints[8].size + 1, checkpoints[8].size).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("is no beginning of"), "{cause}");
}

#[tokio::test]
async fn each_witness_has_its_own_place_and_the_newest_that_enough_have_cosigned_is_found() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let [one, two] = [1, 2].map(|number| witness(number).witness_key());
    assert_eq!(store.witnessed(&one).await.unwrap(), None, "there is nothing to cosign");
    assert_eq!(store.cosigned_checkpoint(0).await.unwrap(), None);
    let [a, b, c] =
        [grow(&database, &store, 3, 1).await, grow(&database, &store, 3, 2).await, grow(&database, &store, 3, 3).await];
    let standing = |cosigned, since| {
        let waits_since = (cosigned < 9).then(|| at(since));
        Some(Witnessed { newest: 9, note: c.sign(&key()), cosigned, waits_since })
    };
    assert_eq!(store.witnessed(&one).await.unwrap(), standing(0, 1));
    let first = cosign(&store, 1, &a).await;
    let both = [cosign(&store, 1, &b).await, cosign(&store, 2, &b).await].concat();
    let third = cosign(&store, 2, &c).await;
    assert_eq!(store.witnessed(&one).await.unwrap(), standing(6, 3));
    assert_eq!(store.witnessed(&two).await.unwrap(), standing(9, 0));

    // What is served has its cosignatures, and each of them holds.
    let newest = store.checkpoint().await.unwrap().unwrap();
    assert_eq!(newest, (9, c.sign(&key()) + &third));
    assert_eq!(two.find(&newest.1).unwrap().line, third);
    assert_eq!(Checkpoint::open(&newest.1, &key().verifying_key()).unwrap(), c);
    for (witnesses, expected) in
        [(0, Some(&newest)), (1, Some(&newest)), (2, Some(&(6, b.sign(&key()) + &both))), (3, None)]
    {
        assert_eq!(store.cosigned_checkpoint(witnesses).await.unwrap().as_ref(), expected, "{witnesses}");
        let snapshot = store.snapshot(None, None, witnesses).await.unwrap();
        assert_eq!(snapshot.map(|snapshot| (snapshot.size, snapshot.checkpoint)).as_ref(), expected);
    }
    // A second one of the same witness changes nothing.
    let again = witness(1).cosign(&a.sign(&key()), 99).unwrap();
    store.keep_cosignature(&one, a.size, &again, at(9)).await.unwrap();
    let kept: String =
        sqlx::query_scalar("select line from log_cosignatures where size = 3").fetch_one(store.pool()).await.unwrap();
    assert_eq!(kept, first);
    for statement in
        ["update log_cosignatures set line = 'x'", "delete from log_cosignatures", "truncate log_cosignatures"]
    {
        let refused = database.execute(&store, statement).await.unwrap_err().to_string();
        assert!(refused.contains("append-only") || refused.contains("refused"), "{statement}: {refused}");
    }
    assert!(store.keep_cosignature(&one, 8, &again, at(9)).await.is_err(), "of no checkpoint");
}
