//! What simulations read, and that reading it changes nothing.

use std::time::Duration;

use countersign_core::budget::{LineKey, Scope, Window};
use countersign_core::money::Money;
use countersign_core::record::StepOutcome;
use countersign_core::simulate::PastTask;
use countersign_store::Store;
use serde_json::{Value, json};

use crate::database::{Database, open};
use crate::story;

/// 230 attempts of the Skill `k`, of which the last 200 take 1 to 200 seconds and cost as many millionths, the ones before
/// an hour; and others that do not count.
const ATTEMPTS: &str = r#"
insert into tasks (uid, namespace, name, version, adopted_at, spec) values ('t', 'alpha', 't', 1, now(), '{}');
insert into steps (task_uid, name, position) select 't', 's' || n, n from generate_series(1, 240) as n;
insert into attempts (key, task_uid, step, number, digest, input_digest, intended_at, launch, pod_uid, admitted_at,
                      outcome, finished_at)
    select 'a' || n, 't', 's' || n, 1, 'd', 'd', at, jsonb_build_object('skill', case when n > 232 then 'other' else 'k' end),
           'p' || n, at, case when n > 230 then 'Failed' else 'Succeeded' end,
           at + case when n <= 30 then interval '1 hour' else (n - 30) * interval '1 second' end
    from (select n, '2026-11-20T00:00:00Z'::timestamptz + n * interval '1 hour' as at from generate_series(1, 240) as n) as a;
insert into reservations (attempt, task_uid, namespace, skill, priority, verdict, amount, per_attempt, budgets, state,
                          cost, reserved_at, ended_at)
    select 'a' || n, 't', 'alpha', 'k', 'Normal', 'Allowed', 1000000, 0, '{}',
           case when n <= 130 then 'Settled' else 'Unknown' end, case when n <= 130 then n - 30 end, now(), now()
    from generate_series(31, 230) as n;
"#;

#[tokio::test]
async fn history_is_of_the_last_attempts_that_were_a_success() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    assert!(store.history(&["k".to_owned()]).await.unwrap().is_empty());
    sqlx::raw_sql(ATTEMPTS).execute(store.pool()).await.unwrap();
    let history = store.history(&["k".to_owned(), "other".to_owned(), "new".to_owned()]).await.unwrap();
    assert_eq!(history.keys().collect::<Vec<_>>(), ["k"], "what only failed, and what never ran, has none");
    let of = &history["k"];
    assert_eq!((of.runs, of.p50, of.p95), (200, Duration::from_secs(100), Duration::from_secs(190)));
    // Of those whose cost is known: 1 to 100.
    assert_eq!(of.mean_cost, Some(Money::from_micros(51)));
    assert!(store.history(&[]).await.unwrap().is_empty());
}

/// A Task of a step that ran, one that was refused, and one that waits for what the first returned.
async fn remember(store: &Store, namespace: &str, name: &str, at: &str) {
    let steps = json!([
        {"name": "one", "skill": "k", "input": {"n": "${task.parameters.n}"}},
        {"name": "two", "skill": "k", "needs": ["one"], "input": {"n": "${steps.one.output.n}"}},
        {"name": "three", "skill": "k", "needs": ["one"]},
    ]);
    let spec = json!({"plan": {"steps": steps}, "parameters": {"n": 7}, "requester": {"user": "dave"}});
    let digest = format!("sha256:{}", "0".repeat(64));
    let statements = format!(
        r#"insert into tasks (uid, namespace, name, version, adopted_at, spec, requester)
           values ('{name}', '{namespace}', '{name}', 1, '{at}', '{spec}', '{{"user": "dave"}}');
           insert into plans (task_uid, name, digest, source, parallelism, steps, parameters, stamped_at)
           values ('{name}', 'plan', '{digest}', 'inline plan', 2, '{steps}', '{{"n": 7}}', '{at}');
           insert into outputs (digest, body) values ('{digest}', '{{"n":8}}') on conflict do nothing;
           insert into steps (task_uid, name, position, outcome, reason, output_digest, output_bytes, finished_at) values
               ('{name}', 'one', 1, 'Succeeded', null, '{digest}', 7, '{at}'),
               ('{name}', 'two', 2, 'Rejected', 'PolicyDenied', null, null, '{at}'),
               ('{name}', 'three', 3, 'Open', null, null, null, null);
           insert into attempts (key, task_uid, step, number, digest, input_digest, intended_at, launch) values
               ('{name}-1', '{name}', 'one', 1, '{digest}', '{digest}', '{at}', '{{"skill": "k", "input": {{"n": 1}}}}'),
               ('{name}-2', '{name}', 'one', 2, '{digest}', '{digest}', '{at}', '{{"skill": "k", "input": {{"n": 7}}}}');
           insert into reservations (attempt, task_uid, namespace, skill, priority, verdict, amount, per_attempt, budgets,
                                     state, cost, reserved_at, ended_at)
           select '{name}-' || n, '{name}', '{namespace}', 'k', 'Normal', 'Allowed', 9, 0, '{{}}', 'Settled', n, now(), now()
           from generate_series(1, 2) as n"#
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(store.pool()).await.unwrap();
}

fn names(tasks: &[PastTask]) -> Vec<&str> {
    tasks.iter().map(|task| task.task.name.as_str()).collect()
}

#[tokio::test]
async fn the_past_is_the_last_tasks_with_what_their_steps_were_given() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    for (namespace, name, at) in [
        ("alpha", "old", "2026-11-20T00:00:00Z"),
        ("alpha", "new", "2026-11-21T00:00:00Z"),
        ("beta", "other", "2026-11-21T00:00:01Z"),
    ] {
        remember(&store, namespace, name, at).await;
    }
    let past = store.past("alpha", 200).await.unwrap();
    assert_eq!((names(&past.tasks), past.cut), (vec!["new", "old"], false), "the newest first");
    assert_eq!(names(&store.past("alpha", 1).await.unwrap().tasks), ["new"]);
    assert!(!store.past("alpha", 1).await.unwrap().cut, "no more were asked for");
    assert!(store.past("gamma", 9).await.unwrap().tasks.is_empty());
    let task = &past.tasks[0];
    assert_eq!(task.request.requester.as_ref().unwrap().user, "dave");
    assert_eq!((task.plan.parallelism, task.plan.steps.len()), (2, 3));
    let one = &task.steps["one"];
    assert_eq!((one.outcome, one.cost), (StepOutcome::Succeeded, Some(Money::from_micros(3))));
    let last = one.last.as_ref().unwrap();
    assert_eq!((last.number, Value::Object(last.input.clone().unwrap())), (2, json!({"n": 7})), "of its last attempt");
    assert_eq!(one.output.as_deref(), Some(&json!({"n": 8})), "the second's input rests on it");
    let two = &task.steps["two"];
    assert_eq!((two.outcome, two.reason.as_deref()), (StepOutcome::Rejected, Some("PolicyDenied")));
    assert!(two.last.is_none() && two.cost.is_none());
    assert_eq!(task.steps["three"].outcome, StepOutcome::Open);
}

#[tokio::test]
async fn what_is_too_much_or_erased_is_left_out() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    for n in 0..5 {
        remember(&store, "alpha", &format!("t{n}"), &format!("2026-11-2{n}T00:00:00Z")).await;
    }
    // Between two of them one whose Plan is as large as all may be together.
    let large = "update plans set steps = (select jsonb_agg(jsonb_build_object('name', 's' || n, 'skill', 'k'))
                 from generate_series(1, 4998) as n) where task_uid = 't2'";
    database.execute(&store, large).await.unwrap();
    let past = store.past("alpha", 200).await.unwrap();
    assert_eq!((names(&past.tasks), past.cut), (vec!["t4", "t3"], true));
    database.execute(&store, "update attempts set launch = 'null' where task_uid = 't4'").await.unwrap();
    let much = "update attempts set launch = jsonb_build_object('input', jsonb_build_object('n', repeat('x', 4194304)))
                where task_uid = 't3'";
    database.execute(&store, much).await.unwrap();
    let past = store.past("alpha", 2).await.unwrap();
    for task in &past.tasks {
        let last = task.steps["one"].last.as_ref().unwrap();
        assert_eq!((last.number, &last.input), (2, &None), "{}", task.task.name);
    }
}

/// Of every table: how many rows, which, and the newest transaction that wrote one.
async fn everything(store: &Store) -> Vec<(String, i64, i64, i64)> {
    let tables = "select table_name::text from information_schema.tables
                  where table_schema = 'public' and table_type = 'BASE TABLE' order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(store.pool()).await.unwrap();
    let mut found = Vec::new();
    for table in tables {
        let query = format!(
            "select count(*), coalesce(sum(hashtext(t::text)), 0)::bigint, coalesce(max(xmin::text::bigint), 0) from {table} t"
        );
        let row: (i64, i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_one(store.pool()).await.unwrap();
        found.push((table, row.0, row.1, row.2));
    }
    found
}

#[tokio::test]
async fn reading_for_a_simulation_changes_nothing_and_could_not() {
    let database = Database::new().await;
    let url = database.empty().await;
    let store = open(url.clone());
    store.migrate().await.unwrap();
    remember(&store, "alpha", "t", "2026-11-21T00:00:00Z").await;
    let before = everything(&store).await;
    assert!(before.iter().any(|(table, rows, ..)| table == "attempts" && *rows == 2));

    // Here nobody can write.
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    database.execute(&store, &format!("alter database {name} set default_transaction_read_only = on")).await.unwrap();
    let reader = open(url);
    let key = LineKey {
        scope: Scope::Namespace,
        subject: "alpha".into(),
        window: Window::Day,
        starts_at: "2026-11-21T00:00:00Z".parse().unwrap(),
    };
    for _ in 0..3 {
        reader.history(&["k".to_owned()]).await.unwrap();
        assert_eq!(reader.past("alpha", 200).await.unwrap().tasks.len(), 1);
        assert!(reader.balances(std::slice::from_ref(&key)).await.unwrap().is_empty());
    }
    assert_eq!(everything(&store).await, before, "not even the same written again");
    let [adopt, ..] = &story::signed().batches[..] else { panic!("a story begins") };
    assert!(reader.commit(story::UID, None, adopt).await.is_err(), "it could not");
    store.commit(story::UID, None, adopt).await.unwrap();
    assert_ne!(everything(&store).await, before, "and what changes is seen");
}
