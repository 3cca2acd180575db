//! Which signatures will be asked for, and of whom.

use countersign_crds::{ApprovalScope, Required, RiskClass};

use super::court::Says;
use super::simulation::ApprovalOutlook;
use super::walk::Passed;
use crate::approval::Ask;
use crate::decide::MOST_STEPS;
use crate::escape::shown;
use crate::observed::TaskView;
use crate::record::RecordedPlan;

/// In the order in which the steps start. Where the rules let one signature be for all steps of a Plan, the first that
/// asks asks for all whose input is known, as when they are put to people.
pub(super) fn outlook(task: &TaskView, plan: &RecordedPlan, steps: &[Passed], order: &[usize]) -> Vec<ApprovalOutlook> {
    let asks = |index: usize| match &steps.get(index)?.ruling.says {
        Says::NeedsApproval { timeout: _, ask, risk } => Some((ask, *risk)),
        Says::Skip
        | Says::Invalid { .. }
        | Says::Denied { .. }
        | Says::Deferred { .. }
        | Says::NotYet { .. }
        | Says::Permitted { .. } => None,
    };
    let name = |index: usize| plan.steps.get(index).map(|step| step.name.clone());
    let mut covered = vec![false; steps.len()];
    let mut outlook = Vec::new();
    for index in order {
        let Some((ask, risk)) = asks(*index).filter(|_| !covered[*index]) else { continue };
        covered[*index] = true;
        let (mut ask, mut risk, mut of) = (ask.clone(), risk, vec![*index]);
        if ask.scope == ApprovalScope::Plan {
            for (other, covered) in covered.iter_mut().enumerate().filter(|(_, covered)| !**covered) {
                let known = steps.get(other).is_some_and(|step| step.known.whole());
                let Some((theirs, its)) = asks(other).filter(|_| known && of.len() < MOST_STEPS) else { continue };
                if theirs.scope == ApprovalScope::Plan {
                    (ask, risk) = (ask.and(theirs), risk.max(its));
                    *covered = true;
                    of.push(other);
                }
            }
        }
        outlook.push(one(task, of.into_iter().filter_map(name).collect(), ask, risk));
    }
    outlook
}

fn one(task: &TaskView, steps: Vec<String>, ask: Ask, risk: RiskClass) -> ApprovalOutlook {
    let Ask { required, scope: _, expires_after } = ask;
    let from = from(task, &required, risk);
    let Required { count, groups, service_accounts, excluded: _ } = required;
    ApprovalOutlook {
        scope: if steps.len() == 1 { ApprovalScope::Step } else { ApprovalScope::Plan },
        steps,
        count,
        groups,
        service_accounts,
        risk,
        expires_after_seconds: expires_after.get().as_secs(),
        from,
    }
}

/// Who may sign, in words.
fn from(task: &TaskView, required: &Required, risk: RiskClass) -> String {
    let Required { count, groups, service_accounts, excluded } = required;
    let requester = task.spec.requester.as_ref().map(|who| shown(&who.user));
    let other = requester.unwrap_or_else(|| "whoever asks for it".to_owned());
    let who = match count {
        1 => format!("one person other than {other}, with"),
        count => format!("{count} different people other than {other}, each with"),
    };
    let right = format!("the right to approve riskclasses/{} in namespace {}", risk.resource_name(), task.namespace);
    let groups = match groups.as_slice() {
        [] => String::new(),
        groups => {
            let groups: Vec<String> = groups.iter().map(|group| shown(group)).collect();
            format!("; among them somebody of each of: {}", groups.join(", "))
        }
    };
    let accounts = match service_accounts.as_slice() {
        [] => "; no service account".to_owned(),
        accounts => format!("; of service accounts only {}", accounts.join(", ")),
    };
    let excluded = match excluded.as_slice() {
        [] => String::new(),
        excluded => {
            let excluded: Vec<String> = excluded.iter().map(|subject| shown(&subject.to_string())).collect();
            format!("; never {}", excluded.join(", "))
        }
    };
    format!("{who} {right}{groups}{accounts}{excluded}")
}
