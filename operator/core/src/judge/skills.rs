//! Which Skill runs a step: the one that it names, or what that is downgraded to by a rule or for the budget's sake.

use countersign_crds::{BudgetVerdict, Effect, PolicyMode, RiskClass};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::prepare::prepare;
use super::{Case, Early, Judgement, PolicyJudge, check_agent, contract, denied, invalid};
use crate::approval::Ask;
use crate::binding::BoundRule;
use crate::blocked::Blocked;
use crate::budget::{BudgetDecision, Weighed, WhenAffordable};
use crate::plan::check_schema;
use crate::policy::{Combined, Verdict, both};
use crate::problem;
use crate::record::RuleDecision;

/// What Policies and budgets came to for the Skill that may run.
pub(super) struct Cleared {
    /// The signatures without which it must not.
    pub ask: Option<Ask>,
    pub risk: RiskClass,
    pub rules: Vec<RuleDecision>,
    /// Those of the rules that bind, by content.
    pub bound: Vec<BoundRule>,
    pub budget: Option<Box<BudgetDecision>>,
}

/// What was found on the way from the step's Skill to a cheaper one.
#[derive(Default)]
struct Path {
    /// Each Skill is judged once, so a ring of downgrades ends.
    seen: Vec<String>,
    rules: Vec<RuleDecision>,
    bound: Vec<BoundRule>,
    /// What was asked for any Skill on the way is asked for the one that runs: a downgrade frees nobody of it.
    ask: Option<Ask>,
    /// The risk that goes with `ask`.
    risk: RiskClass,
    /// What did not fit the budget before.
    too_dear: Option<String>,
    /// How the step waits where no cheaper Skill can take its place.
    wait: Option<Wait>,
}

impl Path {
    /// Adds what the rules ask for one more Skill of this risk, and tells the risk of all that is asked for.
    fn ask(&mut self, ask: Option<Ask>, risk: RiskClass) -> RiskClass {
        let carried = self.ask.as_ref().map(|_| self.risk).unwrap_or_default();
        self.ask = both(self.ask.take(), ask);
        self.risk = risk.max(carried);
        self.risk
    }

    /// How it went, with the rules that were met.
    fn denied(&mut self, message: String, budget: Option<Box<BudgetDecision>>) -> Judgement {
        Judgement::Denied { message, rules: std::mem::take(&mut self.rules), budget }
    }
}

/// A price that does not fit now, and when it may.
struct Wait {
    budget: Box<BudgetDecision>,
    /// `None`: as soon as something that is held is given back.
    until: Option<Timestamp>,
}

impl Wait {
    fn new(budget: BudgetDecision, later: WhenAffordable) -> Option<Wait> {
        let until = match later {
            WhenAffordable::Never => return None,
            WhenAffordable::GivenBack => None,
            WhenAffordable::At(until) => Some(until),
        };
        Some(Wait { budget: Box::new(budget), until })
    }

    /// Whichever may end first; where both may at once, that of the cheaper Skill.
    fn sooner(self, cheaper: Wait) -> Wait {
        if cheaper.until <= self.until { cheaper } else { self }
    }

    /// What becomes of a step that waits for this, where the cheaper Skill came to `found`.
    fn unless(self, found: Judgement) -> Judgement {
        let why = match found {
            Judgement::Blocked { blocked: Blocked { reason: _, message: _, until }, budget: Some(budget) } => {
                return self.sooner(Wait { budget, until }).deferred();
            }
            Judgement::Skip | Judgement::Ready(_) => return found,
            Judgement::Blocked { blocked, budget: None } if blocked.reason.is_transient() => {
                return Judgement::Blocked { blocked, budget: None };
            }
            Judgement::Invalid { reason: _, message }
            | Judgement::Denied { message, rules: _, budget: _ }
            | Judgement::Blocked { blocked: Blocked { reason: _, message, until: _ }, budget: None } => message,
        };
        let Wait { budget, until } = self;
        let own = budget.message.clone().unwrap_or_default();
        let message = Some(format!("{own}; nothing cheaper can take its place: {why}"));
        Wait { budget: Box::new(BudgetDecision { message, ..*budget }), until }.deferred()
    }

    fn deferred(self) -> Judgement {
        let Wait { budget, until } = self;
        Judgement::deferred(*budget, until)
    }
}

impl PolicyJudge {
    /// Judges the step's Skill, and each that it is downgraded to, until one may run or none is left. A downgrade for
    /// the budget's sake takes the place of waiting only where the cheaper Skill can run.
    pub(super) fn judge_skills(&self, case: &Case<'_>, input: &Map<String, Value>) -> Early<Judgement> {
        let mut path = Path::default();
        let found = self.descend(case, input, &mut path);
        match (found, path.wait) {
            (Err(found), Some(wait)) => Err(wait.unless(found)),
            (found, _) => found,
        }
    }

    fn descend(&self, case: &Case<'_>, input: &Map<String, Value>, path: &mut Path) -> Early<Judgement> {
        let mut name = case.step.skill.clone();
        loop {
            let contract = contract(case, &name)?;
            check_agent(case, &name)?;
            let problems = check_schema(&contract.input, &Value::Object(input.clone()), "");
            if !problems.is_empty() {
                return Err(invalid("InvalidInput", problem::join(&problems).trim_start_matches('.').to_owned()));
            }
            let Verdict { combined, risk, rules, bound } = self.verdict(case, &name, contract, input)?;
            path.rules.extend(rules);
            path.bound.extend(bound);
            let Combined::Allowed { downgrade, ask } = combined else { return Err(denied(&path.rules)) };
            let risk = path.ask(ask, risk);
            path.seen.push(name.clone());
            let cheaper = contract.downgrade_to.clone().filter(|next| !path.seen.contains(next));
            if downgrade {
                let Some(next) = cheaper else {
                    let message = format!(
                        "a rule asks to downgrade the Skill {name:?}, which has nothing left to be downgraded to; set spec.downgradeTo on it"
                    );
                    return Err(path.denied(message, None));
                };
                name = next;
                continue;
            }
            let budget = match case.budget_view.weigh(&name, contract) {
                Weighed::Free => None,
                Weighed::Fits(decision) => Some(Box::new(since_too_dear(decision, path.too_dear.as_deref()))),
                Weighed::Unpriced(message) => {
                    path.rules.push(budget_rule(case, &name, Effect::Deny, message));
                    return Err(denied(&path.rules));
                }
                Weighed::Over { decision, later } => {
                    let why = decision.message.clone().unwrap_or_default();
                    let Some(next) = cheaper else {
                        return Err(match Wait::new(decision.clone(), later) {
                            Some(wait) => wait.deferred(),
                            None => {
                                path.rules.push(budget_rule(case, &name, Effect::Deny, why.clone()));
                                path.denied(why, Some(Box::new(decision)))
                            }
                        });
                    };
                    let message = format!("{name} is downgraded to {next}: {why}");
                    path.rules.push(budget_rule(case, &name, Effect::Downgrade, message.clone()));
                    path.too_dear = Some(message);
                    path.wait = match (path.wait.take(), Wait::new(decision, later)) {
                        (Some(dearer), Some(this)) => Some(dearer.sooner(this)),
                        (dearer, this) => dearer.or(this),
                    };
                    name = next;
                    continue;
                }
            };
            let (rules, bound) = (std::mem::take(&mut path.rules), std::mem::take(&mut path.bound));
            let cleared = Cleared { ask: path.ask.take(), risk, rules, bound, budget };
            return prepare(case, &name, contract, input.clone(), cleared);
        }
    }
}

/// What fits in the place of something dearer says so.
fn since_too_dear(decision: BudgetDecision, too_dear: Option<&str>) -> BudgetDecision {
    match too_dear {
        None => decision,
        Some(why) => BudgetDecision { verdict: BudgetVerdict::Downgraded, message: Some(why.to_owned()), ..decision },
    }
}

/// What the budget says, as a rule would.
fn budget_rule(case: &Case<'_>, skill: &str, effect: Effect, message: String) -> RuleDecision {
    RuleDecision {
        policy: "budget".to_owned(),
        rule: skill.to_owned(),
        effect,
        mode: PolicyMode::Enforce,
        risk: RiskClass::default(),
        message: Some(message),
        saw: Map::new(),
        policies: case.policies.digest(&case.task.namespace),
    }
}
