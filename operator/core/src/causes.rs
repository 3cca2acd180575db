//! Why a Task came out as it did: from its end back to what began it, each cause with what it says of itself.

use jiff::Timestamp;
use serde::Serialize;

use crate::decide::went_wrong;
use crate::record::{ApprovalRecord, ApprovalState, AttemptRecord, AttemptState, StepRecord, TaskRecord};

/// One link, which the next one explains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// `Task`, `Step`, `Attempt`, `Approval` or `Signature`.
    pub kind: &'static str,
    /// The step's, attempt's or Approval's name, or who signed.
    pub name: String,
    /// CamelCase, for machines.
    pub reason: String,
    /// Why, in a sentence for people; `None` where nothing more is said.
    pub message: Option<String>,
    /// When it came about (UTC).
    pub at: Timestamp,
}

/// The chain, beginning with the Task's own end; empty while it goes on.
pub fn causes(record: &TaskRecord) -> Vec<Cause> {
    let Some(finished) = &record.finished else { return Vec::new() };
    let mut chain = vec![Cause {
        kind: "Task",
        name: record.name.clone(),
        reason: finished.reason.clone(),
        message: Some(finished.message.clone()),
        at: finished.at,
    }];
    let Some((name, step, at)) = first_to_fail(record) else { return chain };
    chain.push(Cause {
        kind: "Step",
        name: name.clone(),
        reason: step.reason.clone().unwrap_or_else(|| format!("{:?}", step.state)),
        message: step.message.clone(),
        at,
    });
    if let Some(approval) = refusal(record, name) {
        chain.extend(refused(approval));
    } else if let Some(last) = step.attempts.last() {
        chain.extend(ended(last));
    }
    chain
}

/// The step that did not end well before all others; what was skipped since is its consequence. A failure after which its
/// Task may go on is nothing that went wrong.
fn first_to_fail(record: &TaskRecord) -> Option<(&String, &StepRecord, Timestamp)> {
    let steps = record.plan.iter().flat_map(|plan| &plan.steps);
    let failed = steps
        .filter_map(|step| Some((step, record.steps.get_key_value(&step.name)?)))
        .filter(|(step, (_, state))| went_wrong(step, state))
        .map(|(_, state)| state);
    failed.filter_map(|(name, step)| Some((name, step, step.finished_at?))).min_by_key(|(_, _, at)| *at)
}

/// The Approval that kept the step from running, if one did.
fn refusal<'a>(record: &'a TaskRecord, step: &str) -> Option<&'a ApprovalRecord> {
    let of_it = record.approvals.values().filter(|approval| approval.covers.contains_key(step));
    of_it
        .filter(|approval| match approval.state {
            ApprovalState::Rejected | ApprovalState::Expired => true,
            ApprovalState::Requested
            | ApprovalState::Approved
            | ApprovalState::Superseded { .. }
            | ApprovalState::Consumed
            | ApprovalState::Withdrawn => false,
        })
        .max_by_key(|approval| approval.requested_at)
}

fn refused(approval: &ApprovalRecord) -> Vec<Cause> {
    let no = approval.decisions.iter().find(|decision| !decision.approved);
    let at = no.map_or(approval.expires_at, |no| no.at.0);
    let mut chain = vec![Cause {
        kind: "Approval",
        name: approval.name.clone(),
        reason: if approval.state == ApprovalState::Expired { "Expired" } else { "Rejected" }.to_owned(),
        message: None,
        at,
    }];
    chain.extend(no.map(|no| Cause {
        kind: "Signature",
        name: no.user.clone(),
        reason: "Rejected".to_owned(),
        message: no.reason.clone(),
        at,
    }));
    chain
}

fn ended(attempt: &AttemptRecord) -> Option<Cause> {
    match &attempt.state {
        AttemptState::Intended | AttemptState::Admitted { .. } => None,
        AttemptState::Finished { outcome, message, pod_uid: _, at } => Some(Cause {
            kind: "Attempt",
            name: attempt.key.clone(),
            reason: format!("{outcome:?}"),
            message: message.clone(),
            at: *at,
        }),
    }
}
