//! Why a Task is where it is.

use anyhow::bail;
use countersign_core::escape::{printable, shown};
use countersign_core::status::phase_of;
use countersign_crds::{Approval, StepState, Task};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::cluster::Cluster;
use crate::output::say;
use crate::text::{describe, state, table};

pub async fn run(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    if let Some(task) = cluster.tasks().get_opt(name).await? {
        let params = ListParams::default().fields(&format!("spec.taskRef.name={name}"));
        let mut approvals = cluster.approvals().list(&params).await?.items;
        let uid = task.uid().unwrap_or_default();
        approvals.retain(|approval| approval.spec.task_ref.uid == uid);
        say(&explain(Timestamp::now(), &task, &approvals));
        return Ok(());
    }
    match cluster.approvals().get_opt(name).await? {
        Some(approval) => say(&describe(Timestamp::now(), &approval)),
        None => bail!("there is no Task and no Approval {name:?} in namespace {}", cluster.namespace),
    }
    Ok(())
}

fn explain(now: Timestamp, task: &Task, approvals: &[Approval]) -> String {
    let status = task.status.clone().unwrap_or_default();
    let conditions = status.conditions.iter();
    let message = conditions.clone().find(|condition| condition.type_ == "Succeeded").map(|c| c.message.as_str());
    let mut out =
        vec![format!("{} is {}: {}", task.name_any(), phase_of(task), printable(message.unwrap_or_default()))];
    if let Some(requester) = &task.spec.requester {
        out.push(format!("asked for by {}", shown(&requester.user)));
    }
    for condition in conditions.filter(|condition| condition.type_ != "Succeeded") {
        out.push(format!("{} is {}: {}", condition.type_, condition.status, printable(&condition.message)));
    }
    let mut rows = vec![["STEP", "STATE", "WHY"].map(str::to_owned).to_vec()];
    for step in &status.steps {
        let why = match step.state {
            StepState::WaitingApproval => waits(approvals, step.approval.as_deref()),
            StepState::Blocked => "what comes before it has not ended".to_owned(),
            StepState::Pending
            | StepState::Ready
            | StepState::Running
            | StepState::Succeeded
            | StepState::Failed
            | StepState::Skipped
            | StepState::Rejected
            | StepState::Unknown => [step.reason.clone(), step.message.as_deref().map(printable)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": "),
        };
        rows.push(vec![step.name.clone(), format!("{:?}", step.state), why]);
    }
    if rows.len() > 1 {
        out.push(format!("\n{}", table(&rows)));
    }
    for approval in approvals.iter().filter(|approval| state(approval).0 == "Pending") {
        out.push(format!("\nApproval {}\n{}", approval.name_any(), describe(now, approval)));
    }
    out.join("\n")
}

fn waits(approvals: &[Approval], name: Option<&str>) -> String {
    let approval = approvals.iter().find(|approval| Some(approval.name_any().as_str()) == name);
    approval.map_or_else(String::new, |approval| format!("{} ({})", printable(state(approval).1), approval.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_step_says_why_it_is_where_it_is() {
        let task: Task = serde_json::from_value(json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": "t"},
            "spec": {"type": "x", "requester": {"user": "dave"}},
            "status": {
                "conditions": [{"type": "Succeeded", "status": "False", "reason": "Rejected", "lastTransitionTime": "2026-01-01T00:00:00Z",
                    "message": "PolicyDenied: step two: policy ops/starter, rule limit: at most 1000"}],
                "steps": [
                    {"name": "one", "state": "Succeeded"},
                    {"name": "two", "state": "Rejected", "reason": "PolicyDenied", "message": "at most 1000"},
                    {"name": "three", "state": "Skipped", "reason": "StepFailed", "message": "another step did not succeed"}],
            },
        }))
        .unwrap();
        let expected = "t is Rejected: PolicyDenied: step two: policy ops/starter, rule limit: at most 1000
asked for by dave

STEP    STATE       WHY
one     Succeeded
two     Rejected    PolicyDenied: at most 1000
three   Skipped     StepFailed: another step did not succeed";
        assert_eq!(explain("2026-01-01T00:00:00Z".parse().unwrap(), &task, &[]), expected);
    }
}
