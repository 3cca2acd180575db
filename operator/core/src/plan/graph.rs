//! Whether a list of steps is a Plan: unique names, known needs, no cycle, expressions that compile and
//! name only what is there.

use std::collections::{BTreeMap, BTreeSet};

use countersign_crds::{Need, Outcome, Retry, Step};
use serde_json::{Map, Value};

use super::order::Order;
use super::step::CompiledStep;
use crate::bounds::{BACKOFF, Bounds, TIMEOUT};
use crate::names::is_label;
use crate::problem::Problem;

/// Everything that is wrong with these steps. `field` is the path of the list; `parameters` are given
/// where the Task is known.
pub fn check_steps(steps: &[Step], field: &str, parameters: Option<&Map<String, Value>>) -> Vec<Problem> {
    compile_steps(steps, field, parameters).err().unwrap_or_default()
}

/// The steps of a Plan in which nothing is wrong, compiled, in their order.
pub(crate) fn compile_steps(
    steps: &[Step],
    field: &str,
    parameters: Option<&Map<String, Value>>,
) -> Result<Vec<CompiledStep>, Vec<Problem>> {
    let mut problems = check_names(steps, field);
    if problems.is_empty() {
        problems.extend(check_cycle(steps, field));
    }
    if !problems.is_empty() {
        // Without a sound graph "comes before" means nothing.
        return Err(problems);
    }
    let order = Order::of(steps);
    let mut all = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let field = at(field, index, step);
        problems.extend(check_needs(step, &field, &order));
        problems.extend(check_durations(step, &field));
        match CompiledStep::compile(step, &field) {
            Ok(compiled) => {
                let before = |name: &str| order.comes_before(step, name);
                problems.extend(compiled.check_references(&field, &before, parameters));
                all.push(compiled);
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

/// `spec.steps[2] (check_balance)`: the index finds it in the file, the name in the head.
pub(crate) fn at(field: &str, index: usize, step: &Step) -> String {
    format!("{field}[{index}] ({})", step.name)
}

fn check_names(steps: &[Step], field: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        if !is_label(&step.name) {
            let message = "becomes the value of a label; end the name with a letter or a digit";
            problems.push(Problem::new(format!("{}.name", at(field, index, step)), message));
        }
        if !seen.insert(step.name.as_str()) {
            problems.push(Problem::new(at(field, index, step), "another step has this name; names are unique"));
        }
    }
    for (index, step) in steps.iter().enumerate() {
        let mut named = BTreeSet::new();
        for (part, need) in placed_needs(step) {
            let field = || format!("{}.{part}", at(field, index, step));
            if !seen.contains(need.step) {
                let message = format!("there is no step {:?}; name a step of this Plan", need.step);
                problems.push(Problem::new(field(), message));
            }
            if !named.insert(need.step) {
                let message = format!("step {:?} is named before; name it once, with all outcomes that do", need.step);
                problems.push(Problem::new(field(), message));
            }
        }
    }
    if !steps.is_empty() && steps.iter().all(|step| step.finally) {
        let message = "every step is a finally step, which run after the others; leave finally out where the work is";
        problems.push(Problem::new(field, message));
    }
    problems
}

/// A step's needs, each with its place: `needs[1]`, `after[0]`.
fn placed_needs(step: &Step) -> impl Iterator<Item = (String, Need<'_>)> {
    let place = |n: usize| match n.checked_sub(step.needs.len()) {
        None => format!("needs[{n}]"),
        Some(n) => format!("after[{n}]"),
    };
    step.all_needs().enumerate().map(move |(n, need)| (place(n), need))
}

/// Needs that can never be met: on the outcomes that they name the Task ends, or the step comes later anyway.
fn check_needs(step: &Step, field: &str, order: &Order<'_>) -> Vec<Problem> {
    if step.finally {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (part, Need { step: name, outcomes }) in placed_needs(step) {
        let Some(before) = order.step(name) else { continue };
        let mut refuse = |message: String| problems.push(Problem::new(format!("{field}.{part}"), message));
        if before.finally {
            refuse(format!(
                "step {name:?} is a finally step, which runs after this one; set finally here too, or not there"
            ));
            continue;
        }
        for outcome in outcomes {
            match outcome {
                Outcome::Succeeded | Outcome::Skipped => {}
                Outcome::Failed if before.on_failure.ends_the_task() => refuse(format!(
                    "a Task ends when step {name:?} failed; set onFailure: Continue there, or finally here"
                )),
                Outcome::Failed => {}
                Outcome::Rejected | Outcome::Unknown => refuse(format!(
                    "a Task ends with a step that is {}; set finally here, or leave that outcome out",
                    outcome.as_str()
                )),
            }
        }
    }
    problems
}

/// Kahn's algorithm (1962); what is left over is on a cycle or behind one.
fn check_cycle(steps: &[Step], field: &str) -> Option<Problem> {
    let mut waits: BTreeMap<&str, usize> = BTreeMap::new();
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for step in steps {
        // No step is named twice.
        waits.insert(&step.name, step.all_needs().count());
        for need in step.all_needs() {
            next.entry(need.step).or_default().push(&step.name);
        }
    }
    let mut ready: Vec<&str> = waits.iter().filter(|(_, n)| **n == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop() {
        waits.remove(name);
        for after in next.get(name).into_iter().flatten() {
            if let Some(n) = waits.get_mut(after) {
                *n -= 1;
                if *n == 0 {
                    ready.push(after);
                }
            }
        }
    }
    let (index, step) = steps.iter().enumerate().find(|(_, step)| waits.contains_key(step.name.as_str()))?;
    let members: Vec<&str> = waits.keys().take(8).copied().collect();
    let message = format!("the steps wait for each other in a cycle ({}); break it", members.join(", "));
    Some(Problem::new(format!("{}.needs", at(field, index, step)), message))
}

fn check_durations(step: &Step, field: &str) -> Vec<Problem> {
    let Step {
        name: _,
        skill: _,
        input: _,
        needs: _,
        after: _,
        finally: _,
        on_failure: _,
        when: _,
        retry,
        timeout,
        approval: _,
    } = step;
    let mut named: Vec<(&str, &str, Bounds)> = timeout.iter().map(|t| ("timeout", t.as_str(), TIMEOUT)).collect();
    if let Some(Retry { limit: _, backoff, max_backoff }) = retry {
        named.extend([
            ("retry.backoff", backoff.as_str(), BACKOFF),
            ("retry.maxBackoff", max_backoff.as_str(), BACKOFF),
        ]);
    }
    named.into_iter().filter_map(|(part, text, bounds)| bounds.problem(format!("{field}.{part}"), text)).collect()
}
