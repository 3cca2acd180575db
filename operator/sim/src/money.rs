//! Money in a world: a budget of the cluster that others spend from as well, one of the Task, and what attempts cost.

use std::sync::Arc;

use countersign_core::budget::{
    Balance, BudgetDecision, BudgetView, Budgets, Closing, Ledger, LedgerError, ReservationPhase, Weighed,
};
use countersign_core::digest::Digest;
use countersign_core::money::Money;
use countersign_core::policy::PolicySet;
use countersign_core::record::{AttemptOutcome, AttemptRecord, AttemptState, Change, TaskRecord};
use countersign_crds::{Cost, OverBudget, PolicySpec, SkillSpec};
use serde_json::json;

use crate::check::Violation;
use crate::draw::Draw;
use crate::world::World;

/// Sometimes the cluster may spend so much in an hour.
pub(crate) fn policies(draw: &mut Draw) -> Arc<PolicySet> {
    if draw.one_in(2) {
        return Arc::default();
    }
    let limit = 2 + draw.below(8);
    let spec = json!({"budget": {"cluster": {"hourly": limit.to_string()}}});
    let spec: PolicySpec = serde_json::from_value(spec).unwrap_or_else(|_| unreachable!("a Policy of a budget alone"));
    Arc::new(PolicySet::compile("ops", [("ops".to_owned(), "budget".to_owned(), spec)]))
}

/// The Skill with a price, or without one.
pub(crate) fn priced(skill: SkillSpec, ceiling: Option<u64>, over_budget: OverBudget) -> SkillSpec {
    let cost = ceiling.map(|ceiling| Cost {
        ceiling: ceiling.to_string(),
        per_attempt: Some("0".into()),
        per_call: None,
        per_million_input_tokens: None,
        per_million_output_tokens: None,
    });
    SkillSpec { cost, over_budget, ..skill }
}

/// What an attempt comes to: as its world says, or nothing, half of its most, or all of it.
fn cost(world: &World, attempt: &AttemptRecord, amount: Money) -> Money {
    if let Some(cost) = world.costs.get(&attempt.skill) {
        return (*cost).min(amount);
    }
    let AttemptRecord { key, .. } = attempt;
    match Digest::of_bytes(key).as_bytes()[0] % 3 {
        0 => Money::ZERO,
        1 => Money::from_micros(amount.micros() / 2),
        _ => amount,
    }
}

/// The ledger's part of a transaction, with the record as it is then: all of it, or, where others were faster, none.
pub(crate) fn post(world: &World, record: Option<&TaskRecord>, changes: &[Change]) -> Result<Ledger, LedgerError> {
    let mut ledger = world.ledger.clone();
    for change in changes {
        match change {
            Change::Intend { key, budget: Some(decision), .. } => ledger.reserve(key, decision)?,
            Change::FinishAttempt { step, number, outcome, .. } => {
                let attempts = record.and_then(|record| record.steps.get(step)).map(|step| &step.attempts);
                let attempt = attempts.and_then(|attempts| attempts.iter().find(|attempt| attempt.number == *number));
                let Some((attempt, reserved)) = attempt.and_then(|a| Some((a, a.reservation.as_ref()?))) else {
                    continue;
                };
                let closing = match (attempt.launched(), outcome) {
                    (false, _) => Closing::Release,
                    (true, AttemptOutcome::Unknown) => Closing::Unknown,
                    (true, _) => Closing::Settle(cost(world, attempt, reserved.amount)),
                };
                ledger.close(&attempt.key, closing)?;
            }
            _ => {}
        }
    }
    Ok(ledger)
}

/// Another Task of the cluster takes what there is, or ends.
pub(crate) fn others(world: &mut World, draw: &mut Draw) {
    if draw.one_in(2) {
        others_end(world);
        return;
    }
    let Some(task) = &world.api.task else { return };
    let budgets = Budgets::of(world.now, task, None, &world.policies);
    let lines = budgets.lines.into_iter().filter(|line| line.key.subject.is_empty()).collect();
    let budgets = Budgets { lines, ..Budgets::default() };
    let amount = 1 + draw.below(3);
    let Some(skill) = world.api.skills.values().next() else { return };
    let skill = priced(skill.clone(), Some(amount), OverBudget::Defer);
    let budget_view = BudgetView {
        budgets: &budgets,
        balances: &world.ledger.balances,
        pending: Money::ZERO,
        phase: ReservationPhase::Asking,
    };
    if let Weighed::Fits(decision) = budget_view.weigh("other", &skill) {
        let key = format!("other-{}", world.uid());
        if world.ledger.reserve(&key, &decision).is_ok() {
            world.say(|| format!("another Task reserves {amount}"));
            world.others.push(key);
        }
    }
}

pub(crate) fn others_end(world: &mut World) {
    for key in std::mem::take(&mut world.others) {
        // Each was reserved, and is closed once.
        let _ = world.ledger.close(&key, Closing::Settle(Money::from_micros(500_000)));
    }
}

/// Nothing is ever filled beyond its limit, and what is held is what attempts that are under way, or whose end is not
/// known, were reserved for.
pub(crate) fn check(world: &World) -> Result<(), Violation> {
    let Some(task) = &world.api.task else { return Ok(()) };
    for line in Budgets::of(world.now, task, None, &world.policies).lines {
        let Balance { spent, held } = world.ledger.balances.get(&line.key).copied().unwrap_or_default();
        let filled = spent.saturating_add(held);
        if line.limit.is_some_and(|limit| filled > limit) {
            return Err(Violation::new(format!("{:?}: {spent} spent and {held} held of {:?}", line.key, line.limit)));
        }
    }
    let Some(record) = &world.record else { return Ok(()) };
    let mut held = Money::ZERO;
    for (name, step) in &record.steps {
        for attempt in &step.attempts {
            let priced = attempt.launch.as_ref().is_some_and(|launch| launch.contract.cost.is_some());
            if priced && attempt.reservation.is_none() {
                return Err(Violation::new(format!("{name} has a price and runs without a reservation")));
            }
            let amount = attempt.reservation.as_ref().map_or(Money::ZERO, |reservation| reservation.amount);
            if !attempt.is_finished() || (is_unknown(attempt) && world.ledger.holds(&attempt.key)) {
                held = held.saturating_add(amount);
            }
        }
    }
    let own = world.ledger.balances.iter().find(|(key, _)| key.subject == record.uid).map(|(_, balance)| balance.held);
    if own.unwrap_or_default() != held {
        return Err(Violation::new(format!("{own:?} is held for the Task, and its attempts hold {held}")));
    }
    Ok(())
}

/// Time goes on to where a step may start that waits for its budget.
pub(crate) fn next_window(world: &mut World) {
    let steps = world.record.iter().flat_map(|record| record.steps.values());
    let until = steps.filter_map(|step| step.deferral.as_ref()?.until).min();
    world.now = until.map_or(world.now, |until| until.max(world.now));
}

/// What nobody knew the end of is settled, as its pods are gone.
pub(crate) fn reconcile(world: &mut World) {
    let attempts = world.record.iter().flat_map(|record| record.steps.values()).flat_map(|step| &step.attempts);
    let unknown = attempts.filter(|attempt| is_unknown(attempt) && world.ledger.holds(&attempt.key)).cloned();
    for attempt in Vec::from_iter(unknown) {
        let amount = attempt.reservation.as_ref().map_or(Money::ZERO, |reservation| reservation.amount);
        // It is held, as was just seen.
        let cost = cost(world, &attempt, amount);
        let _ = world.ledger.close(&attempt.key, Closing::Settle(cost));
    }
}

fn is_unknown(attempt: &AttemptRecord) -> bool {
    let launched = attempt.launched();
    matches!(attempt.state, AttemptState::Finished { outcome: AttemptOutcome::Unknown, .. }) && launched
}

/// Takes the limits off a decision.
pub(crate) fn blind(decision: &BudgetDecision) -> BudgetDecision {
    let mut decision = decision.clone();
    decision.lines.iter_mut().for_each(|line| line.cap = None);
    decision
}
