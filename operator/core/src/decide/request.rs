//! Asking people: for one step, or, where the rules allow it, for all steps of the Plan that can be known.

use std::collections::BTreeMap;

use countersign_crds::{ApprovalScope, RiskClass, Step};
use jiff::SignedDuration;
use serde_json::json;

use super::Worklist;
use super::view::View;
use crate::approval::Ask;
use crate::digest::{self, Digest};
use crate::escape::escaped_json;
use crate::judge::{Judgement, Prepared};
use crate::money::Money;
use crate::names;
use crate::plan::CompiledStep;
use crate::record::{Change, Covered, TaskRecord};

/// How many steps one signature can be for; more than that nobody reads.
const MOST_STEPS: usize = 32;

/// How many bytes of JSON one signature can be for, beyond the step that asks: etcd takes requests of 1.5 MiB.
const MOST_BYTES: usize = 512 << 10;

/// What is put to people, where so much is reserved already that no record shows yet; nothing where it takes no
/// signature, or nobody knows who asked for the work, which the judge refuses before.
pub(super) fn ask(
    view: &View<'_>,
    record: &Worklist,
    step: &Step,
    prepared: Prepared,
    reserved: Money,
) -> Option<Change> {
    let requester = record.request.requester.clone()?;
    let mut ask = prepared.binding.ask.clone()?;
    let mut risk = prepared.binding.risk;
    let alone = prepared.digest;
    let reserved = reserved.saturating_add(takes(&prepared));
    let mut covers = BTreeMap::from([(step.name.clone(), covered(prepared))]);
    if ask.scope == ApprovalScope::Plan {
        gather(view, record, reserved, step.finally, &mut covers, &mut ask, &mut risk);
    }
    let digest = if covers.len() == 1 { alone } else { digest_of(&record.uid, &covers) };
    let after = SignedDuration::try_from(ask.expires_after.get()).unwrap_or(SignedDuration::MAX);
    let round = 1 + record.approvals.values().filter(|approval| approval.step == step.name).count();
    Some(Change::RequestApproval {
        name: names::approval(&record.uid, &record.name, &step.name, round, &digest),
        step: step.name.clone(),
        digest,
        scope: if covers.len() == 1 { ApprovalScope::Step } else { ApprovalScope::Plan },
        covers,
        requester,
        on_behalf_of: record.request.on_behalf_of.clone(),
        required: ask.required,
        risk,
        expires_at: view.now.checked_add(after).unwrap_or(jiff::Timestamp::MAX),
        at: view.now,
    })
}

/// What an attempt reserves.
fn takes(prepared: &Prepared) -> Money {
    prepared.budget.as_ref().map_or(Money::ZERO, |budget| budget.amount)
}

fn covered(prepared: Prepared) -> Covered {
    let Prepared { input_digest: _, binding, digest, limits: _, rules, budget: _ } = prepared;
    Covered { attempt: binding.run, digest, binding: Some(Box::new(binding)), rules }
}

/// Adds every other open step that needs a signature, may be signed for with others, and is known already:
/// what it refers to is over. The strictest of all that they ask for is asked for. What is signed for together is weighed
/// together, or the first to start would change what the next one is. One signature is for finally steps or for others:
/// what becomes of those says nothing about these.
fn gather(
    view: &View<'_>,
    record: &Worklist,
    mut reserved: Money,
    finally: bool,
    covers: &mut BTreeMap<String, Covered>,
    ask: &mut Ask,
    risk: &mut RiskClass,
) {
    let Some(plan) = &record.plan else { return };
    let mut bytes: usize = covers.values().map(size).sum();
    for step in plan.steps.iter().filter(|step| step.finally == finally) {
        if covers.len() >= MOST_STEPS {
            return;
        }
        let Some(state) = record.steps.get(&step.name) else { continue };
        let asked = record.awaited(&step.name).is_some();
        let free = state.is_open() && state.live_attempt().is_none() && !asked && !covers.contains_key(&step.name);
        if !free || !known(record, step) {
            continue;
        }
        let number = state.next_number();
        let Some(Judgement::Ready(prepared)) = view.judge(record, step, number, reserved) else { continue };
        let theirs = prepared.binding.ask.clone().filter(|theirs| theirs.scope == ApprovalScope::Plan);
        let Some(theirs) = theirs else { continue };
        let (its_risk, its_price) = (prepared.binding.risk, takes(&prepared));
        let its = covered(*prepared);
        // What does not fit beside the others asks with an Approval of its own.
        if bytes + size(&its) > MOST_BYTES {
            continue;
        }
        bytes += size(&its);
        *ask = ask.clone().and(&theirs);
        *risk = (*risk).max(its_risk);
        reserved = reserved.saturating_add(its_price);
        covers.insert(step.name.clone(), its);
    }
}

/// About how many bytes of an Approval a step takes: it shows what is bound, and the rules.
fn size(covered: &Covered) -> usize {
    let Covered { attempt: _, digest: _, binding, rules } = covered;
    // As it is shown, with what hides spelt out.
    let shown = |value: serde_json::Value| escaped_json(value).to_string().len();
    shown(json!(binding)) + shown(json!(rules))
}

/// Whether everything that the step's input and condition refer to is settled.
fn known(record: &TaskRecord, step: &Step) -> bool {
    let over = |name: &String| record.steps.get(name).is_some_and(|step| !step.is_open());
    CompiledStep::compile(step, &step.name).is_ok_and(|compiled| compiled.referenced_steps().iter().all(over))
}

/// SHA-256 over RFC 8785 JSON of the digests of all steps, by name.
fn digest_of(task: &str, covers: &BTreeMap<String, Covered>) -> Digest {
    let steps: BTreeMap<&String, Digest> = covers.iter().map(|(step, covered)| (step, covered.digest)).collect();
    let all = json!({"version": 1, "scope": "Plan", "task": task, "steps": steps});
    // Names and digests are strings, so they always have a canonical form.
    digest::of_json(&all).unwrap_or_else(|_| Digest::of_bytes(all.to_string()))
}
