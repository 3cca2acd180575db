//! What is known of a step when its turn comes in a simulation: some outputs of the steps before it are not.

use std::collections::BTreeSet;

use countersign_crds::Step;
use serde_json::{Map, Value};

use crate::cel::{CelEvaluator, Path, Variables};
use crate::json::path::Segment;
use crate::observed::TaskView;
use crate::plan::{CompiledStep, Ended, task_value, variables};
use crate::record::RecordedPlan;

/// What a Plan's expressions can see now.
pub(super) struct PartialEvaluator<'a> {
    task: &'a TaskView,
    plan: &'a RecordedPlan,
    evaluator: &'a CelEvaluator,
    /// Without any output.
    bare: Variables,
}

/// What is known of one step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub when: When,
    /// The members of the input that are known; `None` where an expression fails, which the judge then says.
    pub input: Option<Map<String, Value>>,
    /// The members that are not.
    pub open: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// It runs, as far as its `when` goes.
    True,
    False,
    /// It refers to what other steps return.
    Open,
    /// It fails, which the judge then says.
    Fails,
}

impl Known {
    /// Of a step that was not looked at.
    pub fn whole_of(step: &Step) -> Known {
        Known { when: When::True, input: Some(step.input.clone()), open: BTreeSet::new() }
    }

    /// Whether nothing that an earlier step returns bears on it.
    pub fn whole(&self) -> bool {
        self.when != When::Open && self.open.is_empty()
    }

    /// What is not known, for people.
    pub fn missing(&self) -> Vec<String> {
        let when = (self.when == When::Open).then(|| "when".to_owned());
        when.into_iter().chain(self.open.iter().map(|member| format!("input.{member}"))).collect()
    }

    /// The step, with as much of it as is known.
    pub fn part_of(&self, step: &Step) -> Step {
        let mut part = step.clone();
        part.input.retain(|member, _| !self.open.contains(member));
        part.when = part.when.filter(|_| self.when != When::Open);
        part
    }

    /// Whether what a rule reads there is not known.
    pub fn is_open(&self, path: &Path) -> bool {
        match path.segments() {
            _ if self.open.is_empty() => false,
            [root] => root == "step",
            [root, input] => root == "step" && input == "input",
            [root, input, member, ..] => root == "step" && input == "input" && self.open.contains(member),
            [] => false,
        }
    }
}

impl<'a> PartialEvaluator<'a> {
    pub fn new(task: &'a TaskView, plan: &'a RecordedPlan, evaluator: &'a CelEvaluator) -> PartialEvaluator<'a> {
        let mut partial = PartialEvaluator { task, plan, evaluator, bare: Variables::new() };
        partial.bare = partial.variables(Vec::new());
        partial
    }

    fn variables(&self, ended: Vec<(String, Ended)>) -> Variables {
        let task = task_value(&self.task.namespace, &self.task.name, &self.plan.parameters);
        variables(task, (&self.plan.name, &self.plan.digest.to_string()), ended.into_iter())
    }

    /// `ended` gives what became of a step that comes before, and what it returned; `None` where nobody knows.
    pub fn evaluate(&self, compiled: &CompiledStep, ended: &dyn Fn(&str) -> Option<Ended>) -> Known {
        let mut known = Vec::new();
        let mut not_known = BTreeSet::new();
        for step in compiled.referenced_steps() {
            match ended(&step) {
                Some(ended) => known.push((step, ended)),
                None => drop(not_known.insert(step)),
            }
        }
        let variables = if known.is_empty() { self.bare.clone() } else { self.variables(known) };
        let refers =
            |path: &Path| matches!(path.as_strs().as_slice(), ["steps", step, ..] if not_known.contains(*step));
        let when = match &compiled.when {
            None => When::True,
            Some(when) if when.references().iter().any(refers) => When::Open,
            Some(when) => match self.evaluator.evaluate_bool(when, &variables) {
                Ok(true) => When::True,
                Ok(false) => When::False,
                Err(_) => When::Fails,
            },
        };
        let expressions = if not_known.is_empty() { Vec::new() } else { compiled.input.expressions() };
        let open: BTreeSet<String> = expressions
            .into_iter()
            .filter(|(_, expression)| expression.references().iter().any(refers))
            .filter_map(|(path, _)| match path.segments().get(1) {
                Some(Segment::Key(member)) => Some(member.clone()),
                Some(Segment::Index(_)) | None => None,
            })
            .collect();
        let template = if open.is_empty() { &compiled.input } else { &compiled.input.without(&open) };
        let input = match template.resolve(self.evaluator, &variables) {
            Ok(Value::Object(input)) => Some(input),
            Ok(_) | Err(_) => None,
        };
        Known { when, input, open }
    }
}
