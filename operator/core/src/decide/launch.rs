//! Steps that could start: judged, put to people, or intended.

use std::collections::BTreeSet;

use countersign_crds::{ApprovalScope, Step};
use jiff::Timestamp;

use super::attempts::{broken_guard, no_place};
use super::compare::{compare, of_step};
use super::turn::called_off;
use super::view::{GivenUp, View};
use super::{Worklist, request};
use crate::blocked::{Blocked, BlockedReason, BlockedReasons};
use crate::budget::BudgetDecision;
use crate::judge::{Judgement, Prepared};
use crate::money::Money;
use crate::names;
use crate::record::{
    ApprovalRecord, ApprovalState, AttemptState, Change, RuleDecision, StepOutcome, StepRecord, TaskRecord,
};

pub(super) fn start(view: &View<'_>, record: &Worklist, blocked: &mut BlockedReasons) -> Vec<Change> {
    let Some(plan) = &record.plan else { return Vec::new() };
    if record.settled() {
        // The reconciliation that follows at once weighs against what is held then.
        return Vec::new();
    }
    let ready = || record.ready().filter(|(step, _)| called_off(record, step).is_none());
    if let Some(why) = view.nothing_begins() {
        ready().for_each(|(step, _)| blocked.block(&step.name, why.clone()));
        return Vec::new();
    }
    let mut slots = (plan.parallelism as usize).saturating_sub(taken(record, blocked));
    let mut changes = Vec::new();
    // What the steps before have taken of the same budget.
    let mut reserved = Money::ZERO;
    // Steps that an Approval asked for just now is for as well.
    let mut covered = BTreeSet::new();
    // As many steps as could run may newly be put to people; those that were put stay under judgement.
    let mut fresh = slots.max(1);
    for (step, state) in ready() {
        if let Some(why) = retrying(view, state) {
            blocked.block(&step.name, why);
            continue;
        }
        if covered.contains(&step.name) {
            continue;
        }
        let asked = record.awaited(&step.name).is_some();
        if !asked && fresh == 0 {
            continue;
        }
        let next = start_one(view, record, step, slots > 0, reserved, blocked);
        if !asked && blocked.of(&step.name).is_none_or(keeps_its_turn) {
            fresh -= 1;
        }
        let (mut voided, mut shared, mut reserves) = (false, false, false);
        for change in &next {
            match change {
                Change::Intend { budget, .. } => {
                    slots -= 1;
                    let amount = budget.as_ref().map_or(Money::ZERO, |budget| budget.amount);
                    reserved = reserved.saturating_add(amount);
                    reserves = budget.is_some();
                }
                Change::RequestApproval { covers, scope, .. } => {
                    covered.extend(covers.keys().cloned());
                    shared |= *scope == ApprovalScope::Plan;
                }
                Change::SupersedeApproval { .. } => voided = true,
                _ => {}
            }
        }
        changes.extend(next);
        if reserves && record.is_any_asleep() {
            // What is asleep is held against that first.
            return changes;
        }
        if voided || shared {
            // It was or is for other steps too; they are looked at with that on record, so that none is asked for twice.
            return changes;
        }
    }
    changes
}

/// How many attempts hold a place among those that may run at once.
fn taken(record: &Worklist, blocked: &BlockedReasons) -> usize {
    record.live().filter(|(name, _)| blocked.of(name).is_none_or(|why| why.reason.holds_a_slot())).count()
}

/// What is over in a moment, or only waits for a place, keeps its turn; whatever else blocks one step lets the next go
/// before it.
fn keeps_its_turn(blocked: &Blocked) -> bool {
    blocked.reason.is_transient() || blocked.reason == BlockedReason::ParallelismReached
}

/// The pause before a step is tried again, with what became of the last try.
fn retrying(view: &View<'_>, state: &StepRecord) -> Option<Blocked> {
    let at = state.not_before.filter(|at| *at > view.now)?;
    let last = state.attempts.last().and_then(|attempt| match &attempt.state {
        AttemptState::Finished { message, .. } => message.as_deref(),
        AttemptState::Intended | AttemptState::Admitted { .. } => None,
    });
    let message = format!("tried again at {at}: {}", last.unwrap_or("the last attempt did not succeed"));
    Some(Blocked::new(BlockedReason::Retrying, message).until(at))
}

fn start_one(
    view: &View<'_>,
    record: &Worklist,
    step: &Step,
    slot: bool,
    reserved: Money,
    blocked: &mut BlockedReasons,
) -> Vec<Change> {
    let number = record.steps.get(&step.name).map_or(1, |state| state.next_number());
    let open = record.awaited(&step.name);
    // What has no time for one step has none for the next.
    if let Some(busy) = blocked.evaluator_busy() {
        blocked.block(&step.name, busy);
        return Vec::new();
    }
    let Some(judgement) = view.judge(record, step, number, reserved) else { return Vec::new() };
    match judgement {
        Judgement::Blocked { blocked: why, budget } => {
            // While people decide, nothing is loaded for it: what it waits for is them.
            let unsigned = open.filter(|approval| approval.state == ApprovalState::Requested);
            let why = match unsigned {
                Some(approval) if matches!(why.reason, BlockedReason::OutputNotLoaded(_)) => unsigned_yet(approval),
                Some(_) | None => why,
            };
            let what = if why.reason.is_missing() { "missing" } else { "input" };
            let why = match view.step_goes_on(&step.name, why) {
                Ok(why) => why,
                Err(GivenUp { reason, message }) => {
                    let closed = close(view, step, StepOutcome::Failed, reason, message, Vec::new());
                    return void(view, open, what).into_iter().chain([closed]).collect();
                }
            };
            if budget.is_some() {
                view.doze(record, step, reserved);
            }
            let defer = budget.and_then(|budget| deferred(view, record, step, why.until, budget));
            blocked.block(&step.name, why);
            defer.into_iter().collect()
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
        Judgement::Ready(prepared) if prepared.binding.ask.is_none() => {
            // Where the signature is for other steps too, it stands for them.
            let alone = open.filter(|approval| approval.covers.len() == 1);
            let asked = alone.map(|approval| format!("ask.required: {} -> none", approval.required.count));
            let void = void(view, alone, &asked.unwrap_or_default());
            let intend = slot.then(|| intend(view, record, step, number, *prepared, None));
            if intend.is_none() {
                blocked.block(&step.name, no_place(record));
            }
            void.into_iter().chain(intend).collect()
        }
        Judgement::Ready(prepared) => {
            under_approval(view, record, step, number, *prepared, open, slot, reserved, blocked)
        }
    }
}

/// That its price does not fit is recorded once for each window; what signatures there are stay for when it does.
fn deferred(
    view: &View<'_>,
    record: &TaskRecord,
    step: &Step,
    until: Option<Timestamp>,
    budget: Box<BudgetDecision>,
) -> Option<Change> {
    let known = record.steps.get(&step.name).and_then(|state| state.deferral.as_ref());
    let new = known.is_none_or(|known| known.until != until);
    new.then(|| Change::Defer { step: step.name.clone(), until, budget, at: view.now })
}

fn unsigned_yet(approval: &ApprovalRecord) -> Blocked {
    let message = format!("waits for the signatures that Approval {} takes", approval.name);
    Blocked::new(BlockedReason::WaitingApproval, message).until(approval.expires_at)
}

/// A step that needs a signature: it has one, waits for one, or asks for one.
#[expect(clippy::too_many_arguments, reason = "one case of the judgement, with all that the judgement was about")]
fn under_approval(
    view: &View<'_>,
    record: &Worklist,
    step: &Step,
    number: u32,
    prepared: Prepared,
    open: Option<&ApprovalRecord>,
    slot: bool,
    reserved: Money,
    blocked: &mut BlockedReasons,
) -> Vec<Change> {
    let Some(approval) = open else {
        return request::ask(view, record, step, prepared, reserved).into_iter().collect();
    };
    let covered = approval.covers.get(&step.name);
    let signed = covered.and_then(|covered| covered.binding.as_deref());
    let same = covered.map_or(Err(Vec::new()), |covered| compare(covered.digest, signed, &prepared));
    if let Err(changed) = same {
        let changed = if approval.covers.len() > 1 { of_step(&step.name, changed) } else { changed };
        let superseded = Change::SupersedeApproval { name: approval.name.clone(), changed, at: view.now };
        return [superseded].into_iter().chain(request::ask(view, record, step, prepared, reserved)).collect();
    }
    let why = if approval.state == ApprovalState::Approved {
        broken_guard(view).or_else(|| (!slot).then(|| no_place(record)))
    } else {
        Some(unsigned_yet(approval))
    };
    if let Some(why) = why {
        blocked.block(&step.name, why);
        return Vec::new();
    }
    vec![intend(view, record, step, number, prepared, Some(approval.name.clone()))]
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
    let launch = Box::new(prepared.launch());
    let Prepared { input_digest, binding: _, digest, limits: _, rules, budget } = prepared;
    Change::Intend {
        step: step.name.clone(),
        number,
        key: names::attempt_key(&record.uid, &record.name, &step.name, number),
        digest,
        input_digest,
        approval,
        launch,
        rules,
        budget,
        at: view.now,
    }
}

/// A step ends, and not by what an attempt came to.
pub(super) fn close(
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
