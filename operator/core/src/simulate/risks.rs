//! What somebody should know before they ask for a Task.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_crds::{EffectClass, SkillSpec};
use jiff::{SignedDuration, Timestamp};

use super::known::When;
use super::passed::Passed;
use super::simulation::{ApprovalOutlook, BudgetOutlook, DurationSource, Risk, RiskKind, StepDecision, StepOutlook};
use super::{Courses, Inputs};
use crate::budget::{Scope, Window, price};
use crate::observed::{Network, TaskView};
use crate::record::RecordedPlan;

/// Used so far, a budget is worth a word.
const SCARCE_PERCENT: u128 = 80;
/// Signatures that must be there so soon are.
const SOON: Duration = Duration::from_secs(3600);

/// What there is to say, of each kind together.
pub(super) struct Grounds<'a> {
    pub now: Timestamp,
    pub inputs: &'a Inputs,
    pub task: &'a TaskView,
    pub plan: &'a RecordedPlan,
    pub courses: &'a Courses,
    pub steps: &'a [StepOutlook],
    pub approvals: &'a [ApprovalOutlook],
    pub budgets: &'a [BudgetOutlook],
}

pub(super) fn risks(grounds: &Grounds<'_>) -> Vec<Risk> {
    let mut risks = Vec::new();
    risks.extend(irreversible(grounds));
    risks.extend(prices(grounds));
    risks.extend(network(grounds));
    risks.extend(grounds.budgets.iter().filter_map(scarce));
    risks.extend(deferred(grounds));
    risks.extend(conditional(grounds));
    risks.extend(deadline(grounds));
    risks.extend(approvals(grounds));
    risks.extend(not_known(grounds));
    risks.extend(not_retried(grounds));
    risks.extend(no_history(grounds));
    risks.sort_by_key(|risk| risk.kind);
    risks
}

fn risk(kind: RiskKind, steps: Vec<String>, message: impl Into<String>) -> Risk {
    Risk { kind, steps, message: message.into() }
}

/// Those of the steps that would run, with what they would run.
fn running<'a>(grounds: &Grounds<'a>) -> impl Iterator<Item = (&'a StepOutlook, &'a Passed, &'a SkillSpec)> {
    let skills = &grounds.inputs.observed.skills;
    let steps = grounds.steps.iter().zip(&grounds.courses.passed).filter(|(_, passed)| passed.runs());
    steps.filter_map(|(step, passed)| Some((step, passed, skills.get(&step.skill)?)))
}

fn names<'a>(steps: impl Iterator<Item = &'a StepOutlook>) -> Vec<String> {
    steps.map(|step| step.name.clone()).collect()
}

fn irreversible(grounds: &Grounds<'_>) -> Vec<Risk> {
    let irreversible = |step: &&StepOutlook| step.irreversible;
    let (unsigned, signed): (Vec<_>, Vec<_>) = running(grounds)
        .map(|(step, _, _)| step)
        .filter(irreversible)
        .partition(|step| step.decision != StepDecision::RequireApproval);
    let of = |steps: Vec<&StepOutlook>, message: &str| {
        (!steps.is_empty()).then(|| risk(RiskKind::Irreversible, names(steps.into_iter()), message))
    };
    let unsigned = of(unsigned, "what it does cannot be undone, and nobody is asked to sign for it");
    let signed = of(signed, "what it does cannot be undone, once it is signed for");
    unsigned.into_iter().chain(signed).collect()
}

fn prices(grounds: &Grounds<'_>) -> Vec<Risk> {
    let skills = &grounds.inputs.observed.skills;
    let mut unpriced: BTreeMap<(&str, RiskKind), Vec<String>> = BTreeMap::new();
    for (step, passed) in grounds.steps.iter().zip(&grounds.courses.passed) {
        if skills.get(&step.skill).is_none_or(|contract| price(contract).is_ok()) {
            continue;
        }
        let refused = step.reasons.iter().any(|reason| reason.policy == "budget");
        let kind = match passed.runs() {
            true => RiskKind::EgressWithoutCeiling,
            false if refused => RiskKind::UnknownPrice,
            false => continue,
        };
        unpriced.entry((&step.skill, kind)).or_default().push(step.name.clone());
    }
    let say = |((skill, kind), steps): ((&str, RiskKind), Vec<String>)| {
        let message = if kind == RiskKind::UnknownPrice {
            format!(
                "nobody knows what the Skill {skill} costs, and what has no price fits no budget; set spec.cost on it"
            )
        } else {
            format!("the Skill {skill} goes outside and may spend there without bound; set spec.cost on it")
        };
        risk(kind, steps, message)
    };
    unpriced.into_iter().map(say).collect()
}

fn network(grounds: &Grounds<'_>) -> Option<Risk> {
    let message = match &grounds.inputs.observed.network {
        Network::Closed => return None,
        Network::NotTried => {
            "whether NetworkPolicies are enforced in this namespace was not tried yet, as nothing ran here".to_owned()
        }
        Network::Open { reached } => {
            format!("NetworkPolicies are not enforced in this namespace: a pod reached {reached}")
        }
    };
    Some(risk(RiskKind::NetworkNotEnforced, Vec::new(), message))
}

fn scarce(budget: &BudgetOutlook) -> Option<Risk> {
    let used = u128::from(budget.spent.saturating_add(budget.held).micros());
    let limit = u128::from(budget.limit.micros());
    if limit == 0 || used * 100 < limit * SCARCE_PERCENT {
        return None;
    }
    let when = match budget.window {
        Window::Hour => " of the hour",
        Window::Day => " of the day",
        Window::Month => " of the month",
        Window::Total => "",
    };
    let whose = match budget.scope {
        Scope::Cluster => "the cluster".to_owned(),
        Scope::Namespace => format!("the namespace {}", budget.subject),
        Scope::Agent => format!("the Agent {}", budget.subject),
        Scope::Task => "the Task".to_owned(),
    };
    let message = format!("the budget{when} of {whose} will be used up to {} percent", used * 100 / limit);
    Some(risk(RiskKind::BudgetScarce, Vec::new(), message))
}

fn deferred(grounds: &Grounds<'_>) -> Vec<Risk> {
    let mut by_time: BTreeMap<(Option<Timestamp>, bool), Vec<String>> = BTreeMap::new();
    for (step, passed, _) in running(grounds) {
        if let Some(deferred) = &passed.deferred {
            by_time.entry((deferred.until, passed.outwaited)).or_default().push(step.name.clone());
        }
    }
    let say = |((until, outwaited), steps)| {
        let message = match (until, outwaited) {
            (Some(until), _) => format!("its budget has nothing left for it before {until}; it waits until then"),
            (None, false) => "it waits until steps before it give back what is reserved for them".to_owned(),
            (None, true) => {
                "it waits until other Tasks give back what they hold; when that is, nobody knows".to_owned()
            }
        };
        risk(RiskKind::Deferred, steps, message)
    };
    by_time.into_iter().map(say).collect()
}

/// What would be an obstacle if it were known that the step is reached.
fn conditional(grounds: &Grounds<'_>) -> Vec<Risk> {
    let may_be_skipped = grounds.steps.iter().zip(&grounds.courses.passed);
    let fails = may_be_skipped.filter(|(_, passed)| passed.known.when == When::Open && !passed.runs());
    let say = |(step, _): (&StepOutlook, &Passed)| {
        let why = step.message.as_deref().unwrap_or_default();
        risk(RiskKind::Conditional, vec![step.name.clone()], format!("if its when holds, it fails: {why}"))
    };
    fails.map(say).collect()
}

fn deadline(grounds: &Grounds<'_>) -> Option<Risk> {
    let deadline = grounds.task.spec.deadline.as_ref()?.0;
    let after = |end: Duration| {
        let end = SignedDuration::try_from(end).ok().and_then(|end| grounds.now.checked_add(end).ok());
        end.is_none_or(|end| end > deadline)
    };
    let message = if after(grounds.courses.times.end()) {
        format!("it usually takes longer than until its deadline, which is {deadline}")
    } else if after(grounds.courses.slow.end()) {
        format!("if its steps take long, it is not done by its deadline, which is {deadline}")
    } else if !grounds.approvals.is_empty() {
        format!("whoever signs late lets its deadline pass, which is {deadline}")
    } else {
        return None;
    };
    Some(risk(RiskKind::Deadline, Vec::new(), message))
}

fn approvals(grounds: &Grounds<'_>) -> Vec<Risk> {
    let soon = grounds.approvals.iter().filter(|approval| approval.expires_after_seconds < SOON.as_secs());
    let say = |approval: &ApprovalOutlook| {
        let after = SignedDuration::from_secs(i64::try_from(approval.expires_after_seconds).unwrap_or(i64::MAX));
        let message = format!("it is rejected unless it is signed for within {after:#} of being asked for");
        risk(RiskKind::ApprovalExpiresSoon, approval.steps.clone(), message)
    };
    soon.map(say).collect()
}

fn not_known(grounds: &Grounds<'_>) -> Option<Risk> {
    let open: Vec<&StepOutlook> = grounds.steps.iter().filter(|step| !step.certain).collect();
    let undetermined = open.iter().filter(|step| !step.undetermined.is_empty()).count();
    let message = match undetermined {
        0 => "what it is given, or whether it runs, depends on what steps before it return".to_owned(),
        _ => format!(
            "what it is given, or whether it runs, depends on what steps before it return; of {undetermined} of them rules read that, and may yet decide otherwise"
        ),
    };
    (!open.is_empty()).then(|| risk(RiskKind::InputNotKnown, names(open.into_iter()), message))
}

fn not_retried(grounds: &Grounds<'_>) -> Option<Risk> {
    let asks: BTreeMap<&str, bool> =
        grounds.plan.steps.iter().map(|step| (step.name.as_str(), step.retry.is_some())).collect();
    let ignored = running(grounds)
        .filter(|(step, _, contract)| !contract.idempotent && asks.get(step.name.as_str()) == Some(&true));
    let steps = names(ignored.map(|(step, _, _)| step));
    let message =
        "its Skill is not idempotent, so once an attempt was let in it is not made again, whatever retry says";
    (!steps.is_empty()).then(|| risk(RiskKind::NotRetried, steps, message))
}

fn no_history(grounds: &Grounds<'_>) -> Vec<Risk> {
    let mut new: BTreeMap<(&str, bool), Vec<String>> = BTreeMap::new();
    for (step, _, _) in running(grounds).filter(|(step, _, _)| step.duration.source != DurationSource::History) {
        let says = step.duration.source == DurationSource::Contract;
        new.entry((&step.skill, says)).or_default().push(step.name.clone());
    }
    let say = |((skill, says), steps): ((&str, bool), Vec<String>)| {
        let rests = if says { "what it says of itself" } else { "its timeout" };
        risk(RiskKind::NoHistory, steps, format!("the Skill {skill} has not run before; its estimate is {rests}"))
    };
    new.into_iter().map(say).collect()
}

/// Whether a step does what cannot be undone.
pub(super) fn is_irreversible(effect: EffectClass) -> bool {
    match effect {
        EffectClass::Irreversible => true,
        EffectClass::Read | EffectClass::Write | EffectClass::External => false,
    }
}
