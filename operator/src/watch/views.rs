//! From Kubernetes objects to the small views that the core decides on.

use countersign_core::json::strict::{self, StrictError, storable};
use countersign_core::observed::{ApprovalView, PodEnd, PodState, PodView, Report, TaskView};
use countersign_core::status;
use countersign_crds::{ANNOTATION_ON_BEHALF_OF, ANNOTATION_RUN, ANNOTATION_TASK, Approval, GATE, LABEL_ATTEMPT};
use countersign_crds::{Effect, PolicyMode, PolicySpec, RiskClass, Rule};
use countersign_crds::{LABEL_TASK_UID, Task};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::ResourceExt;
use kube::api::{ObjectMeta, PartialObjectMeta};
use serde_json::Value;

use crate::watch::index::{Entry, TaskKey};

/// The name of the container that runs the skill.
pub const SKILL_CONTAINER: &str = "skill";

pub fn task(task: &Task) -> Option<TaskView> {
    Some(TaskView {
        uid: task.uid()?,
        namespace: task.namespace()?,
        name: task.name_any(),
        generation: task.metadata.generation,
        spec: task.spec.clone(),
        on_behalf_of: task
            .annotations()
            .get(ANNOTATION_ON_BEHALF_OF)
            .map(|claim| storable(claim).chars().take(250).collect()),
        mark: task.annotations().get(ANNOTATION_RUN).cloned(),
        deleting: task.metadata.deletion_timestamp.is_some(),
        conditions: task.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default(),
    })
}

/// A Job or a Plan snapshot, of which only the existence counts.
pub fn existence<K>(object: &PartialObjectMeta<K>) -> Option<Entry<()>> {
    let task = owner(&object.metadata)?;
    Some(Entry { task, name: object.metadata.name.clone()?, view: () })
}

/// The Task that an object of the operator's belongs to: its owner.
fn owner(meta: &ObjectMeta) -> Option<TaskKey> {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.kind == "Task")?;
    Some(TaskKey { namespace: meta.namespace.clone()?, name: owner.name.clone(), uid: owner.uid.clone() })
}

pub fn approval(approval: &Approval) -> Option<Entry<ApprovalView>> {
    let reference = &approval.spec.task_ref;
    Some(Entry {
        task: TaskKey { namespace: approval.namespace()?, name: reference.name.clone(), uid: reference.uid.clone() },
        name: approval.name_any(),
        view: ApprovalView {
            uid: approval.uid()?,
            generation: approval.metadata.generation,
            digest: approval.spec.digest.clone(),
            decisions: approval.spec.decisions.clone(),
            reported: approval.status.as_ref().and_then(status::reported),
        },
    })
}

pub fn pod(pod: &Pod) -> Option<Entry<PodView>> {
    let labels = pod.labels();
    let key = labels.get(LABEL_ATTEMPT)?.clone();
    let task = TaskKey {
        namespace: pod.namespace()?,
        name: pod.annotations().get(ANNOTATION_TASK)?.clone(),
        uid: labels.get(LABEL_TASK_UID)?.clone(),
    };
    let view = PodView { name: pod.name_any(), uid: pod.uid()?, key, state: pod_state(pod) };
    Some(Entry { task, name: pod.name_any(), view })
}

fn pod_state(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
    if matches!(phase, "Succeeded" | "Failed") {
        let runtime_class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.clone());
        return PodState::Ended(pod_end(status, runtime_class));
    }
    let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    if gates.into_iter().any(|gate| gate.name == GATE) {
        return PodState::Unchecked;
    }
    match skill_container(status).and_then(|container| container.state.as_ref()) {
        Some(state) if state.running.is_some() || state.terminated.is_some() => PodState::Running,
        Some(state) => PodState::Waiting {
            message: state.waiting.as_ref().map(|waiting| {
                let reason = waiting.reason.as_deref().unwrap_or("waiting");
                let message = waiting.message.as_deref().unwrap_or_default();
                storable(format!("{reason}: {message}").trim_end_matches([':', ' ']))
            }),
        },
        None => PodState::Waiting { message: unscheduled(status) },
    }
}

fn skill_container(status: Option<&PodStatus>) -> Option<&ContainerStatus> {
    status?.container_statuses.iter().flatten().find(|container| container.name == SKILL_CONTAINER)
}

fn unscheduled(status: Option<&PodStatus>) -> Option<String> {
    let condition = status?.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    condition.message.as_deref().map(storable)
}

fn pod_end(status: Option<&PodStatus>, runtime_class: Option<String>) -> PodEnd {
    let terminated = skill_container(status).and_then(|c| c.state.as_ref()).and_then(|s| s.terminated.as_ref());
    let mut report = terminated.and_then(|t| t.message.as_deref()).and_then(parse_report);
    // What the pod cannot know of itself, or could say wrongly.
    if let Some(evidence) = report.as_mut().and_then(|report| report.evidence.as_mut()) {
        evidence.image = skill_container(status).map(|container| container.image_id.clone());
        evidence.runtime_class = runtime_class;
    }
    let own = status.and_then(|s| s.reason.clone()).filter(|reason| !reason.is_empty());
    let container = terminated.map(|t| match t.reason.as_deref() {
        Some("Error" | "Completed") | None => format!("exit code {}", t.exit_code),
        Some(reason) => format!("{reason}, exit code {}", t.exit_code),
    });
    let reason = own.or(container).map(|reason| storable(&reason));
    PodEnd { report, reason: reason.unwrap_or_else(|| "no reason given".to_owned()), output: None }
}

fn parse_report(message: &str) -> Option<Report> {
    let value = match strict::parse(message) {
        // What the skill said is told, with what cannot be stored spelt out.
        Err(StrictError::Nul { .. }) => spelt(serde_json::from_str(message).ok()?),
        parsed => parsed.ok()?,
    };
    serde_json::from_value(value).ok()
}

fn spelt(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::String(text) => Value::String(storable(&text)),
        Value::Array(items) => items.into_iter().map(spelt).collect(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(key, member)| (storable(&key), spelt(member))).collect())
        }
    }
}

/// A Policy that cannot be read denies everything that it bears on, and says why.
pub fn unreadable_policy(error: &str) -> PolicySpec {
    PolicySpec {
        budget: None,
        mode: PolicyMode::Enforce,
        rules: vec![Rule {
            name: "unreadable".to_owned(),
            matches: "true".to_owned(),
            effect: Effect::Deny,
            risk: RiskClass::High,
            message: Some(format!("this Policy cannot be read: {error}").chars().take(256).collect()),
            approval: None,
        }],
        egress: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_says_is_told_with_what_cannot_be_stored_spelt_out() {
        let message = r#"{"version": 1, "attempt": "a", "status": "Failed", "message": "no\u0000way", "finishedAt": "2026-01-01T00:00:00Z"}"#;
        let report = parse_report(message).unwrap();
        assert_eq!(report.message, "no\\u{0}way");
    }
}
