//! From a Task to its Plan snapshot.

use countersign_crds::{ANNOTATION_RUN, AgentReference};
use serde_json::Value;

use super::Worklist;
use super::view::{GivenUp, View};
use crate::agent::ActingAgent;
use crate::blocked::{Blocked, BlockedReason, BlockedReasons};
use crate::mark::Mark;
use crate::observed::{Observed, TaskView};
use crate::plan::{self, Selection};
use crate::record::{ApplyError, Change, Finished, RecordedPlan, Request, TaskOutcome};
use crate::run::{Run, RunKey};

pub(super) fn adopt(view: &View<'_>) -> Vec<Change> {
    let Some(task) = &view.observed.task else { return Vec::new() };
    let (run, over) = match first(view, task) {
        First::Runs(key) => (Some(Run::Own(key)), None),
        First::Repeats { uid, finished } => (Some(Run::Repeats(uid)), Some(finished)),
        First::Refused(finished) => (None, Some(finished)),
        First::Waits(_) => return Vec::new(),
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
        run,
        at: view.now,
    };
    let finish = over.map(|finished| Change::FinishTask { finished, ran: false });
    [adopt].into_iter().chain(finish).collect()
}

/// What becomes of a Task that is looked at for the first time.
enum First {
    /// It is the run of its request.
    Runs(RunKey),
    /// There was a run, as the Task of that uid: it shows how that ended.
    Repeats { uid: String, finished: Finished },
    /// It carries a mark that it may not carry: it is no run, and none is known that it could show.
    Refused(Finished),
    /// Until the run that there is has ended.
    Waits(Blocked),
}

fn first(view: &View<'_>, task: &TaskView) -> First {
    match &task.mark {
        None => by_request(view, task),
        Some(mark) => by_mark(view, task, mark),
    }
}

fn by_request(view: &View<'_>, task: &TaskView) -> First {
    let Some(prior) = &view.observed.prior else {
        return First::Runs(RunKey::of(&view.observed.namespace_uid, task));
    };
    match &prior.finished {
        // Its own end comes first: the Task that it ran as is gone, and is being wound up.
        None => {
            waits_for(format!("the same request still runs, as the Task with uid {}, which is being ended", prior.uid))
        }
        Some(finished) => First::Repeats { uid: prior.uid.clone(), finished: prior.again(finished, view.now) },
    }
}

/// The mark is written when the run is recorded, so what carries one was recorded before: it never runs, whatever it
/// asks for, and also where the record has lost the run.
fn by_mark(view: &View<'_>, task: &TaskView, mark: &str) -> First {
    let Observed { namespace_uid, prior, .. } = view.observed;
    let known = mark.parse::<Mark>();
    let known = known.as_ref().map_err(Clone::clone).and_then(|mark| mark.run(namespace_uid, prior.as_ref()));
    let run = match known {
        Ok(run) => run,
        Err(error) => {
            let (reason, message) = (MARK_REFUSED.to_owned(), error.to_string());
            return First::Refused(Finished { outcome: TaskOutcome::Failed, reason, message, at: view.now });
        }
    };
    match &run.finished {
        None => waits_for(format!(
            "metadata.annotations[{ANNOTATION_RUN}] is the mark of a run that goes on, as the Task with uid {}; this one shows how it ends",
            run.uid
        )),
        Some(finished) => First::Repeats { uid: run.uid.clone(), finished: run.marked(finished, task, view.now) },
    }
}

/// Why a Task failed that may not carry its mark.
const MARK_REFUSED: &str = "MarkRefused";

fn waits_for(message: String) -> First {
    First::Waits(Blocked::new(BlockedReason::EarlierRun, message))
}

/// What a Task waits for that is not recorded: the end of the run that there is.
pub(super) fn waits(view: &View<'_>) -> Option<Blocked> {
    match first(view, view.observed.task.as_ref()?) {
        First::Waits(blocked) => Some(blocked),
        First::Runs(_) | First::Repeats { .. } | First::Refused(_) => None,
    }
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
        Selection::Blocked(found) => match view.plan_goes_on(found, record.adopted_at) {
            Ok(found) => {
                blocked.planning = Some(found);
                Vec::new()
            }
            Err(GivenUp { reason, message }) => refuse(view, reason, message),
        },
        Selection::Refuse { reason, message } => refuse(view, reason, message),
    }
}

fn refuse(view: &View<'_>, reason: &str, message: String) -> Vec<Change> {
    let reason = reason.to_owned();
    let finished = Finished { outcome: TaskOutcome::Failed, reason, message, at: view.now };
    vec![Change::FinishTask { finished, ran: false }]
}
