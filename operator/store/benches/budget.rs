//! Reservations a second by 64 clients, on one budget that all share and on 1,000, beside the naive version that reads
//! and then writes; and by how much that one overspends. `make bench` runs it, on a PostgreSQL that flushes every
//! commit.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/store/database.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod database;
#[path = "../tests/store/story.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod story;

use std::time::{Duration, Instant};

use countersign_core::budget::{BudgetDecision, Scope};
use countersign_core::money::Money;
use countersign_core::record::{Change, RecordedPlan};
use countersign_crds::BudgetVerdict;
use countersign_store::{CommitError, Differences, Store, StoreOptions, Timeouts};

use crate::database::Database;

const CLIENTS: usize = 64;
const ROUNDS: usize = 3;
const SCOPES: usize = 1_000;
/// How many reservations of one unit fit, all scopes together.
const FIT: u64 = 4_000;

#[tokio::main]
async fn main() {
    let url = Database::new().await.empty().await;
    let options = StoreOptions {
        url,
        max_connections: 70,
        acquire_timeout: Duration::from_secs(60),
        timeouts: Timeouts::default(),
    };
    let store = Store::open(&options).unwrap();
    store.migrate().await.unwrap();
    sqlx::raw_sql(
        "create table naive (scope text primary key, held bigint not null, ceiling bigint not null);
         create table naive_reservations (id bigint generated always as identity primary key, scope text, amount bigint)",
    )
    .execute(store.pool())
    .await
    .unwrap();
    println!(
        "| {CLIENTS} clients, {FIT} units fit | reservations a second | units taken | overspent |\n|---|---|---|---|"
    );
    for scopes in [1, SCOPES] {
        let (mut ours, mut naive) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            ours.push(race(&store, round, scopes).await);
            naive.push(race_naively(&store, round, scopes).await);
        }
        let place = if scopes == 1 { "one budget".to_owned() } else { format!("{scopes} budgets") };
        show(&format!("{place}: attempt, log entry, reservation"), &ours);
        show(&format!("{place}: naive, a reservation alone"), &naive);
    }
    assert_eq!(store.ledger_differences().await.unwrap(), Differences::default(), "the books are even");
}

/// So many a second, and so many units taken.
type Race = (f64, u64);

fn show(what: &str, races: &[Race]) {
    let mut rates: Vec<f64> = races.iter().map(|(rate, _)| *rate).collect();
    rates.sort_by(f64::total_cmp);
    let taken = races.iter().map(|(_, taken)| *taken).max().unwrap_or_default();
    let over = taken.saturating_sub(FIT);
    println!(
        "| {what} | {:.0} ({:.0} to {:.0}) | at most {taken} | at most {over} |",
        rates[rates.len() / 2],
        rates[0],
        rates[rates.len() - 1]
    );
}

fn decision(uid: &str, subject: String, limit: Money) -> BudgetDecision {
    let mut decision = story::decision(BudgetVerdict::Allowed);
    decision.amount = Money::from_micros(1_000_000);
    for line in &mut decision.lines {
        match line.scope {
            Scope::Task => line.subject = uid.to_owned(),
            Scope::Cluster | Scope::Namespace | Scope::Agent => {
                line.subject = subject.clone();
                (line.limit, line.cap) = (Some(limit), Some(limit));
            }
        }
    }
    decision
}

/// Every client has a Task of its own, and intends attempts until nothing fits any more.
async fn race(store: &Store, round: usize, scopes: usize) -> Race {
    let limit = Money::from_micros(FIT * 1_000_000 / scopes as u64);
    let mut versions = Vec::new();
    for client in 0..CLIENTS {
        let uid = format!("task-{scopes}-{round}-{client}");
        let own = |change| match change {
            Change::Adopt { uid: _, namespace, name: _, spec, request, run: _, at } => {
                Change::Adopt { uid: uid.clone(), namespace, name: uid.clone(), spec, request, run: None, at }
            }
            Change::SnapshotPlan { plan, at } => {
                Change::SnapshotPlan { plan: RecordedPlan { name: uid.clone(), ..plan }, at }
            }
            other => other,
        };
        let first: Vec<Change> = story::paid().batches.remove(0).into_iter().map(own).collect();
        versions.push((uid.clone(), store.commit(&uid, None, &first).await.unwrap()));
    }
    let start = Instant::now();
    let clients = versions.into_iter().enumerate().map(|(client, (uid, mut version))| {
        let store = store.clone();
        tokio::spawn(async move {
            let template = story::paid().batches[1][0].clone();
            let (mut taken, mut number, mut refused) = (0_u64, 0, 0);
            // Each begins at another scope, and gives up once a whole round of them was full.
            for scope in (client * scopes / CLIENTS..).map(|n| n % scopes) {
                let Change::Intend { step, digest, input_digest, launch, rules, at, .. } = template.clone() else {
                    break;
                };
                number += 1;
                let budget = Some(Box::new(decision(&uid, format!("ns/{scopes}-{round}-{scope}"), limit)));
                let key = format!("{uid}-{number}");
                let intend = Change::Intend {
                    step,
                    number,
                    key,
                    digest,
                    input_digest,
                    approval: None,
                    launch,
                    rules,
                    budget,
                    at,
                };
                match store.commit(&uid, Some(version), &[intend]).await {
                    Ok(next) => (version, taken, refused) = (next, taken + 1, 0),
                    Err(CommitError::OverBudget) => (number, refused) = (number - 1, refused + 1),
                    Err(error) => panic!("{error}"),
                }
                if refused >= scopes.min(16) {
                    break;
                }
            }
            (taken, start.elapsed())
        })
    });
    let mut taken = 0;
    for client in clients.collect::<Vec<_>>() {
        taken += client.await.unwrap().0;
    }
    (taken as f64 / start.elapsed().as_secs_f64(), taken)
}

/// Reads what is held, sees whether it fits, and writes: each by itself right.
async fn race_naively(store: &Store, round: usize, scopes: usize) -> Race {
    let names: Vec<String> = (0..scopes).map(|scope| format!("{scopes}-{round}-{scope}")).collect();
    let ceiling = i64::try_from(FIT).unwrap() * 1_000_000 / i64::try_from(scopes).unwrap();
    sqlx::query("insert into naive (scope, held, ceiling) select s, 0, $2 from unnest($1::text[]) as s")
        .bind(&names)
        .bind(ceiling)
        .execute(store.pool())
        .await
        .unwrap();
    let start = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let (pool, names) = (store.pool().clone(), names.clone());
        tokio::spawn(async move {
            let (mut taken, mut refused) = (0_u64, 0);
            for scope in (client * scopes / CLIENTS..).map(|n| n % scopes) {
                let name = &names[scope];
                let mut transaction = pool.begin().await.unwrap();
                let fits: bool = sqlx::query_scalar("select held + 1000000 <= ceiling from naive where scope = $1")
                    .bind(name)
                    .fetch_one(&mut *transaction)
                    .await
                    .unwrap();
                if fits {
                    for statement in [
                        "insert into naive_reservations (scope, amount) values ($1, 1000000)",
                        "update naive set held = held + 1000000 where scope = $1",
                    ] {
                        sqlx::query(statement).bind(name).execute(&mut *transaction).await.unwrap();
                    }
                    (taken, refused) = (taken + 1, 0);
                } else {
                    refused += 1;
                }
                transaction.commit().await.unwrap();
                if refused >= scopes.min(16) {
                    break;
                }
            }
            taken
        })
    });
    let mut taken = 0;
    for client in clients.collect::<Vec<_>>() {
        taken += client.await.unwrap();
    }
    (taken as f64 / start.elapsed().as_secs_f64(), taken)
}
