//! What would become of a Task, before it is created: the very code that plans, judges and weighs, without effects.
//!
//! The Plan is walked through as it would be run, against a copy of the budgets, as if every attempt succeeded and
//! whoever is asked signed. Nothing is guessed: where a decision rests on what steps before it return, it says so.

mod approvals;
mod compare;
mod court;
mod estimate;
mod known;
mod replay;
mod risks;
mod schedule;
mod simulation;
mod walk;

pub use compare::{Comparison, Finding, StepDifference, compare};
pub use estimate::History;
pub use replay::{PastAttempt, PastStep, PastTask, Replay, ReplayDifference, Surroundings, Trial, Unjudged, replay};
pub use simulation::*;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_crds::EffectClass;
use jiff::Timestamp;

use crate::blocked::Blocked;
use crate::budget::{Balance, LineKey, Scope};
use crate::decide::Config;
use crate::judge::PolicyJudge;
use crate::money::Money;
use crate::observed::{Network, Observed, TaskView};
use crate::plan::{Chosen, Selection, choose, source};
use crate::record::RecordedPlan;
use court::{Court, Says};
use known::{Sight, When};
use walk::{Passed, Walked, walk};

/// What a look at the new Task would see, and what its Skills did before.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub config: Config,
    /// Without a record.
    pub observed: Observed,
    /// By Skill.
    pub history: BTreeMap<String, History>,
}

/// The Skills that the Task's Plan may come to use, whatever they are downgraded to.
pub fn skills_of(observed: &Observed) -> BTreeSet<String> {
    let planned = observed.task.as_ref().and_then(|task| source(task, &observed.template).ok());
    let mut open: Vec<String> = planned.into_iter().flat_map(|(_, plan)| plan.steps).map(|step| step.skill).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(skill) = observed.skills.get(&name).filter(|_| !found.contains(&name)) {
            open.extend(skill.downgrade_to.clone());
            found.insert(name);
        }
    }
    found
}

/// What would become of the Task that is observed. `now` has microseconds, as the record keeps no more.
pub fn simulate(now: Timestamp, inputs: &Inputs, judge: &PolicyJudge) -> Simulation {
    simulate_as(now, inputs, judge, |court| court)
}

/// `ready` prepares whoever judges.
fn simulate_as(
    now: Timestamp,
    inputs: &Inputs,
    judge: &PolicyJudge,
    ready: impl for<'a> FnOnce(Court<'a>) -> Court<'a>,
) -> Simulation {
    let Some(task) = &inputs.observed.task else { return empty(now, "", "") };
    let mut simulation = empty(now, &task.namespace, &task.name);
    simulation.obstacles = obstacles_to_all(now, inputs, task);
    match choose(task, &inputs.observed, judge.fence()) {
        Ok(Chosen { plan, compiled }) => {
            let sight = Sight::new(task, &plan, judge.fence());
            let court = ready(Court::new(judge, inputs, task, &plan));
            let walked = walk(now, inputs, task, &plan, &compiled, sight, court);
            tell(&mut simulation, inputs, task, &plan, &walked);
        }
        Err(Selection::Blocked(Blocked { reason, message, until: _ })) => {
            simulation.obstacles.push(Obstacle { step: None, reason: reason.as_str().to_owned(), message });
        }
        Err(Selection::Refuse { reason, message }) => {
            simulation.obstacles.push(Obstacle { step: None, reason: reason.to_owned(), message });
        }
        // What is chosen is no error.
        Err(Selection::Stamp(_)) => {}
    }
    simulation.feasible = simulation.obstacles.is_empty();
    simulation
}

fn empty(now: Timestamp, namespace: &str, task: &str) -> Simulation {
    Simulation {
        version: VERSION,
        at: now,
        namespace: namespace.to_owned(),
        task: task.to_owned(),
        feasible: false,
        obstacles: Vec::new(),
        plan: None,
        cost: CostRange::default(),
        duration: DurationRange::default(),
        steps: Vec::new(),
        approvals: Vec::new(),
        budgets: Vec::new(),
        irreversible_steps: Vec::new(),
        risks: Vec::new(),
        comparison: None,
    }
}

/// What keeps any step from starting.
fn obstacles_to_all(now: Timestamp, inputs: &Inputs, task: &TaskView) -> Vec<Obstacle> {
    let Inputs { config, observed, history: _ } = inputs;
    let mut found: Vec<(&str, String)> = Vec::new();
    if task.spec.cancel {
        found.push(("Cancelled", "spec.cancel: is set; leave it out".to_owned()));
    }
    if task.spec.deadline.as_ref().is_some_and(|deadline| deadline.0 <= now) {
        found.push(("DeadlineExceeded", "spec.deadline: is over; give a later one".to_owned()));
    }
    if task.spec.suspend {
        found.push(("Suspended", "spec.suspend: is set, so nothing starts; unset it".to_owned()));
    }
    if let Some(agent) = observed.agent.agent().filter(|agent| agent.spec.suspend) {
        let message = format!("the Agent {:?} is paused, so nothing starts; unset its spec.suspend", agent.name);
        found.push(("Suspended", message));
    }
    // Where no canary has tried yet, one will before anything runs.
    if let (Network::Open { .. }, true) = (&observed.network, config.require_network_policy) {
        found.push(("NetworkNotEnforced", observed.network.problem().unwrap_or_default()));
    }
    found.into_iter().map(|(reason, message)| Obstacle { step: None, reason: reason.to_owned(), message }).collect()
}

fn tell(simulation: &mut Simulation, inputs: &Inputs, task: &TaskView, plan: &RecordedPlan, walked: &Walked) {
    let now = simulation.at;
    simulation.plan = Some(PlanOutline {
        source: plan.source.clone(),
        digest: plan.digest,
        steps: u32::try_from(plan.steps.len()).unwrap_or(u32::MAX),
        parallelism: plan.parallelism,
    });
    simulation.steps = plan
        .steps
        .iter()
        .zip(&walked.steps)
        .zip(&walked.usual.starts)
        .map(|((step, passed), start)| outlook(inputs, &step.name, &step.skill, passed, *start))
        .collect();
    simulation.obstacles.extend(simulation.steps.iter().zip(&walked.steps).filter_map(obstacle));
    simulation.obstacles.extend(too_late(now, task, &simulation.steps, walked));
    simulation.cost = cost(inputs, walked);
    simulation.duration = DurationRange {
        p50_seconds: seconds(walked.usual.end()),
        p95_seconds: seconds(walked.slow.end().max(walked.usual.end())),
        critical_path: walked.usual.critical_path().into_iter().map(|index| plan.steps[index].name.clone()).collect(),
    };
    let mut order: Vec<usize> = (0..plan.steps.len()).collect();
    order.sort_by_key(|index| walked.usual.starts[*index]);
    simulation.approvals = approvals::outlook(task, plan, &walked.steps, &order);
    simulation.budgets = budgets(inputs, task, walked);
    let irreversible =
        simulation.steps.iter().zip(&walked.steps).filter(|(step, passed)| step.irreversible && passed.runs());
    simulation.irreversible_steps = irreversible.map(|(step, _)| step.name.clone()).collect();
    simulation.risks = risks::risks(&risks::Grounds {
        now,
        inputs,
        task,
        plan,
        walked,
        steps: &simulation.steps,
        approvals: &simulation.approvals,
        budgets: &simulation.budgets,
    });
}

fn outlook(inputs: &Inputs, name: &str, planned: &str, passed: &Passed, start: Duration) -> StepOutlook {
    let Passed { known, ruling, cost, takes, deferred, forced: _ } = passed;
    let effect =
        inputs.observed.skills.get(&ruling.skill).map_or(EffectClass::Irreversible, |contract| contract.effect);
    let (decision, message) = match &ruling.says {
        Says::Permitted { .. } | Says::NeedsApproval { .. } if ruling.only_by_open_rules => {
            (StepDecision::Undetermined, None)
        }
        Says::Permitted { .. } => (StepDecision::Allow, None),
        Says::NeedsApproval { .. } => (StepDecision::RequireApproval, None),
        Says::Skip => (StepDecision::Skip, Some("its when is false".to_owned())),
        Says::Denied { message } => (StepDecision::Deny, Some(message.clone())),
        Says::Invalid { reason: _, message } => (StepDecision::Invalid, Some(message.clone())),
        Says::NotYet { message } => (StepDecision::Wait, Some(message.clone())),
        Says::Deferred { .. } => (StepDecision::Wait, ruling.budget.as_ref().and_then(|budget| budget.message.clone())),
    };
    let weighed = ruling.budget.as_ref().map(|budget| BudgetOutcome {
        verdict: budget.verdict,
        amount: budget.amount,
        until: None,
        message: budget.message.clone(),
    });
    StepOutlook {
        name: name.to_owned(),
        downgraded_from: (ruling.skill != planned).then(|| planned.to_owned()),
        skill: ruling.skill.clone(),
        effect,
        irreversible: risks::is_irreversible(effect),
        decision,
        certain: known.whole(),
        not_known: known.missing(),
        undetermined: ruling.undetermined.clone(),
        reasons: ruling.reasons.clone(),
        message,
        // What kept it back is more than that it fits in the end; that it never will is more still.
        budget: match decision {
            StepDecision::Deny => weighed,
            _ => deferred.clone().or(weighed),
        },
        cost: cost.clone(),
        duration: StepDuration {
            p50_seconds: seconds(takes.p50),
            p95_seconds: seconds(takes.p95),
            source: takes.source,
        },
        starts_after_seconds: seconds(start),
    }
}

/// Why the Task would not come to a good end, where it is for this step.
fn obstacle((step, passed): (&StepOutlook, &Passed)) -> Option<Obstacle> {
    let of = |reason: &str| {
        let message = step.message.clone().unwrap_or_default();
        Some(Obstacle { step: Some(step.name.clone()), reason: reason.to_owned(), message })
    };
    match &passed.ruling.says {
        // It may be skipped, and then nothing is lost.
        _ if passed.known.when == When::Open => None,
        Says::Skip | Says::Permitted { .. } | Says::NeedsApproval { .. } => None,
        Says::Invalid { reason, message: _ } => of(reason),
        Says::Denied { .. } if passed.ruling.budget.is_some() => of("OverBudget"),
        Says::Denied { .. } => of("PolicyDenied"),
        Says::NotYet { .. } | Says::Deferred { .. } => of("NotYet"),
    }
}

/// The steps whose budget has something for them only after the deadline.
fn too_late(now: Timestamp, task: &TaskView, steps: &[StepOutlook], walked: &Walked) -> Vec<Obstacle> {
    let Some(deadline) = task.spec.deadline.as_ref().map(|deadline| deadline.0).filter(|deadline| *deadline > now)
    else {
        return Vec::new();
    };
    let late = |(step, passed): (&StepOutlook, &Passed)| {
        let until = passed.deferred.as_ref()?.until.filter(|until| *until >= deadline)?;
        let message = format!("its budget has nothing left for it before {until}, which is after the Task's deadline");
        Some(Obstacle { step: Some(step.name.clone()), reason: "DeadlineExceeded".to_owned(), message })
    };
    steps.iter().zip(&walked.steps).filter_map(late).collect()
}

fn cost(inputs: &Inputs, walked: &Walked) -> CostRange {
    let sum = |part: fn(&StepCost) -> Money| {
        walked.steps.iter().map(|step| part(&step.cost)).fold(Money::ZERO, Money::saturating_add)
    };
    // What is left of a budget that never begins anew is the most that there is to spend.
    let left = walked.lines.values().filter(|line| line.ends_at.is_none()).filter_map(|line| {
        let Balance { spent, held } = balance_of(&inputs.observed.balances, &line.key);
        Some(line.cap?.saturating_sub(spent).saturating_sub(held))
    });
    let maximum = sum(|cost| cost.maximum);
    CostRange {
        minimum: sum(|cost| cost.minimum),
        expected: sum(|cost| cost.expected),
        maximum: left.chain([maximum]).min().unwrap_or(maximum),
        complete: !walked.steps.iter().any(|step| step.runs() && step.cost.source == CostSource::NotKnown),
    }
}

fn balance_of(balances: &BTreeMap<LineKey, Balance>, key: &LineKey) -> Balance {
    balances.get(key).copied().unwrap_or_default()
}

fn budgets(inputs: &Inputs, task: &TaskView, walked: &Walked) -> Vec<BudgetOutlook> {
    let outlook = |line: &crate::budget::Line| {
        let limit = line.limit?;
        let cap = line.cap.unwrap_or(limit);
        let before = balance_of(&inputs.observed.balances, &line.key);
        let Balance { spent, held } = balance_of(&walked.balances, &line.key);
        let LineKey { scope, subject, window, starts_at } = line.key.clone();
        Some(BudgetOutlook {
            scope,
            subject: if scope == Scope::Task { task.name.clone() } else { subject },
            window,
            starts_at,
            ends_at: line.ends_at,
            limit,
            cap: (cap < limit).then_some(cap),
            spent_before: before.spent,
            held_before: before.held,
            spent,
            held,
            left: cap.saturating_sub(spent).saturating_sub(held),
        })
    };
    walked.lines.values().filter_map(outlook).collect()
}

fn seconds(duration: Duration) -> f64 {
    let millis = u32::try_from(duration.as_millis()).map_or_else(|_| duration.as_secs_f64() * 1000.0, f64::from);
    millis.round() / 1000.0
}

#[cfg(test)]
mod tests;
