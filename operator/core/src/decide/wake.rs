//! When to look at a Task again although nothing is seen to change.

use jiff::{SignedDuration, Timestamp};

use super::Waits;
use super::attempts::GRACE;
use super::view::View;
use crate::record::{AttemptState, TaskRecord};
use crate::status;

/// How often to look whether what planning waits for was installed; a watch usually says so earlier.
const PLANNING_POLL: SignedDuration = SignedDuration::from_secs(30);
/// How soon to judge again what could not be judged.
const JUDGE_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// How soon to weigh again what did not fit its budget: others may have left something of what they held.
const WEIGH_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// The earliest instant at which time alone changes something.
pub(super) fn wake(view: &View<'_>, record: &TaskRecord, waits: &Waits) -> Option<Timestamp> {
    if record.finished.is_some() {
        return status::ttl_expires_at(view.observed, record);
    }
    let mut instants = Vec::new();
    if waits.planning.is_some() {
        instants.push(view.now + PLANNING_POLL);
    }
    if !waits.held.is_empty() {
        instants.push(view.now + JUDGE_AGAIN);
    }
    if !waits.deferred.is_empty() {
        instants.push(view.now + WEIGH_AGAIN);
    }
    instants.extend(view.observed.task.as_ref().and_then(|task| task.spec.deadline.as_ref()).map(|time| time.0));
    instants.extend(record.approvals.values().filter(|a| a.is_open()).map(|a| a.expires_at));
    instants.extend(record.ending.as_ref().map(|ending| ending.at + GRACE));
    for step in record.steps.values() {
        instants.extend(step.not_before);
        instants.extend(step.deferral.as_ref().and_then(|deferral| deferral.until));
        let Some(attempt) = step.live_attempt() else { continue };
        let run = attempt.launch.as_ref().map_or(0, |launch| i64::from(launch.timeout_seconds));
        let start = view.config.start_deadline;
        match &attempt.state {
            AttemptState::Intended => instants.push(attempt.intended_at + start),
            AttemptState::Admitted { at, .. } => {
                instants.extend([*at + start, *at + start + SignedDuration::from_secs(run) + GRACE]);
            }
            AttemptState::Finished { .. } => {}
        }
    }
    instants.into_iter().filter(|at| *at > view.now).min()
}
