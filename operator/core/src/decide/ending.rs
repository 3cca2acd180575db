//! How a Task comes to its end: begun, wound up, finished.

use countersign_crds::Step;
use jiff::Timestamp;

use super::launch::close;
use super::turn::{Turns, called_off, called_off_by_name};
use super::view::View;
use super::{Worklist, attempts, turn};
use crate::blocked::{BlockedReason, BlockedReasons};
use crate::record::{
    AttemptState, Change, Ending, EndingCause, Finished, StepOutcome, StepRecord, TaskOutcome, TaskRecord,
};
use crate::run;

/// How many steps a message names.
const NAMED: usize = 8;

/// Whether something calls for the end now. A stronger cause replaces a weaker one; where only finally steps are left,
/// nothing but the Task's deletion ends them.
pub(super) fn begin(view: &View<'_>, record: &Worklist, _: &mut BlockedReasons) -> Vec<Change> {
    let begun = record.ending.as_ref().map(|ending| ending.cause);
    let working = record.plan.is_none() || !record.turns().work_is_over;
    let cause = match &view.observed.task {
        None => Some(EndingCause::Deleted),
        Some(task) if task.deleting => Some(EndingCause::Deleted),
        Some(_) => hurry(view).filter(|_| working).or_else(|| record.went_wrong().then_some(EndingCause::StepFailed)),
    };
    match cause {
        Some(cause) if begun.is_none_or(|begun| strength(begun) < strength(cause)) => {
            vec![Change::BeginEnding { ending: Ending { cause, at: view.now } }]
        }
        _ => Vec::new(),
    }
}

/// Why the Task is to end although nothing of it went wrong.
fn hurry(view: &View<'_>) -> Option<EndingCause> {
    let spec = &view.observed.task.as_ref()?.spec;
    if spec.cancel {
        return Some(EndingCause::Cancelled);
    }
    let passed = spec.deadline.as_ref().is_some_and(|deadline| deadline.0 <= view.now);
    passed.then_some(EndingCause::DeadlineExceeded)
}

fn strength(cause: EndingCause) -> u8 {
    match cause {
        EndingCause::StepFailed => 0,
        EndingCause::Cancelled | EndingCause::DeadlineExceeded => 1,
        EndingCause::Deleted => 2,
    }
}

/// What the end calls off does not start any more: it is closed where no attempt is under way.
pub(super) fn wind_up(view: &View<'_>, record: &Worklist, _: &mut BlockedReasons) -> Vec<Change> {
    let (Some(_), Some(plan)) = (&record.ending, &record.plan) else { return Vec::new() };
    let useless = record
        .approvals
        .values()
        .filter(|approval| approval.is_open() && called_off_by_name(record, &approval.step).is_some());
    let withdrawn = useless.map(|approval| Change::WithdrawApproval { name: approval.name.clone(), at: view.now });
    let closed = plan.steps.iter().filter_map(|step| {
        let (reason, message) = explain(called_off(record, step)?);
        let state = record.steps.get(&step.name).filter(|state| state.is_open() && state.live_attempt().is_none())?;
        // A step that was tried and whose Task was cancelled has failed, not been skipped.
        let tried = state.attempts.iter().any(|a| a.launched());
        let outcome = if tried { StepOutcome::Failed } else { StepOutcome::Skipped };
        Some(close(view, step, outcome, reason, message.to_owned(), Vec::new()))
    });
    withdrawn.chain(closed).collect()
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

/// Finally steps of a Task that was cancelled, or is past its deadline, do not wait for ever: once nothing has come of
/// it for as long as a pod may take to start, those that something keeps from beginning have failed.
pub(super) fn give_up(view: &View<'_>, record: &Worklist, blocked: &mut BlockedReasons) -> Vec<Change> {
    let Some(plan) = &record.plan else { return Vec::new() };
    if patience_ends(view, record, blocked).is_none_or(|at| view.now < at) {
        return Vec::new();
    }
    let give_up = |step: &Step| {
        let why = blocked.of(&step.name).filter(|why| may_last(&why.reason))?;
        let message = format!("a finally step waits no longer than a pod may take to start: {}", why.message);
        let close = |message| vec![close(view, step, StepOutcome::Failed, "NotStarted", message, Vec::new())];
        Some(attempts::give_up(view, record, &step.name, &message).unwrap_or_else(|| close(message)))
    };
    plan.steps.iter().filter_map(give_up).flatten().collect()
}

/// When finally steps that something keeps back are given up; `None` while they may wait, or something else goes on.
pub(super) fn patience_ends(view: &View<'_>, record: &TaskRecord, blocked: &BlockedReasons) -> Option<Timestamp> {
    hurry(view)?;
    let waits = |name: &str| blocked.of(name).is_some_and(|why| may_last(&why.reason));
    let goes_on = record.steps.iter().any(|(name, step)| step.live_attempt().is_some() && !waits(name));
    let waits = blocked.steps.keys().any(|name| waits(name));
    (Turns::of(record).work_is_over && waits && !goes_on).then(|| last_event(record) + view.config.start_deadline)
}

/// Whether nothing else bounds how long it lasts. What people take is bounded by their Approval's expiry.
fn may_last(reason: &BlockedReason) -> bool {
    match reason {
        BlockedReason::EarlierRun
        | BlockedReason::PlanNotFound
        | BlockedReason::PlanAmbiguous
        | BlockedReason::AgentNotFound
        | BlockedReason::AgentAmbiguous
        | BlockedReason::AgentMismatch
        | BlockedReason::SkillNotInstalled
        | BlockedReason::SecretNotFound
        | BlockedReason::SecretChanging
        | BlockedReason::BrokerNotInstalled
        | BlockedReason::PaymentNetworkNotConfigured
        | BlockedReason::Deferred
        | BlockedReason::Suspended
        | BlockedReason::NetworkNotTried
        | BlockedReason::NetworkOpen
        | BlockedReason::GuardBroken => true,
        BlockedReason::EvaluatorBusy
        | BlockedReason::EvaluatorTimedOut
        | BlockedReason::OutputNotLoaded(_)
        | BlockedReason::WaitingApproval
        | BlockedReason::Retrying
        | BlockedReason::ParallelismReached
        | BlockedReason::PodPending
        | BlockedReason::PodUnchecked => false,
    }
}

/// When something came of the Task last, or will: an attempt under way counts from where it is.
fn last_event(record: &TaskRecord) -> Timestamp {
    let ended = record.ending.iter().map(|ending| ending.at);
    let of_steps = record.steps.values().flat_map(|step| {
        let attempt = step.attempts.last().map(|attempt| match &attempt.state {
            AttemptState::Finished { at, .. } | AttemptState::Admitted { at, .. } => *at,
            AttemptState::Intended => attempt.intended_at,
        });
        [step.finished_at, step.not_before, attempt].into_iter().flatten()
    });
    let of_people = record.approvals.values().flat_map(|a| a.decisions.iter().map(|decision| decision.at.0));
    ended.chain(of_steps).chain(of_people).max().unwrap_or(record.adopted_at)
}

/// Every step is closed: the Task is over.
pub(super) fn finish(view: &View<'_>, record: &Worklist) -> Vec<Change> {
    let planned = record.plan.is_some();
    if (!planned && record.ending.is_none()) || record.is_open() {
        return Vec::new();
    }
    let Verdict { outcome, reason, message } = verdict(record);
    // A signature may be for a step that was skipped in the end.
    let unused = record.open_approvals();
    let withdraw = unused.map(|approval| Change::WithdrawApproval { name: approval.name.clone(), at: view.now });
    let finished = Finished { outcome, reason, message, at: view.now };
    withdraw.chain([Change::FinishTask { finished, ran: run::ran(record, outcome) }]).collect()
}

struct Verdict {
    outcome: TaskOutcome,
    reason: String,
    message: String,
}

/// What the Task's work came to; a finally step that did not succeed takes away its success, and nothing else.
fn verdict(record: &TaskRecord) -> Verdict {
    let work = called_off_work(record).or_else(|| first_wrong(record, false));
    let cleanup = first_wrong(record, true);
    match (work, cleanup) {
        (None, None) => completed(record),
        (None, Some(cleanup)) => cleanup,
        (Some(work), None) => work,
        (Some(work), Some(cleanup)) => {
            Verdict { message: format!("{}; finally, {}", work.message, cleanup.message), ..work }
        }
    }
}

fn called_off_work(record: &TaskRecord) -> Option<Verdict> {
    let cause = record.ending.as_ref()?.cause;
    let outcome = match cause {
        EndingCause::Cancelled | EndingCause::Deleted => TaskOutcome::Cancelled,
        EndingCause::DeadlineExceeded => TaskOutcome::Failed,
        EndingCause::StepFailed => return None,
    };
    let (reason, message) = explain(cause);
    Some(Verdict { outcome, reason: reason.to_owned(), message: message.to_owned() })
}

/// The first step that did not end as its Task needs it, a rejected one before others.
fn first_wrong(record: &TaskRecord, finally: bool) -> Option<Verdict> {
    let steps = || record.plan.iter().flat_map(|plan| &plan.steps).filter(move |step| step.finally == finally);
    let first = |wanted: &dyn Fn(&Step, &StepRecord) -> bool, outcome: TaskOutcome| {
        let of = |step: &Step| record.steps.get(&step.name);
        let step = steps().find(|step| of(step).is_some_and(|state| wanted(step, state)))?;
        let state = of(step)?;
        let reason = state.reason.clone().unwrap_or_else(|| "StepFailed".to_owned());
        let message = format!("step {}: {}", step.name, state.message.as_deref().unwrap_or("it did not succeed"));
        Some(Verdict { outcome, reason, message })
    };
    let rejected = |_: &Step, state: &StepRecord| state.state == StepOutcome::Rejected;
    let failed = |step: &Step, state: &StepRecord| turn::went_wrong(step, state);
    first(&rejected, TaskOutcome::Rejected).or_else(|| first(&failed, TaskOutcome::Failed))
}

/// Every step ended as it may, which those that went on after a failure did as well.
fn completed(record: &TaskRecord) -> Verdict {
    let failed = |name: &&str| record.steps.get(*name).is_some_and(|step| step.state == StepOutcome::Failed);
    let names = || record.plan.iter().flat_map(|plan| &plan.steps).map(|step| step.name.as_str()).filter(failed);
    let mut message = format!("{} steps done", record.steps.len());
    match names().count() {
        0 => {}
        count => {
            let named = names().take(NAMED).collect::<Vec<_>>().join(", ");
            let more = count.checked_sub(NAMED).filter(|more| *more > 0);
            let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
            message = format!("{message}; failed, after which the Task went on: {named}{more}");
        }
    }
    Verdict { outcome: TaskOutcome::Completed, reason: "Completed".to_owned(), message }
}
