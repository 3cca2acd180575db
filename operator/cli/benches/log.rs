//! What the log costs, beside the two obvious designs: rows without a log, and a hash chain whose head is locked.
//! `make bench` runs it, on a PostgreSQL that flushes every commit to its disk.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../../store/tests/store/database.rs"]
#[allow(dead_code, reason = "the store's own tests use all of it")]
mod database;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_core::event::Event;
use countersign_core::tlog::entry::{Sealed, TaskName, close};
use countersign_core::tlog::{Checkpoint, CompactRange, Line, SigningKey, TILE_WIDTH, Tile, Tiles, leaf};
use countersign_store::{LogKeys, Store, StoreOptions, Timeouts};
use jiff::Timestamp;
use plotters::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::database::Database;

const CONNECTIONS: u32 = 16;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(4);
const SIZES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

#[tokio::main]
async fn main() {
    let database = Database::new().await;
    println!("| what | measured | aim |\n|---|---|---|");
    rates(&database).await;
    let growth = growth(&database).await;
    offline();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/log-growth.svg");
    plot(path, &growth).unwrap();
    println!("\nHow proofs and sequencing grow with the log: log-growth.svg");
}

fn keys() -> LogKeys {
    LogKeys { current: SigningKey::new("countersign.test/log", [7; 32]).unwrap(), next: None }
}

fn event(n: u64) -> Event {
    // About as large as an attempt's intent.
    let replica = format!("{n:0>600}");
    Event::Lead { replica, version: "1".into(), runner_image: "i".into(), at: Timestamp::now() }
}

async fn open(database: &Database) -> Store {
    let url = database.empty().await;
    let options = StoreOptions {
        url,
        max_connections: CONNECTIONS + 2,
        acquire_timeout: Duration::from_secs(30),
        timeouts: Timeouts::default(),
    };
    let store = Store::open(&options).unwrap();
    store.migrate().await.unwrap();
    store
}

/// So many a second, each in a transaction of its own, from all connections at once.
async fn rate<F, D>(deed: D) -> f64
where
    D: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let (deed, done, start) = (Arc::new(deed), Arc::new(AtomicU64::new(0)), Instant::now());
    let writers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (deed, done) = (Arc::clone(&deed), Arc::clone(&done));
            tokio::spawn(async move {
                while start.elapsed() < ROUND {
                    deed(done.fetch_add(1, Ordering::Relaxed)).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// The three designs in turn, several times over.
async fn rates(database: &Database) {
    let store = open(database).await;
    for statement in [
        "create table plain (id bigint generated always as identity primary key, body bytea not null)",
        "create table chain (id bigint primary key, body bytea not null, hash bytea not null)",
        "create table chain_head (id bigint not null, hash bytea not null)",
        "insert into chain_head values (0, sha256(''))",
    ] {
        database.execute(&store, statement).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let sequencer = tokio::spawn({
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(500));
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                while store.sequence(&keys(), Timestamp::now(), 10_000).await.unwrap().is_some() {}
            }
        }
    });
    let (mut plain, mut chain, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let on = store.clone();
        plain.push(rate(move |n| insert(on.clone(), n)).await);
        let on = store.clone();
        chain.push(rate(move |n| link(on.clone(), n)).await);
        let on = store.clone();
        ours.push(
            rate(move |n| {
                let on = on.clone();
                async move { on.tell(None, &event(n)).await.unwrap() }
            })
            .await,
        );
    }
    stop.store(true, Ordering::Relaxed);
    sequencer.await.unwrap();
    println!("| plain rows, without a log, from {CONNECTIONS} connections | {} a second | |", spread(&plain));
    println!("| a hash chain whose head is locked | {} a second | |", spread(&chain));
    println!("| **entries of the log, sequenced meanwhile** | **{} a second** | 5,000 |", spread(&ours));
    store.close().await;
}

async fn insert(store: Store, n: u64) {
    let body = serde_json::to_vec(&event(n)).unwrap();
    sqlx::query("insert into plain (body) values ($1)").bind(body).execute(store.pool()).await.unwrap();
}

async fn link(store: Store, n: u64) {
    let body = serde_json::to_vec(&event(n)).unwrap();
    let mut transaction = store.pool().begin().await.unwrap();
    let (id, head): (i64, Vec<u8>) =
        sqlx::query_as("select id, hash from chain_head for update").fetch_one(&mut *transaction).await.unwrap();
    let hash = Sha256::new().chain_update(head).chain_update(&body).finalize().to_vec();
    sqlx::query("insert into chain (id, body, hash) values ($1, $2, $3)")
        .bind(id + 1)
        .bind(body)
        .bind(&hash)
        .execute(&mut *transaction)
        .await
        .unwrap();
    sqlx::query("update chain_head set id = $1, hash = $2")
        .bind(id + 1)
        .bind(hash)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}

fn spread(rates: &[f64]) -> String {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    format!("{:.0} ({:.0} to {:.0})", sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

/// What is drawn of it.
type Value = fn(&Grown) -> f64;

struct Grown {
    size: u64,
    /// Milliseconds.
    proof: f64,
    /// Leaves a second.
    sequencing: f64,
}

/// Logs of each size: the tree is made as the sequencer would have made it, without the entries below it.
async fn growth(database: &Database) -> Vec<Grown> {
    const ADDED: i64 = 50_000;
    let mut grown = Vec::new();
    for size in SIZES {
        let store = open(database).await;
        plant(&store, size).await;
        let mut times: Vec<f64> = Vec::new();
        for n in 0..500u64 {
            let index = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
            let start = Instant::now();
            store.inclusion_proofs(&[index], size).await.unwrap();
            times.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        let statement = format!(
            "with e as (insert into log_entries (kind, at, body) select 'lead', now(), convert_to(repeat(n::text, 60), 'UTF8')
             from generate_series(1, {ADDED}) n returning id) insert into log_pending select id from e"
        );
        database.execute(&store, &statement).await.unwrap();
        let start = Instant::now();
        while store.sequence(&keys(), Timestamp::now(), 10_000).await.unwrap().is_some() {}
        let sequencing = ADDED as f64 / start.elapsed().as_secs_f64();
        let bold = if size == 10_000_000 { "**" } else { "" };
        let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!(
            "| {bold}a proof in a log of {size}{bold} | {bold}{half:.2} ms (p99 {most:.2} ms){bold} | 5 ms at 10 million |"
        );
        println!("| {bold}sequencing onto {size}{bold} | {bold}{sequencing:.0} leaves a second{bold} | 40,000 |");
        grown.push(Grown { size, proof: half, sequencing });
        store.close().await;
    }
    grown
}

async fn plant(store: &Store, size: u64) {
    let mut tree = CompactRange::default();
    let (mut open, mut full) = (Tiles::new(), Tiles::new());
    for n in 0..size {
        tree.append(leaf(&n.to_be_bytes()), |appended| {
            let hashes = open.entry(appended.tile()).or_default();
            hashes.push(appended.hash);
            if hashes.len() == TILE_WIDTH {
                full.extend(open.remove_entry(&appended.tile()));
            }
        });
        if full.len() >= 512 {
            keep(store, std::mem::take(&mut full)).await;
        }
    }
    full.extend(open);
    keep(store, full).await;
    let key = keys().current;
    let origin = key.verifying_key().name().to_owned();
    let checkpoint = Checkpoint { origin, size, root: tree.root() };
    sqlx::query("insert into log_checkpoints (size, root, note, at) values ($1, $2, $3, now())")
        .bind(i64::try_from(size).unwrap())
        .bind(checkpoint.root.as_bytes())
        .bind(checkpoint.sign(&key))
        .execute(store.pool())
        .await
        .unwrap();
    sqlx::query("insert into log_keys (public, since) values ($1, now())")
        .bind(key.verifying_key().to_string())
        .execute(store.pool())
        .await
        .unwrap();
}

async fn keep(store: &Store, tiles: Tiles) {
    let (mut levels, mut indexes, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for (tile, of_it) in tiles {
        levels.push(i16::from(tile.level));
        indexes.push(i64::try_from(tile.index).unwrap());
        hashes.push(Tile::encode(&of_it));
    }
    sqlx::query("insert into log_tiles select * from unnest($1::smallint[], $2::bigint[], $3::bytea[])")
        .bind(levels)
        .bind(indexes)
        .bind(hashes)
        .execute(store.pool())
        .await
        .unwrap();
}

/// An export of a million entries, verified by the command itself.
fn offline() {
    const ENTRIES: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let mut out = std::io::BufWriter::new(std::fs::File::create(folder.path().join("entries.jsonl")).unwrap());
    let key = keys().current;
    let mut tree = CompactRange::default();
    let mut tiles = Tiles::new();
    let task =
        TaskName { namespace: "ns".into(), name: "task".into(), uid: "7a1c0a52-95d2-4b8e-8b0a-000000000001".into() };
    for index in 0..ENTRIES {
        let event = serde_json::to_value(event(index % 1000)).unwrap();
        let salt = index.to_be_bytes().repeat(2).try_into().unwrap();
        let Sealed { body, payload } =
            close("lead", Timestamp::UNIX_EPOCH, Some(task.clone()), &event, [salt, salt]).unwrap();
        tree.append(leaf(&body), |appended| tiles.entry(appended.tile()).or_default().push(appended.hash));
        let line = Line { index, body, payload: Some(payload), proof: None };
        std::io::Write::write_all(&mut out, (line.encode() + "\n").as_bytes()).unwrap();
    }
    std::io::Write::flush(&mut out).unwrap();
    for (tile, hashes) in tiles {
        let path = folder.path().join(tile.path(hashes.len()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, Tile::encode(&hashes)).unwrap();
    }
    let checkpoint = Checkpoint { origin: key.verifying_key().name().into(), size: ENTRIES, root: tree.root() };
    std::fs::write(folder.path().join("checkpoint"), checkpoint.sign(&key)).unwrap();
    std::fs::write(folder.path().join("log.key"), key.verifying_key().to_string()).unwrap();
    let start = Instant::now();
    let output =
        Command::new(env!("CARGO_BIN_EXE_kubectl-countersign")).arg("verify").arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!(
        "| **verifying an export of {ENTRIES} entries offline** | **{:.1} s** | 30 s |",
        start.elapsed().as_secs_f64()
    );
}

fn plot(path: &str, grown: &[Grown]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (800, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(400);
    let panels: [(_, &str, Value, f64, f64); 2] = [
        (left, "a proof, ms (aim: below 5)", |grown| grown.proof, 5.0, 6.0),
        (right, "sequencing, leaves a second (aim: above 40,000)", |grown| grown.sequencing, 40_000.0, 150_000.0),
    ];
    for (area, title, value, aim, most) in panels {
        let top = grown.iter().map(value).fold(most, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 15))
            .margin(12)
            .margin_right(40)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d((1_000f64..10_000_000f64).log_scale(), 0f64..top)?;
        chart
            .configure_mesh()
            .x_desc("entries in the log")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .draw()?;
        let points = || grown.iter().map(|grown| (grown.size as f64, value(grown)));
        chart.draw_series(LineSeries::new(points(), &BLUE))?;
        chart.draw_series(points().map(|point| Circle::new(point, 3, BLUE.filled())))?;
        chart.draw_series(LineSeries::new([(1_000f64, aim), (10_000_000f64, aim)], &RED))?;
    }
    root.present()?;
    Ok(())
}
