//! Attempts under way: which pod may run one, and what came of it.

use jiff::SignedDuration;

use super::Worklist;
use super::compare::{AttemptVerdict, superseded, verdict_on};
use super::outcome::{self, Result as PodResult};
use super::turn::{called_off, called_off_by_name, ends_what_runs};
use super::view::{GivenUp, View};
use crate::blocked::{Blocked, BlockedReason, BlockedReasons};
use crate::observed::{Guard, Network, PodState, PodView};
use crate::record::{
    AttemptOutcome, AttemptRecord, AttemptState, Change, EndingCause, Launch, StepOutcome, TaskRecord,
};

/// How long past its timeout a pod may take to say how it ended, and a cancelled one to end.
pub(super) const GRACE: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn follow(view: &View<'_>, record: &Worklist, blocked: &mut BlockedReasons) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut places = free_places(record);
    for (step, steps) in record.live() {
        let Some(attempt) = steps.live_attempt() else { continue };
        let Some(launch) = &attempt.launch else { continue };
        let next = match &attempt.state {
            AttemptState::Intended => intended(view, record, step, attempt, places, blocked),
            AttemptState::Admitted { pod_uid, at } => {
                let cause = called_off_by_name(record, step);
                admitted(view, record, step, cause, attempt, launch, pod_uid, *at, blocked)
            }
            AttemptState::Finished { .. } => continue,
        };
        match next {
            Next::GoesOn => {}
            Next::Wait(why) => blocked.block(step, why),
            Next::Admit { pod_uid } => {
                places = places.saturating_sub(1);
                changes.push(Change::Admit { step: step.clone(), number: attempt.number, pod_uid, at: view.now });
            }
            Next::Void { changed } => {
                // It may have been for other steps too, and one of those may have voided it already.
                let approval = attempt.approval.as_ref().and_then(|name| record.approvals.get(name));
                changes.extend(approval.filter(|approval| approval.is_open()).map(|approval| {
                    Change::SupersedeApproval { name: approval.name.clone(), changed: changed.clone(), at: view.now }
                }));
                let message =
                    format!("not started: what would run is no longer what was decided ({})", changed.join(", "));
                let result = PodResult::failed(AttemptOutcome::Voided, message);
                changes.extend(over(view, record, step, attempt, launch, result));
                // What else rested on the same signatures is looked at with that on record.
                return changes;
            }
            Next::Over(result) => changes.extend(over(view, record, step, attempt, launch, result)),
        }
    }
    changes
}

/// How many more pods may be let in at once.
fn free_places(record: &Worklist) -> usize {
    let most = record.plan.as_ref().map_or(0, |plan| plan.parallelism as usize);
    let running = record.live().filter_map(|(_, step)| step.live_attempt()).filter(|attempt| attempt.launched());
    most.saturating_sub(running.count())
}

enum Next {
    /// It is let in, and nothing is to be said of it now.
    GoesOn,
    Wait(Blocked),
    Admit {
        pod_uid: String,
    },
    /// What would run is no longer what was decided; the members that differ, where they are known.
    Void {
        changed: Vec<String>,
    },
    Over(PodResult),
}

fn over_with(outcome: AttemptOutcome, message: impl Into<String>) -> Next {
    Next::Over(PodResult::failed(outcome, message))
}

/// No pod was let in yet, so nothing of it has run.
fn intended(
    view: &View<'_>,
    record: &Worklist,
    step: &str,
    attempt: &AttemptRecord,
    places: usize,
    blocked: &BlockedReasons,
) -> Next {
    let mut pods: Vec<_> = view.observed.pods_of(&attempt.key).collect();
    pods.sort_by(|a, b| a.uid.cmp(&b.uid));
    let altered = pods.iter().find_map(|pod| match &pod.state {
        PodState::Altered { field } => Some((&pod.name, field)),
        PodState::Unchecked | PodState::Gated | PodState::Waiting { .. } | PodState::Running | PodState::Ended(_) => {
            None
        }
    });
    if let Some((pod, field)) = altered {
        let message = format!("pod {pod} is not what was decided: {field} differs; it was not let in");
        return over_with(AttemptOutcome::NotStarted, message);
    }
    if let Some(loose) = pods.iter().find(|pod| !matches!(pod.state, PodState::Gated | PodState::Unchecked)) {
        let message = format!("pod {} ran without being let in: somebody removed its gate", loose.name);
        return over_with(AttemptOutcome::Unknown, message);
    }
    if let Some(cause) = called_off_by_name(record, step) {
        let (_, message) = super::ending::explain(cause);
        return over_with(AttemptOutcome::Voided, format!("not started: {message}"));
    }
    if let Some(changed) = superseded(record, attempt) {
        return Next::Void { changed: changed.to_vec() };
    }
    match still_decided(view, record, step, attempt, blocked) {
        AttemptVerdict::Same => {}
        AttemptVerdict::Other(changed) => return Next::Void { changed },
        AttemptVerdict::OtherLimits => {
            let message =
                "not started: where Skills may go has changed; it is launched again within what is allowed now";
            return over_with(AttemptOutcome::Voided, message);
        }
        // Nothing can be concluded now, so nothing is let in either.
        AttemptVerdict::NotNow(why) => {
            return match view.step_goes_on(step, why) {
                Ok(why) => Next::Wait(why),
                Err(GivenUp { reason: _, message }) => over_with(AttemptOutcome::NotStarted, message),
            };
        }
        // A Task without object or Plan has nothing under way that could be let in: its end began above.
        AttemptVerdict::Gone => return Next::GoesOn,
    }
    let_in(view, record, attempt, &pods, places)
}

/// Whether the attempt may begin as it was decided, with all that may keep it back for a while.
fn still_decided(
    view: &View<'_>,
    record: &Worklist,
    step: &str,
    attempt: &AttemptRecord,
    blocked: &BlockedReasons,
) -> AttemptVerdict {
    // What has no time for one has none for the next.
    if let Some(why) = view.nothing_begins().or_else(|| blocked.evaluator_busy()) {
        return AttemptVerdict::NotNow(why);
    }
    match verdict_on(view, record, step, attempt) {
        // What a signature rests on is looked at again as well.
        AttemptVerdict::Same if attempt.approval.is_some() => {
            broken_guard(view).map_or(AttemptVerdict::Same, AttemptVerdict::NotNow)
        }
        verdict => verdict,
    }
}

/// All that was decided still holds: the pod is let in once it is there, was checked, and has a place.
fn let_in(view: &View<'_>, record: &TaskRecord, attempt: &AttemptRecord, pods: &[&PodView], places: usize) -> Next {
    // One that was there before the attempt was decided is looked at first.
    if let Some(pod) = pods.iter().find(|pod| pod.state == PodState::Unchecked) {
        let message = format!("its pod {} is about to be held against what was decided", pod.name);
        return Next::Wait(Blocked::new(BlockedReason::PodUnchecked, message));
    }
    let Some(pod) = pods.first() else {
        let deadline = attempt.intended_at + view.config.start_deadline;
        if view.now >= deadline {
            return over_with(AttemptOutcome::NotStarted, "no pod appeared for its Job in time; see the Job's events");
        }
        let message = format!("waits for the pod of Job {}, until {deadline}", attempt.key);
        return Next::Wait(Blocked::new(BlockedReason::PodPending, message).until(deadline));
    };
    if places == 0 {
        return Next::Wait(no_place(record));
    }
    Next::Admit { pod_uid: pod.uid.clone() }
}

/// As many run as the Plan allows at once.
pub(super) fn no_place(record: &TaskRecord) -> Blocked {
    let most = record.plan.as_ref().map_or(0, |plan| plan.parallelism);
    let message = format!("waits for one of the attempts that run to end: the Plan's parallelism is {most}");
    Blocked::new(BlockedReason::ParallelismReached, message)
}

/// Signatures count for nothing while what keeps them from being forged is not whole.
pub(super) fn broken_guard(view: &View<'_>) -> Option<Blocked> {
    match &view.observed.guard {
        Guard::Broken { problem } => {
            let message = format!("signatures count for nothing at this moment: {problem}");
            Some(Blocked::new(BlockedReason::GuardBroken, message))
        }
        Guard::NotNeeded | Guard::Whole => None,
    }
}

/// Exactly one pod was let in; what it did is what the attempt did.
#[expect(clippy::too_many_arguments, reason = "one attempt, with all that it is followed by")]
fn admitted(
    view: &View<'_>,
    record: &Worklist,
    step: &str,
    called_off: Option<EndingCause>,
    attempt: &AttemptRecord,
    launch: &Launch,
    pod_uid: &str,
    at: jiff::Timestamp,
    blocked: &BlockedReasons,
) -> Next {
    let cause = called_off.filter(|cause| ends_what_runs(*cause));
    let Some(pod) = view.observed.pods_of(&attempt.key).find(|pod| pod.uid == pod_uid) else {
        return match cause {
            Some(_) => {
                over_with(AttemptOutcome::Cancelled, "ended while it ran; what it had done by then is not known")
            }
            None => over_with(AttemptOutcome::Unknown, "its pod was removed before it said how it ended"),
        };
    };
    if let (Some(_), Some(ending)) = (cause, &record.ending)
        && view.now >= ending.at + GRACE
        && !matches!(pod.state, PodState::Ended(_))
    {
        return over_with(AttemptOutcome::Cancelled, "told to end, and did not say in time that it had");
    }
    // The record says that it may run, and its gate says that it does not yet.
    if pod.state == PodState::Gated
        && view.now < at + view.config.start_deadline
        && let Some(why) = held_back(view, record, step, attempt, blocked)
    {
        return Next::Wait(why);
    }
    let run = SignedDuration::from_secs(i64::from(launch.timeout_seconds));
    match &pod.state {
        PodState::Ended(end) => Next::Over(outcome::examine(&attempt.key, launch, end)),
        PodState::Gated | PodState::Altered { .. } | PodState::Waiting { .. }
            if view.now >= at + view.config.start_deadline =>
        {
            let why = match &pod.state {
                PodState::Waiting { message: Some(message) } => message.clone(),
                PodState::Waiting { message: None }
                | PodState::Unchecked
                | PodState::Gated
                | PodState::Altered { .. }
                | PodState::Running
                | PodState::Ended(_) => "the kubelet did not say why".to_owned(),
            };
            over_with(AttemptOutcome::NotStarted, format!("its pod did not start in time: {why}"))
        }
        PodState::Running if view.now >= at + view.config.start_deadline + run + GRACE => {
            over_with(AttemptOutcome::Unknown, "past its timeout, and its node does not say how it ended")
        }
        PodState::Unchecked
        | PodState::Gated
        | PodState::Altered { .. }
        | PodState::Waiting { .. }
        | PodState::Running => Next::GoesOn,
    }
}

/// Why the gate of a pod that was let in is not lifted now: a crash may lie between the two, in which what was decided
/// has changed. It stays behind its gate, and has not started when its time to start is up.
fn held_back(
    view: &View<'_>,
    record: &Worklist,
    step: &str,
    attempt: &AttemptRecord,
    blocked: &BlockedReasons,
) -> Option<Blocked> {
    let differs = |changed: &str| {
        let message = format!("was let in, and is not what would be decided now ({changed}); its gate stays");
        Some(Blocked::new(BlockedReason::PodUnchecked, message))
    };
    match still_decided(view, record, step, attempt, blocked) {
        // A Task without object or Plan is ended, and its Job deleted.
        AttemptVerdict::Same | AttemptVerdict::Gone => None,
        AttemptVerdict::NotNow(why) => Some(why),
        AttemptVerdict::OtherLimits => differs("where Skills may go"),
        AttemptVerdict::Other(changed) => differs(&changed.join(", ")),
    }
}

/// An attempt that something has kept from beginning for too long is over, and never began.
pub(super) fn give_up(view: &View<'_>, record: &Worklist, step: &str, message: &str) -> Option<Vec<Change>> {
    let attempt = record.steps.get(step)?.live_attempt()?;
    let result = PodResult::failed(AttemptOutcome::NotStarted, message);
    Some(over(view, record, step, attempt, attempt.launch.as_ref()?, result))
}

/// The attempt is over; so is its step, unless another attempt is owed or it was never let in.
fn over(
    view: &View<'_>,
    record: &Worklist,
    step: &str,
    attempt: &AttemptRecord,
    launch: &Launch,
    result: PodResult,
) -> Vec<Change> {
    let PodResult { outcome, message, output, mut evidence, workspace, reason } = result;
    if let Some(evidence) = &mut evidence {
        evidence.network_policy = match view.observed.network {
            Network::NotTried => None,
            Network::Closed => Some(true),
            Network::Open { .. } => Some(false),
        };
    }
    let retry_at = record
        .step(step)
        .filter(|spec| called_off(record, spec).is_none())
        .and_then(|spec| outcome::retry_at(view.now, spec, launch, record.steps.get(step)?, attempt, outcome));
    let reference = output.as_ref().map(|output| output.reference.clone());
    let mut changes = vec![Change::FinishAttempt {
        step: step.to_owned(),
        number: attempt.number,
        outcome,
        message: message.clone(),
        output,
        retry_at,
        evidence,
        workspace,
        at: view.now,
    }];
    let closed = match outcome {
        AttemptOutcome::Succeeded => Some((StepOutcome::Succeeded, None)),
        AttemptOutcome::Voided => None,
        AttemptOutcome::Unknown => Some((StepOutcome::Unknown, Some("OutcomeUnknown"))),
        AttemptOutcome::Failed => Some((StepOutcome::Failed, Some(reason.unwrap_or("AttemptFailed")))),
        AttemptOutcome::TimedOut => Some((StepOutcome::Failed, Some("TimedOut"))),
        AttemptOutcome::NotStarted => Some((StepOutcome::Failed, Some("NotStarted"))),
        AttemptOutcome::Cancelled => Some((StepOutcome::Failed, Some("Cancelled"))),
    };
    if let (Some((outcome, reason)), None) = (closed, retry_at) {
        changes.push(Change::FinishStep {
            step: step.to_owned(),
            outcome,
            reason: reason.map(str::to_owned),
            message: message.filter(|_| outcome != StepOutcome::Succeeded),
            output: reference,
            rules: Vec::new(),
            budget: None,
            at: view.now,
        });
    }
    changes
}
