//! Whose turn it is: what a step needs is met, and nothing has called it off.

use countersign_crds::{Outcome, Step};

use super::Worklist;
use super::launch::close;
use super::view::View;
use crate::blocked::BlockedReasons;
use crate::record::{Change, EndingCause, StepOutcome, StepRecord, TaskRecord};

/// The reason of a step that was skipped for what another came to.
pub(crate) const NEED_NOT_MET: &str = "NeedNotMet";

/// Whether a step may start, as far as other steps go.
pub(crate) enum Turn {
    /// Something that comes before it has not ended.
    Later,
    Now,
    /// All that it needs has ended, and not as it takes.
    Never {
        message: String,
    },
}

/// The turns of one Task's steps.
pub(crate) struct Turns<'a> {
    pub record: &'a TaskRecord,
    /// Whether every step but the finally steps has ended.
    pub work_is_over: bool,
}

impl<'a> Turns<'a> {
    /// As the record stands now.
    pub fn of(record: &'a TaskRecord) -> Turns<'a> {
        let ordinary = record.plan.iter().flat_map(|plan| &plan.steps).filter(|step| !step.finally);
        let ended = |step: &Step| record.steps.get(&step.name).is_some_and(|state| !state.is_open());
        Turns { record, work_is_over: ordinary.into_iter().all(ended) }
    }

    /// Whose `step` it is: a finally step's comes when all that is none has ended.
    pub fn of_step(&self, step: &Step) -> Turn {
        if step.finally && !self.work_is_over {
            return Turn::Later;
        }
        let mut unmet = None;
        for need in step.all_needs() {
            let outcome = self.record.steps.get(need.step).and_then(|before| before.state.ended());
            match outcome {
                None => return Turn::Later,
                Some(outcome) if need.outcomes.contains(&outcome) => {}
                Some(outcome) => {
                    unmet.get_or_insert((need, outcome));
                }
            }
        }
        match unmet {
            None => Turn::Now,
            Some((need, outcome)) => Turn::Never {
                message: format!(
                    "step {} is {}, and this one takes {}",
                    need.step,
                    outcome.as_str(),
                    need.outcomes.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>().join(" or ")
                ),
            },
        }
    }
}

/// Why this step is not to run any more: finally steps run whatever happened, but for the Task's deletion.
pub(crate) fn called_off(record: &TaskRecord, step: &Step) -> Option<EndingCause> {
    let cause = record.ending.as_ref()?.cause;
    let binds = match cause {
        EndingCause::Deleted => true,
        EndingCause::Cancelled | EndingCause::DeadlineExceeded | EndingCause::StepFailed => !step.finally,
    };
    binds.then_some(cause)
}

/// As [`called_off`], by the step's name.
pub(crate) fn called_off_by_name(record: &TaskRecord, name: &str) -> Option<EndingCause> {
    record.ending.as_ref()?;
    let step = record.plan.as_ref()?.steps.iter().find(|step| step.name == name)?;
    called_off(record, step)
}

/// Whether what is under way is ended for this cause.
pub(super) fn ends_what_runs(cause: EndingCause) -> bool {
    match cause {
        EndingCause::Cancelled | EndingCause::DeadlineExceeded | EndingCause::Deleted => true,
        EndingCause::StepFailed => false,
    }
}

/// Closes the steps whose turn never comes; those that need them are looked at with that on record.
pub(super) fn skip(view: &View<'_>, record: &Worklist, _: &mut BlockedReasons) -> Vec<Change> {
    let turns = record.turns();
    let skipped = |step: &Step| match turns.of_step(step) {
        Turn::Later | Turn::Now => None,
        Turn::Never { message } => Some(close(view, step, StepOutcome::Skipped, NEED_NOT_MET, message, Vec::new())),
    };
    record.never().filter_map(skipped).collect()
}

/// Whether this step ended so that its Task does not end well.
pub(crate) fn went_wrong(step: &Step, state: &StepRecord) -> bool {
    match state.state.ended() {
        Some(Outcome::Rejected | Outcome::Unknown) => true,
        Some(Outcome::Failed) => step.on_failure.ends_the_task(),
        Some(Outcome::Succeeded | Outcome::Skipped) | None => false,
    }
}

/// Whether this step ended so that its Task ends with it.
pub(super) fn ends_the_task(step: &Step, state: &StepRecord) -> bool {
    !step.finally && went_wrong(step, state)
}
