//! What rules see of a step's surroundings. They see it through these values alone, and a binding holds them whole.

use std::collections::BTreeSet;

use countersign_crds::{Priority, SkillSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::agent::ActingAgent;
use crate::budget::priority;
use crate::cel::Variables;
use crate::digest::{self, Digest};
use crate::judge::Case;
use crate::money::Money;

/// The Task, its requester and its Agent, as rules see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The Task.
    pub task: TaskSeen,
    /// Who asked; `None` where nobody knows.
    pub requester: Option<RequesterSeen>,
    /// The Agent that the Task acts for.
    pub agent: Option<AgentSeen>,
    /// What the step's input was made of that nobody vouches for.
    pub taint: BTreeSet<Taint>,
}

/// A Task, as rules see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskSeen {
    /// Of the Task object; rules do not see it.
    pub uid: String,
    /// The Task's namespace.
    pub namespace: String,
    /// The Task's name.
    pub name: String,
    /// `spec.type`.
    #[serde(rename = "type")]
    pub task_type: Option<String>,
    /// `spec.goal`.
    pub goal: Option<String>,
    /// The Task's own, and at most its Agent's.
    pub priority: Priority,
    /// SHA-256 over the RFC 8785 JSON of its parameters, which rules see whole.
    pub parameters: Digest,
}

/// A requester, as rules see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequesterSeen {
    /// The user name.
    pub user: String,
    /// The groups that they were in when they asked.
    pub groups: Vec<String>,
}

/// An Agent, as rules see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSeen {
    /// The Agent's name.
    pub name: String,
    /// The namespace that it stands in.
    pub namespace: String,
    /// Its `spec.priority`.
    pub priority: Priority,
}

/// Where something came from that nobody vouches for. There is no such source yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Taint {}

impl Seen {
    /// What rules see of a case besides its step and its Skill.
    pub fn of(case: &Case<'_>) -> Seen {
        let spec = &case.task.spec;
        let agent = case.agent.agent();
        let parameters = Value::Object(case.plan.parameters.clone());
        Seen {
            task: TaskSeen {
                uid: case.task.uid.clone(),
                namespace: case.task.namespace.clone(),
                name: case.task.name.clone(),
                task_type: spec.task_type.clone(),
                goal: spec.goal.clone(),
                priority: priority(spec.priority, agent.map(|agent| agent.spec.priority)),
                // Where a number has no canonical form, the text that was given stands for it.
                parameters: digest::of_json(&parameters).unwrap_or_else(|_| Digest::of_bytes(parameters.to_string())),
            },
            requester: case
                .request
                .requester
                .as_ref()
                .map(|who| RequesterSeen { user: who.user.clone(), groups: who.groups.clone() }),
            agent: agent.map(|ActingAgent { namespace, name, spec }| AgentSeen {
                name: name.clone(),
                namespace: namespace.clone(),
                priority: spec.priority,
            }),
            taint: BTreeSet::new(),
        }
    }

    /// The variables of rules about a step with this Skill, all but `step`.
    pub fn variables(&self, parameters: &Map<String, Value>, skill: &str, contract: &SkillSpec) -> Variables {
        // Rules cannot name a taint yet, as there is none.
        let Seen { task, requester, agent, taint: _ } = self;
        let TaskSeen { uid: _, namespace, name, task_type, goal, priority, parameters: _ } = task;
        let cost = contract.cost.as_ref().map(|cost| &cost.ceiling);
        let micros = cost.and_then(|ceiling| ceiling.parse().ok()).map_or(0, Money::micros);
        let task = json!({
            "name": name,
            "namespace": namespace,
            "type": task_type,
            "goal": goal,
            "priority": priority,
            "parameters": parameters,
        });
        let egress = &contract.egress;
        let skill = json!({
            "name": skill,
            "effect": contract.effect,
            "idempotent": contract.idempotent,
            "builtin": contract.builtin.as_ref().map(|builtin| builtin.name),
            "image": contract.image.as_ref().map(|image| &image.reference),
            "workspace": contract.workspace,
            "hosts": egress.iter().map(|egress| &egress.host).collect::<Vec<_>>(),
            "secrets": egress.iter().filter_map(|egress| Some(&egress.credential.as_ref()?.secret)).collect::<Vec<_>>(),
        });
        Variables::new()
            .with("task", task)
            .with("skill", skill)
            .with("agent", json!(agent))
            .with("cost", json!({"ceiling": cost, "micros": micros}))
            .with("request", json!(requester))
    }
}
