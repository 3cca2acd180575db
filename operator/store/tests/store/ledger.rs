//! The ledger under load and against the core's own: never beyond a limit, and the books balance at any instant.
//!
//! Eight ways in which budgets of gateways are known to fail, and what holds instead:
//!
//! | failure | test |
//! |---|---|
//! | a price that is not known is skipped | `an_unknown_price_denies_where_anything_is_limited_and_nowhere_else` (core) |
//! | a reservation that was not written, and the call goes on | `without_a_reservation_there_is_no_attempt` |
//! | first requests at once, each before there is a counter | `of_64_clients_that_race_for_a_fresh_budget_…` |
//! | dearer tiers are reserved too low | `an_overrun_is_recorded_and_blocks`; the broker's ceiling (its tests of money) |
//! | the worst case is reserved and never given back | `of_64_clients_…`, `the_unknown_stays_counted_until_it_is_reconciled` |
//! | a restart loses the counters | `a_restart_loses_nothing_and_a_day_later_the_day_is_fresh` |
//! | midnight, and clocks that change | `windows_cover_time_once` (core), `a_restart_loses_nothing_…` |
//! | prices that are negative or have too many places | `a_price_or_a_limit_that_is_no_amount_denies` (core), the CRDs' patterns |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_core::budget::{Balance, BudgetDecision, Closing, Ledger, LineKey, Scope};
use countersign_core::money::Money;
use countersign_core::record::{AttemptOutcome, Change, RecordedPlan};
use countersign_crds::BudgetVerdict;
use countersign_store::{Call, CallEnd, CommitError, Differences, Store, StoreOptions, Timeouts};
use jiff::{SignedDuration, Timestamp};

use crate::database::Database;
use crate::story;

/// One Task of a story's own, with one step that has a price.
struct Payer {
    uid: String,
    version: Option<i64>,
}

fn units(units: u64) -> Money {
    Money::from_micros(units * 1_000_000)
}

/// As the story's, with this Task's own line in it.
fn decision(uid: &str, amount: Money, limit: Option<Money>) -> BudgetDecision {
    let mut decision = story::decision(BudgetVerdict::Allowed);
    decision.amount = amount;
    decision.per_attempt = Money::ZERO;
    for line in &mut decision.lines {
        match line.scope {
            Scope::Task => line.subject = uid.to_owned(),
            Scope::Cluster | Scope::Namespace | Scope::Agent => (line.limit, line.cap) = (limit, limit),
        }
    }
    decision
}

impl Payer {
    async fn new(store: &Store, number: usize) -> Payer {
        let uid = format!("task-{number}");
        let first = story::paid().batches.remove(0);
        let own = |change| match change {
            Change::Adopt { uid: _, namespace, name: _, spec: _, request, run: _, at } => {
                let spec = serde_json::json!({"agentRef": {"name": "bond"}});
                Change::Adopt { uid: uid.clone(), namespace, name: uid.clone(), spec, request, run: None, at }
            }
            Change::SnapshotPlan { plan, at } => {
                Change::SnapshotPlan { plan: RecordedPlan { name: uid.clone(), ..plan }, at }
            }
            other => other,
        };
        let version = store.commit(&uid, None, &first.into_iter().map(own).collect::<Vec<_>>()).await.unwrap();
        Payer { uid, version: Some(version) }
    }

    fn key(&self, number: u32) -> String {
        format!("{}-{number}", self.uid)
    }

    async fn commit(&mut self, store: &Store, changes: &[Change]) -> Result<(), CommitError> {
        self.version = Some(store.commit(&self.uid, self.version, changes).await?);
        Ok(())
    }

    async fn reserve(&mut self, store: &Store, number: u32, decision: BudgetDecision) -> Result<(), CommitError> {
        let batches = story::paid().batches;
        let Some(Change::Intend { step, digest, input_digest, launch, rules, at, .. }) = batches[1].first().cloned()
        else {
            panic!("the story begins with an intent")
        };
        let (key, budget) = (self.key(number), Some(Box::new(decision)));
        let intend =
            Change::Intend { step, number, key, digest, input_digest, approval: None, launch, rules, budget, at };
        self.commit(store, &[intend]).await
    }

    fn admit(&self, number: u32) -> Change {
        let pod_uid = format!("pod-{}-{number}", self.uid);
        Change::Admit { step: "one".into(), number, pod_uid, at: now() }
    }

    fn finish(number: u32, outcome: AttemptOutcome) -> Change {
        Change::FinishAttempt {
            step: "one".into(),
            number,
            outcome,
            message: None,
            output: None,
            retry_at: None,
            evidence: None,
            workspace: None,
            at: now(),
        }
    }
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn store_of(url: &str, connections: u32) -> Store {
    let options = StoreOptions {
        url: url.to_owned(),
        max_connections: connections,
        acquire_timeout: std::time::Duration::from_secs(60),
        timeouts: Timeouts::default(),
    };
    Store::open(&options).unwrap()
}

async fn agents_day(store: &Store) -> Balance {
    let key = decision("", units(1), None).lines[0].key();
    store.balances(&[key]).await.unwrap().into_values().next().unwrap_or_default()
}

/// None of them has a row before; and while they race the books are looked at, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_clients_that_race_for_a_fresh_budget_exactly_as_many_get_it_as_fit() {
    let url = Database::new().await.empty().await;
    let store = store_of(&url, 32);
    store.migrate().await.unwrap();
    const CLIENTS: usize = 64;
    const EACH: u32 = 4;
    let limit = units(100);
    let mut payers = Vec::new();
    for number in 0..CLIENTS {
        payers.push(Payer::new(&store, number).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let auditor = tokio::spawn({
        let (store, over) = (store_of(&url, 1), Arc::clone(&over));
        async move {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(store.ledger_differences().await.unwrap(), Differences::default());
                let Balance { spent, held } = agents_day(&store).await;
                assert!(spent.saturating_add(held) <= limit, "{spent} and {held}");
                looks += 1;
            }
            looks
        }
    });
    let clients = payers.into_iter().map(|mut payer| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut got, mut refused) = (0, 0);
            for number in 1..=EACH {
                let decision = decision(&payer.uid, units(1), Some(limit));
                match payer.reserve(&store, number, decision).await {
                    Ok(()) => {
                        got += 1;
                        // Some cost all of it, some a half: what is given back is there for others.
                        let over = [payer.admit(number), Payer::finish(number, AttemptOutcome::Succeeded)];
                        if number % 2 == 0 {
                            payer.commit(&store, &over).await.unwrap();
                        } else {
                            payer.commit(&store, &[Payer::finish(number, AttemptOutcome::NotStarted)]).await.unwrap();
                        }
                    }
                    Err(CommitError::OverBudget) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (got, refused)
        })
    });
    let (mut got, mut refused) = (0, 0);
    for client in clients.collect::<Vec<_>>() {
        let (more, less) = client.await.unwrap();
        got += more;
        refused += less;
    }
    // Those that hold on to it: every one of them asks for one unit of what is left.
    let mut last = Vec::new();
    for number in CLIENTS..CLIENTS + 128 {
        last.push(Payer::new(&store, number).await);
    }
    let holders = last.into_iter().map(|mut payer| {
        let store = store.clone();
        tokio::spawn(async move {
            let decision = decision(&payer.uid, units(1), Some(limit));
            match payer.reserve(&store, 1, decision).await {
                Ok(()) => true,
                Err(CommitError::OverBudget) => false,
                Err(error) => panic!("{error}"),
            }
        })
    });
    let mut holding = 0;
    for holder in holders.collect::<Vec<_>>() {
        holding += u64::from(holder.await.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    let looks = auditor.await.unwrap();
    println!(
        "{got} reserved and ended, {refused} refused meanwhile; then {holding} of 128 hold; {looks} audits, all even"
    );
    assert!(looks > 10, "{looks}");
    let balance = agents_day(&store).await;
    assert_eq!(balance, Balance { spent: Money::ZERO, held: units(holding) });
    assert_eq!(units(holding), limit, "exactly as many as fit");
    assert_eq!(store.ledger_differences().await.unwrap(), Differences::default());
}

/// Random lives of attempts, in PostgreSQL and in the core's own ledger: after each the balances are the same.
#[tokio::test]
async fn the_store_and_the_core_keep_the_same_books() {
    let store = Database::new().await.fresh_store().await;
    let mut model = Ledger::default();
    let mut payers = Vec::new();
    for number in 0..6 {
        payers.push((Payer::new(&store, number).await, 0_u32, false));
    }
    // A small generator of its own, so that a failure can be repeated.
    let mut state = 20_261_121_u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut reserved, mut refused) = (0, 0);
    for _ in 0..300 {
        let which = usize::try_from(draw(6)).unwrap();
        let (payer, number, launched) = &mut payers[which];
        let open = *number > 0 && model.holds(&payer.key(*number));
        if !open {
            let amount = Money::from_micros(1 + draw(3_000_000));
            let mut decision = decision(&payer.uid, amount, Some(units(45)));
            decision.per_attempt = Money::from_micros(amount.micros() / (1 + draw(3)));
            let key = payer.key(*number + 1);
            let expected = model.clone().reserve(&key, &decision).is_ok();
            let done = payer.reserve(&store, *number + 1, decision.clone()).await;
            assert_eq!(done.is_ok(), expected, "{done:?}");
            if expected {
                model.reserve(&key, &decision).unwrap();
                (*number, *launched) = (*number + 1, false);
                reserved += 1;
            } else {
                refused += 1;
            }
        } else if !*launched && draw(3) > 0 {
            payer.commit(&store, &[payer.admit(*number)]).await.unwrap();
            *launched = true;
        } else {
            let outcome = if draw(5) == 0 { AttemptOutcome::Cancelled } else { AttemptOutcome::Succeeded };
            let outcome = if *launched { outcome } else { AttemptOutcome::Voided };
            payer.commit(&store, &[Payer::finish(*number, outcome)]).await.unwrap();
            let query = "select cost from reservations where attempt = $1";
            let cost: i64 = sqlx::query_scalar(query).bind(payer.key(*number)).fetch_one(store.pool()).await.unwrap();
            let closing = match *launched {
                true => Closing::Settle(Money::from_micros(u64::try_from(cost).unwrap())),
                false => Closing::Release,
            };
            assert_eq!(*launched, cost > 0);
            model.close(&payer.key(*number), closing).unwrap();
        }
        let keys: Vec<LineKey> = model.balances.keys().cloned().collect();
        let kept: BTreeMap<LineKey, Balance> = store.balances(&keys).await.unwrap();
        assert_eq!(kept, model.balances);
    }
    println!("{reserved} reserved, {refused} refused");
    assert!(reserved > 30 && refused > 10, "{reserved} {refused}");
    assert_eq!(store.ledger_differences().await.unwrap(), Differences::default());
}

/// A price that turns out higher than it was said to be is recorded, and nothing more fits after it.
#[tokio::test]
async fn an_overrun_is_recorded_and_blocks() {
    let store = Database::new().await.fresh_store().await;
    let mut payer = Payer::new(&store, 0).await;
    payer.reserve(&store, 1, decision("task-0", units(2), Some(units(3)))).await.unwrap();
    payer.commit(&store, &[payer.admit(1)]).await.unwrap();
    let of = store.admitted(&payer.key(1)).await.unwrap().unwrap();
    store.open_session(&of, &[1; 32], now()).await.unwrap();
    let call = Call { method: "POST", url: "https://a/", reserved: units(2), ceiling: Some(units(2)) };
    store.begin_call(&of, &call, now()).await.unwrap();
    // A language model that reports more tokens than it was asked for.
    let end = CallEnd { outcome: "answered", status: Some(200), address: None, sent: 1, received: 1, cost: units(5) };
    store.end_call(&of, 1, end, now()).await.unwrap();
    payer.commit(&store, &[Payer::finish(1, AttemptOutcome::Succeeded)]).await.unwrap();
    assert_eq!(agents_day(&store).await, Balance { spent: units(5), held: Money::ZERO });
    let overrun: i64 = sqlx::query_scalar("select amount from transfers where kind = 'Overrun'")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(overrun, 3_000_000);
    assert_eq!(store.ledger_differences().await.unwrap(), Differences::default());
    let more = payer.reserve(&store, 2, decision("task-0", units(1), Some(units(3)))).await;
    assert!(matches!(more, Err(CommitError::OverBudget)), "{more:?}");
    let alerts: Vec<i16> =
        sqlx::query_scalar("select percent from alerts order by percent").fetch_all(store.pool()).await.unwrap();
    assert_eq!(alerts, [50, 80, 100], "each once");
}

/// What nobody knows the end of stays counted; it is settled once a call cannot come back any more.
#[tokio::test]
async fn the_unknown_stays_counted_until_it_is_reconciled() {
    let store = Database::new().await.fresh_store().await;
    let mut payer = Payer::new(&store, 0).await;
    payer.reserve(&store, 1, decision("task-0", units(4), Some(units(5)))).await.unwrap();
    payer.commit(&store, &[payer.admit(1)]).await.unwrap();
    let of = store.admitted(&payer.key(1)).await.unwrap().unwrap();
    store.open_session(&of, &[1; 32], now()).await.unwrap();
    let call = Call { method: "POST", url: "https://a/", reserved: units(3), ceiling: Some(units(4)) };
    store.begin_call(&of, &call, now()).await.unwrap();
    // Its pod says that it is done while a call of it has not come back.
    payer.commit(&store, &[Payer::finish(1, AttemptOutcome::Succeeded)]).await.unwrap();
    assert_eq!(agents_day(&store).await.held, units(4), "all of it stays counted");
    let begun = store.begin_call(&of, &call, now()).await.unwrap();
    assert_eq!(begun, countersign_store::Begun::Over, "nothing more begins");
    let unsettled = store.unsettled(10).await.unwrap();
    assert_eq!(unsettled.iter().map(|one| one.attempt.as_str()).collect::<Vec<_>>(), ["task-0-1"]);
    // The call is of just now as PostgreSQL's clock goes, so it may come back.
    sqlx::query("update calls set begun_at = now()").execute(store.pool()).await.unwrap();
    assert!(!store.reconcile(&unsettled[0], now()).await.unwrap());
    sqlx::query("update calls set begun_at = now() - interval '1 hour'").execute(store.pool()).await.unwrap();
    assert!(store.reconcile(&unsettled[0], now()).await.unwrap());
    assert!(!store.reconcile(&unsettled[0], now()).await.unwrap(), "once");
    assert_eq!(agents_day(&store).await, Balance { spent: units(3), held: Money::ZERO }, "at its most");
    assert_eq!(store.ledger_differences().await.unwrap(), Differences::default());
    assert_eq!(store.unsettled(10).await.unwrap(), []);
}

/// A reservation that cannot be written leaves no attempt either.
#[tokio::test]
async fn without_a_reservation_there_is_no_attempt() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let mut payer = Payer::new(&store, 0).await;
    for table in ["transfers", "reservations", "budget_decisions"] {
        database.execute(&store, &format!("alter table {table} rename to away")).await.unwrap();
        let done = payer.reserve(&store, 1, decision("task-0", units(1), None)).await;
        assert!(matches!(done, Err(CommitError::Store(_))), "{table}: {done:?}");
        database.execute(&store, &format!("alter table away rename to {table}")).await.unwrap();
        assert_eq!(database.scalar(&store, "select count(*) from attempts").await, 0, "{table}");
    }
    payer.reserve(&store, 1, decision("task-0", units(1), None)).await.unwrap();
}

/// Counters are nowhere but in PostgreSQL: another process, on another day, sees them as they are.
#[tokio::test]
async fn a_restart_loses_nothing_and_a_day_later_the_day_is_fresh() {
    let url = Database::new().await.empty().await;
    let store = store_of(&url, 2);
    store.migrate().await.unwrap();
    let mut payer = Payer::new(&store, 0).await;
    payer.reserve(&store, 1, decision("task-0", units(3), Some(units(3)))).await.unwrap();
    store.close().await;
    let store = store_of(&url, 2);
    assert_eq!(agents_day(&store).await.held, units(3));
    let mut other = Payer::new(&store, 1).await;
    let today = other.reserve(&store, 1, decision("task-1", units(1), Some(units(3)))).await;
    assert!(matches!(today, Err(CommitError::OverBudget)), "{today:?}");
    let mut tomorrow = decision("task-1", units(1), Some(units(3)));
    tomorrow.lines[0].starts_at += SignedDuration::from_hours(24);
    other.reserve(&store, 1, tomorrow).await.unwrap();
    // What is settled after midnight is of the day that it was reserved on.
    payer.commit(&store, &[Payer::finish(1, AttemptOutcome::Voided)]).await.unwrap();
    assert_eq!(agents_day(&store).await, Balance::default());
    assert_eq!(store.ledger_differences().await.unwrap(), Differences::default());
}
