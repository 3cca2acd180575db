//! Steps that could start: judged, put to people, or intended.

use std::collections::BTreeSet;

use countersign_crds::Step;
use serde_json::Value;

use super::view::View;
use super::{Waits, request};
use crate::approval::Ask;
use crate::judge::{Judgement, Prepared};
use crate::money::Money;
use crate::names;
use crate::observed::Guard;
use crate::record::{ApprovalRecord, ApprovalState, Change, RuleDecision, StepOutcome, TaskRecord};

pub(super) fn start(view: &View<'_>, record: &TaskRecord, waits: &mut Waits) -> Vec<Change> {
    let Some(plan) = &record.plan else { return Vec::new() };
    if record.ending.is_some() || view.suspended() {
        return Vec::new();
    }
    if let Some(problem) = view.exposed() {
        let ready = plan.steps.iter().filter(|step| could_start(view, record, step));
        waits.held.extend(ready.map(|step| (step.name.clone(), problem.clone())));
        return Vec::new();
    }
    let live = record.steps.values().filter(|step| step.live_attempt().is_some()).count();
    let mut slots = (plan.parallelism as usize).saturating_sub(live);
    let open = awaited(record);
    let mut changes = Vec::new();
    // What the steps before have taken of the same budget.
    let mut reserved = Money::ZERO;
    // Steps that an Approval asked for just now is for as well.
    let mut covered = BTreeSet::new();
    // As many steps as could run may newly be put to people; those that were put stay under judgement.
    let mut fresh = slots.max(1);
    for step in plan.steps.iter().filter(|step| could_start(view, record, step)) {
        if covered.contains(&step.name) {
            continue;
        }
        let asked = open.contains(step.name.as_str());
        if !asked && fresh == 0 {
            continue;
        }
        let next = start_one(view, record, step, slots > 0, reserved, waits);
        if !asked {
            fresh -= 1;
        }
        let mut voided = false;
        for change in &next {
            match change {
                Change::Intend { budget, .. } => {
                    slots -= 1;
                    let amount = budget.as_ref().map_or(Money::ZERO, |budget| budget.amount);
                    reserved = reserved.saturating_add(amount);
                }
                Change::RequestApproval { covers, .. } => covered.extend(covers.keys().cloned()),
                Change::SupersedeApproval { .. } => voided = true,
                _ => {}
            }
        }
        changes.extend(next);
        if voided {
            // It may have been for other steps too; they are looked at with that on record.
            return changes;
        }
    }
    changes
}

/// The steps that an open Approval is for.
fn awaited(record: &TaskRecord) -> BTreeSet<&str> {
    let open = record.approvals.values().filter(|approval| approval.is_open());
    open.flat_map(|a| a.covers.keys().filter(|step| a.awaits(step))).map(String::as_str).collect()
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

fn start_one(
    view: &View<'_>,
    record: &TaskRecord,
    step: &Step,
    slot: bool,
    reserved: Money,
    waits: &mut Waits,
) -> Vec<Change> {
    let number = record.steps.get(&step.name).map_or(1, |state| state.next_number());
    let Some(judgement) = view.judge(record, step, number, reserved) else { return Vec::new() };
    let open = record.approvals.values().find(|approval| approval.awaits(&step.name));
    match judgement {
        Judgement::NotYet { message } => {
            waits.held.insert(step.name.clone(), message);
            Vec::new()
        }
        Judgement::Skip => {
            let closed =
                close(view, step, StepOutcome::Skipped, "WhenFalse", "its when is false".to_owned(), Vec::new());
            // Where the signature is for other steps too, it stands for them.
            let alone = open.filter(|approval| approval.covers.len() == 1);
            void(view, alone, "when").into_iter().chain([closed]).collect()
        }
        Judgement::Invalid { reason, message } => {
            let closed = close(view, step, StepOutcome::Failed, reason, message, Vec::new());
            void(view, open, "input").into_iter().chain([closed]).collect()
        }
        Judgement::Denied { message, rules, budget: None } => {
            let closed = close(view, step, StepOutcome::Rejected, "PolicyDenied", message, rules);
            void(view, open, "policies").into_iter().chain([closed]).collect()
        }
        Judgement::Denied { message, rules, budget: Some(decision) } => {
            let closed = Change::FinishStep {
                step: step.name.clone(),
                outcome: StepOutcome::Rejected,
                reason: Some("OverBudget".to_owned()),
                message: Some(message),
                output: None,
                rules,
                budget: Some(decision),
                at: view.now,
            };
            void(view, open, "budget").into_iter().chain([closed]).collect()
        }
        Judgement::Deferred { budget, until } => {
            let message = budget.message.clone().unwrap_or_default();
            let known = record.steps.get(&step.name).and_then(|state| state.deferral.as_ref());
            // Once for each window; what signatures there are stay for when it fits.
            let new = known.is_none_or(|known| known.until != until);
            waits.deferred.insert(step.name.clone(), message);
            let defer = Change::Defer { step: step.name.clone(), until, budget, at: view.now };
            new.then_some(defer).into_iter().collect()
        }
        Judgement::Permitted(prepared) => {
            let void = void(view, open, "policies");
            let intend = slot.then(|| intend(view, record, step, number, *prepared, None));
            void.into_iter().chain(intend).collect()
        }
        Judgement::NeedsApproval { prepared, ask } => {
            under_approval(view, record, step, number, *prepared, &ask, open, slot, waits)
        }
    }
}

/// A step that needs a signature: it has one, waits for one, or asks for one.
#[expect(clippy::too_many_arguments, reason = "one case of the judgement, with all that the judgement was about")]
fn under_approval(
    view: &View<'_>,
    record: &TaskRecord,
    step: &Step,
    number: u32,
    prepared: Prepared,
    ask: &Ask,
    open: Option<&ApprovalRecord>,
    slot: bool,
    waits: &mut Waits,
) -> Vec<Change> {
    let signed_for = |approval: &&ApprovalRecord| {
        approval.covers.get(&step.name).is_some_and(|covered| covered.digest == prepared.digest)
    };
    let Some(approval) = open.filter(signed_for) else {
        let superseded = open.map(|approval| Change::SupersedeApproval {
            name: approval.name.clone(),
            changed: changed_of(approval, &step.name, &prepared),
            at: view.now,
        });
        return superseded.into_iter().chain(request::ask(view, record, step, number, prepared, ask)).collect();
    };
    if approval.state != ApprovalState::Approved {
        return Vec::new();
    }
    if let Guard::Broken { problem } = &view.observed.guard {
        waits.held.insert(step.name.clone(), format!("signatures count for nothing at this moment: {problem}"));
        return Vec::new();
    }
    if !slot {
        return Vec::new();
    }
    vec![intend(view, record, step, number, prepared, Some(approval.name.clone()))]
}

/// The fields in which a step is not what its Approval is for.
pub(super) fn changed_of(approval: &ApprovalRecord, step: &str, prepared: &Prepared) -> Vec<String> {
    let Some(covered) = approval.covers.get(step) else { return Vec::new() };
    let fields = changed(&covered.binding, &prepared.binding);
    if approval.covers.len() == 1 {
        return fields;
    }
    fields.into_iter().map(|field| format!("{step}.{field}")).collect()
}

/// The members of what was signed for that are not what they were.
fn changed(old: &Value, new: &Value) -> Vec<String> {
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
    let Prepared { launch, input_digest, binding: _, digest, risk: _, rules, budget } = prepared;
    Change::Intend {
        step: step.name.clone(),
        number,
        key: names::attempt_key(&record.uid, &record.name, &step.name, number),
        digest,
        input_digest,
        approval,
        launch: Box::new(launch),
        rules,
        budget,
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
        budget: None,
        at: view.now,
    }
}
