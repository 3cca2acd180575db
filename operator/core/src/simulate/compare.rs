//! What changed Policies would change.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_crds::{BudgetVerdict, Required, RiskClass};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::simulation::{ApprovalOutlook, CostRange, Reason, Simulation, StepDecision, StepOutlook};
use super::{Inputs, simulate};
use crate::judge::PolicyJudge;
use crate::policy::PolicySet;

/// How a Task comes out with changed Policies, beside how it does with those that there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The Policies that were tried: `NAMESPACE/NAME`.
    pub policies: Vec<String>,
    /// Whether it comes to a good end with the Policies that there are.
    pub feasible_today: bool,
    /// What it costs with the Policies that there are.
    pub cost_today: CostRange,
    /// The steps of which something else is decided.
    pub differences: Vec<StepDifference>,
}

/// A step, and what is decided of it with either set of Policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepDifference {
    /// The step's name in the Plan.
    pub step: String,
    /// With the Policies that there are.
    pub today: Finding,
    /// With those that are tried in their place.
    pub tried: Finding,
}

/// What is decided of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What becomes of the step.
    pub decision: StepDecision,
    /// The Skill that this is decided of: the Plan's own, or the one in its place.
    pub skill: String,
    /// What is decided about its price; left out where there is none to weigh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetVerdict>,
    /// Whose signatures it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Required>,
    /// The highest risk of the rules that bind; left out where nobody is asked to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskClass>,
    /// The rules that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Why it would not run; left out where it would, or where no more is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Finding {
    /// Whether the same is decided, whoever says it in whatever words.
    pub fn is_as(&self, other: &Finding) -> bool {
        let Finding { decision, skill, budget, required, risk, reasons: _, message: _ } = self;
        (decision, skill, budget, required, risk)
            == (&other.decision, &other.skill, &other.budget, &other.required, &other.risk)
    }
}

/// Simulates the Task with these Policies in the place of those that are observed, and says what differs.
pub fn compare(
    now: Timestamp,
    inputs: &Inputs,
    tried: PolicySet,
    names: Vec<String>,
    judge: &PolicyJudge,
) -> Simulation {
    let today = simulate(now, inputs, judge);
    let mut changed = inputs.clone();
    changed.observed.policies = Arc::new(tried);
    let simulation = simulate(now, &changed, judge);
    let (before, after) = (asked(&today), asked(&simulation));
    let differences = today.steps.iter().zip(&simulation.steps).filter_map(|(step, changed)| {
        let (today, tried) = (finding(&before, step), finding(&after, changed));
        (!today.is_as(&tried)).then(|| StepDifference { step: step.name.clone(), today, tried })
    });
    let comparison = Comparison {
        policies: names,
        feasible_today: today.feasible,
        cost_today: today.cost.clone(),
        differences: differences.collect(),
    };
    Simulation { comparison: Some(comparison), ..simulation }
}

/// The signatures that each step asks for.
fn asked(simulation: &Simulation) -> BTreeMap<&str, &ApprovalOutlook> {
    simulation
        .approvals
        .iter()
        .flat_map(|approval| approval.steps.iter().map(move |step| (step.as_str(), approval)))
        .collect()
}

fn finding(asked: &BTreeMap<&str, &ApprovalOutlook>, step: &StepOutlook) -> Finding {
    let asked = asked.get(step.name.as_str());
    Finding {
        decision: step.decision,
        skill: step.skill.clone(),
        budget: step.budget.as_ref().map(|budget| budget.verdict),
        required: asked.map(|approval| Required {
            count: approval.count,
            groups: approval.groups.clone(),
            service_accounts: approval.service_accounts.clone(),
            // No Policy changes who asks.
            excluded: Vec::new(),
        }),
        risk: asked.map(|approval| approval.risk),
        reasons: step.reasons.clone(),
        message: step.message.clone(),
    }
}
