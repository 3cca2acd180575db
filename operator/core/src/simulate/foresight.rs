//! The judge of a simulation: the judge itself, asked about steps of which not everything is known.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use countersign_crds::{Outcome, PolicyMode, SkillSpec, Step};
use serde_json::Map;

use super::Inputs;
use super::known::{Known, PartialEvaluator, When};
use super::ruling::{Ruling, open_reason, ruling};
use super::simulation::Reason;
use crate::blocked::{Blocked, BlockedReason};
use crate::budget::{BudgetDecision, BudgetView, Fit, ReservationPhase, Weighed, WhenAffordable};
use crate::digest::Digest;
use crate::judge::{Case, Judge, Judgement, PolicyJudge, Prepared};
use crate::observed::TaskView;
use crate::plan::{CompiledStep, Ended};
use crate::policy::{NOT_KNOWN, PolicySet};
use crate::record::{RecordedPlan, RuleDecision};

/// What a step is taken to do whose `when` refers to what nobody knows yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenWhen {
    Runs,
    IsSkipped,
}

/// What becomes of a step that something stands in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstructed {
    /// It is told, and passed over, so that what stands in the way of others is told as well.
    PassedOver,
    /// It ends as it would.
    Ends,
}

/// What was said of a step, and what of it was known then.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub known: Known,
    pub ruling: Ruling,
}

/// Judges each step as far as it is known.
pub(super) struct Foresight<'a> {
    judge: &'a PolicyJudge,
    inputs: &'a Inputs,
    partial: PartialEvaluator<'a>,
    steps: HashMap<&'a str, Compiled<'a>>,
    /// The Skills without what is read from their input, for input that is known in part.
    unschooled: BTreeMap<String, SkillSpec>,
    /// By the members of the input that are not known.
    applicable: RefCell<BTreeMap<BTreeSet<String>, Rc<ApplicableRules>>>,
    /// By step: every answer that the judge gave. Within a simulation nothing alters that it judges by but outputs and
    /// money, so that an answer stands where those say the same.
    answers: RefCell<HashMap<String, Vec<Rc<Answer>>>>,
    remembers: bool,
    /// What is assumed in this run.
    open_when: Cell<OpenWhen>,
    obstructed: Cell<Obstructed>,
    /// The steps that are over and whose output is not known.
    unknown: RefCell<BTreeSet<String>>,
    told: RefCell<BTreeMap<String, Rc<Answer>>>,
}

struct Compiled<'a> {
    step: &'a CompiledStep,
    refers_to: Vec<String>,
}

/// The rules that can be applied, and those that cannot.
struct ApplicableRules {
    /// `None` where all of them can.
    policies: Option<PolicySet>,
    open: Vec<Reason>,
}

/// What the judge answers of a step under these circumstances.
pub(super) struct Answer {
    run: u32,
    befores: Vec<Before>,
    money: Vec<Money>,
    judgement: Judgement,
    pub told: Told,
}

/// What is known of a step that another refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// It succeeded, and its output is seen.
    Returned,
    /// It ended so, without an output.
    Ended(Outcome),
    /// Nobody knows what it returned.
    Unknown,
}

/// What the budgets say of one Skill, as far as an answer rests on it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Money {
    Free,
    Fits,
    AtSomeTime,
    OnceGivenBack,
    /// It does not fit, for this reason, and that is told of what runs, waits or ends instead of it.
    Told(Fit, String),
}

impl<'a> Foresight<'a> {
    pub fn new(
        judge: &'a PolicyJudge,
        inputs: &'a Inputs,
        task: &'a TaskView,
        plan: &'a RecordedPlan,
        compiled: &'a [CompiledStep],
    ) -> Foresight<'a> {
        let unschooled = |(name, skill): (&String, &SkillSpec)| {
            (name.clone(), SkillSpec { input: Map::new(), payment: None, ..skill.clone() })
        };
        let compiled_step = |(step, compiled): (&'a Step, &'a CompiledStep)| {
            let refers_to = compiled.referenced_steps().into_iter().collect();
            (step.name.as_str(), Compiled { step: compiled, refers_to })
        };
        Foresight {
            judge,
            inputs,
            partial: PartialEvaluator::new(task, plan, judge.evaluator()),
            steps: plan.steps.iter().zip(compiled).map(compiled_step).collect(),
            unschooled: inputs.observed.skills.iter().map(unschooled).collect(),
            applicable: RefCell::default(),
            answers: RefCell::default(),
            remembers: true,
            open_when: Cell::new(OpenWhen::Runs),
            obstructed: Cell::new(Obstructed::PassedOver),
            unknown: RefCell::default(),
            told: RefCell::default(),
        }
    }

    /// Judges every step anew.
    #[cfg(test)]
    pub fn forgetful(self) -> Foresight<'a> {
        Foresight { remembers: false, ..self }
    }

    /// Another run begins, in which no step is over.
    pub fn begin(&self, open_when: OpenWhen, obstructed: Obstructed) {
        self.open_when.set(open_when);
        self.obstructed.set(obstructed);
        self.unknown.borrow_mut().clear();
        self.told.borrow_mut().clear();
    }

    /// The step is over, and nobody knows what it returned.
    pub fn is_unknown(&self, step: &str) {
        self.unknown.borrow_mut().insert(step.to_owned());
    }

    /// What was known of a step's `when` when it was judged last.
    pub fn when(&self, step: &str) -> Option<When> {
        self.told.borrow().get(step).map(|answer| answer.told.known.when)
    }

    /// An attempt is made, on what was said when this was to run: others may have been asked about it since.
    pub fn is_intended(&self, step: &str, digest: Digest, budget: Option<&BudgetDecision>) {
        let made_it = |answer: &&Rc<Answer>| {
            let why = |budget: Option<&BudgetDecision>| budget.and_then(|budget| budget.message.clone());
            let ready = prepared(&answer.judgement);
            ready.is_some_and(|ready| ready.digest == digest && why(ready.budget.as_deref()) == why(budget))
        };
        let answers = self.answers.borrow();
        if let Some(answer) = answers.get(step).and_then(|answers| answers.iter().rev().find(made_it)) {
            self.told.borrow_mut().insert(step.to_owned(), Rc::clone(answer));
        }
    }

    /// What was said last of each step, in this run.
    pub fn take_told(&self) -> BTreeMap<String, Rc<Answer>> {
        self.told.take()
    }

    fn answer(&self, case: &Case<'_>, step: &Compiled<'_>, befores: Vec<Before>) -> Rc<Answer> {
        let name = &case.step.name;
        let money = self.money(case);
        let same = |answer: &&Rc<Answer>| {
            answer.run == case.run
                && answer.befores == befores
                && match case.budget_view.phase {
                    ReservationPhase::Asking => answer.money == money,
                    // It has its money, and all else is as it was when it asked for it.
                    ReservationPhase::Reserved { skill } => {
                        prepared(&answer.judgement).is_some_and(|ready| ready.binding.skill.name == skill)
                    }
                }
        };
        if self.remembers
            && let Some(answer) = self.answers.borrow().get(name).and_then(|answers| answers.iter().find(same))
        {
            return Rc::clone(answer);
        }
        let answer = Rc::new(self.judge_anew(case, step, befores, money));
        self.answers.borrow_mut().entry(name.clone()).or_default().push(Rc::clone(&answer));
        answer
    }

    fn judge_anew(&self, case: &Case<'_>, step: &Compiled<'_>, befores: Vec<Before>, money: Vec<Money>) -> Answer {
        let ended = |name: &str| {
            let at = step.refers_to.iter().position(|other| other == name)?;
            match befores.get(at)? {
                Before::Returned => {
                    Some(Ended { output: Arc::clone(case.outputs.get(name)?), outcome: Outcome::Succeeded })
                }
                Before::Ended(outcome) => Some(Ended { output: Arc::default(), outcome: *outcome }),
                Before::Unknown => None,
            }
        };
        let known = self.partial.evaluate(step.step, &ended);
        let rules = self.rules(case, &known);
        let part = known.part_of(case.step);
        let skills = if rules.policies.is_some() { &self.unschooled } else { case.skills };
        let policies = rules.policies.as_ref().unwrap_or(case.policies);
        // What is not known is not asked for, and what is asked for is seen.
        let outcome = |name: &str| match (case.outcome)(name) {
            Outcome::Succeeded if !case.outputs.contains_key(name) => Outcome::Skipped,
            outcome => outcome,
        };
        let judgement =
            self.judge.judge(&Case { step: &part, skills, policies, outcome: &outcome, workspace: &Vec::new, ..*case });
        let speaks = |rule: &RuleDecision| {
            rule.policy != NOT_KNOWN
                && rule.mode == PolicyMode::Enforce
                && rules.policies.as_ref().is_some_and(|policies| policies.may_allow(&rule.policy))
        };
        let ruling = ruling(&case.step.skill, &judgement, rules.open.clone(), &speaks);
        let judgement = self.without_contract_of_output(&case.step.name, judgement);
        Answer { run: case.run, befores, money, judgement, told: Told { known, ruling } }
    }

    /// What nobody knows is held against no schema.
    fn without_contract_of_output(&self, step: &str, mut judgement: Judgement) -> Judgement {
        if !self.inputs.outputs.contains_key(step)
            && let Judgement::Ready(ready) = &mut judgement
        {
            ready.binding.skill.spec.output = Map::new();
        }
        judgement
    }

    fn rules(&self, case: &Case<'_>, known: &Known) -> Rc<ApplicableRules> {
        let make = || {
            if known.open.is_empty() {
                return Rc::new(ApplicableRules { policies: None, open: Vec::new() });
            }
            let (policies, open) = case.policies.without(&case.task.namespace, |path| known.is_open(path));
            Rc::new(ApplicableRules { policies: Some(policies), open: open.iter().map(open_reason).collect() })
        };
        Rc::clone(self.applicable.borrow_mut().entry(known.open.clone()).or_insert_with(make))
    }

    /// What the budgets say of the step's Skill and of those that it could be downgraded to, one after the other.
    fn money(&self, case: &Case<'_>) -> Vec<Money> {
        let said = case.budget_view.weigh_all(&case.step.skill, case.skills);
        // What waits and can be nothing cheaper has the numbers of the last reconciliation.
        let alone = said.len() == 1;
        let money = |(fit, why): (Fit, Option<String>)| match fit {
            Fit::Free => Money::Free,
            Fit::Fits => Money::Fits,
            Fit::Over(WhenAffordable::At(_)) if alone => Money::AtSomeTime,
            Fit::Over(WhenAffordable::GivenBack) if alone => Money::OnceGivenBack,
            Fit::Over(_) | Fit::Unpriced => Money::Told(fit, why.unwrap_or_default()),
        };
        said.into_iter().map(money).collect()
    }
}

/// What a step is to the decider that something stands in the way of: it waits, until the rehearsal passes it over.
pub(super) fn passed_over() -> Blocked {
    Blocked::new(BlockedReason::Suspended, "something stands in its way, so the simulation passes it over")
}

impl Judge for Foresight<'_> {
    fn judge(&self, case: &Case<'_>) -> Judgement {
        let Some(step) = self.steps.get(case.step.name.as_str()) else { return self.judge.judge(case) };
        let mut befores = Vec::with_capacity(step.refers_to.len());
        for name in &step.refers_to {
            befores.push(match (case.outcome)(name) {
                Outcome::Succeeded if case.outputs.contains_key(name) => Before::Returned,
                Outcome::Succeeded if self.unknown.borrow().contains(name) => Before::Unknown,
                // It was not loaded yet.
                Outcome::Succeeded => return self.judge.judge(case),
                outcome @ (Outcome::Failed | Outcome::Skipped | Outcome::Rejected | Outcome::Unknown) => {
                    Before::Ended(outcome)
                }
            });
        }
        let answer = self.answer(case, step, befores);
        let skipped = answer.told.known.when == When::Open && self.open_when.get() == OpenWhen::IsSkipped;
        let judgement = if skipped { Judgement::Skip } else { as_of_now(&answer, case.budget_view, case.skills) };
        if case.budget_view.phase == ReservationPhase::Asking {
            self.told.borrow_mut().insert(case.step.name.clone(), Rc::clone(&answer));
        }
        let ends = self.obstructed.get() == Obstructed::Ends;
        if skipped || ends || !answer.told.ruling.says.stops() {
            return judgement;
        }
        Judgement::Blocked { blocked: passed_over(), budget: None }
    }
}

fn prepared(judgement: &Judgement) -> Option<&Prepared> {
    match judgement {
        Judgement::Ready(ready) => Some(ready),
        Judgement::Skip | Judgement::Invalid { .. } | Judgement::Denied { .. } | Judgement::Blocked { .. } => None,
    }
}

/// What was judged before, with the numbers that the budgets have now.
fn as_of_now(answer: &Answer, budget_view: BudgetView<'_>, skills: &BTreeMap<String, SkillSpec>) -> Judgement {
    let mut judgement = answer.judgement.clone();
    let alone = !answer.money.iter().any(|money| matches!(money, Money::Told(..)));
    match &mut judgement {
        Judgement::Ready(ready) => {
            ready.budget = match (budget_view.phase, ready.budget.take()) {
                (ReservationPhase::Asking, Some(said)) => Some(Box::new(weighed_now(*said, budget_view, skills).0)),
                (ReservationPhase::Asking, None) | (ReservationPhase::Reserved { .. }, _) => None,
            };
        }
        Judgement::Blocked { blocked, budget: Some(budget) } => {
            let (now, later) = weighed_now((**budget).clone(), budget_view, skills);
            if alone {
                blocked.message = now.message.clone().unwrap_or_default();
                blocked.until = later;
                **budget = now;
            } else {
                **budget = BudgetDecision { message: budget.message.take(), ..now };
            }
        }
        Judgement::Skip
        | Judgement::Invalid { .. }
        | Judgement::Denied { .. }
        | Judgement::Blocked { blocked: _, budget: None } => {}
    }
    judgement
}

/// The decision with the present numbers, and when the window begins in which it may fit.
fn weighed_now(
    said: BudgetDecision,
    budget_view: BudgetView<'_>,
    skills: &BTreeMap<String, SkillSpec>,
) -> (BudgetDecision, Option<jiff::Timestamp>) {
    let Some(contract) = skills.get(&said.skill) else { return (said, None) };
    match budget_view.weigh(&said.skill, contract) {
        Weighed::Fits(now) => (BudgetDecision { verdict: said.verdict, message: said.message, ..now }, None),
        Weighed::Over { decision, later: WhenAffordable::At(until) } => (decision, Some(until)),
        Weighed::Over { decision, later: WhenAffordable::GivenBack | WhenAffordable::Never } => (decision, None),
        Weighed::Free | Weighed::Unpriced(_) => (said, None),
    }
}
