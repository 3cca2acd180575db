//! Whether a list of steps is a Plan: unique names, known needs, no cycle, expressions that compile and
//! name only what is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use countersign_crds::{Retry, Step};
use serde_json::{Map, Value};

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
    let needs: BTreeMap<&str, &[String]> = steps.iter().map(|s| (s.name.as_str(), s.needs.as_slice())).collect();
    let mut all = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let field = at(field, index, step);
        problems.extend(check_durations(step, &field));
        match CompiledStep::compile(step, &field) {
            Ok(compiled) => {
                let before = |name: &str| comes_before(&needs, step, name);
                problems.extend(compiled.check_references(&field, &before, parameters));
                all.push(compiled);
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

/// Whether a step has to end before this one starts. The nearest are looked at first: it is mostly one of them.
fn comes_before(needs: &BTreeMap<&str, &[String]>, step: &Step, name: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open: VecDeque<&str> = step.needs.iter().map(String::as_str).collect();
    while let Some(before) = open.pop_front() {
        if before == name {
            return true;
        }
        if seen.insert(before) {
            open.extend(needs.get(before).into_iter().flat_map(|needs| needs.iter().map(String::as_str)));
        }
    }
    false
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
        for (n, need) in step.needs.iter().enumerate() {
            if !seen.contains(need.as_str()) {
                let message = format!("there is no step {need:?}; name a step of this Plan");
                problems.push(Problem::new(format!("{}.needs[{n}]", at(field, index, step)), message));
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
        let needs: BTreeSet<&str> = step.needs.iter().map(String::as_str).collect();
        waits.insert(&step.name, needs.len());
        for need in needs {
            next.entry(need).or_default().push(&step.name);
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
    let Step { name: _, skill: _, input: _, needs: _, when: _, retry, timeout, approval: _ } = step;
    let mut named: Vec<(&str, &str, Bounds)> = timeout.iter().map(|t| ("timeout", t.as_str(), TIMEOUT)).collect();
    if let Some(Retry { limit: _, backoff, max_backoff }) = retry {
        named.extend([
            ("retry.backoff", backoff.as_str(), BACKOFF),
            ("retry.maxBackoff", max_backoff.as_str(), BACKOFF),
        ]);
    }
    named.into_iter().filter_map(|(part, text, bounds)| bounds.problem(format!("{field}.{part}"), text)).collect()
}
