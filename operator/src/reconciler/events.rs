//! Kubernetes Events about Approvals, and about what does not go on: told where `kubectl describe` shows it. The record
//! is the truth; an Event that cannot be written is only logged.

use countersign_core::blocked::{Blocked, BlockedReasons};
use countersign_core::escape::{excerpt, shown};
use countersign_core::record::{Change, TaskRecord};
use countersign_crds::{Approval, Task, TaskStatus};
use countersign_service::causes::told;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

/// Tells of one change, where it is one of an Approval; `uid` is that Approval's.
pub async fn tell(recorder: &Recorder, namespace: &str, name: &str, uid: String, event: Event) {
    publish(recorder, &reference::<Approval>(namespace, name, uid), &event).await;
}

/// Tells of what a Task's steps wait for, each once while it waits for the same.
pub async fn tell_blocked(
    recorder: &Recorder,
    (namespace, name, uid): (&str, &str, &str),
    before: Option<&TaskStatus>,
    blocked: &BlockedReasons,
) {
    let task = reference::<Task>(namespace, name, uid.to_owned());
    for event in of_blocked(before, blocked) {
        publish(recorder, &task, &event).await;
    }
}

async fn publish(recorder: &Recorder, about: &ObjectReference, event: &Event) {
    if let Err(error) = recorder.publish(event, about).await {
        tracing::warn!(kind = ?about.kind, name = ?about.name, error = told(&error), "an Event was not written");
    }
}

fn reference<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, uid: String) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}

/// At most so many Events follow from one reconciliation.
const MOST_EVENTS: usize = 8;

/// What is to be told of what is blocked: what the status before does not say already.
fn of_blocked(before: Option<&TaskStatus>, blocked: &BlockedReasons) -> Vec<Event> {
    let said = |step: &str| {
        let steps = before.map(|status| status.steps.as_slice()).unwrap_or_default();
        steps.iter().find(|known| known.name == step).and_then(|known| known.reason.as_deref())
    };
    let conditions = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let planned = conditions.iter().find(|condition| condition.type_ == "Planned");
    let new = |why: &Blocked, said: Option<&str>| why.reason.is_told() && said != Some(why.reason.as_str());
    let planning = blocked.planning.iter().filter(|why| new(why, planned.map(|planned| planned.reason.as_str())));
    let steps = blocked.steps.iter().filter(|(step, why)| new(why, said(step)));
    let planning = planning.map(|why| (why, why.message.clone(), "Plan".to_owned()));
    let steps = steps.map(|(step, why)| (why, format!("step {step}: {}", why.message), format!("Start-{step}")));
    let told = planning.chain(steps).take(MOST_EVENTS).map(|(why, note, action)| {
        let kind = if why.reason.is_missing() { EventType::Warning } else { EventType::Normal };
        Event { action, ..event(kind, why.reason.as_str(), note, None) }
    });
    told.collect()
}

/// The Approval that a change is of, and what to say of it. That one was requested is told when it is made.
pub fn of_change(change: &Change, record: Option<&TaskRecord>) -> Option<(String, Event)> {
    let mut action = String::new();
    let (name, type_, reason, note) = match change {
        Change::SignApproval { name, decision, .. } => {
            // Events of one action are taken for repetitions of each other, and each signature is its own.
            let of = record.and_then(|record| record.approvals.get(name));
            let place = of.and_then(|a| a.decisions.iter().position(|known| known == decision));
            action = format!("Signature{}", place.unwrap_or_default() + 1);
            let verb = if decision.approved { "approved" } else { "rejected" };
            let why = decision.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            (name, EventType::Normal, "Signed", format!("{verb} by {}{why}", shown(&decision.user)))
        }
        Change::DecideApproval { name, approved: true, .. } => {
            (name, EventType::Normal, "Approved", "it has the signatures that it takes".to_owned())
        }
        Change::DecideApproval { name, approved: false, .. } => {
            (name, EventType::Warning, "Rejected", "somebody said no, and that is final".to_owned())
        }
        Change::ExpireApproval { name, .. } => {
            (name, EventType::Warning, "Expired", "the signatures that it takes did not come in time".to_owned())
        }
        Change::SupersedeApproval { name, changed, .. } => {
            let note = format!("what would run changed: {}; signatures count for nothing", changed.join(", "));
            (name, EventType::Warning, "Superseded", note)
        }
        Change::WithdrawApproval { name, .. } => {
            (name, EventType::Normal, "Withdrawn", "the Task ended before it was used".to_owned())
        }
        Change::Intend { step, number, approval: Some(name), .. } => {
            (name, EventType::Normal, "Used", format!("attempt {number} at step {step} runs under it"))
        }
        Change::Adopt { .. }
        | Change::SnapshotPlan { .. }
        | Change::RequestApproval { .. }
        | Change::Intend { approval: None, .. }
        | Change::Defer { .. }
        | Change::Admit { .. }
        | Change::FinishAttempt { .. }
        | Change::FinishStep { .. }
        | Change::BeginEnding { .. }
        | Change::FinishTask { .. } => return None,
    };
    let related = record.map(|record| ObjectReference {
        api_version: Some(countersign_crds::Task::api_version(&()).into_owned()),
        kind: Some("Task".to_owned()),
        name: Some(record.name.clone()),
        namespace: Some(record.namespace.clone()),
        uid: Some(record.uid.clone()),
        ..ObjectReference::default()
    });
    let event = event(type_, reason, note, related);
    let action = if action.is_empty() { event.action.clone() } else { action };
    Some((name.clone(), Event { action, ..event }))
}

/// What is said when an Approval is made.
pub fn requested(note: String) -> Event {
    event(EventType::Normal, "Requested", note, None)
}

fn event(type_: EventType, reason: &str, note: String, secondary: Option<ObjectReference>) -> Event {
    let note = excerpt(&note, 1000);
    Event { type_, reason: reason.to_owned(), note: Some(note), action: reason.to_owned(), secondary }
}

#[cfg(test)]
mod tests {
    use countersign_core::blocked::BlockedReason;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_step_waits_for_is_told_once_and_what_is_over_in_a_moment_never() {
        let mut blocked = BlockedReasons::default();
        blocked.block("pays", Blocked::new(BlockedReason::SecretNotFound, "the Secret \"key\" is not there"));
        blocked.block("later", Blocked::new(BlockedReason::Suspended, "the Task is suspended"));
        blocked.block("busy", Blocked::new(BlockedReason::EvaluatorBusy, "not finished within 100 ms"));
        let told = |before: Option<&TaskStatus>| {
            let events = of_blocked(before, &blocked);
            let said = |event: Event| format!("{:?} {} {}", event.type_, event.reason, event.note.unwrap_or_default());
            events.into_iter().map(said).collect::<Vec<_>>()
        };
        let both = [
            "Normal Suspended step later: the Task is suspended",
            "Warning SecretNotFound step pays: the Secret \"key\" is not there",
        ];
        assert_eq!(told(None), both);
        let step = json!({"name": "pays", "state": "Pending", "reason": "SecretNotFound"});
        let before: TaskStatus = serde_json::from_value(json!({"conditions": [], "steps": [step]})).unwrap();
        assert_eq!(told(Some(&before)), both[..1]);
    }
}
