//! What came of each step of a rehearsal.

use std::collections::HashMap;

use countersign_crds::Step;

use super::estimate::{NOTHING, Takes};
use super::known::Known;
use super::rehearsal::{Course, Ran};
use super::ruling::{Ruling, Says};
use super::simulation::{BudgetOutcome, StepCost};
use crate::budget::BudgetDecision;
use crate::record::{AttemptOutcome, Change, StepOutcome};

/// One step, and what was decided of it in the end.
pub(super) struct Passed {
    pub known: Known,
    pub ruling: Ruling,
    pub cost: StepCost,
    pub takes: Takes,
    /// What kept it back first.
    pub deferred: Option<BudgetOutcome>,
    /// Whether it waited for money that only others could give back.
    pub outwaited: bool,
}

impl Passed {
    /// Whether it would run.
    pub fn runs(&self) -> bool {
        self.ruling.says.runs()
    }
}

/// In the Plan's order.
pub(super) fn of(steps: &[Step], course: &Course) -> Vec<Passed> {
    let mut deferred: HashMap<&str, BudgetOutcome> = HashMap::new();
    let mut intended: HashMap<&str, Option<&BudgetDecision>> = HashMap::new();
    let mut skipped: HashMap<&str, String> = HashMap::new();
    for change in &course.changes {
        match change {
            Change::Defer { step, until, budget, .. } => {
                let outcome = || BudgetOutcome { until: *until, ..outcome(budget) };
                deferred.entry(step).or_insert_with(outcome);
            }
            Change::Intend { step, budget, .. } => drop(intended.insert(step, budget.as_deref())),
            // What was never let in is decided anew.
            Change::FinishAttempt { step, outcome: AttemptOutcome::Voided, .. } => drop(intended.remove(step.as_str())),
            Change::FinishStep { step, outcome: StepOutcome::Skipped, message, .. } => {
                skipped.insert(step, message.clone().unwrap_or_default());
            }
            Change::FinishStep { .. }
            | Change::Adopt { .. }
            | Change::SnapshotPlan { .. }
            | Change::RequestApproval { .. }
            | Change::SignApproval { .. }
            | Change::DecideApproval { .. }
            | Change::ExpireApproval { .. }
            | Change::SupersedeApproval { .. }
            | Change::WithdrawApproval { .. }
            | Change::Admit { .. }
            | Change::FinishAttempt { .. }
            | Change::BeginEnding { .. }
            | Change::FinishTask { .. } => {}
        }
    }
    let mut passed = |step: &Step| {
        let name = step.name.as_str();
        let told = course.told.get(name).map(|answer| &answer.told);
        let (known, mut ruling) = match told {
            Some(told) => (told.known.clone(), told.ruling.clone()),
            None => (Known::whole_of(step), not_judged(&step.skill)),
        };
        if let Some(decision) = intended.get(name) {
            // With the numbers that it started on.
            ruling.budget = decision.cloned();
        } else if let Some(message) = skipped.remove(name) {
            ruling.says = Says::Skip { message };
        }
        let (cost, takes) = match course.ran.get(name) {
            Some(Ran { cost, takes }) => (cost.clone(), *takes),
            None => (NOTHING, Takes::NOTHING),
        };
        let outwaited = course.outwaited.contains(name);
        Passed { known, ruling, cost, takes, deferred: deferred.remove(name), outwaited }
    };
    steps.iter().map(&mut passed).collect()
}

pub(super) fn outcome(decision: &BudgetDecision) -> BudgetOutcome {
    let BudgetDecision { verdict, skill: _, amount, per_attempt: _, priority: _, lines: _, message } = decision;
    BudgetOutcome { verdict: *verdict, amount: *amount, until: None, message: message.clone() }
}

/// Of a step whose turn never comes.
fn not_judged(skill: &str) -> Ruling {
    Ruling {
        says: Says::NotYet { message: "its turn does not come".to_owned() },
        skill: skill.to_owned(),
        reasons: Vec::new(),
        undetermined: Vec::new(),
        only_by_open_rules: false,
        budget: None,
    }
}
