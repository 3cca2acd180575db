//! What was spent, decided and given as a reason, added up; and what the dashboard asks of PostgreSQL.

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use countersign_crds::{BudgetVerdict, Priority};
use countersign_store::{
    BudgetCursor, BudgetFilter, Decisions, DecisionsCursor, LedgerSummary, OpenWindows, Period, ReasonCursor,
    ReservationState, Spend, SpendBy, SpendCursor, Store,
};

use crate::database::Database;

const BOOKS: &str = include_str!("ledger.sql");

async fn books(database: &Database) -> Store {
    let store = database.fresh_store().await;
    sqlx::raw_sql(BOOKS).execute(store.pool()).await.unwrap();
    store
}

fn micros(amount: u64) -> Money {
    Money::from_micros(amount)
}

fn days(since: &str, until: &str) -> Period {
    let day = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    Period { namespace: None, since: day(since), until: day(until) }
}

/// Every page, of one row each, and all at once: the same rows in the same order.
async fn spent(store: &Store, by: SpendBy, period: &Period) -> Vec<(String, u64, i64, i64)> {
    let all = store.spend(by, period, None, 100).await.unwrap();
    let (mut pages, mut after) = (Vec::new(), None);
    while let [row] = store.spend(by, period, after.as_ref(), 1).await.unwrap().as_slice() {
        after = Some(SpendCursor { spent: row.spent, key: row.key.clone() });
        pages.push(row.clone());
        assert!(pages.len() <= all.len(), "{pages:?}");
    }
    assert_eq!(pages, all);
    all.into_iter().map(|Spend { key, spent, attempts, overruns }| (key, spent.micros(), attempts, overruns)).collect()
}

fn rows(rows: &[(&str, u64, i64, i64)]) -> Vec<(String, u64, i64, i64)> {
    rows.iter().map(|(key, spent, attempts, overruns)| ((*key).to_owned(), *spent, *attempts, *overruns)).collect()
}

#[tokio::test]
async fn spending_is_added_up_by_day_agent_skill_and_namespace() {
    let store = books(&Database::new().await).await;
    let ever = Period::default();
    assert_eq!(
        spent(&store, SpendBy::Day, &ever).await,
        rows(&[("2026-11-21", 31, 3, 1), ("2026-11-20", 40, 1, 0)]),
        "the newest first, and what was released is no spending"
    );
    assert_eq!(
        spent(&store, SpendBy::Agent, &ever).await,
        rows(&[("alpha/robot", 64, 2, 1), ("beta/robot", 5, 1, 0), ("alpha/", 2, 1, 0)])
    );
    assert_eq!(spent(&store, SpendBy::Skill, &ever).await, rows(&[("image", 64, 2, 1), ("price", 7, 2, 0)]));
    assert_eq!(spent(&store, SpendBy::Namespace, &ever).await, rows(&[("alpha", 66, 3, 1), ("beta", 5, 1, 0)]));
    for (since, until, expected) in [
        ("2026-11-21", "", 31),
        ("", "2026-11-21", 40),
        ("2026-11-20", "2026-11-22", 71),
        ("2026-11-22", "", 0),
        ("2026-11-21", "2026-11-21", 0),
    ] {
        let sum: u64 = spent(&store, SpendBy::Day, &days(since, until)).await.iter().map(|row| row.1).sum();
        assert_eq!(sum, expected, "{since} {until}");
    }
    let beta = Period { namespace: Some("beta".into()), ..ever };
    assert_eq!(spent(&store, SpendBy::Skill, &beta).await, rows(&[("price", 5, 1, 0)]));
}

#[tokio::test]
async fn decisions_are_counted_by_kind_and_never_overflow() {
    let store = books(&Database::new().await).await;
    let all = store.decisions(&Period::default(), None, 100).await.unwrap();
    let short: Vec<_> = all
        .iter()
        .map(|Decisions { day, namespace, agent, priority, verdict, decisions, amount }| {
            let agent = agent.as_deref().unwrap_or("-");
            format!(
                "{day} {namespace} {agent} {} {} {decisions} {}",
                priority.as_str(),
                verdict.as_str(),
                amount.micros()
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            "2026-11-21 beta robot Low Rejected 2 9223372036854775807",
            "2026-11-21 alpha robot High Allowed 2 30",
            "2026-11-21 alpha - Normal Deferred 1 10",
            "2026-11-20 alpha robot High Allowed 1 50",
        ]
    );
    let (mut pages, mut after) = (Vec::new(), None);
    while let [row] = store.decisions(&Period::default(), after.as_ref(), 1).await.unwrap().as_slice() {
        let Decisions { day, namespace, agent, priority, verdict, decisions: _, amount: _ } = row.clone();
        after = Some(DecisionsCursor { day, namespace, agent, priority, verdict });
        pages.push(row.clone());
        assert!(pages.len() <= all.len(), "{pages:?}");
    }
    assert_eq!(pages, all);
    let alpha = Period { namespace: Some("alpha".into()), ..days("2026-11-21", "2026-11-22") };
    let verdicts: Vec<_> =
        store.decisions(&alpha, None, 9).await.unwrap().into_iter().map(|row| (row.priority, row.verdict)).collect();
    assert_eq!(verdicts, [(Priority::High, BudgetVerdict::Allowed), (Priority::Normal, BudgetVerdict::Deferred)]);
}

#[tokio::test]
async fn the_most_frequent_reasons_come_first() {
    let store = books(&Database::new().await).await;
    let all = store.reasons(None, None, 100).await.unwrap();
    let short: Vec<_> = all
        .iter()
        .map(|row| {
            let agent = row.agent.as_deref().unwrap_or("-");
            format!("{} {agent} {} {} {} {}", row.count, row.namespace, row.outcome, row.reason, row.last_seen)
        })
        .collect();
    assert_eq!(
        short,
        [
            "2 robot alpha Rejected OverBudget 2026-11-21T02:00:00Z",
            "1 robot beta Rejected OverBudget 2026-11-21T04:00:00Z",
            "1 robot beta Failed ExitCode 2026-11-21T05:00:00Z",
            "1 - alpha Failed ExitCode 2026-11-21T03:00:00Z",
        ],
        "what is open has not ended for a reason"
    );
    let (mut pages, mut after) = (Vec::new(), None);
    while let [row] = store.reasons(None, after.as_ref(), 1).await.unwrap().as_slice() {
        let cursor = row.clone();
        after = Some(ReasonCursor {
            count: cursor.count,
            namespace: cursor.namespace,
            agent: cursor.agent,
            outcome: cursor.outcome,
            reason: cursor.reason,
        });
        pages.push(row.clone());
        assert!(pages.len() <= all.len(), "{pages:?}");
    }
    assert_eq!(pages, all);
    assert_eq!(store.reasons(Some("alpha"), None, 100).await.unwrap().len(), 2);
}

#[tokio::test]
async fn every_window_says_what_is_left_and_of_whom_it_is() {
    let store = books(&Database::new().await).await;
    let any = BudgetFilter::default;
    let all = store.budgets(&any(), None, 100).await.unwrap();
    assert_eq!(all.len(), 8);
    let (mut pages, mut after) = (Vec::new(), None);
    while let [row] = store.budgets(&any(), after.as_ref(), 1).await.unwrap().as_slice() {
        let cursor = row.clone();
        after = Some(BudgetCursor {
            starts_at: cursor.starts_at,
            scope: cursor.scope,
            subject: cursor.subject,
            window: cursor.window,
        });
        pages.push(row.clone());
        assert!(pages.len() <= all.len(), "{pages:?}");
    }
    assert_eq!(pages, all);
    let seen = |filter: BudgetFilter| {
        let store = &store;
        async move {
            let rows = store.budgets(&filter, None, 100).await.unwrap().into_iter().map(|row| {
                let of = format!("{}/{}", row.namespace.unwrap_or_default(), row.name.unwrap_or_default());
                (row.scope, of, row.current, row.left.map(Money::micros), row.percent)
            });
            let mut rows: Vec<_> = rows.collect();
            rows.sort();
            rows
        }
    };
    let current = BudgetFilter { current: Some(true), ..any() };
    assert_eq!(
        seen(current).await,
        [
            (Scope::Cluster, "/".to_owned(), true, None, None),
            (Scope::Namespace, "alpha/".to_owned(), true, Some(19), Some(62)),
            (Scope::Agent, "alpha/robot".to_owned(), true, Some(0), Some(150)),
            (Scope::Agent, "beta/robot".to_owned(), true, Some(0), None),
            (Scope::Task, "alpha/two".to_owned(), true, Some(1), Some(66)),
            (Scope::Task, "beta/three".to_owned(), true, None, None),
        ]
    );
    let past = BudgetFilter { current: Some(false), ..any() };
    assert_eq!(
        seen(past).await,
        [
            (Scope::Namespace, "alpha/".to_owned(), false, Some(60), Some(40)),
            (Scope::Task, "alpha/one".to_owned(), false, Some(960), Some(4)),
        ]
    );
    let beta = BudgetFilter { namespace: Some("beta".into()), ..any() };
    assert_eq!(seen(beta).await.len(), 2, "neither the cluster's nor another namespace's");
    let hours = BudgetFilter { scope: Some(Scope::Agent), window: Some(Window::Hour), ..any() };
    assert_eq!(seen(hours).await.len(), 2);
}

#[tokio::test]
async fn the_books_are_summed_without_anybodys_name() {
    let database = Database::new().await;
    let empty = database.fresh_store().await;
    assert_eq!(empty.ledger_summary().await.unwrap(), LedgerSummary::default());
    let store = books(&database).await;
    let LedgerSummary { reservations, spent, windows, differences } = store.ledger_summary().await.unwrap();
    let count = |state| -> i64 { reservations.iter().filter(|(of, _)| *of == state).map(|(_, count)| count).sum() };
    assert_eq!(ReservationState::ALL.map(count), [1, 4, 1, 1]);
    let of = |priority| -> u64 { spent.iter().filter(|(of, _)| *of == priority).map(|(_, of)| of.micros()).sum() };
    assert_eq!([Priority::High, Priority::Normal, Priority::Low].map(of), [64, 2, 5]);
    let mut windows = windows;
    windows.sort_by_key(|open| (open.scope, open.window));
    let open = |scope, window, [limit, spent, held]: [u64; 3], fullest_percent| OpenWindows {
        scope,
        window,
        limit: micros(limit),
        spent: micros(spent),
        held: micros(held),
        fullest_percent,
    };
    assert_eq!(
        windows,
        [
            open(Scope::Namespace, Window::Day, [50, 26, 5], 62),
            open(Scope::Agent, Window::Hour, [20, 35, 10], 150),
            open(Scope::Task, Window::Total, [3, 2, 0], 66),
        ],
        "neither what has no limit, nor what is past, nor what is of a Task that ended"
    );
    // These books were written without a journal, and the difference shows.
    assert_eq!((differences.accounts, differences.held, differences.revenue), (0, -15, -71));
    assert_eq!((differences.budgets_held, differences.budgets_spent), (-5, -24));
}

/// As Grafana fills its macros in.
fn filled(sql: &str) -> String {
    sql.replace("$__timeFrom()", "'2026-11-01T00:00:00Z'").replace("$__timeTo()", "'2026-12-01T00:00:00Z'")
}

#[tokio::test]
async fn every_query_of_the_dashboard_runs_and_finds_something() {
    let store = books(&Database::new().await).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/dashboards/countersign-budgets.json");
    let dashboard: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let Some(sql) = target["rawSql"].as_str() else { continue };
            let sql = filled(sql);
            assert!(!sql.contains("$__"), "{sql}");
            let sql = sqlx::AssertSqlSafe(sql);
            let rows = sqlx::query(sql).fetch_all(store.pool()).await;
            let rows = rows.unwrap_or_else(|error| panic!("{}: {error}", panel["title"]));
            assert!(!rows.is_empty(), "{}", panel["title"]);
            asked += 1;
        }
    }
    assert!(asked >= 5, "{asked}");
}
