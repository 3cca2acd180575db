//! Kubernetes Events about Approvals: what was recorded, told where `kubectl describe` shows it. The record is the
//! truth; an Event that cannot be written is only logged.

use countersign_core::escape::{excerpt, shown};
use countersign_core::record::{Change, TaskRecord};
use countersign_crds::Approval;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

/// Tells of one change, where it is one of an Approval; `uid` is that Approval's.
pub async fn tell(recorder: &Recorder, namespace: &str, name: &str, uid: String, event: Event) {
    let reference = ObjectReference {
        api_version: Some(Approval::api_version(&()).into_owned()),
        kind: Some(Approval::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid),
        ..ObjectReference::default()
    };
    if let Err(error) = recorder.publish(&event, &reference).await {
        tracing::warn!(approval = %name, %error, "an Event was not written");
    }
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
        | Change::Stamp { .. }
        | Change::RequestApproval { .. }
        | Change::Intend { approval: None, .. }
        | Change::Defer { .. }
        | Change::Admit { .. }
        | Change::FinishAttempt { .. }
        | Change::FinishStep { .. }
        | Change::End { .. }
        | Change::Finish { .. } => return None,
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
