//! From a Task to its stamped Plan.

use countersign_crds::AgentReference;
use serde_json::Value;

use super::view::View;
use crate::agent::ActingAgent;
use crate::blocked::BlockedReasons;
use crate::plan::{self, Selection};
use crate::record::{Change, Finished, Request, TaskOutcome, TaskRecord};

pub(super) fn adopt(view: &View<'_>) -> Vec<Change> {
    let Some(task) = &view.observed.task else { return Vec::new() };
    let mut spec = task.spec.clone();
    if let Some(ActingAgent { namespace, name, spec: _ }) = view.observed.agent.agent() {
        spec.agent_ref = Some(AgentReference { name: name.clone(), namespace: Some(namespace.clone()) });
    }
    let spec = serde_json::to_value(&spec).unwrap_or(Value::Null);
    vec![Change::Adopt {
        uid: task.uid.clone(),
        namespace: task.namespace.clone(),
        name: task.name.clone(),
        spec,
        request: Request { requester: task.spec.requester.clone(), on_behalf_of: task.on_behalf_of.clone() },
        at: view.now,
    }]
}

pub(super) fn stamp(view: &View<'_>, record: &TaskRecord, blocked: &mut BlockedReasons) -> Vec<Change> {
    let Some(task) = &view.observed.task else { return Vec::new() };
    if record.plan.is_some() || record.ending.is_some() {
        return Vec::new();
    }
    match plan::select(task, view.observed, view.bench.fence) {
        Selection::Stamp(plan) => vec![Change::Stamp { plan: *plan, at: view.now }],
        Selection::Blocked(found) => match view.still_missing(found, record.adopted_at) {
            Ok(found) => {
                blocked.planning = Some(found);
                Vec::new()
            }
            Err(found) => refuse(view, found.reason.as_str(), found.message),
        },
        Selection::Refuse { reason, message } => refuse(view, reason, message),
    }
}

fn refuse(view: &View<'_>, reason: &str, message: String) -> Vec<Change> {
    let reason = reason.to_owned();
    vec![Change::Finish { finished: Finished { outcome: TaskOutcome::Failed, reason, message, at: view.now } }]
}
