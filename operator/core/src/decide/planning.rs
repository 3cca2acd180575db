//! From a Task to its Plan snapshot.

use countersign_crds::AgentReference;
use serde_json::Value;

use super::Worklist;
use super::view::View;
use crate::agent::ActingAgent;
use crate::blocked::{Blocked, BlockedReason, BlockedReasons};
use crate::plan::{self, Selection};
use crate::record::{ApplyError, Change, Finished, RecordedPlan, Request, TaskOutcome};
use crate::run::{Run, RunKey};

pub(super) fn adopt(view: &View<'_>) -> Vec<Change> {
    let Some(task) = &view.observed.task else { return Vec::new() };
    let (run, over) = match &view.observed.prior {
        None => (Run::Own(RunKey::of(&view.observed.namespace_uid, task)), None),
        Some(prior) => match &prior.finished {
            // Its own end comes first: the Task that it ran as is gone, and is being wound up.
            None => return Vec::new(),
            Some(finished) => (Run::Repeats(prior.uid.clone()), Some(prior.again(finished, view.now))),
        },
    };
    let mut spec = task.spec.clone();
    if let Some(ActingAgent { namespace, name, spec: _ }) = view.observed.agent.agent() {
        spec.agent_ref = Some(AgentReference { name: name.clone(), namespace: Some(namespace.clone()) });
    }
    let spec = serde_json::to_value(&spec).unwrap_or(Value::Null);
    let adopt = Change::Adopt {
        uid: task.uid.clone(),
        namespace: task.namespace.clone(),
        name: task.name.clone(),
        spec,
        request: Request { requester: task.spec.requester.clone(), on_behalf_of: task.on_behalf_of.clone() },
        run: Some(run),
        at: view.now,
    };
    let finish = over.map(|finished| Change::FinishTask { finished, ran: false });
    [adopt].into_iter().chain(finish).collect()
}

/// What a Task waits for that is not recorded: the end of the run that there was of its request.
pub(super) fn waits(view: &View<'_>) -> Option<Blocked> {
    let prior = view.observed.prior.as_ref().filter(|prior| prior.finished.is_none())?;
    let message = format!("the same request still runs, as the Task with uid {}, which is being ended", prior.uid);
    Some(Blocked::new(BlockedReason::EarlierRun, message))
}

/// A record in which the Task is adopted and runs this Plan, and the changes that make it so; nothing where there is no
/// Task.
///
/// # Errors
/// As of [`super::decide`].
pub(crate) fn begin(view: &View<'_>, plan: &RecordedPlan) -> Result<(Option<Worklist>, Vec<Change>), ApplyError> {
    let mut changes = adopt(view);
    // What ran before is over at once.
    if changes.len() == 1 {
        changes.push(Change::SnapshotPlan { plan: plan.clone(), at: view.now });
    }
    let mut record = None;
    for change in &changes {
        super::apply(&mut record, change)?;
    }
    Ok((record, changes))
}

pub(super) fn snapshot(view: &View<'_>, record: &Worklist, blocked: &mut BlockedReasons) -> Vec<Change> {
    let Some(task) = &view.observed.task else { return Vec::new() };
    if record.plan.is_some() || record.ending.is_some() {
        return Vec::new();
    }
    match plan::select(task, view.observed, view.evaluators.evaluator) {
        Selection::Snapshot(plan) => vec![Change::SnapshotPlan { plan: *plan, at: view.now }],
        Selection::Blocked(found) => match view.still_missing(found, record.adopted_at) {
            Ok(found) => {
                blocked.planning = Some(found);
                Vec::new()
            }
            Err(found) => refuse(view, found.reason.as_str(), found.message),
        },
        Selection::Refuse { reason, message } => refuse(view, reason, message),
    }
}

fn refuse(view: &View<'_>, reason: &str, message: String) -> Vec<Change> {
    let reason = reason.to_owned();
    let finished = Finished { outcome: TaskOutcome::Failed, reason, message, at: view.now };
    vec![Change::FinishTask { finished, ran: false }]
}
