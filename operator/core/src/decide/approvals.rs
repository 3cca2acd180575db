//! Approvals that wait: signed, rejected, expired.

use countersign_crds::Decision;

use super::Waits;
use super::view::View;
use crate::record::{ApprovalRecord, ApprovalState, Change, StepOutcome, TaskRecord};

pub(super) fn follow(view: &View<'_>, record: &TaskRecord, _: &mut Waits) -> Vec<Change> {
    if record.ending.is_some() {
        return Vec::new();
    }
    let waiting = record.approvals.values().filter(|approval| approval.state == ApprovalState::Requested);
    waiting.flat_map(|approval| follow_one(view, approval)).collect()
}

fn follow_one(view: &View<'_>, approval: &ApprovalRecord) -> Vec<Change> {
    let name = approval.name.clone();
    let at = view.now;
    match signature(view, approval) {
        Some(decision) if decision.approved => {
            vec![Change::DecideApproval { name, decision: decision.clone(), at }]
        }
        Some(decision) => {
            let why = decision.reason.as_deref().unwrap_or("no reason given");
            let message = format!("approval {name} was rejected by {}: {why}", decision.user);
            let decided = Change::DecideApproval { name, decision: decision.clone(), at };
            vec![decided, rejected(view, approval, "ApprovalRejected", message)]
        }
        None if view.now >= approval.expires_at => {
            let message = format!("approval {name} expired at {} without a signature", approval.expires_at);
            vec![Change::ExpireApproval { name, at }, rejected(view, approval, "ApprovalExpired", message)]
        }
        None => Vec::new(),
    }
}

/// The first decision that counts: of this very digest, and in time.
fn signature<'a>(view: &'a View<'_>, approval: &ApprovalRecord) -> Option<&'a Decision> {
    let seen = view.observed.approvals.get(&approval.name)?;
    let digest = approval.digest.to_string();
    seen.decisions.iter().find(|decision| decision.digest == digest && decision.at.0 < approval.expires_at)
}

fn rejected(view: &View<'_>, approval: &ApprovalRecord, reason: &str, message: String) -> Change {
    Change::FinishStep {
        step: approval.step.clone(),
        outcome: StepOutcome::Rejected,
        reason: Some(reason.to_owned()),
        message: Some(message),
        output: None,
        rules: approval.rules.clone(),
        at: view.now,
    }
}
