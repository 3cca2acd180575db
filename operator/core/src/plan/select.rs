//! Which Plan a Task runs, and whether everything it needs is installed.

use std::collections::BTreeMap;

use countersign_crds::{OnFailure, PlanTemplate, SkillSpec, Step, StepApproval};
use serde_json::{Map, Value, json};

use super::graph::{at, compile_steps};
use super::step::{CompiledStep, task_value, variables};
use crate::agent::Acting;
use crate::blocked::{Blocked, BlockedReason};
use crate::cel::CelEvaluator;
use crate::digest::{self, Digest};
use crate::names;
use crate::observed::{Observed, TaskView, TemplateLookup};
use crate::problem::{self, Problem};
use crate::record::RecordedPlan;
use crate::schema::Schema;

/// The Skill of the one-step Plan for a type that no template serves.
const GENERIC_SKILL: &str = "generic-action";

/// What planning came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// The Plan as it is recorded, checked against what is installed.
    Snapshot(Box<RecordedPlan>),
    /// Something that a person can still install is missing, or the evaluator has no time.
    Blocked(Blocked),
    /// It can never run.
    Refuse {
        /// CamelCase, for machines: `InvalidTask`, `InvalidPlan` or `InvalidParameters`.
        reason: &'static str,
        /// What is wrong and in which field, for people.
        message: String,
    },
}

/// A Plan that a snapshot can be taken of, with its steps compiled.
pub(crate) struct Chosen {
    pub plan: RecordedPlan,
    pub compiled: Vec<CompiledStep>,
}

/// Chooses the Task's Plan and checks it against what is installed.
pub fn select(task: &TaskView, observed: &Observed, evaluator: &CelEvaluator) -> Selection {
    match choose(task, observed, evaluator) {
        Ok(Chosen { plan, compiled: _ }) => Selection::Snapshot(Box::new(plan)),
        Err(selection) => selection,
    }
}

/// As [`select`]; what is refused or waited for is the error.
pub(crate) fn choose(task: &TaskView, observed: &Observed, evaluator: &CelEvaluator) -> Result<Chosen, Selection> {
    let (source, template) = source(task, &observed.template)?;
    let parameters = &task.spec.parameters;
    if let Err(error) = crate::json::strict::check(&Value::Object(parameters.clone())) {
        let message = format!("spec.parameters: {error}");
        return Err(Selection::Refuse { reason: "InvalidParameters", message });
    }
    let compiled = compile_steps(&template.steps, "steps", Some(parameters));
    let compiled = compiled.map_err(|problems| refuse(&source, &problems))?;
    if let Acting::Unclear(error) = &observed.agent {
        return Err(blocked(error.reason(), error.to_string()));
    }
    if let Some(problem) = missing_skill(&template.steps, &observed.skills) {
        return Err(blocked(BlockedReason::SkillNotInstalled, format!("{source}: {problem}")));
    }
    let digest = digest_of(&template)
        .map_err(|error| Selection::Refuse { reason: "InvalidPlan", message: format!("{source}: {error}") })?;
    let name = names::plan(&task.uid, &task.name);
    let steps = template.steps.iter().zip(&compiled);
    let evaluator = evaluator.of(&task.namespace);
    let problems = check_static_inputs(task, steps, &observed.skills, (&name, digest), &evaluator).map_err(|busy| {
        let Blocked { reason, message, until: _ } = *busy;
        blocked(reason, format!("{source}: {message}"))
    })?;
    if !problems.is_empty() {
        return Err(refuse(&source, &problems));
    }
    let PlanTemplate { parallelism, steps } = template;
    let plan = RecordedPlan { name, digest, source, parallelism, steps, parameters: parameters.clone() };
    Ok(Chosen { plan, compiled })
}

/// SHA-256 over RFC 8785 JSON of a Plan's content.
pub(crate) fn digest_of(template: &PlanTemplate) -> Result<Digest, String> {
    let value = serde_json::to_value(template).map_err(|error| error.to_string())?;
    digest::of_json(&value).map_err(|error| error.to_string())
}

fn blocked(reason: BlockedReason, message: String) -> Selection {
    Selection::Blocked(Blocked::new(reason, message))
}

fn refuse(source: &str, problems: &[Problem]) -> Selection {
    Selection::Refuse { reason: "InvalidPlan", message: format!("{source}: {}", problem::join(problems)) }
}

/// The Plan's content, and in words where it comes from.
pub(crate) fn source(task: &TaskView, lookup: &TemplateLookup) -> Result<(String, PlanTemplate), Selection> {
    if let Some(plan) = &task.spec.plan {
        return Ok(("inline plan".to_owned(), plan.clone()));
    }
    match lookup {
        TemplateLookup::Found { name, template } => Ok((format!("plan {name}"), template.clone())),
        TemplateLookup::Missing { name } => {
            let message = format!("spec.planRef: there is no Plan {name:?} in this namespace; create it");
            Err(blocked(BlockedReason::PlanNotFound, message))
        }
        TemplateLookup::Ambiguous { message } => Err(blocked(BlockedReason::PlanAmbiguous, message.clone())),
        TemplateLookup::NoneForType => Ok(("generic plan".to_owned(), generic(task))),
        TemplateLookup::NotNeeded => {
            let message = "spec: set exactly one of type, planRef and plan".to_owned();
            Err(Selection::Refuse { reason: "InvalidTask", message })
        }
    }
}

/// One step for a type that no template serves; Policy judges it like any other.
fn generic(task: &TaskView) -> PlanTemplate {
    let action = task.spec.task_type.clone().unwrap_or_default();
    let input = Map::from_iter([
        ("action".to_owned(), Value::String(action)),
        ("parameters".to_owned(), Value::String("${task.parameters}".to_owned())),
    ]);
    let step = Step {
        name: "generic_action".to_owned(),
        skill: GENERIC_SKILL.to_owned(),
        input,
        needs: Vec::new(),
        after: Vec::new(),
        finally: false,
        on_failure: OnFailure::EndTask,
        when: None,
        retry: None,
        timeout: None,
        approval: StepApproval::Policy,
    };
    PlanTemplate { parallelism: 1, steps: vec![step] }
}

fn missing_skill(steps: &[Step], skills: &BTreeMap<String, SkillSpec>) -> Option<Problem> {
    let (index, step) = steps.iter().enumerate().find(|(_, step)| !skills.contains_key(&step.skill))?;
    let message = format!("the Skill {:?} is not installed; install it or name another", step.skill);
    Some(Problem::new(format!("{}.skill", at("steps", index, step)), message))
}

/// Inputs that need no other step's output are known now, and so is whether the Skill takes them. The error is the field
/// that the evaluator had no time for, of which nothing may be concluded.
fn check_static_inputs<'a>(
    task: &TaskView,
    steps: impl Iterator<Item = (&'a Step, &'a CompiledStep)>,
    skills: &BTreeMap<String, SkillSpec>,
    (plan, digest): (&str, Digest),
    evaluator: &CelEvaluator,
) -> Result<Vec<Problem>, Box<Blocked>> {
    let view = task_value(&task.namespace, &task.name, &task.spec.parameters);
    let variables = variables(view, (plan, &digest.to_string()), std::iter::empty());
    // Many steps use the same few Skills.
    let mut schemas: BTreeMap<&str, Result<Schema, String>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, (step, compiled)) in steps.enumerate() {
        // A step that may be skipped may also have an input that makes no sense then.
        if !compiled.input_is_static() || step.when.is_some() {
            continue;
        }
        let field = at("steps", index, step);
        match compiled.input.resolve(evaluator, &variables) {
            Ok(input) => {
                let Some(skill) = skills.get(&step.skill) else { continue };
                let schema = schemas.entry(&step.skill).or_insert_with(|| compile_schema(&skill.input));
                problems.extend(violations(schema, &input, &field));
            }
            Err(error) if error.is_transient() => {
                return Err(Box::new(Blocked::evaluation(&format!("{field}.input"), error.evaluation(), &error)));
            }
            Err(error) => problems.push(Problem::new(&field, error.to_string())),
        }
    }
    Ok(problems)
}

/// How a value breaks a Skill's schema, with paths below `field`.
pub(crate) fn check_schema(schema: &Map<String, Value>, value: &Value, field: &str) -> Vec<Problem> {
    violations(&compile_schema(schema), value, field)
}

fn compile_schema(schema: &Map<String, Value>) -> Result<Schema, String> {
    Schema::compile(&json!(schema)).map_err(|error| error.to_string())
}

fn violations(schema: &Result<Schema, String>, value: &Value, field: &str) -> Vec<Problem> {
    match schema {
        Err(error) => vec![Problem::new(field, format!("the Skill's schema does not compile: {error}"))],
        Ok(schema) => match schema.validate(value) {
            Ok(()) => Vec::new(),
            Err(violations) => violations
                .into_iter()
                .map(|violation| Problem::new(format!("{field}.input{}", dotted(&violation.path)), violation.message))
                .collect(),
        },
    }
}

fn dotted(path: &impl ToString) -> String {
    let path = path.to_string();
    if path.is_empty() || path.starts_with('[') { path } else { format!(".{path}") }
}
