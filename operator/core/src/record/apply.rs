//! What each [`Change`] does to a [`TaskRecord`]. A change that does not fit is refused, never bent.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::approval::{Tally, is_new, tally};

use super::{
    ApprovalRecord, ApprovalState, AttemptOutcome, AttemptRecord, AttemptState, Change, Deferral, Reservation,
    StepOutcome, StepRecord, TaskRecord,
};

/// A change that cannot follow from the record it was meant for: a defect in the core, or a stale view.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("task {task}: {change} does not fit the record: {problem}")]
pub struct ApplyError {
    /// The Task's name; empty where there is no record yet.
    pub task: String,
    /// The change's [`Change::kind`]; `change` where any would be refused, `first change` where there is no record yet.
    pub change: &'static str,
    /// Why it does not fit, in words.
    pub problem: String,
}

impl TaskRecord {
    /// Applies one change. The record is unchanged where an error is returned.
    pub fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        let task = self.name.clone();
        let refuse =
            |change, problem: &str| Err(ApplyError { task: task.clone(), change, problem: problem.to_owned() });
        if self.finished.is_some() {
            return refuse("change", "the task is finished");
        }
        match change {
            Change::Adopt { .. } => return refuse("adopt", "the task is adopted already"),
            Change::SnapshotPlan { plan, at: _ } => {
                if self.plan.is_some() {
                    return refuse("stamp", "the Plan snapshot is taken already");
                }
                self.steps = plan.steps.iter().map(|step| (step.name.clone(), StepRecord::open())).collect();
                self.plan = Some(plan.clone());
            }
            Change::RequestApproval {
                name,
                step,
                digest,
                covers,
                requester,
                on_behalf_of,
                required,
                scope,
                risk,
                expires_at,
                at,
            } => {
                if self.approvals.contains_key(name) {
                    return refuse("requestApproval", "an approval of that name exists");
                }
                if !covers.contains_key(step) {
                    return refuse("requestApproval", "it does not cover the step that asks");
                }
                let approval = ApprovalRecord {
                    name: name.clone(),
                    step: step.clone(),
                    digest: *digest,
                    covers: covers.clone(),
                    requester: requester.clone(),
                    on_behalf_of: on_behalf_of.clone(),
                    required: required.clone(),
                    scope: *scope,
                    risk: *risk,
                    requested_at: *at,
                    expires_at: *expires_at,
                    decisions: Vec::new(),
                    used: BTreeSet::new(),
                    state: ApprovalState::Requested,
                };
                self.approvals.insert(name.clone(), approval);
            }
            Change::SignApproval { name, decision, at: _ } => {
                let Some(approval) = self.approvals.get_mut(name).filter(|a| a.state == ApprovalState::Requested)
                else {
                    return refuse("signApproval", "it is not waiting for signatures");
                };
                if !is_new(&approval.required, &approval.decisions, decision) {
                    return refuse("signApproval", "that signature is recorded already");
                }
                approval.decisions.push(decision.clone());
            }
            Change::DecideApproval { name, approved, at: _ } => {
                let Some(approval) = self.approvals.get_mut(name).filter(|a| a.state == ApprovalState::Requested)
                else {
                    return refuse("decideApproval", "it is not waiting for a decision");
                };
                // What the signatures amount to is the core's one rule; no change may say otherwise.
                let digest = approval.digest.to_string();
                let settled = match tally(&approval.terms(&digest), &approval.decisions) {
                    Tally::Reached => *approved,
                    Tally::Rejected { .. } => !*approved,
                    Tally::Waiting(_) => false,
                };
                if !settled {
                    return refuse("decideApproval", "its signatures do not say so");
                }
                approval.state = if *approved { ApprovalState::Approved } else { ApprovalState::Rejected };
            }
            Change::ExpireApproval { name, at: _ } => {
                let Some(approval) = self.approvals.get_mut(name).filter(|a| a.state == ApprovalState::Requested)
                else {
                    return refuse("expireApproval", "it is not waiting for a decision");
                };
                approval.state = ApprovalState::Expired;
            }
            Change::SupersedeApproval { name, changed, at: _ } => {
                let Some(approval) = self.approvals.get_mut(name).filter(|a| a.is_open()) else {
                    return refuse("supersedeApproval", "it is not open");
                };
                approval.state = ApprovalState::Superseded { changed: changed.clone() };
            }
            Change::WithdrawApproval { name, at: _ } => {
                let Some(approval) = self.approvals.get_mut(name).filter(|a| a.is_open()) else {
                    return refuse("withdrawApproval", "it is not open");
                };
                approval.state = ApprovalState::Withdrawn;
            }
            Change::Intend { step, number, key, digest, input_digest, approval, launch, rules: _, budget, at } => {
                let Some(record) = self.steps.get_mut(step).filter(|s| s.is_open()) else {
                    return refuse("intend", "the step is not open");
                };
                if record.live_attempt().is_some() || record.next_number() != *number {
                    return refuse("intend", "another attempt is under way, or the number is taken");
                }
                if let Some(name) = approval {
                    let Some(signed) = self.approvals.get(name) else {
                        return refuse("intend", "its approval does not exist");
                    };
                    if signed.state != ApprovalState::Approved || !signed.awaits(step) {
                        return refuse("intend", "its approval is not approved for this step, or was used for it");
                    }
                    if signed.covers.get(step).map(|covered| covered.digest) != Some(*digest) {
                        return refuse("intend", "its approval is for something else");
                    }
                }
                record.not_before = None;
                record.deferral = None;
                record.attempts.push(AttemptRecord {
                    number: *number,
                    key: key.clone(),
                    digest: *digest,
                    input_digest: *input_digest,
                    skill: launch.skill.clone(),
                    reservation: budget.as_deref().map(Reservation::from),
                    approval: approval.clone(),
                    intended_at: *at,
                    state: AttemptState::Intended,
                    launch: Some(launch.as_ref().clone()),
                });
            }
            Change::Defer { step, until, budget, at: _ } => {
                let Some(record) = self.steps.get_mut(step).filter(|s| s.is_open()) else {
                    return refuse("defer", "the step is not open");
                };
                if record.live_attempt().is_some() {
                    return refuse("defer", "an attempt is under way");
                }
                let message = budget.message.clone().unwrap_or_default();
                record.deferral = Some(Deferral { until: *until, message });
            }
            Change::Admit { step, number, pod_uid, at } => {
                let attempt = self.attempt_mut(step, *number);
                let Some(attempt) = attempt.filter(|a| a.state == AttemptState::Intended) else {
                    return refuse("admit", "the attempt is not waiting for its pod");
                };
                let approval = attempt.approval.clone();
                if let Some(name) = approval {
                    let approved = |a: &&mut ApprovalRecord| a.state == ApprovalState::Approved && a.awaits(step);
                    let Some(used) = self.approvals.get_mut(&name).filter(approved) else {
                        return refuse("admit", "its approval is not approved for this step, or was used for it");
                    };
                    used.used.insert(step.clone());
                    if used.covers.keys().all(|covered| used.used.contains(covered)) {
                        used.state = ApprovalState::Consumed;
                    }
                }
                if let Some(attempt) = self.attempt_mut(step, *number) {
                    attempt.state = AttemptState::Admitted { pod_uid: pod_uid.clone(), at: *at };
                }
            }
            Change::FinishAttempt {
                step,
                number,
                outcome,
                message,
                output: _,
                retry_at,
                evidence: _,
                workspace,
                at,
            } => {
                let attempt = self.attempt_mut(step, *number);
                let Some(attempt) = attempt.filter(|a| !a.is_finished()) else {
                    return refuse("finishAttempt", "the attempt is not under way");
                };
                let pod_uid = match &attempt.state {
                    AttemptState::Admitted { pod_uid, .. } => Some(pod_uid.clone()),
                    AttemptState::Intended | AttemptState::Finished { .. } => None,
                };
                if pod_uid.is_none() && *outcome == AttemptOutcome::Succeeded {
                    return refuse("finishAttempt", "an attempt that was never let in cannot have succeeded");
                }
                attempt.state =
                    AttemptState::Finished { outcome: *outcome, message: message.clone(), pod_uid, at: *at };
                attempt.launch = None;
                if let Some(record) = self.steps.get_mut(step) {
                    record.not_before = *retry_at;
                    record.workspace = *workspace;
                }
            }
            Change::FinishStep { step, outcome, reason, message, output, rules: _, budget: _, at } => {
                let Some(record) = self.steps.get_mut(step).filter(|s| s.is_open()) else {
                    return refuse("finishStep", "the step is not open");
                };
                if *outcome == StepOutcome::Open || record.live_attempt().is_some() {
                    return refuse("finishStep", "an attempt is under way, or the outcome is none");
                }
                record.state = *outcome;
                record.reason = reason.clone();
                record.message = message.clone();
                record.output = output.clone();
                record.not_before = None;
                record.deferral = None;
                record.finished_at = Some(*at);
            }
            Change::BeginEnding { ending } => {
                self.ending = Some(ending.clone());
            }
            Change::FinishTask { finished, ran: _ } => {
                if self.steps.values().any(StepRecord::is_open) {
                    return refuse("finish", "a step is open");
                }
                self.finished = Some(finished.clone());
            }
        }
        Ok(())
    }

    fn attempt_mut(&mut self, step: &str, number: u32) -> Option<&mut AttemptRecord> {
        self.steps.get_mut(step)?.attempts.iter_mut().find(|a| a.number == number)
    }
}
