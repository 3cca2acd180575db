//! Which requests ran: decided by a unique index, and kept when the record is gone.

use countersign_core::digest::Digest;
use countersign_core::record::{Change, Finished, Request, TaskOutcome};
use countersign_core::run::{Run, RunKey};
use countersign_store::{CommitError, Store};
use jiff::Timestamp;
use serde_json::json;

use crate::database::Database;

fn key(name: &str, requester: &str, content: &str) -> RunKey {
    RunKey {
        namespace_uid: "place".into(),
        name: name.into(),
        requester: requester.into(),
        content: Digest::of_bytes(content),
    }
}

fn at() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn adopt(uid: &str, run: Run) -> Change {
    Change::Adopt {
        uid: uid.into(),
        namespace: "ns".into(),
        name: "task".into(),
        spec: json!({"type": "t"}),
        request: Request::default(),
        run: Some(run),
        at: at(),
    }
}

fn finish(outcome: TaskOutcome, ran: bool) -> Change {
    Change::FinishTask { finished: Finished { outcome, reason: "R".into(), message: "m".into(), at: at() }, ran }
}

async fn prior(store: &Store, key: &RunKey) -> Option<(String, Option<TaskOutcome>)> {
    let prior = store.prior(key).await.unwrap()?;
    Some((prior.uid, prior.finished.map(|finished| finished.outcome)))
}

#[tokio::test]
async fn of_two_that_adopt_one_request_at_once_one_does() {
    let store = Database::new().await.fresh_store().await;
    let key = key("task", "dave", "a");
    let adopted = |uid: &'static str| {
        let (store, change) = (store.clone(), adopt(uid, Run::Own(key.clone())));
        async move { store.commit(uid, None, &[change]).await }
    };
    let (one, other) = tokio::join!(adopted("one"), adopted("other"));
    assert_eq!([&one, &other].iter().filter(|result| result.is_ok()).count(), 1, "{one:?} {other:?}");
    assert!([one, other].iter().any(|result| matches!(result, Err(CommitError::Conflict))));
    assert!(prior(&store, &key).await.is_some());
}

#[tokio::test]
async fn what_ran_is_kept_when_its_record_is_gone_and_what_came_to_nothing_may_run() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let key = key("task", "dave", "a");
    store.commit("one", None, &[adopt("one", Run::Own(key.clone()))]).await.unwrap();
    assert_eq!(prior(&store, &key).await, Some(("one".into(), None)), "it goes on");
    store.commit("one", Some(0), &[finish(TaskOutcome::Cancelled, false)]).await.unwrap();
    assert_eq!(prior(&store, &key).await, None, "nothing of it began");
    store.commit("two", None, &[adopt("two", Run::Own(key.clone()))]).await.unwrap();
    store.commit("two", Some(0), &[finish(TaskOutcome::Failed, true)]).await.unwrap();
    let ran = Some(("two".to_owned(), Some(TaskOutcome::Failed)));
    assert_eq!(prior(&store, &key).await, ran);
    let repeats = [adopt("three", Run::Repeats("two".into())), finish(TaskOutcome::Failed, false)];
    store.commit("three", None, &repeats).await.unwrap();
    let again = store.commit("four", None, &[adopt("four", Run::Own(key.clone()))]).await;
    assert!(matches!(again, Err(CommitError::Conflict)), "{again:?}");
    assert_eq!(prior(&store, &key).await, ran);
    // By its Task's uid a run is found whatever came of it, and what only repeats one is none.
    for (uid, outcome) in [("one", TaskOutcome::Cancelled), ("two", TaskOutcome::Failed)] {
        let run = store.run(uid).await.unwrap().unwrap();
        assert_eq!((run.uid.as_str(), run.key, run.finished.unwrap().outcome), (uid, key.clone(), outcome));
    }
    assert_eq!(store.run("three").await.unwrap(), None);
    let ties = "select count(*) from pg_constraint where conrelid = 'runs'::regclass and contype = 'f'";
    assert_eq!(database.scalar(&store, ties).await, 0, "it may outlive every record");
    // Another requester, other content and another place are other requests.
    for other in [
        RunKey { requester: "eve".into(), ..key.clone() },
        RunKey { content: Digest::of_bytes("b"), ..key.clone() },
        RunKey { namespace_uid: "made anew".into(), ..key.clone() },
        RunKey { name: "other".into(), ..key },
    ] {
        assert_eq!(prior(&store, &other).await, None);
    }
}
