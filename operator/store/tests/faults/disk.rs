//! A disk that fills up: what was acknowledged stays, the rest says that it waits, and all goes on when there is room.

use std::time::Duration;

use countersign_core::event::{Event, Selection};
use countersign_core::tlog::SigningKey;
use countersign_store::{LogKeys, StoreError};

use crate::server::{Server, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let server = Server::on_a_disk_of(192);
    let store = open(server.database("small_disk").await);
    store.migrate().await.unwrap();
    let keys = LogKeys { current: SigningKey::new("countersign.test/log", [7; 32]).unwrap(), next: None };
    let now = "2026-11-21T00:00:00Z".parse().unwrap();
    let event =
        |n: u64| Event::Lead { replica: format!("{n:0>4000}"), version: "1".into(), runner_image: "i".into(), at: now };
    // All the room that is left, but for a little.
    let ballast = server.folder().join("ballast");
    let file = std::fs::File::create(&ballast).unwrap();
    let mut size = 0;
    while nix::fcntl::posix_fallocate(&file, 0, size + (1 << 20)).is_ok() {
        size += 1 << 20;
    }
    file.set_len(u64::try_from(size).unwrap() - (6 << 20)).unwrap();

    let mut acknowledged = Vec::new();
    let mut refused = 0;
    let mut n = 0;
    while refused < 5 {
        assert!(n < 200_000, "the disk does not fill");
        match store.tell(None, &event(n)).await {
            Ok(()) => acknowledged.push(n),
            Err(error) => {
                assert!(error.is_unavailable(), "not a defect: {error}");
                refused += 1;
            }
        }
        n += 1;
    }
    let sequenced = store.sequence(&keys, now, 100).await;
    assert!(
        matches!(&sequenced, Ok(None)) || sequenced.as_ref().is_err_and(StoreError::is_unavailable),
        "{sequenced:?}"
    );

    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    // PostgreSQL may have given itself up; whoever runs it starts it again.
    if !server.runs() {
        server.start();
    }
    let start = std::time::Instant::now();
    while let Err(error) = store.ping().await {
        assert!(start.elapsed() < Duration::from_secs(60), "{error}");
    }
    for n in n..n + 10 {
        store.tell(None, &event(n)).await.unwrap();
        acknowledged.push(n);
    }
    while store.sequence(&keys, now, 10_000).await.unwrap().is_some() {}
    let (size, _) = store.checkpoint().await.unwrap().unwrap();
    let entries = store.log_entries(&Selection::All, 0, size, i64::MAX).await.unwrap();
    let logged: std::collections::BTreeSet<u64> = entries
        .iter()
        .map(|entry| {
            let payload: serde_json::Value = serde_json::from_slice(entry.payload.as_ref().unwrap()).unwrap();
            payload["event"]["replica"].as_str().unwrap().trim_start_matches('0').parse().unwrap_or(0)
        })
        .collect();
    let lost: Vec<_> = acknowledged.iter().filter(|n| !logged.contains(n)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    println!("{} acknowledged, {} refused while the disk was full, none lost", acknowledged.len(), refused);
}
