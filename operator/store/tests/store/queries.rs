//! What people and programs ask of the record, and pages that stay where they were.

use countersign_core::record::Change;
use countersign_store::{Cursor, StepFilter, Store, TaskFilter};
use jiff::{SignedDuration, Timestamp};

use crate::database::Database;
use crate::story::{self, Story};

/// A Task of this name whose story goes so far, adopted so many seconds into the test.
async fn tell(store: &Store, story: &Story, name: &str, seconds: i64, batches: usize) {
    let uid = format!("uid-{name}");
    let mut seen = None;
    for changes in story.batches.iter().take(batches) {
        let renamed: Vec<Change> = changes
            .iter()
            .map(|change| {
                let mut json = serde_json::to_value(change).unwrap();
                if let Change::Adopt { .. } = change {
                    json["uid"] = uid.clone().into();
                    json["name"] = name.into();
                    json["namespace"] = if name.starts_with('b') { "beta".into() } else { "alpha".into() };
                    json["at"] = at(seconds).to_string().into();
                    json["spec"] = serde_json::json!({"type": name, "agentRef": {"name": "robot"}});
                    // Each is a request of its own.
                    json.as_object_mut().unwrap().remove("run");
                }
                // Keys are unique for ever.
                if let Some(key) = json.get("key").cloned() {
                    json["key"] = format!("{name}-{}", key.as_str().unwrap()).into();
                }
                if let Some(pod) = json.get("podUid").cloned() {
                    json["podUid"] = format!("{name}-{}", pod.as_str().unwrap()).into();
                }
                serde_json::from_value(json).unwrap()
            })
            .collect();
        seen = Some(store.commit(&uid, seen, &renamed).await.unwrap());
    }
}

fn at(seconds: i64) -> Timestamp {
    "2026-11-21T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

async fn names(store: &Store, filter: TaskFilter) -> Vec<String> {
    store.tasks(&filter, None, 100).await.unwrap().into_iter().map(|task| task.name).collect()
}

#[tokio::test]
async fn tasks_are_found_by_all_that_is_asked_for() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    let named = |name: &str| story::all().into_iter().find(|story| story.name == name).unwrap();
    for (n, (name, story)) in [("a1", "signed"), ("a2", "retried"), ("b1", "rejected")].into_iter().enumerate() {
        tell(&store, &named(story), name, i64::try_from(n).unwrap(), usize::MAX).await;
    }
    let none = TaskFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(names(&store, none()).await, ["b1", "a2", "a1"], "the newest first");
    assert_eq!(names(&store, TaskFilter { namespace: text("alpha"), ..none() }).await, ["a2", "a1"]);
    assert_eq!(names(&store, TaskFilter { state: text("Executing"), ..none() }).await, ["a1"]);
    assert_eq!(names(&store, TaskFilter { state: text("Failed"), ..none() }).await, ["a2"]);
    assert_eq!(names(&store, TaskFilter { state: text("Rejected"), ..none() }).await, ["b1"]);
    assert_eq!(names(&store, TaskFilter { kind: text("b1"), ..none() }).await, ["b1"]);
    assert_eq!(names(&store, TaskFilter { agent: text("robot"), ..none() }).await.len(), 3);
    assert_eq!(names(&store, TaskFilter { agent: text("other"), ..none() }).await.len(), 0);
    assert_eq!(names(&store, TaskFilter { since: Some(at(1)), until: Some(at(2)), ..none() }).await, ["a2"]);
    let requester = store.tasks(&none(), None, 1).await.unwrap()[0].requester.clone();
    assert_eq!(names(&store, TaskFilter { requester, ..none() }).await.len(), 3);

    let steps = |filter: StepFilter| {
        let store = &store;
        async move { store.steps(&filter, None, 100).await.unwrap() }
    };
    let any = StepFilter::default;
    let alpha = steps(StepFilter { namespace: text("alpha"), ..any() }).await;
    let places: Vec<_> = alpha.iter().map(|step| (step.task.as_str(), step.name.as_str())).collect();
    assert_eq!(
        places,
        [("a2", "one"), ("a1", "one"), ("a1", "two")],
        "the newest Task first, in the order of its Plan"
    );
    assert_eq!(alpha[0].attempts, 2);
    // The same input was given twice, and came to an output once.
    let (input, output) = (alpha[1].input_digest.clone(), alpha[1].output_digest.clone());
    assert!(input.is_some() && output.is_some());
    assert_eq!(names(&store, TaskFilter { hash: input.clone(), ..none() }).await, ["a2", "a1"]);
    assert_eq!(names(&store, TaskFilter { hash: output.clone(), ..none() }).await, ["a1"]);
    assert_eq!(steps(StepFilter { hash: input, ..any() }).await.len(), 2);
    assert_eq!(steps(StepFilter { hash: output, ..any() }).await, [alpha[1].clone()]);
    assert_eq!(steps(StepFilter { state: text("Open"), ..any() }).await, [alpha[2].clone()]);
    assert_eq!(steps(StepFilter { name: text("two"), agent: text("robot"), ..any() }).await.len(), 2);
}

#[tokio::test]
async fn a_cursor_stays_where_it_was_whatever_comes() {
    let database = Database::new().await;
    let store = database.fresh_store().await;
    for n in 0..20 {
        // Some at the same instant.
        tell(&store, &story::signed(), &format!("t{n:02}"), n / 3, 1).await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    let mut page = 0;
    loop {
        let tasks = store.tasks(&TaskFilter::default(), after.as_ref(), 3).await.unwrap();
        let Some(last) = tasks.last() else { break };
        after = Some(Cursor { adopted_at: last.adopted_at, uid: last.uid.clone(), position: 0 });
        seen.extend(tasks.into_iter().map(|task| task.name));
        // Newer ones come before the first page, and change nothing.
        page += 1;
        tell(&store, &story::signed(), &format!("u{page:02}"), 100 + page, 1).await;
    }
    let mut expected: Vec<String> = (0..20).map(|n| format!("t{n:02}")).collect();
    expected.reverse();
    assert_eq!(seen, expected, "each once, in order");

    let all = store.steps(&StepFilter::default(), None, 1000).await.unwrap();
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let steps = store.steps(&StepFilter::default(), after.as_ref(), 2).await.unwrap();
        let Some(last) = steps.last() else { break };
        after = Some(Cursor { adopted_at: last.adopted_at, uid: last.task_uid.clone(), position: last.position });
        paged.extend(steps);
    }
    assert_eq!(paged, all);
}
