//! When to look at a Task again although nothing is seen to change.

use jiff::{SignedDuration, Timestamp};

use super::attempts::GRACE;
use super::ending;
use super::view::View;
use crate::blocked::{Blocked, BlockedReason, BlockedReasons};
use crate::record::{ApprovalState, AttemptState, TaskRecord};
use crate::status;

/// The earliest instant at which time alone changes something: `now` where the next reconciliation sees what this one
/// could not.
pub(super) fn requeue(
    view: &View<'_>,
    record: &TaskRecord,
    blocked: &BlockedReasons,
    changed: bool,
    settled: bool,
) -> Option<Timestamp> {
    if record.finished.is_some() {
        // Once it has passed, deletion was asked for, and the watch tells the rest.
        return status::ttl_expires_at(view.observed, record).filter(|at| *at > view.now);
    }
    // What was recorded just now is what the next reconciliation sees: money that moved, a pod that is now to be
    // checked.
    let unchecked = |blocked: &Blocked| blocked.reason == BlockedReason::PodUnchecked;
    if settled || (changed && blocked.all().any(unchecked)) {
        return Some(view.now);
    }
    let given_up = ending::patience_ends(view, record, blocked);
    let blocked = blocked.all().filter_map(|blocked| blocked.requeue(view.now)).chain(given_up);
    blocked.chain(instants(view, record).into_iter().filter(|at| *at > view.now)).min()
}

/// The instants that the record itself waits for.
fn instants(view: &View<'_>, record: &TaskRecord) -> Vec<Timestamp> {
    let mut instants = Vec::new();
    instants.extend(view.observed.task.as_ref().and_then(|task| task.spec.deadline.as_ref()).map(|time| time.0));
    let awaited = record.approvals.values().filter(|approval| approval.state == ApprovalState::Requested);
    instants.extend(awaited.map(|approval| approval.expires_at));
    instants.extend(record.ending.as_ref().map(|ending| ending.at + GRACE));
    for step in record.steps.values() {
        instants.extend(step.not_before);
        instants.extend(step.deferral.as_ref().and_then(|deferral| deferral.until));
        let Some(attempt) = step.live_attempt() else { continue };
        let run = attempt.launch.as_ref().map_or(0, |launch| i64::from(launch.timeout_seconds));
        let start = view.config.start_deadline;
        match &attempt.state {
            // What it waits for is said of it: see BlockedReasons.
            AttemptState::Intended | AttemptState::Finished { .. } => {}
            AttemptState::Admitted { at, .. } => {
                instants.extend([*at + start, *at + start + SignedDuration::from_secs(run) + GRACE]);
            }
        }
    }
    instants
}
