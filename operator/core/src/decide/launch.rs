//! Steps that could start: judged, put to people, or intended.

use std::collections::BTreeSet;

use countersign_crds::Step;
use jiff::SignedDuration;
use serde_json::Value;

use super::Waits;
use super::view::View;
use crate::judge::{Judgement, Prepared};
use crate::names;
use crate::record::{ApprovalRecord, ApprovalState, Change, RuleDecision, StepOutcome, TaskRecord};
use crate::time::GoDuration;

pub(super) fn start(view: &View<'_>, record: &TaskRecord, waits: &mut Waits) -> Vec<Change> {
    let Some(plan) = &record.plan else { return Vec::new() };
    if record.ending.is_some() || view.suspended() {
        return Vec::new();
    }
    let live = record.steps.values().filter(|step| step.live_attempt().is_some()).count();
    let mut slots = (plan.parallelism as usize).saturating_sub(live);
    let open: BTreeSet<&str> = record.approvals.values().filter(|a| a.is_open()).map(|a| a.step.as_str()).collect();
    let mut changes = Vec::new();
    // As many steps as could run may newly be put to people; those that were put stay under judgement.
    let mut fresh = slots.max(1);
    for step in plan.steps.iter().filter(|step| could_start(view, record, step)) {
        let asked = open.contains(step.name.as_str());
        if !asked && fresh == 0 {
            continue;
        }
        let next = start_one(view, record, step, slots > 0, waits);
        if !asked {
            fresh -= 1;
        }
        if next.iter().any(|change| matches!(change, Change::Intend { .. })) {
            slots -= 1;
        }
        changes.extend(next);
    }
    changes
}

fn could_start(view: &View<'_>, record: &TaskRecord, step: &Step) -> bool {
    let Some(state) = record.steps.get(&step.name) else { return false };
    let due = state.not_before.is_none_or(|at| at <= view.now);
    state.is_open() && state.live_attempt().is_none() && due && step.needs.iter().all(|need| satisfied(record, need))
}

/// A need is met by success, and by a `when` that was false.
pub(crate) fn satisfied(record: &TaskRecord, need: &str) -> bool {
    record.steps.get(need).is_some_and(|step| match step.state {
        StepOutcome::Succeeded | StepOutcome::Skipped => true,
        StepOutcome::Open | StepOutcome::Failed | StepOutcome::Rejected | StepOutcome::Unknown => false,
    })
}

fn start_one(view: &View<'_>, record: &TaskRecord, step: &Step, slot: bool, waits: &mut Waits) -> Vec<Change> {
    let number = record.steps.get(&step.name).map_or(1, |state| state.next_number());
    let Some(judgement) = view.judge(record, step, number) else { return Vec::new() };
    let open = record.approvals.values().find(|a| a.step == step.name && a.is_open());
    match judgement {
        Judgement::NotYet { message } => {
            waits.held.insert(step.name.clone(), message);
            Vec::new()
        }
        Judgement::Skip => {
            let closed =
                close(view, step, StepOutcome::Skipped, "WhenFalse", "its when is false".to_owned(), Vec::new());
            void(view, open, "when").into_iter().chain([closed]).collect()
        }
        Judgement::Invalid { reason, message } => {
            let closed = close(view, step, StepOutcome::Failed, reason, message, Vec::new());
            void(view, open, "input").into_iter().chain([closed]).collect()
        }
        Judgement::Denied { message, rules } => {
            let closed = close(view, step, StepOutcome::Rejected, "PolicyDenied", message, rules);
            void(view, open, "policies").into_iter().chain([closed]).collect()
        }
        Judgement::Permitted(prepared) => {
            let void = void(view, open, "policies");
            let intend = slot.then(|| intend(view, record, step, number, *prepared, None));
            void.into_iter().chain(intend).collect()
        }
        Judgement::NeedsApproval { prepared, expires_after } => {
            ask(view, record, step, number, *prepared, expires_after, open, slot)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one case of the judgement, with all that the judgement was about")]
fn ask(
    view: &View<'_>,
    record: &TaskRecord,
    step: &Step,
    number: u32,
    prepared: Prepared,
    expires_after: GoDuration,
    open: Option<&ApprovalRecord>,
    slot: bool,
) -> Vec<Change> {
    let same = open.filter(|approval| approval.digest == prepared.digest);
    match same.map(|approval| (&approval.name, &approval.state)) {
        Some((name, ApprovalState::Approved { .. })) if slot => {
            vec![intend(view, record, step, number, prepared, Some(name.clone()))]
        }
        Some(_) => Vec::new(),
        None => {
            let superseded = open.map(|approval| Change::SupersedeApproval {
                name: approval.name.clone(),
                changed: changed(&approval.binding, &prepared.binding),
                at: view.now,
            });
            let after = SignedDuration::try_from(expires_after.get()).unwrap_or(SignedDuration::MAX);
            let round = 1 + record.approvals.values().filter(|approval| approval.step == step.name).count();
            let request = Change::RequestApproval {
                name: names::approval(&record.uid, &record.name, &step.name, round, &prepared.digest),
                step: step.name.clone(),
                attempt: number,
                digest: prepared.digest,
                binding: prepared.binding,
                risk: prepared.risk,
                rules: prepared.rules,
                expires_at: view.now.checked_add(after).unwrap_or(jiff::Timestamp::MAX),
                at: view.now,
            };
            superseded.into_iter().chain([request]).collect()
        }
    }
}

/// The members of what was signed for that are not what they were.
pub(super) fn changed(old: &Value, new: &Value) -> Vec<String> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return Vec::new() };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

fn void(view: &View<'_>, open: Option<&ApprovalRecord>, changed: &str) -> Option<Change> {
    let name = open?.name.clone();
    Some(Change::SupersedeApproval { name, changed: vec![changed.to_owned()], at: view.now })
}

fn intend(
    view: &View<'_>,
    record: &TaskRecord,
    step: &Step,
    number: u32,
    prepared: Prepared,
    approval: Option<String>,
) -> Change {
    let Prepared { launch, input_digest, binding: _, digest, risk: _, rules } = prepared;
    Change::Intend {
        step: step.name.clone(),
        number,
        key: names::attempt_key(&record.uid, &record.name, &step.name, number),
        digest,
        input_digest,
        approval,
        launch: Box::new(launch),
        rules,
        at: view.now,
    }
}

fn close(
    view: &View<'_>,
    step: &Step,
    outcome: StepOutcome,
    reason: &str,
    message: String,
    rules: Vec<RuleDecision>,
) -> Change {
    Change::FinishStep {
        step: step.name.clone(),
        outcome,
        reason: Some(reason.to_owned()),
        message: Some(message),
        output: None,
        rules,
        at: view.now,
    }
}
