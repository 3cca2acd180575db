//! One reconciliation of a Task, from beginning to end: observe, decide, record, act, report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::decide::{Evaluators, decide};
use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::observed::{Observed, TaskView};
use countersign_core::record::{Change, TaskRecord};
use countersign_crds::{ANNOTATION_RUN, TaskStatus};
use countersign_service::causes::told;
use countersign_store::{CommitError, within};
use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use tracing::Instrument;

use crate::reconciler::action::{self, Owner};
use crate::reconciler::context::Context;
use crate::reconciler::error::Error;
use crate::reconciler::events;
use crate::reconciler::observe::observe;
use crate::reconciler::report::report;
use crate::telemetry::task_span;
use crate::watch::caches::GuardedTask;
use crate::watch::index::TaskKey;
use crate::watch::views;
use countersign_service::clock;

/// How often a reconciliation may be followed by another at once; more would be a defect, and waits a second.
const LOOKS: usize = 8;
/// For how long one may take, all its requests together; one that hangs would keep its Task, and a place among those
/// that are looked at at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// Looks at the Task that the controller names, beside other looks rather than in turn with them.
pub async fn reconcile(task: Arc<GuardedTask>, context: Arc<Context>) -> Result<Action, Error> {
    tokio::spawn(look_at(task, context)).await?
}

async fn look_at(task: Arc<GuardedTask>, context: Arc<Context>) -> Result<Action, Error> {
    let readable = match &task.0 {
        Ok(task) => task,
        Err(invalid) => {
            tracing::warn!(task = %task.name_any(), namespace = ?task.meta().namespace, error = %invalid.error,
                "the Task cannot be read; it stays as it is until it is mended");
            return Ok(Action::await_change());
        }
    };
    let Some(view) = views::task(readable) else { return Ok(Action::await_change()) };
    let key = TaskKey { namespace: view.namespace.clone(), name: view.name.clone(), uid: view.uid.clone() };
    let reported = readable.status.clone();
    let span = task_span(&key.namespace, &key.name, &key.uid);
    reconcile_key(&context, &key, Some(view), reported).instrument(span).await
}

/// Looks at a Task whose object may be gone.
pub async fn reconcile_key(
    context: &Context,
    key: &TaskKey,
    task: Option<TaskView>,
    reported: Option<TaskStatus>,
) -> Result<Action, Error> {
    let timer = context.metrics.reconcile_timer();
    let result = within(PATIENCE, look_until_settled(context, key, task, reported)).await;
    timer.observe(result.as_ref().map_or_else(Error::kind, |_| "ok"));
    if result.is_ok() {
        context.failures.none(&key.uid);
    }
    result
}

async fn look_until_settled(
    context: &Context,
    key: &TaskKey,
    task: Option<TaskView>,
    reported: Option<TaskStatus>,
) -> Result<Action, Error> {
    let mut task = task;
    // The watch may be behind our own report; the next one goes on from what was reported last.
    if let (Some(task), Some(last)) = (&mut task, context.remembered.get(&key.uid).status) {
        task.conditions = last.conditions;
    }
    // What the looks before this one lacked, which is read before the next.
    let mut needed = BTreeSet::new();
    let mut looks = 0;
    while looks < LOOKS {
        let record = load(context, &key.uid).await?;
        let observed = observe(context, &key.uid, &key.namespace, task.clone(), record, &needed).await?;
        let now = clock::now();
        // Evaluating an expression can take its whole time limit; other looks go on meanwhile.
        let decision =
            tokio::task::block_in_place(|| decide(now, &context.config, &observed, &Evaluators::from(&context.judge)))?;
        let requeue = decision.requeue;
        let known = needed.len();
        needed.extend(decision.blocked.outputs_needed());
        context.remembered.lasts(&key.uid, decision.blocked.lasts(&observed.lasts, now));
        carry_out(context, key, &observed, decision, reported.as_ref()).await?;
        match requeue {
            None => return Ok(Action::await_change()),
            Some(at) if at > now => return Ok(requeue_at(now, at)),
            // A reconciliation that loads more than the one before it is no repetition of it.
            Some(_) if needed.len() > known => {}
            Some(_) => looks += 1,
        }
    }
    Ok(Action::requeue(Duration::from_secs(1)))
}

fn requeue_at(now: Timestamp, at: Timestamp) -> Action {
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
    Action::requeue(wait.max(Duration::from_millis(50)))
}

async fn load(context: &Context, uid: &str) -> Result<Option<TaskRecord>, Error> {
    let remembered = context.remembered.get(uid).record;
    let current = context.store.version(uid).await?;
    match (remembered, current) {
        (_, None) => Ok(None),
        (Some(record), Some(version)) if record.version == version => Ok(Some(record)),
        (_, Some(_)) => Ok(context.store.load(uid).await?),
    }
}

/// In this order, always: recorded first, done second, reported last.
async fn carry_out(
    context: &Context,
    key: &TaskKey,
    observed: &Observed,
    decision: ReconcileOutput,
    reported: Option<&TaskStatus>,
) -> Result<(), Error> {
    let ReconcileOutput { changes, actions, status, requeue: _, blocked, mut record } = decision;
    if !changes.is_empty() {
        let seen = observed.record.as_ref().map(|record| record.version);
        let version = commit(context, key, seen, &changes).await?;
        for change in &changes {
            context.metrics.change(change);
        }
        if let Some(record) = &mut record {
            record.version = version;
        }
    }
    let owner = Owner {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: key.uid.clone(),
        task_type: observed.task.as_ref().and_then(|task| task.spec.task_type.clone()),
    };
    let decided = record.as_ref().or(observed.record.as_ref());
    let failed = match decided {
        Some(decided) => perform_all(context, &owner, decided, &actions).await,
        // Nothing was ever recorded of it, so nothing is owed to it.
        None => None,
    };
    tell(context, observed, decided, &changes).await;
    if let Some(record) = record.filter(|_| !changes.is_empty()) {
        if record.finished.is_some() {
            context.remembered.forget_record(&key.uid);
        } else {
            context.remembered.record(record);
        }
    }
    if let Some(status) = status {
        let last = context.remembered.get(&key.uid).status;
        if last.as_ref().or(reported) != Some(&status) {
            let task = (key.namespace.as_str(), key.name.as_str(), key.uid.as_str());
            events::tell_blocked(&context.recorder, task, last.as_ref().or(reported), &blocked).await;
            let reported = report(&context.client, &key.namespace, &key.name, &status).await;
            context.metrics.action("report_status", reported.is_ok());
            reported?;
            context.remembered.status(&key.uid, status);
        } else if observed.record.as_ref().is_some_and(|record| record.finished.is_some()) && reported == Some(&status)
        {
            // It is over, and the watch shows that: nothing is left to remember.
            context.remembered.forget(&key.uid);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn commit(context: &Context, key: &TaskKey, seen: Option<i64>, changes: &[Change]) -> Result<i64, Error> {
    let timer = context.metrics.transaction_timer();
    let result = context.store.commit(&key.uid, seen, changes).await;
    timer.observe_duration();
    for change in changes {
        tracing::info!(change = change.kind(), recorded = result.is_ok(), "change");
    }
    if let Err(error @ CommitError::Refused(_)) = &result {
        tracing::error!(
            error = told(error),
            "PostgreSQL refused a change that the core decided; nothing of it was done"
        );
    }
    if result.is_err() {
        context.remembered.forget_record(&key.uid);
    }
    Ok(result?)
}

/// Events about the Approvals that changed.
async fn tell(context: &Context, observed: &Observed, record: Option<&TaskRecord>, changes: &[Change]) {
    for (name, event) in changes.iter().filter_map(|change| events::of_change(change, record)) {
        let (Some(seen), Some(record)) = (observed.approvals.get(&name), record) else { continue };
        events::tell(&context.recorder, &record.namespace, &name, seen.uid.clone(), event).await;
    }
}

/// Every action is tried, whatever became of the one before; the first failure is returned.
async fn perform_all(
    context: &Context,
    owner: &Owner,
    record: &TaskRecord,
    actions: &[ClusterAction],
) -> Option<Error> {
    let mut failed = None;
    for action in actions {
        let result = action::perform(context, owner, record, action).await;
        context.metrics.action(action.kind(), result.is_ok());
        match (action, result) {
            (ClusterAction::CreateJob { key: name, .. } | ClusterAction::CreatePlan { name, .. }, Ok(())) => {
                context.recent.made(&owner.uid, name);
            }
            (ClusterAction::Mark { .. }, Ok(())) => context.recent.made(&owner.uid, ANNOTATION_RUN),
            (ClusterAction::DeleteJob { key }, Ok(())) => context.recent.forget(&owner.uid, key),
            (_, Ok(())) => {}
            (action, Err(error)) => {
                tracing::warn!(
                    action = action.kind(),
                    error = told(&error),
                    "an action failed; the next reconciliation tries it again"
                );
                failed = failed.or(Some(error));
            }
        }
    }
    failed
}

/// How long to wait after a failure: longer where the cause is not the Task's own, and longer each time.
pub fn on_error(task: Arc<GuardedTask>, error: &Error, context: Arc<Context>) -> Action {
    let failures = task.uid().map_or(0, |uid| context.failures.one_more(&uid));
    let wait = match error {
        Error::Commit(CommitError::Conflict | CommitError::OverBudget) => jittered(Duration::from_millis(20)),
        // Not growing: everything is to go on as soon as PostgreSQL is back.
        Error::Store(_) | Error::Commit(_) => jittered(Duration::from_secs(2)),
        Error::Kubernetes(_) | Error::Action { .. } | Error::NoBroker => {
            jittered(Duration::from_secs(1 << failures.min(6)))
        }
        Error::Core(_) | Error::Panicked(_) => Duration::from_secs(60),
    };
    if !matches!(error, Error::Commit(CommitError::Conflict | CommitError::OverBudget)) {
        tracing::warn!(error = told(error), kind = error.kind(), retry_in = ?wait, "a reconciliation of a Task failed");
    }
    Action::requeue(wait)
}

/// Up to half as much again, so that Tasks that failed together do not come back together.
fn jittered(base: Duration) -> Duration {
    let nanos = Timestamp::now().subsec_nanosecond().unsigned_abs();
    base + base / 2 * (nanos / 1000 % 256) / 256
}
