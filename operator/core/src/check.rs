//! What can be known to be wrong with an object before it is admitted, beyond its schema.

use countersign_crds::{AgentSpec, PlanSpec, PolicySpec, Priority, SkillSpec, TaskSpec};
use serde_json::{Map, Value, json};

use crate::bounds::{EXPECTED, TIMEOUT};
use crate::budget::{check_budget, check_cost};
use crate::json::strict;
use crate::money::Money;
use crate::names::is_label;
use crate::payment::check_payment;
use crate::plan::check_steps;
use crate::policy::compile_rule;
pub use crate::problem::Problem;
use crate::schema::Schema;

/// The most bytes of JSON that a Task's parameters may have.
pub const PARAMETERS_LIMIT_BYTES: usize = 64 * 1024;

/// The most bytes of JSON that a spec may have: etcd takes requests of 1.5 MiB, and what the operator makes of it holds
/// the requester beside it.
pub const SPEC_LIMIT_BYTES: usize = 1024 * 1024;

type Checked = Result<(), Vec<Problem>>;

fn checked(problems: Vec<Problem>) -> Checked {
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Whether a spec of any kind, as it was sent, can be kept by everything that keeps it: etcd, PostgreSQL and the log.
///
/// # Errors
/// It holds U+0000, a number that readers round, is nested too deep, or is larger than [`SPEC_LIMIT_BYTES`].
pub fn storable(spec: &Value) -> Checked {
    let mut problems = Vec::new();
    if let Err(error) = strict::check(&json!({"spec": spec})) {
        problems.push(Problem::from(error));
    }
    let bytes = spec.to_string().len();
    if bytes > SPEC_LIMIT_BYTES {
        let message = format!("{bytes} bytes of JSON; at most {SPEC_LIMIT_BYTES}, so split it, or pass references");
        problems.push(Problem::new("spec", message));
    }
    checked(problems)
}

/// What is wrong with a Task's spec beyond its schema.
///
/// # Errors
/// Parameters, budget, priority, type or steps that are not allowed; every problem, by field.
pub fn task(spec: &TaskSpec) -> Checked {
    let mut problems = Vec::new();
    let parameters = Value::Object(spec.parameters.clone());
    if let Err(error) = strict::check(&parameters) {
        problems.push(Problem::new("spec.parameters", error.to_string()));
    }
    let bytes = parameters.to_string().len();
    if bytes > PARAMETERS_LIMIT_BYTES {
        let message = format!("{bytes} bytes of JSON; at most {PARAMETERS_LIMIT_BYTES}, so pass a reference instead");
        problems.push(Problem::new("spec.parameters", message));
    }
    if let Some(error) = spec.budget.as_ref().and_then(|text| text.parse::<Money>().err()) {
        problems.push(Problem::new("spec.budget", error.to_string()));
    }
    if spec.priority > Some(Priority::Normal) && spec.agent_ref.is_none() {
        let message = "without an Agent it is Normal at most; name one in spec.agentRef, or lower it";
        problems.push(Problem::new("spec.priority", message));
    }
    if spec.task_type.as_deref().is_some_and(|kind| !is_label(kind)) {
        let message = "becomes the value of a label; end it with a letter or a digit";
        problems.push(Problem::new("spec.type", message));
    }
    if let Some(plan) = &spec.plan {
        problems.extend(check_steps(&plan.steps, "spec.plan.steps", Some(&spec.parameters)));
    }
    checked(problems)
}

/// What is wrong with a Plan's spec beyond its schema.
///
/// # Errors
/// Steps that could never run; every problem, by field.
pub fn plan(spec: &PlanSpec) -> Checked {
    checked(check_steps(&spec.steps, "spec.steps", None))
}

/// `binds_cluster` where it stands in the operator's own namespace.
pub fn policy(spec: &PolicySpec, binds_cluster: bool) -> Checked {
    let wrong = |(index, rule)| compile_rule(rule, &format!("spec.rules[{index}].match")).err();
    let mut problems: Vec<Problem> = spec.rules.iter().enumerate().filter_map(wrong).collect();
    if let Some(budget) = &spec.budget {
        let of_namespace = budget.namespace.iter().flat_map(|budget| check_budget(budget, "spec.budget.namespace"));
        problems.extend(of_namespace);
        if let Some(of_cluster) = &budget.cluster {
            problems.extend(check_budget(of_cluster, "spec.budget.cluster"));
            if !binds_cluster {
                let message = "is for a Policy in the operator's own namespace; set spec.budget.namespace here";
                problems.push(Problem::new("spec.budget.cluster", message));
            }
        }
    }
    checked(problems)
}

/// What is wrong with an Agent's spec beyond its schema.
///
/// # Errors
/// A budget that is none; every problem, by field.
pub fn agent(spec: &AgentSpec) -> Checked {
    checked(spec.budget.iter().flat_map(|budget| check_budget(budget, "spec.budget")).collect())
}

/// What is wrong with a Skill's spec beyond its schema.
///
/// # Errors
/// Schemas, durations, jq program, cost or payment that could not be used; every problem, by field.
pub fn skill(spec: &SkillSpec) -> Checked {
    let schema = |field: &str, schema: &Map<String, Value>| {
        let error = Schema::compile(&json!(schema)).err()?;
        Some(Problem::new(field, format!("is not a JSON Schema: {error}")))
    };
    let timeout = TIMEOUT.problem("spec.timeout", &spec.timeout);
    let expected = spec.expected_duration.as_deref().and_then(|text| EXPECTED.problem("spec.expectedDuration", text));
    let program = spec.builtin.as_ref().and_then(|builtin| builtin.program.as_deref());
    let program = program.and_then(|program| countersign_jq::check(program).err());
    let program = program.map(|error| Problem::new("spec.builtin.program", error.to_string()));
    let schemas = [("spec.input", &spec.input), ("spec.output", &spec.output)];
    let cost = spec.cost.iter().flat_map(|cost| check_cost(cost, "spec.cost"));
    let payment = spec.payment.iter().flat_map(|payment| check_payment(payment, "spec.payment"));
    let schemas = schemas.into_iter().filter_map(|(field, map)| schema(field, map));
    checked(schemas.chain(timeout).chain(expected).chain(program).chain(cost).chain(payment).collect())
}
