//! Whose outputs a reconciliation of a Task will want.

use std::collections::BTreeSet;

use countersign_crds::Step;

use crate::record::{ApprovalState, StepOutcome, TaskRecord};

/// How many steps of each kind outputs are fetched ahead for; what a step beyond them needs is asked for when it is
/// judged.
const AHEAD: usize = 32;

/// The finished steps whose outputs may be named by steps that could start now or next: a guess that saves looks. Steps
/// that people have yet to sign for come after all others, so that they keep nothing from those.
pub fn wanted_outputs(record: &TaskRecord) -> BTreeSet<String> {
    let Some(plan) = &record.plan else { return BTreeSet::new() };
    let done = |name: &str| record.steps.get(name).is_some_and(|step| !step.is_open() || step.live_attempt().is_some());
    let work_is_done = plan.steps.iter().filter(|step| !step.finally).all(|step| done(&step.name));
    let near = |step: &&Step| {
        let Some(state) = record.steps.get(&step.name) else { return false };
        state.is_open() && (work_is_done || !step.finally) && step.all_needs().all(|need| done(need.step))
    };
    let unsigned: BTreeSet<&str> = record
        .approvals
        .values()
        .filter(|approval| approval.state == ApprovalState::Requested)
        .flat_map(|approval| approval.covers.keys().map(String::as_str))
        .collect();
    let (unsigned, ready): (Vec<&Step>, Vec<&Step>) =
        plan.steps.iter().filter(near).partition(|step| unsigned.contains(step.name.as_str()));
    let ahead = ready.into_iter().take(AHEAD).chain(unsigned.into_iter().take(AHEAD));
    ahead.flat_map(|step| named(record, step)).collect()
}

/// The finished steps that a step names. Names are words, so what is no word of its expressions is not referred to.
fn named(record: &TaskRecord, step: &Step) -> Vec<String> {
    let text = serde_json::to_string(&(&step.input, &step.when)).unwrap_or_default();
    if !text.contains("steps") {
        return Vec::new();
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let succeeded = |name: &&str| record.steps.get(*name).is_some_and(|step| step.state == StepOutcome::Succeeded);
    text.split(|c| !word(c)).filter(succeeded).map(str::to_owned).collect()
}
