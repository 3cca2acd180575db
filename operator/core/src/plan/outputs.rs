//! Whose outputs a look at a Task will want.

use std::collections::BTreeSet;

use countersign_crds::Step;

use crate::record::{StepOutcome, TaskRecord};

/// How many steps ahead outputs are fetched for; a step beyond them waits one more look.
const AHEAD: usize = 32;

/// The finished steps whose outputs may be named by steps that could start now or next.
pub fn wanted_outputs(record: &TaskRecord) -> BTreeSet<String> {
    let Some(plan) = &record.plan else { return BTreeSet::new() };
    let near = |step: &&Step| {
        let Some(state) = record.steps.get(&step.name) else { return false };
        let done =
            |need: &String| record.steps.get(need).is_some_and(|need| !need.is_open() || need.live_attempt().is_some());
        state.is_open() && step.needs.iter().all(done)
    };
    let named = |step: &Step| {
        let text = serde_json::to_string(step).unwrap_or_default();
        // Names are words, so a name that the text does not hold cannot be referred to.
        let succeeded = |name: &&Step| record.steps.get(&name.name).is_some_and(|s| s.state == StepOutcome::Succeeded);
        plan.steps
            .iter()
            .filter(succeeded)
            .map(|s| s.name.clone())
            .filter(|n| text.contains(n.as_str()))
            .collect::<Vec<_>>()
    };
    plan.steps.iter().filter(near).take(AHEAD).filter(|step| mentions_steps(step)).flat_map(named).collect()
}

fn mentions_steps(step: &Step) -> bool {
    let text = serde_json::to_string(&(&step.input, &step.when)).unwrap_or_default();
    text.contains("steps")
}
