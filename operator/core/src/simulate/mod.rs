//! What would become of a Task, before it is created: the very code that plans, judges and weighs, without effects.
//!
//! The decider itself looks at the Task again and again, on a clock and a ledger of its own, in a world in which every
//! attempt succeeds and whoever is asked signs; what is told is read off the changes that it makes. Nothing is guessed:
//! an output that is not there yet is not known, what rests on it is told as open, and where a `when` is open both ways
//! are run.

mod approvals;
mod compare;
mod estimate;
mod foresight;
mod known;
mod passed;
mod rehearsal;
mod replay;
mod risks;
mod ruling;
mod simulation;
mod timeline;

pub use compare::{Comparison, Finding, StepDifference, compare};
pub use estimate::History;
pub use replay::{PastAttempt, PastStep, PastTask, Replay, ReplayDifference, Surroundings, Trial, Unjudged, replay};
pub use simulation::*;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_crds::EffectClass;
use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use crate::blocked::Blocked;
use crate::budget::{Balance, LineKey, Scope};
use crate::decide::{Config, Evaluators};
use crate::judge::PolicyJudge;
use crate::money::Money;
use crate::observed::{Network, Observed, TaskView};
use crate::plan::{Chosen, Selection, choose, source};
use crate::record::{ApplyError, Change, RecordedPlan};
use foresight::{Foresight, Obstructed, OpenWhen};
use known::When;
use passed::Passed;
use rehearsal::{Assumed, Course, Pace, Rehearsal};
use ruling::Says;
use timeline::Timeline;

/// What a look at the new Task would see, and what its Skills did before.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// What the platform team sets.
    pub config: Config,
    /// Without a record.
    pub observed: Observed,
    /// By Skill.
    pub history: BTreeMap<String, History>,
    /// What steps are taken to return, by name; of any other step that is not known.
    pub outputs: BTreeMap<String, Arc<Value>>,
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
    simulate_as(now, inputs, judge, |foresight| foresight)
}

/// `ready` prepares whoever judges.
fn simulate_as(
    now: Timestamp,
    inputs: &Inputs,
    judge: &PolicyJudge,
    ready: impl for<'a> FnOnce(Foresight<'a>) -> Foresight<'a>,
) -> Simulation {
    let Some(task) = &inputs.observed.task else { return empty(now, "", "") };
    let mut simulation = empty(now, &task.namespace, &task.name);
    simulation.obstacles = obstacles_to_all(now, inputs, task);
    let problem = match choose(task, &inputs.observed, judge.evaluator()) {
        Ok(chosen) => {
            let foresight = ready(Foresight::new(judge, inputs, task, &chosen.plan, &chosen.compiled));
            match courses(now, inputs, &chosen, &foresight, judge) {
                Ok(courses) => {
                    tell(&mut simulation, inputs, task, &chosen.plan, &courses);
                    None
                }
                Err(defect) => Some(("Defect", format!("{defect}; this is a defect of the operator, report it"))),
            }
        }
        Err(Selection::Blocked(Blocked { reason, message, until: _ })) => Some((reason.as_str(), message)),
        Err(Selection::Refuse { reason, message }) => Some((reason, message)),
        // What is chosen is no error.
        Err(Selection::Snapshot(_)) => None,
    };
    let problem = problem.map(|(reason, message)| Obstacle { step: None, reason: reason.to_owned(), message });
    simulation.obstacles.extend(problem);
    simulation.feasible = simulation.obstacles.is_empty();
    simulation
}

/// Why there is nothing to rehearse.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unrehearsed {
    /// No Task is observed.
    #[error("there is no Task")]
    NoTask,
    /// Planning refused the Task or waits for something; the message says why.
    #[error("no Plan can be made: {0}")]
    NoPlan(String),
    /// A change did not fit the record: a defect of the operator.
    #[error(transparent)]
    Defect(#[from] ApplyError),
}

/// Every change that the operator would make to the record of the Task that is observed, in their order, if every
/// attempt succeeded, whoever is asked signed at once, and each attempt took as long and cost as much as is expected.
///
/// # Errors
/// There is no Task, no Plan can be made for it, or the decider contradicts itself.
pub fn rehearse(now: Timestamp, inputs: &Inputs, judge: &PolicyJudge) -> Result<Vec<Change>, Unrehearsed> {
    let task = inputs.observed.task.as_ref().ok_or(Unrehearsed::NoTask)?;
    let chosen = choose(task, &inputs.observed, judge.evaluator()).map_err(|why| match why {
        Selection::Blocked(Blocked { message, .. }) | Selection::Refuse { reason: _, message } => {
            Unrehearsed::NoPlan(message)
        }
        Selection::Snapshot(_) => Unrehearsed::NoPlan(String::new()),
    })?;
    let foresight = Foresight::new(judge, inputs, task, &chosen.plan, &chosen.compiled);
    let assumed = Assumed { open_when: OpenWhen::Runs, obstructed: Obstructed::Ends, pace: Pace::Usual };
    let evaluators = Evaluators { judge: &foresight, evaluator: judge.evaluator() };
    Ok(Rehearsal::new(now, inputs, &chosen, &foresight, evaluators, assumed).run()?.changes)
}

/// What happens, under each of the assumptions that the figures rest on.
struct Courses {
    usual: Course,
    passed: Vec<Passed>,
    times: Timeline,
    slow: Timeline,
    /// Where a `when` is open: as if it were false.
    skipping: Option<Vec<Passed>>,
}

fn courses(
    now: Timestamp,
    inputs: &Inputs,
    chosen: &Chosen,
    foresight: &Foresight<'_>,
    judge: &PolicyJudge,
) -> Result<Courses, ApplyError> {
    let run = |open_when, pace| {
        let assumed = Assumed { open_when, obstructed: Obstructed::PassedOver, pace };
        let evaluators = Evaluators { judge: foresight, evaluator: judge.evaluator() };
        Rehearsal::new(now, inputs, chosen, foresight, evaluators, assumed).run()
    };
    let plan = &chosen.plan;
    let usual = run(OpenWhen::Runs, Pace::Usual)?;
    let slow = run(OpenWhen::Runs, Pace::Slow)?;
    let passed = passed::of(&plan.steps, &usual);
    let open = passed.iter().any(|step| step.known.when == When::Open);
    let skipping = if open { Some(run(OpenWhen::IsSkipped, Pace::Usual)?) } else { None };
    Ok(Courses {
        times: Timeline::of(now, plan, &usual.changes),
        slow: Timeline::of(now, plan, &slow.changes),
        skipping: skipping.map(|course| passed::of(&plan.steps, &course)),
        passed,
        usual,
    })
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
    let Inputs { config, observed, history: _, outputs: _ } = inputs;
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

fn tell(simulation: &mut Simulation, inputs: &Inputs, task: &TaskView, plan: &RecordedPlan, courses: &Courses) {
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
        .zip(&courses.passed)
        .zip(&courses.times.starts)
        .map(|((step, passed), start)| outlook(inputs, &step.name, &step.skill, passed, *start))
        .collect();
    if let Some(skipping) = &courses.skipping {
        for (step, skipping) in simulation.steps.iter_mut().zip(skipping) {
            step.cost.minimum = step.cost.minimum.min(skipping.cost.minimum);
            step.cost.maximum = step.cost.maximum.max(skipping.cost.maximum);
        }
    }
    simulation.obstacles.extend(simulation.steps.iter().zip(&courses.passed).filter_map(obstacle));
    simulation.obstacles.extend(too_late(now, task, &simulation.steps, &courses.passed));
    simulation.cost = cost(inputs, courses);
    simulation.duration = DurationRange {
        p50_seconds: seconds(courses.times.end()),
        p95_seconds: seconds(courses.slow.end().max(courses.times.end())),
        critical_path: courses.times.critical_path().into_iter().map(|index| plan.steps[index].name.clone()).collect(),
    };
    simulation.approvals = approvals::outlook(task, plan, &courses.usual.changes);
    simulation.budgets = budgets(inputs, task, &courses.usual);
    let irreversible =
        simulation.steps.iter().zip(&courses.passed).filter(|(step, passed)| step.irreversible && passed.runs());
    simulation.irreversible_steps = irreversible.map(|(step, _)| step.name.clone()).collect();
    simulation.risks = risks::risks(&risks::Grounds {
        now,
        inputs,
        task,
        plan,
        courses,
        steps: &simulation.steps,
        approvals: &simulation.approvals,
        budgets: &simulation.budgets,
    });
}

fn outlook(inputs: &Inputs, name: &str, planned: &str, passed: &Passed, start: Duration) -> StepOutlook {
    let Passed { known, ruling, cost, takes, deferred, outwaited: _ } = passed;
    let effect =
        inputs.observed.skills.get(&ruling.skill).map_or(EffectClass::Irreversible, |contract| contract.effect);
    let (decision, message) = match &ruling.says {
        Says::Permitted { .. } | Says::NeedsApproval { .. } if ruling.only_by_open_rules => {
            (StepDecision::Undetermined, None)
        }
        Says::Permitted { .. } => (StepDecision::Allow, None),
        Says::NeedsApproval { .. } => (StepDecision::RequireApproval, None),
        Says::Skip { message } => (StepDecision::Skip, Some(message.clone())),
        Says::Denied { message } => (StepDecision::Deny, Some(message.clone())),
        Says::Invalid { reason: _, message } => (StepDecision::Invalid, Some(message.clone())),
        Says::NotYet { message } => (StepDecision::Wait, Some(message.clone())),
        Says::Deferred { .. } => (StepDecision::Wait, ruling.budget.as_ref().and_then(|budget| budget.message.clone())),
    };
    let weighed = ruling.budget.as_ref().map(passed::outcome);
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
        Says::Skip { .. } | Says::Permitted { .. } | Says::NeedsApproval { .. } => None,
        Says::Invalid { reason, message: _ } => of(reason),
        Says::Denied { .. } if passed.ruling.budget.is_some() => of("OverBudget"),
        Says::Denied { .. } => of("PolicyDenied"),
        Says::NotYet { .. } | Says::Deferred { .. } => of("NotYet"),
    }
}

/// The steps whose budget has something for them only after the deadline.
fn too_late(now: Timestamp, task: &TaskView, steps: &[StepOutlook], passed: &[Passed]) -> Vec<Obstacle> {
    let Some(deadline) = task.spec.deadline.as_ref().map(|deadline| deadline.0).filter(|deadline| *deadline > now)
    else {
        return Vec::new();
    };
    let late = |(step, passed): (&StepOutlook, &Passed)| {
        let until = passed.deferred.as_ref()?.until.filter(|until| *until >= deadline)?;
        let message = format!("its budget has nothing left for it before {until}, which is after the Task's deadline");
        Some(Obstacle { step: Some(step.name.clone()), reason: "DeadlineExceeded".to_owned(), message })
    };
    steps.iter().zip(passed).filter_map(late).collect()
}

fn cost(inputs: &Inputs, courses: &Courses) -> CostRange {
    let sum = |steps: &[Passed], part: fn(&StepCost) -> Money| {
        steps.iter().map(|step| part(&step.cost)).fold(Money::ZERO, Money::saturating_add)
    };
    // What is left of a budget that never begins anew is the most that there is to spend.
    let left = courses.usual.lines.values().filter(|line| line.ends_at.is_none()).filter_map(|line| {
        let Balance { spent, held } = balance_of(&inputs.observed.balances, &line.key);
        Some(line.cap?.saturating_sub(spent).saturating_sub(held))
    });
    // Whether it runs may be open: the bounds are those of both ways.
    let both = |part: fn(&StepCost) -> Money| {
        let usual = sum(&courses.passed, part);
        let skipping = courses.skipping.as_ref().map_or(usual, |steps| sum(steps, part));
        (usual.min(skipping), usual.max(skipping))
    };
    let ((minimum, _), (_, maximum)) = (both(|cost| cost.minimum), both(|cost| cost.maximum));
    let not_known = |step: &Passed| step.runs() && step.cost.source == CostSource::NotKnown;
    CostRange {
        minimum,
        expected: sum(&courses.passed, |cost| cost.expected),
        maximum: left.chain([maximum]).min().unwrap_or(maximum),
        complete: !courses.passed.iter().chain(courses.skipping.iter().flatten()).any(not_known),
    }
}

fn balance_of(balances: &BTreeMap<LineKey, Balance>, key: &LineKey) -> Balance {
    balances.get(key).copied().unwrap_or_default()
}

fn budgets(inputs: &Inputs, task: &TaskView, course: &Course) -> Vec<BudgetOutlook> {
    let outlook = |line: &crate::budget::Line| {
        let limit = line.limit?;
        let cap = line.cap.unwrap_or(limit);
        let before = balance_of(&inputs.observed.balances, &line.key);
        let Balance { spent, held } = balance_of(&course.balances, &line.key);
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
    course.lines.values().filter_map(outlook).collect()
}

fn seconds(duration: Duration) -> f64 {
    let millis = u32::try_from(duration.as_millis()).map_or_else(|_| duration.as_secs_f64() * 1000.0, f64::from);
    millis.round() / 1000.0
}

#[cfg(test)]
mod tests;
