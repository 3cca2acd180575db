//! Payments a second by one account, how long a checkpoint waits for its anchor and what that costs, and a restart on a
//! full outbox: the real driver at its real pace, on a real chain. `make bench` runs it, on a PostgreSQL that flushes
//! every commit.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/signer/anvil.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod anvil;
#[path = "../tests/signer/bed.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod bed;
#[path = "../tests/signer/database.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod database;
#[path = "../tests/signer/knife.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod knife;
#[path = "../tests/signer/node.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod node;
#[path = "../tests/signer/postgres.rs"]
mod postgres;
#[path = "../../store/tests/store/story.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod story;
#[path = "../tests/signer/truth.rs"]
mod truth;

use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, TxKind, U64, U256, hex};
use alloy_sol_types::{SolCall, sol};
use countersign_chain::driver::Pace;
use countersign_chain::evm::{Key, SecretKey};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::anvil::{Anvil, CHAIN, GWEI, KEY, PAYER};
use crate::bed::{Bed, Terms, payments};

const PAYMENTS: usize = 1_000;
const ANCHORS: i64 = 20;
const ENTRIES: usize = 10_000;

sol! {
    function pay(bytes32 id, address to) external payable;
}

#[tokio::main]
async fn main() {
    println!("| what | figure |\n|---|---|");
    // Parts can be named; without, all are measured.
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if wanted("payments") {
        payments_a_second().await;
    }
    if wanted("anchors") {
        anchors().await;
    }
    if wanted("restart") {
        restart().await;
    }
}

async fn bed(anvil: Anvil, count: usize) -> Bed {
    let bed = Bed::on(anvil, payments(count), Terms { confirmations: 1, ..Terms::default() }).await;
    // Of signers, which connect after this.
    bed.execute(
        "do $$ begin execute format('alter database %I set synchronous_commit = on', current_database()); end $$",
    )
    .await;
    bed
}

/// Runs a signer for as long as it takes.
async fn run<T>(bed: &Bed, anchors: Option<Duration>, until: impl Future<Output = T>) -> T {
    let worker = bed.worker(bed.anvil.url.clone(), bed.record(), Pace::default(), anchors);
    let ending = CancellationToken::new();
    let watch = async {
        let found = until.await;
        ending.cancel();
        found
    };
    tokio::join!(watch, worker.run(|| bed.now(), ending.clone())).0
}

async fn wait(mut is: impl AsyncFnMut() -> bool) {
    while !is().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn payments_a_second() {
    let bed = bed(Anvil::start(&[]).await, PAYMENTS).await;
    bed.ask_all().await;
    let begun = Instant::now();
    run(&bed, None, wait(async || bed.is_over().await)).await;
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(bed.truth().await.paid, PAYMENTS);
    println!("| payments a second, one account, {PAYMENTS} at once, confirmed | {:.1} |", PAYMENTS as f64 / took);
    println!("| gas of a payment of the coin to a new account | {} |", gas(&bed, "payment").await);
}

async fn gas(bed: &Bed, kind: &str) -> u64 {
    let query = format!("select transaction from outbox where state = 'Confirmed' and {kind} is not null limit 1");
    let query = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(query));
    let transaction = query.fetch_one(bed.owner.pool()).await.unwrap();
    let receipt: Value = bed.anvil.rpc("eth_getTransactionReceipt", json!([transaction])).await;
    serde_json::from_value::<U64>(receipt["gasUsed"].clone()).unwrap().to()
}

async fn anchors() {
    let bed = bed(Anvil::start(&["--block-time", "1"]).await, 0).await;
    let mut checkpoints = Vec::new();
    let growing = async {
        while bed.scalar("select count(*) from outbox where state = 'Confirmed'").await < ANCHORS {
            bed.checkpoint().await;
            checkpoints.push((bed.scalar("select max(size) from log_checkpoints").await, bed.now()));
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    run(&bed, Some(Duration::from_secs(1)), growing).await;
    let anchored: Vec<(i64, i64)> = sqlx::query_as(
        "select a.size, (extract(epoch from o.ended_at) * 1000000)::bigint from anchors a join outbox o on o.anchor = a.id
         where o.state = 'Confirmed' order by a.size",
    )
    .fetch_all(bed.owner.pool())
    .await
    .unwrap();
    let lag = |(size, made): &(i64, Timestamp)| {
        let (_, ended) = anchored.iter().find(|(covers, _)| covers >= size)?;
        Some((ended - made.as_microsecond()) as f64 / 1e6)
    };
    let mut lags: Vec<f64> = checkpoints.iter().filter_map(lag).collect();
    lags.sort_by(f64::total_cmp);
    let at = |hundredths: usize| lags[(lags.len() * hundredths / 100).min(lags.len() - 1)];
    let count = anchored.len();
    println!("| seconds from a checkpoint to its anchor, blocks of 1 s, {count} anchors: p50 | {:.1} |", at(50));
    println!("| p99 | {:.1} |", at(99));
    let gas = gas(&bed, "anchor").await;
    println!("| gas of an anchor | {gas} |");
    for tasks in [1, 10, 100, 1_000] {
        println!("| for each Task, where it covers {tasks} | {:.1} |", gas as f64 / f64::from(tasks));
    }
}

async fn restart() {
    let bed = bed(Anvil::start(&["--no-mining", "--gas-limit", "12000000"]).await, 1).await;
    fill(&bed).await;
    let before = memory();
    let begun = Instant::now();
    let confirmed = "select count(*) from outbox where state = 'Confirmed'";
    let unread = "select count(*) from outbox where next_try < now() - interval '30 minutes'";
    let times = async {
        wait(async || bed.scalar(confirmed).await > 0).await;
        let first = begun.elapsed();
        wait(async || bed.scalar(unread).await == 0).await;
        (first, begun.elapsed())
    };
    let mined = bed.anvil.nonce().await;
    let (first, all) = run(&bed, None, times).await;
    println!(
        "| restart on {ENTRIES} that were sent, {mined} of them in a block: seconds to the first that is confirmed | {:.2} |",
        first.as_secs_f64()
    );
    println!("| until all are looked at | {:.1} |", all.as_secs_f64());
    println!("| MiB of memory, before and at most | {} and {} |", before.0, memory().1);
}

/// Now, and at most so far, in MiB.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Payments that are signed and wait for a block.
async fn fill(bed: &Bed) {
    let key = SecretKey::parse(KEY).unwrap();
    let to = Address::repeat_byte(0xc0);
    let (mut ids, mut bodies, mut transactions) = (Vec::new(), Vec::new(), Vec::new());
    for nonce in 0..u64::try_from(ENTRIES).unwrap() {
        let id = B256::from(U256::from(nonce + 1));
        let transaction = TxEip1559 {
            chain_id: CHAIN,
            nonce,
            gas_limit: 120_000,
            max_fee_per_gas: 20 * GWEI,
            max_priority_fee_per_gas: GWEI,
            to: TxKind::Call(bed.anvil.router),
            value: U256::from(1),
            access_list: Default::default(),
            input: payCall { id, to }.abi_encode().into(),
        };
        let signature = key.sign_hash(transaction.signature_hash()).await.unwrap();
        let signed = transaction.into_signed(signature);
        ids.push(id.to_string());
        bodies.push(signed.encoded_2718());
        transactions.push(signed.hash().to_string());
    }
    for some in bodies.chunks(16) {
        let sent = some.iter().map(|body| bed.anvil.rpc("eth_sendRawTransaction", json!([hex::encode_prefixed(body)])));
        join_all(sent).await;
    }
    bed.anvil.mine(1).await;
    let fill = "with terms as (
            select n, id, a.key, a.task_uid, a.step, jsonb_set(jsonb_set(jsonb_set(a.launch -> 'payment',
                '{id}', to_jsonb(id)), '{to}', to_jsonb($5)), '{amount}', '\"1\"') as terms
            from attempts a cross join unnest($1::text[]) with ordinality as u (id, n)
        ), attempt as (
            insert into attempts (key, task_uid, step, number, digest, input_digest, intended_at, launch, pod_uid, admitted_at)
            select 'many-' || n, a.task_uid, a.step, n + 1, a.digest, a.input_digest, a.intended_at,
                jsonb_set(a.launch, '{payment}', t.terms), 'many-' || n, a.admitted_at
            from terms t join attempts a on a.key = t.key returning 1
        ), payment as (
            insert into payments (id, task_uid, step, network, amount, terms, at)
            select id, task_uid, step, 'main', 1, terms, now() from terms returning 1
        )
        select (select count(*) from attempt) + (select count(*) from payment) where $2::bytea[] is not null and $3::text[] is not null and $4 <> ''";
    let outbox = "with item as (
            insert into outbox (network, payment, attempt, state, next_try)
            select 'main', id, 'many-' || n, 'Submitted', now() - interval '1 hour'
            from unnest($1::text[]) with ordinality as u (id, n) order by n returning id, payment
        ), nonce as (
            insert into nonces (account, nonce, outbox, at)
            select $4, n - 1, i.id, now()
            from unnest($1::text[]) with ordinality as u (id, n) join item i on i.payment = u.id returning 1
        )
        select count(*) from nonce where $2::bytea[] is not null and $3::text[] is not null and $5 <> ''";
    let submissions = "with kept as (
            insert into submissions (outbox, round, account, nonce, body, transaction, max_fee, tip, at)
            select o.id, 0, $4, u.n - 1, u.body, u.hash, 20000000000, 1000000000, now()
            from unnest($1::text[], $2::bytea[], $3::text[]) with ordinality as u (id, body, hash, n)
            join outbox o on o.payment = u.id order by u.n returning 1
        )
        select count(*) from kept where $5 <> ''";
    for statement in [fill, outbox, submissions] {
        sqlx::query_scalar::<_, i64>(statement)
            .bind(&ids)
            .bind(&bodies)
            .bind(&transactions)
            .bind(format!("eip155:{CHAIN}:{PAYER}"))
            .bind(to.to_checksum(None))
            .fetch_one(bed.owner.pool())
            .await
            .unwrap();
    }
    bed.execute("analyze").await;
}
