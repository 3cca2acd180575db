//! What the core can know to be wrong with an object, as refusals; and what may not change.

use countersign_core::check::{self, Problem};
use countersign_crds::{ANNOTATION_ON_BEHALF_OF, Agent, Plan, Policy, Skill, Task};

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use super::review::Refusal;

type Checked = Result<(), Refusal>;

/// How many problems one message holds.
const PROBLEMS: usize = 10;

fn checked(result: Result<(), Vec<Problem>>) -> Checked {
    result.map_err(|problems| {
        let mut lines: Vec<String> = problems.iter().take(PROBLEMS).map(Problem::to_string).collect();
        if problems.len() > PROBLEMS {
            lines.push(format!("and {} more", problems.len() - PROBLEMS));
        }
        Refusal::invalid(&lines.join("; "))
    })
}

/// Whether what was sent can be kept by everything that keeps it, whatever kind it is of.
pub fn storable(object: &DynamicObject) -> Checked {
    let spec = object.data.get("spec").unwrap_or(&Value::Null);
    checked(check::storable(spec))?;
    let claim = object.annotations().get(ANNOTATION_ON_BEHALF_OF);
    if claim.is_some_and(|claim| claim.contains('\0')) {
        let field = format!("metadata.annotations[{ANNOTATION_ON_BEHALF_OF}]");
        return Err(Refusal::invalid(&format!("{field}: holds the character U+0000; leave it out")));
    }
    Ok(())
}

pub fn task(new: &Task, old: Option<&Task>) -> Checked {
    if let Some(old) = old {
        // The API server's own rules cannot see into free JSON.
        for (field, same) in
            [("parameters", new.spec.parameters == old.spec.parameters), ("plan", new.spec.plan == old.spec.plan)]
        {
            if !same {
                return Err(Refusal::invalid(&format!("spec.{field}: is immutable; create a new Task")));
            }
        }
        // It was checked when it came; an old Task must be able to be cancelled.
        return Ok(());
    }
    checked(check::task(&new.spec))
}

pub fn plan(by_operator: bool, new: &Plan, old: Option<&Plan>) -> Checked {
    if let Some(old) = old.filter(|old| old.spec.task_ref.is_some()) {
        if new.spec != old.spec {
            return Err(Refusal::forbidden("spec: a Task's own copy of a Plan is immutable"));
        }
        return Ok(());
    }
    if new.spec.task_ref.is_some() {
        if by_operator {
            return Ok(());
        }
        return Err(Refusal::forbidden("spec.taskRef: is the operator's; leave it out of a template"));
    }
    checked(check::plan(&new.spec))
}

pub fn policy(new: &Policy, binds_cluster: bool) -> Checked {
    checked(check::policy(&new.spec, binds_cluster))
}

pub fn agent(new: &Agent) -> Checked {
    checked(check::agent(&new.spec))
}

pub fn skill(new: &Skill) -> Checked {
    checked(check::skill(&new.spec))
}
