//! Approvals that wait: signed, rejected, expired.

use countersign_crds::Signature;

use super::Worklist;
use super::turn::called_off_by_name;
use super::view::View;
use crate::approval::{Tally, is_new, tally};
use crate::blocked::BlockedReasons;
use crate::escape::shown;
use crate::record::{ApprovalRecord, Change, StepOutcome, TaskRecord};

pub(super) fn follow(view: &View<'_>, record: &Worklist, _: &mut BlockedReasons) -> Vec<Change> {
    let wanted = |approval: &&ApprovalRecord| called_off_by_name(record, &approval.step).is_none();
    record.requested().filter(wanted).flat_map(|approval| follow_one(view, record, approval)).collect()
}

fn follow_one(view: &View<'_>, record: &TaskRecord, approval: &ApprovalRecord) -> Vec<Change> {
    let name = &approval.name;
    let at = view.now;
    let new = new_signatures(view, approval);
    if !new.is_empty() {
        let sign = |decision| Change::SignApproval { name: name.clone(), decision, at };
        return new.into_iter().map(sign).collect();
    }
    let digest = approval.digest.to_string();
    match tally(&approval.terms(&digest), &approval.decisions) {
        Tally::Reached => vec![Change::DecideApproval { name: name.clone(), approved: true, at }],
        Tally::Rejected { by } => {
            let why = by.reason.as_deref().unwrap_or("no reason given");
            let message = format!("approval {name} was rejected by {}: {why}", shown(&by.user));
            let decided = Change::DecideApproval { name: name.clone(), approved: false, at };
            [decided].into_iter().chain(rejected(view, record, approval, "ApprovalRejected", &message)).collect()
        }
        Tally::Waiting(missing) if at >= approval.expires_at => {
            let message = format!("approval {name} expired at {}; it still lacked {missing}", approval.expires_at);
            let expired = Change::ExpireApproval { name: name.clone(), at };
            [expired].into_iter().chain(rejected(view, record, approval, "ApprovalExpired", &message)).collect()
        }
        Tally::Waiting(_) => Vec::new(),
    }
}

/// The decisions that are seen and not yet recorded, of this very digest and in time. What a person has said
/// once is recorded once, also where the object was made anew and they said it again; of other groups they say it anew.
fn new_signatures(view: &View<'_>, approval: &ApprovalRecord) -> Vec<Signature> {
    let Some(seen) = view.observed.approvals.get(&approval.name) else { return Vec::new() };
    let digest = approval.digest.to_string();
    let mut known = approval.decisions.clone();
    for decision in &seen.decisions {
        let in_time = decision.digest == digest && decision.at.0 < approval.expires_at;
        if in_time && is_new(&approval.required, &known, decision) {
            known.push(decision.clone());
        }
    }
    known.split_off(approval.decisions.len())
}

/// Every step that it was for and that has not run is over.
fn rejected(
    view: &View<'_>,
    record: &TaskRecord,
    approval: &ApprovalRecord,
    reason: &str,
    message: &str,
) -> Vec<Change> {
    let waits =
        |step: &&String| record.steps.get(*step).is_some_and(|state| state.is_open() && state.live_attempt().is_none());
    let reject = |step: &String| Change::FinishStep {
        step: step.clone(),
        outcome: StepOutcome::Rejected,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        output: None,
        rules: approval.covers.get(step).map(|covered| covered.rules.clone()).unwrap_or_default(),
        budget: None,
        at: view.now,
    };
    approval.covers.keys().filter(waits).map(reject).collect()
}
