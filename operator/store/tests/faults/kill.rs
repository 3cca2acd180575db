//! PostgreSQL killed at statements of a launch and of a sequencing run, before it and after it.

use std::sync::Arc;

use countersign_core::event::{Event, Selection};
use countersign_core::record::{Change, TaskRecord};
use countersign_core::tlog::{Checkpoint, CompactRange, SigningKey, leaf};
use countersign_store::{CommitError, Differences, LogKeys, Store};
use jiff::{SignedDuration, Timestamp};

use crate::proxy::{Moment, Proxy};
use crate::sample::sample;
use crate::server::{Server, empty, open};
use crate::story;

fn key(secret: u8) -> SigningKey {
    SigningKey::new("countersign.test/log", [secret; 32]).unwrap()
}

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

/// The record after each batch of the story, as the core says; the first is none.
fn expected(batches: &[Vec<Change>]) -> Vec<Option<TaskRecord>> {
    let mut record: Option<TaskRecord> = None;
    let mut records = vec![None];
    for changes in batches {
        for change in changes {
            match (&mut record, change) {
                (None, Change::Adopt { uid, namespace, name, request, at, .. }) => {
                    record =
                        Some(TaskRecord::adopt(uid.clone(), namespace.clone(), name.clone(), request.clone(), *at));
                }
                (Some(record), change) => record.apply(change).unwrap(),
                (None, other) => panic!("{other:?} came first"),
            }
        }
        let whole = record.as_mut().unwrap();
        whole.version = i64::try_from(records.len()).unwrap() - 1;
        records.push(record.clone());
    }
    records
}

/// As the operator does: look at what is there, do what is next, whatever became of the last try.
async fn tell(store: &Store, batches: &[Vec<Change>]) {
    let mut failures = 0;
    loop {
        let seen = match store.version(story::UID).await {
            Ok(seen) => seen,
            Err(error) => {
                assert!(error.is_unavailable(), "{error}");
                failures += 1;
                assert!(failures < 200, "{error}");
                continue;
            }
        };
        let done = seen.map_or(0, |version| usize::try_from(version).unwrap() + 1);
        let Some(changes) = batches.get(done) else { return };
        match store.commit(story::UID, seen, changes).await {
            Ok(version) => assert_eq!(usize::try_from(version).unwrap(), done),
            Err(CommitError::Store(error)) if error.is_unavailable() => failures += 1,
            Err(error) => panic!("after {done} batches: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_is_recorded_once_wherever_postgresql_is_killed_before_a_statement() {
    launch(Moment::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_is_recorded_once_wherever_postgresql_is_killed_after_a_statement() {
    launch(Moment::After).await;
}

async fn launch(moment: Moment) {
    for (story, quiet) in [(story::signed(), 3), (story::paid(), 1)] {
        wherever_it_is_killed(story, quiet, moment).await;
    }
}

/// The first `quiet` batches are told in peace.
async fn wherever_it_is_killed(story: story::Story, quiet: usize, moment: Moment) {
    let batches = &story.batches;
    let records = expected(batches);
    let changes: usize = batches.iter().map(Vec::len).sum();
    let all = || batches.iter().flatten();
    let count_of = |is: fn(&&Change) -> bool| i64::try_from(all().filter(is).count()).unwrap();
    let intended = count_of(|change| matches!(change, Change::Intend { .. }));
    let priced = count_of(|change| matches!(change, Change::Intend { budget: Some(_), .. }));
    let server = Arc::new(Server::new());
    let url = server.database("launch").await;
    open(url.clone()).migrate().await.unwrap();
    let tell_once = async |statement: u32| {
        let direct = open(url.clone());
        empty(&direct).await;
        // What comes before the launch is told in peace.
        let mut seen = None;
        for changes in &batches[..quiet] {
            seen = Some(direct.commit(story::UID, seen, changes).await.unwrap());
        }
        let proxy = Proxy::new(&server, statement, moment).await;
        let store = open(url.replace(&server.port.to_string(), &proxy.port.to_string()));
        tell(&store, batches).await;
        store.close().await;
        direct.close().await;
        server.settled();
        proxy.statements()
    };
    let mut kills = 0;
    for statement in sample() {
        // Past its end nothing is killed.
        if tell_once(statement).await < statement {
            break;
        }
        kills += 1;
        let record = open(url.clone()).load(story::UID).await.unwrap();
        assert_eq!(record, records[batches.len()], "statement {statement}, {moment:?}");
        let direct = open(url.clone());
        let count = |query: &'static str| sqlx::query_scalar::<_, i64>(query).fetch_one(direct.pool());
        let settled = count("select count(*) from reservations where state <> 'Held'").await.unwrap();
        let told = i64::try_from(changes).unwrap() + settled;
        assert_eq!(count("select count(*) from log_entries").await.unwrap(), told);
        assert_eq!(count("select count(*) from log_pending").await.unwrap(), told);
        assert_eq!(count("select count(*) from attempts").await.unwrap(), intended);
        // Reserved once, settled once, whatever was tried how often.
        assert_eq!(direct.ledger_differences().await.unwrap(), Differences::default());
        let states = count("select count(*) from reservations where state in ('Settled', 'Unknown', 'Released')").await;
        assert_eq!(states.unwrap(), priced, "statement {statement}, {moment:?}");
        let filled = count("select coalesce(sum(spent + held), 0)::bigint from budgets where scope = 'Agent'").await;
        // A half for the pod that ran, two for the one that nobody knows of.
        assert_eq!(filled.unwrap(), if priced == 0 { 0 } else { 2_500_000 });
        direct.close().await;
    }
    println!("{kills} kills at statements of {}, {moment:?}", story.name);
    assert!(kills > 8, "{kills}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_goes_on_as_one_wherever_postgresql_is_killed_before_a_statement() {
    sequence(Moment::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_goes_on_as_one_wherever_postgresql_is_killed_after_a_statement() {
    sequence(Moment::After).await;
}

async fn sequence(moment: Moment) {
    const ENTRIES: u64 = 300;
    let server = Arc::new(Server::new());
    let url = server.database("sequence").await;
    open(url.clone()).migrate().await.unwrap();
    let sequence_once = async |statement: u32| {
        let direct = open(url.clone());
        empty(&direct).await;
        let mut fill = direct.pool().begin().await.unwrap();
        for n in 0..ENTRIES {
            let event =
                Event::Lead { replica: n.to_string(), version: "1".into(), runner_image: "i".into(), at: now() };
            let sealed = countersign_core::tlog::entry::close(
                "lead",
                now(),
                None,
                &serde_json::to_value(&event).unwrap(),
                [[0; 16], [1; 16]],
            )
            .unwrap();
            sqlx::query("with e as (insert into log_entries (kind, at, body) values ('lead', now(), $1) returning id) insert into log_pending select id from e")
                    .bind(sealed.body)
                    .execute(&mut *fill)
                    .await
                    .unwrap();
        }
        fill.commit().await.unwrap();
        direct.close().await;
        let proxy = Proxy::new(&server, statement, moment).await;
        let store = open(url.replace(&server.port.to_string(), &proxy.port.to_string()));
        // Another key follows on the way, and the clock goes back with every try.
        let keys = LogKeys { current: key(7), next: Some(key(8)) };
        let mut kept: Vec<(u64, String)> = Vec::new();
        let mut clock = now();
        let mut failures = 0;
        loop {
            clock -= SignedDuration::from_hours(1);
            match store.sequence(&keys, clock, 200).await {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(error) => {
                    assert!(error.is_unavailable(), "{error}");
                    failures += 1;
                    assert!(failures < 200, "{error}");
                    continue;
                }
            }
            if let Ok(Some(checkpoint)) = store.checkpoint().await {
                kept.push(checkpoint);
            }
        }
        store.close().await;
        server.settled();
        (proxy.statements(), kept)
    };
    let mut kills = 0;
    for statement in sample() {
        let (seen, mut kept) = sequence_once(statement).await;
        // Past its end nothing is killed.
        if seen < statement {
            break;
        }
        kills += 1;
        let direct = open(url.clone());
        let total = ENTRIES + 1;
        let entries = direct.log_entries(&Selection::All, 0, total, 1000).await.unwrap();
        assert_eq!(entries.len() as u64, total, "statement {statement}, {moment:?}: all, and the rotation once");
        kept.push(direct.checkpoint().await.unwrap().unwrap());
        assert_eq!(kept.last().unwrap().0, total);
        // Every checkpoint that anybody saw is of the log as it is.
        for (size, note) in &kept {
            let opened =
                [key(7), key(8)].iter().find_map(|key| Checkpoint::open(note, &key.verifying_key()).ok()).unwrap();
            let mut tree = CompactRange::default();
            entries
                .iter()
                .take(usize::try_from(*size).unwrap())
                .for_each(|entry| tree.append(leaf(&entry.body), |_| ()));
            assert_eq!(tree.root(), opened.root, "statement {statement}, {moment:?}: forked at {size}");
        }
        assert_eq!(direct.log_keys().await.unwrap(), [key(7), key(8)].map(|key| key.verifying_key().to_string()));
        direct.close().await;
    }
    println!("{kills} kills at statements of sequencing, {moment:?}");
    assert!(kills > 8, "{kills}");
}
