//! How a Task comes to its end: begun, wound up, finished.

use super::Worklist;
use super::view::View;
use crate::blocked::BlockedReasons;
use crate::record::{Change, Ending, EndingCause, Finished, StepOutcome, TaskOutcome, TaskRecord};
use crate::run;

/// Whether something calls for the end now. A stronger cause replaces a failed step.
pub(super) fn begin(view: &View<'_>, record: &Worklist, _: &mut BlockedReasons) -> Vec<Change> {
    let begun = record.ending.as_ref().map(|ending| ending.cause);
    if begun.is_some_and(|cause| cause != EndingCause::StepFailed) {
        return Vec::new();
    }
    let past = |deadline: jiff::Timestamp| deadline <= view.now;
    let cause = match &view.observed.task {
        None => Some(EndingCause::Deleted),
        Some(task) if task.deleting => Some(EndingCause::Deleted),
        Some(task) if task.spec.cancel => Some(EndingCause::Cancelled),
        Some(task) if task.spec.deadline.as_ref().is_some_and(|time| past(time.0)) => {
            Some(EndingCause::DeadlineExceeded)
        }
        Some(_) => record.went_wrong().then_some(EndingCause::StepFailed),
    };
    match cause {
        Some(cause) if begun != Some(cause) => vec![Change::End { ending: Ending { cause, at: view.now } }],
        _ => Vec::new(),
    }
}

/// Once the end has begun, nothing new starts: what has no attempt under way is closed.
pub(super) fn wind_up(view: &View<'_>, record: &Worklist, _: &mut BlockedReasons) -> Vec<Change> {
    let Some(ending) = &record.ending else { return Vec::new() };
    let withdrawn = record
        .approvals
        .values()
        .filter(|approval| approval.is_open())
        .map(|approval| Change::WithdrawApproval { name: approval.name.clone(), at: view.now });
    let (reason, message) = explain(ending.cause);
    let skipped =
        record.steps.iter().filter(|(_, step)| step.is_open() && step.live_attempt().is_none()).map(|(name, step)| {
            // A step that was tried and whose Task was cancelled has failed, not been skipped.
            let tried = step.attempts.iter().any(|a| a.launched());
            Change::FinishStep {
                step: name.clone(),
                outcome: if tried { StepOutcome::Failed } else { StepOutcome::Skipped },
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                output: None,
                rules: Vec::new(),
                budget: None,
                at: view.now,
            }
        });
    withdrawn.chain(skipped).collect()
}

/// Reason and message of a step, or a Task, that ended for this cause.
pub(super) fn explain(cause: EndingCause) -> (&'static str, &'static str) {
    match cause {
        EndingCause::Cancelled => ("Cancelled", "the Task was cancelled"),
        EndingCause::DeadlineExceeded => ("DeadlineExceeded", "the Task's deadline passed"),
        EndingCause::Deleted => ("Deleted", "the Task object was deleted"),
        EndingCause::StepFailed => ("StepFailed", "another step of the Task did not succeed"),
    }
}

/// Every step is closed: the Task is over.
pub(super) fn finish(view: &View<'_>, record: &Worklist) -> Vec<Change> {
    let planned = record.plan.is_some();
    if (!planned && record.ending.is_none()) || record.is_open() {
        return Vec::new();
    }
    let (outcome, reason, message) = verdict(record);
    // A signature may be for a step that was skipped in the end.
    let unused = record.open_approvals();
    let withdraw = unused.map(|approval| Change::WithdrawApproval { name: approval.name.clone(), at: view.now });
    let finished = Finished { outcome, reason, message, at: view.now };
    withdraw.chain([Change::Finish { finished, ran: run::ran(record, outcome) }]).collect()
}

fn verdict(record: &TaskRecord) -> (TaskOutcome, String, String) {
    let called_off = record.ending.as_ref().and_then(|ending| {
        let outcome = match ending.cause {
            EndingCause::Cancelled | EndingCause::Deleted => TaskOutcome::Cancelled,
            EndingCause::DeadlineExceeded => TaskOutcome::Failed,
            EndingCause::StepFailed => return None,
        };
        let (reason, message) = explain(ending.cause);
        Some((outcome, reason.to_owned(), message.to_owned()))
    });
    if let Some(called_off) = called_off {
        return called_off;
    }
    let first = |wanted: &[StepOutcome], outcome: TaskOutcome| {
        let plan = record.plan.as_ref()?;
        let name = plan.steps.iter().map(|s| &s.name).find(|name| wanted.contains(&record.steps[*name].state))?;
        let step = &record.steps[name];
        let reason = step.reason.clone().unwrap_or_else(|| "StepFailed".to_owned());
        let message = format!("step {name}: {}", step.message.as_deref().unwrap_or("it did not succeed"));
        Some((outcome, reason, message))
    };
    first(&[StepOutcome::Rejected], TaskOutcome::Rejected)
        .or_else(|| first(&[StepOutcome::Failed, StepOutcome::Unknown], TaskOutcome::Failed))
        .unwrap_or_else(|| {
            let message = format!("{} steps done", record.steps.len());
            (TaskOutcome::Completed, "Completed".to_owned(), message)
        })
}
