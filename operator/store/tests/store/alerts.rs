//! The outbox of alerts, as the broker's role empties it.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use countersign_store::{Alert, Outbox, Role, Store};

use crate::database::{Database, open};

const LEASE: Duration = Duration::from_secs(60);
/// As if so much time had passed that everything is due.
const LATER: &str = "update alerts set next_try = now() where delivered_at is null and dead_at is null";

/// So many alerts, each of a budget of its own, as the owner sees them and as the broker's role does.
async fn outbox(database: &Database, alerts: u32) -> (Store, Store) {
    let url = database.empty().await;
    let owner = open(url.clone());
    owner.migrate().await.unwrap();
    let (_, server) = url.split_once('@').unwrap();
    let broker = format!("postgres://countersign_test_alerts:test@{server}");
    // A role is of the whole server, and is made once.
    static ROLE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let one = ROLE.lock().await;
    owner.grant(Role::Broker, &broker).await.unwrap();
    drop(one);
    let insert = format!(
        r#"with b as (
               insert into budgets (scope, subject, "window", starts_at, ends_at, "limit", spent, held)
               select 'Agent', 'ns/agent-' || n, 'Day', '2026-11-21T00:00:00Z', '2026-11-22T00:00:00Z', 100, 70, 10
               from generate_series(1, {alerts}) n returning id)
           insert into alerts (at, budget, percent, "limit", spent, held)
           select '2026-11-21T10:00:00.000001Z', id, 80, 100, 70, 10 from b order by id"#
    );
    database.execute(&owner, &insert).await.unwrap();
    (owner, open(broker))
}

async fn take(store: &Store) -> Vec<Alert> {
    store.take_alerts(LEASE, 100).await.unwrap()
}

async fn one(store: &Store) -> Alert {
    let mut taken = take(store).await;
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

#[tokio::test]
async fn an_alert_tells_of_its_budget_as_it_was_then() {
    let database = Database::new().await;
    let (owner, store) = outbox(&database, 1).await;
    database.execute(&owner, "update budgets set spent = 99, held = 1").await.unwrap();
    let alert = one(&store).await;
    let Alert { id: _, at, percent, scope, subject, window, starts_at, ends_at, limit, spent, held, attempt } = alert;
    assert_eq!((scope, subject.as_str(), window, percent, attempt), (Scope::Agent, "ns/agent-1", Window::Day, 80, 1));
    assert_eq!((limit, spent, held), (Money::from_micros(100), Money::from_micros(70), Money::from_micros(10)));
    let times = [at, starts_at, ends_at.unwrap()].map(|at| at.to_string());
    assert_eq!(times, ["2026-11-21T10:00:00.000001Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"]);
    owner.close().await;
}

#[tokio::test]
async fn takers_at_once_each_have_their_own_and_none_waits() {
    let database = Database::new().await;
    let (owner, store) = outbox(&database, 64).await;
    let takers = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let batch = store.take_alerts(LEASE, 3).await.unwrap();
                assert!(batch.len() <= 3);
                if batch.is_empty() {
                    return taken;
                }
                taken.extend(batch.into_iter().map(|alert| alert.id));
            }
        })
    });
    let mut times: BTreeMap<i64, u32> = BTreeMap::new();
    for taker in takers.collect::<Vec<_>>() {
        for id in taker.await.unwrap() {
            *times.entry(id).or_default() += 1;
        }
    }
    assert_eq!((times.len(), times.values().max()), (64, Some(&1)));
    // Somebody who locks a row, as the ledger does, holds nobody up.
    database.execute(&owner, LATER).await.unwrap();
    let mut transaction = owner.pool().begin().await.unwrap();
    sqlx::query("select id from alerts order by id limit 1 for update").execute(&mut *transaction).await.unwrap();
    assert_eq!(take(&store).await.len(), 63);
    transaction.rollback().await.unwrap();
    owner.close().await;
}

#[tokio::test]
async fn who_takes_an_alert_and_goes_away_leaves_it_to_others_after_a_while() {
    let database = Database::new().await;
    let (owner, store) = outbox(&database, 1).await;
    let first = one(&store).await;
    assert_eq!(take(&store).await, []);
    let left = "select extract(epoch from next_try - now())::bigint from alerts";
    assert!((55..=60).contains(&database.scalar(&owner, left).await));
    database.execute(&owner, LATER).await.unwrap();
    let second = one(&store).await;
    assert_eq!((second.attempt, &Alert { attempt: 1, ..second.clone() }), (2, &first));
    // The first one's failure says nothing any more; that it was delivered would.
    store.alert_failed(&first, "late", Some(Duration::ZERO)).await.unwrap();
    assert_eq!(take(&store).await, []);
    store.alert_failed(&second, "no answer\0", None).await.unwrap();
    assert_eq!(store.outbox().await.unwrap(), Outbox { due: 0, dead: 1 });
    let kept = "select count(*) from alerts where last_error = 'no answer'";
    assert_eq!(database.scalar(&owner, kept).await, 1);
    store.alert_delivered(&first).await.unwrap();
    assert_eq!(store.outbox().await.unwrap(), Outbox { due: 0, dead: 0 });
    assert_eq!(database.scalar(&owner, "select count(*) from alerts where delivered_at is not null").await, 1);
    owner.close().await;
}

#[tokio::test]
async fn what_failed_waits_and_what_died_can_be_revived() {
    let database = Database::new().await;
    let (owner, store) = outbox(&database, 3).await;
    let alerts = take(&store).await;
    store.alert_delivered(&alerts[0]).await.unwrap();
    store.alert_failed(&alerts[1], "it answered 500", Some(Duration::from_secs(600))).await.unwrap();
    store.alert_failed(&alerts[2], "it answered 500", None).await.unwrap();
    assert_eq!(store.outbox().await.unwrap(), Outbox { due: 1, dead: 1 });
    database.execute(&owner, LATER).await.unwrap();
    let again = one(&store).await;
    assert_eq!((again.id, again.attempt), (alerts[1].id, 2), "neither what was delivered nor what died comes back");
    // As the README says.
    let revive = "update alerts set dead_at = null, tries = 0, next_try = now() where dead_at is not null";
    database.execute(&store, revive).await.unwrap();
    let revived = one(&store).await;
    assert_eq!((revived.id, revived.attempt), (alerts[2].id, 1));
    owner.close().await;
}

#[tokio::test]
async fn the_brokers_role_delivers_and_changes_nothing_of_what_an_alert_tells() {
    let database = Database::new().await;
    let (owner, store) = outbox(&database, 1).await;
    for statement in [
        "update alerts set percent = 50",
        "update alerts set spent = 0",
        "update alerts set told_at = now()",
        "delete from alerts",
        "insert into alerts (at, budget, percent) values (now(), 1, 50)",
        "update budgets set spent = 0",
        "select * from budgets for update",
        "delete from budgets",
        "select * from reservations",
        "select * from transfers",
        "select * from budget_decisions",
    ] {
        let refused = database.execute(&store, statement).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
    owner.close().await;
}
