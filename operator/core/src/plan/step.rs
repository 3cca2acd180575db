//! One step with its expressions compiled, and what they may see.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use countersign_crds::{Outcome, Step};
use serde_json::{Map, Value, json};

use crate::cel::{Expression, Path, Type, Variables, Vocabulary, nearest};
use crate::problem::Problem;
use crate::template::Template;

/// What a Plan's expressions may use: `task`, `steps` and `plan`. What a step gives is known only to its Skill.
fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
        let named = || ("name", Type::Text);
        Vocabulary::typed([
            ("task", Type::object([named(), ("namespace", Type::Text), ("parameters", Type::map(Type::Any))])),
            ("plan", Type::object([named(), ("digest", Type::Text)])),
            ("steps", Type::map(Type::Any)),
        ])
    });
    &VOCABULARY
}

/// A step whose `when` and `input` are compiled.
#[derive(Clone, Debug)]
pub struct CompiledStep {
    /// What must be true for the step to run; `None` where it runs in any case.
    pub when: Option<Expression>,
    /// The step's `input`, with the expressions that stand in its strings.
    pub input: Template,
}

impl CompiledStep {
    /// Compiles the step's expressions; problems name fields below `field`, the step's own path.
    pub fn compile(step: &Step, field: &str) -> Result<CompiledStep, Vec<Problem>> {
        let mut problems = Vec::new();
        let when = match &step.when {
            None => None,
            Some(source) => Expression::parse_bool(source, vocabulary())
                .map_err(|error| problems.push(Problem::new(format!("{field}.when"), error.to_string())))
                .ok(),
        };
        // A template's error begins with the path of the string that holds it: `input.to`.
        let input = Template::parse(&Value::Object(step.input.clone()), vocabulary())
            .map_err(|error| problems.push(Problem::new(field, error.to_string())))
            .ok();
        match input {
            Some(input) if problems.is_empty() => Ok(CompiledStep { when, input }),
            _ => Err(problems),
        }
    }

    /// The steps whose outputs or outcomes the expressions name.
    pub fn referenced_steps(&self) -> BTreeSet<String> {
        self.paths().iter().filter(|p| p.root() == "steps").filter_map(|p| p.segments().get(1).cloned()).collect()
    }

    /// What the expressions name that is not there: another step, a parameter, a member.
    pub fn check_references(
        &self,
        field: &str,
        before: &dyn Fn(&str) -> bool,
        parameters: Option<&Map<String, Value>>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        let when = self.when.iter().map(|e| ("when", e.references().clone(), e.required(), e.dynamic().clone()));
        let input = ("input", self.input.references(), self.input.required(), self.input.dynamic());
        for (part, references, required, dynamic) in when.chain([input]) {
            let field = format!("{field}.{part}");
            for path in &dynamic {
                problems.push(Problem::new(&field, format!("{path}[…] is computed; name the member itself")));
            }
            for path in &references {
                let complaint = match path.root() {
                    "steps" => complain_step(path, before),
                    "task" => parameters.filter(|_| required.contains(path)).and_then(|has| complain_task(path, has)),
                    // The vocabulary knows the members of `plan`.
                    _ => None,
                };
                problems.extend(complaint.map(|message| Problem::new(&field, message)));
            }
        }
        problems
    }

    /// Whether everything the input needs is known before any step has run.
    pub fn input_is_static(&self) -> bool {
        self.input.references().iter().all(|path| path.root() != "steps")
    }

    fn paths(&self) -> BTreeSet<Path> {
        let mut paths = self.input.references();
        paths.extend(self.when.iter().flat_map(|e| e.references().iter().cloned()));
        paths
    }
}

fn complain_step(path: &Path, before: &dyn Fn(&str) -> bool) -> Option<String> {
    let [_, step, rest @ ..] = path.segments() else {
        return Some("steps is used as a whole; write steps.NAME.output or steps.NAME.outcome".to_owned());
    };
    if !before(step) {
        return Some(format!("{path}: step {step:?} does not come before this one; add it to needs"));
    }
    match rest.first().map(String::as_str) {
        Some("output" | "outcome") => None,
        _ => Some(format!("{path}: a step has output and outcome; write steps.{step}.output")),
    }
}

fn complain_task(path: &Path, parameters: &Map<String, Value>) -> Option<String> {
    let [_, member, key, ..] = path.segments() else { return None };
    if member != "parameters" || parameters.contains_key(key) {
        return None;
    }
    let meant = nearest(key, parameters.keys().map(String::as_str));
    let meant = meant.map(|meant| format!("write {meant:?}, or ")).unwrap_or_default();
    Some(format!("{path}: the Task has no parameter {key:?}; {meant}add it to spec.parameters"))
}

/// A step that is over, as a Plan's expressions see it.
pub(crate) struct Ended {
    /// Null where it did not succeed.
    pub output: Arc<Value>,
    pub outcome: Outcome,
}

/// The variables of a Plan's expressions.
pub(crate) fn variables(task: Value, plan: (&str, &str), ended: impl Iterator<Item = (String, Ended)>) -> Variables {
    let member = |Ended { output, outcome }: Ended| json!({"output": output.as_ref(), "outcome": outcome});
    let steps: Map<String, Value> = ended.map(|(step, ended)| (step, member(ended))).collect();
    let (name, digest) = plan;
    Variables::new()
        .with("task", task)
        .with("plan", json!({"name": name, "digest": digest}))
        .with("steps", Value::Object(steps))
}

/// What a Plan's expressions see as `task`.
pub(crate) fn task_value(namespace: &str, name: &str, parameters: &Map<String, Value>) -> Value {
    json!({"namespace": namespace, "name": name, "parameters": parameters})
}
