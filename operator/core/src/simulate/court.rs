//! Judges steps with the judge itself, as far as they are known, and remembers what it said of steps that are the same
//! to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_crds::{PolicyMode, RiskClass, SkillSpec, Step, StepApproval};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Inputs;
use super::known::{Known, When};
use super::simulation::Reason;
use crate::approval::Ask;
use crate::budget::{BudgetDecision, Purse, Standing, Weighed};
use crate::cel::{Expression, Fence, Variables};
use crate::judge::{Case, Judge, Judgement, PolicyJudge, Prepared, step_variable, variables_but_step};
use crate::observed::TaskView;
use crate::policy::{NOT_KNOWN, OpenRule, PolicySet};
use crate::record::{RecordedPlan, Request, RuleDecision};
use crate::schema::Schema;

/// What the judge says of a step, as far as a simulation tells it on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruling {
    pub says: Says,
    /// The Skill that it was about in the end.
    pub skill: String,
    pub reasons: Vec<Reason>,
    /// The rules that cannot be judged yet.
    pub undetermined: Vec<Reason>,
    /// Whether nothing but those could allow it.
    pub only_by_open_rules: bool,
    pub budget: Option<BudgetDecision>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Says {
    Skip,
    Invalid { reason: &'static str, message: String },
    Denied { message: String },
    Deferred { until: Option<Timestamp> },
    NotYet { message: String },
    Permitted { timeout: Duration },
    NeedsApproval { timeout: Duration, ask: Ask, risk: RiskClass },
}

pub(super) struct Court<'a> {
    judge: &'a PolicyJudge,
    inputs: &'a Inputs,
    task: &'a TaskView,
    plan: &'a RecordedPlan,
    request: Request,
    /// The Skills without what is read from their input, for input that is known in part.
    unschooled: BTreeMap<String, SkillSpec>,
    /// By the members of the input that are not known.
    dockets: BTreeMap<BTreeSet<String>, Docket>,
    schemas: BTreeMap<String, Option<Schema>>,
    /// By Skill: what rules see beside the step.
    variables: BTreeMap<String, Variables>,
    rulings: HashMap<String, Ruling>,
    remembers: bool,
}

/// The rules that can be applied, and those that cannot.
struct Docket {
    /// `None` where all of them can.
    policies: Option<PolicySet>,
    open: Vec<OpenRule>,
    /// Of those that can, the ones that may say something else of another step with the same Skill.
    of_steps: Vec<Expression>,
}

impl Docket {
    /// What each of its rules says of this step; `None` where one cannot be evaluated at this moment.
    fn say(&self, variables: &Variables, fence: &Fence) -> Option<Value> {
        let said = |rule: &Expression| match fence.evaluate_bool(rule, variables) {
            Ok(matches) => Some(Value::Bool(matches)),
            Err(error) if error.is_transient() => None,
            Err(error) => Some(Value::String(error.to_string())),
        };
        self.of_steps.iter().map(said).collect()
    }
}

impl<'a> Court<'a> {
    pub fn new(judge: &'a PolicyJudge, inputs: &'a Inputs, task: &'a TaskView, plan: &'a RecordedPlan) -> Court<'a> {
        let unschooled = |(name, skill): (&String, &SkillSpec)| {
            (name.clone(), SkillSpec { input: Map::new(), payment: None, ..skill.clone() })
        };
        Court {
            judge,
            inputs,
            task,
            plan,
            request: Request { requester: task.spec.requester.clone(), on_behalf_of: task.on_behalf_of.clone() },
            unschooled: inputs.observed.skills.iter().map(unschooled).collect(),
            dockets: BTreeMap::new(),
            schemas: BTreeMap::new(),
            variables: BTreeMap::new(),
            rulings: HashMap::new(),
            remembers: true,
        }
    }

    /// Judges every step anew.
    #[cfg(test)]
    pub fn forgetful(self) -> Court<'a> {
        Court { remembers: false, ..self }
    }

    pub fn rule(&mut self, step: &Step, known: &Known, purse: Purse<'_>) -> Ruling {
        self.docket(known);
        let Some(key) = self.key(step, known, purse).filter(|_| self.remembers) else {
            return self.judge(step, known, purse);
        };
        if let Some(ruling) = self.rulings.get(&key) {
            return self.as_of_now(ruling, purse);
        }
        let ruling = self.judge(step, known, purse);
        self.rulings.insert(key, ruling.clone());
        ruling
    }

    fn docket(&mut self, known: &Known) {
        if self.dockets.contains_key(&known.open) {
            return;
        }
        let (all, namespace) = (&self.inputs.observed.policies, &self.task.namespace);
        let docket = if known.open.is_empty() {
            Docket { policies: None, open: Vec::new(), of_steps: all.reading(namespace, "step") }
        } else {
            let (policies, open) = all.without(namespace, |path| known.is_open(path));
            Docket { of_steps: policies.reading(namespace, "step"), policies: Some(policies), open }
        };
        self.dockets.insert(known.open.clone(), docket);
    }

    /// All that the judge's words of a step depend on, other than what is the same for all of them. `None` where it
    /// may find something wrong with the step itself.
    fn key(&mut self, step: &Step, known: &Known, purse: Purse<'_>) -> Option<String> {
        let input = known.input.as_ref().filter(|_| known.when != When::Fails)?;
        let chain = self.chain(&step.skill);
        if known.open.is_empty() {
            let fits = chain.iter().all(|skill| self.fits(skill, input));
            fits.then_some(())?;
        }
        let variable = Arc::new(step_variable(step, 1, input));
        let mut parts = Vec::new();
        for name in &chain {
            let Some(contract) = self.inputs.observed.skills.get(name) else { continue };
            parts.push(match purse.weigh(name, contract) {
                Weighed::Free => json!("free"),
                Weighed::Fits(_) => json!("fits"),
                Weighed::Over { decision, later } => json!([decision.message, format!("{later:?}")]),
                Weighed::Unpriced(message) => json!(["unpriced", message]),
            });
            let variables = self.variables(name, contract, step, purse).with("step", Arc::clone(&variable));
            parts.push(self.dockets.get(&known.open)?.say(&variables, self.judge.fence())?);
        }
        // The rule that stands for the step's own wish has its name.
        let name = (step.approval == StepApproval::Always).then_some(&step.name);
        let runs = known.when != When::False;
        Some(json!([step.skill, runs, step.timeout, step.approval, name, known.open, parts]).to_string())
    }

    /// What rules see beside the step.
    fn variables(&mut self, skill: &str, contract: &SkillSpec, step: &Step, purse: Purse<'_>) -> Variables {
        if let Some(variables) = self.variables.get(skill) {
            return variables.clone();
        }
        let observed = &self.inputs.observed;
        let case = self.case(step, &observed.skills, &observed.policies, purse);
        let variables = variables_but_step(&case, skill, contract);
        self.variables.insert(skill.to_owned(), variables.clone());
        variables
    }

    fn case<'c>(
        &'c self,
        step: &'c Step,
        skills: &'c BTreeMap<String, SkillSpec>,
        policies: &'c PolicySet,
        purse: Purse<'c>,
    ) -> Case<'c> {
        let Inputs { config, observed, history: _ } = self.inputs;
        Case {
            task: self.task,
            plan: self.plan,
            request: &self.request,
            step,
            run: 1,
            outputs: const { &BTreeMap::new() },
            finished: &|_| false,
            skills,
            agent: &observed.agent,
            policies,
            secrets: &observed.secrets,
            workspace: &Vec::new,
            runner_image: &config.runner_image,
            purse,
            broker: config.broker,
            networks: &config.networks,
        }
    }

    /// The Skill, and those that it could be downgraded to, one after the other.
    fn chain(&self, skill: &str) -> Vec<String> {
        let mut chain = vec![skill.to_owned()];
        let next = |name: &String| self.inputs.observed.skills.get(name)?.downgrade_to.clone();
        while let Some(name) = chain.last().and_then(next).filter(|name| !chain.contains(name)) {
            chain.push(name);
        }
        chain
    }

    fn fits(&mut self, skill: &str, input: &Map<String, Value>) -> bool {
        let skills = &self.inputs.observed.skills;
        let compile = || Schema::compile(&json!(skills.get(skill)?.input)).ok();
        let schema = self.schemas.entry(skill.to_owned()).or_insert_with(compile);
        schema.as_ref().is_some_and(|schema| schema.validate(&Value::Object(input.clone())).is_ok())
    }

    /// What was said of a step like it, with what the budgets hold now.
    fn as_of_now(&self, ruling: &Ruling, purse: Purse<'_>) -> Ruling {
        let mut ruling = ruling.clone();
        let contract = self.inputs.observed.skills.get(&ruling.skill);
        if let (Some(said), Some(Weighed::Fits(now))) =
            (&ruling.budget, contract.map(|contract| purse.weigh(&ruling.skill, contract)))
        {
            let (verdict, message) = (said.verdict, said.message.clone());
            ruling.budget = Some(BudgetDecision { verdict, message, ..now });
        }
        ruling
    }

    fn judge(&self, step: &Step, known: &Known, purse: Purse<'_>) -> Ruling {
        let observed = &self.inputs.observed;
        let docket = self.dockets.get(&known.open);
        let partial = docket.and_then(|docket| docket.policies.as_ref());
        let step = known.part_of(step);
        let skills = if partial.is_some() { &self.unschooled } else { &*observed.skills };
        let judgement = self.judge.judge(&self.case(&step, skills, partial.unwrap_or(&observed.policies), purse));
        let undetermined = docket.iter().flat_map(|docket| &docket.open).map(open_reason).collect();
        let speaks = |rule: &RuleDecision| {
            rule.policy != NOT_KNOWN
                && rule.mode == PolicyMode::Enforce
                && partial.is_some_and(|policies| policies.may_allow(&rule.policy))
        };
        ruling(&step.skill, judgement, undetermined, &speaks)
    }

    /// What the rules say of a step whose money this Skill has: whatever its budget says.
    pub fn rule_paid(&mut self, step: &Step, known: &Known, purse: Purse<'_>, skill: &str) -> Ruling {
        self.docket(known);
        let standing = Standing::Reserved { skill };
        self.judge(step, known, Purse { standing, ..purse })
    }
}

/// `speaks` of a rule that could be judged and may allow.
pub(super) fn ruling(
    skill: &str,
    judgement: Judgement,
    undetermined: Vec<Reason>,
    speaks: &dyn Fn(&RuleDecision) -> bool,
) -> Ruling {
    let plain = |says, rules: Vec<RuleDecision>, budget: Option<BudgetDecision>| Ruling {
        says,
        skill: budget.as_ref().map_or_else(|| skill.to_owned(), |budget| budget.skill.clone()),
        only_by_open_rules: rules.iter().any(|rule| rule.policy == NOT_KNOWN) && !rules.iter().any(speaks),
        reasons: rules.iter().filter(|rule| rule.policy != NOT_KNOWN).map(reason).collect(),
        undetermined: undetermined.clone(),
        budget,
    };
    let prepared = |prepared: Prepared| {
        let Prepared { input_digest: _, binding, digest: _, limits: _, rules, budget } = prepared;
        let timeout = Duration::from_secs(u64::from(binding.timeout_seconds));
        let says = match binding.ask {
            None => Says::Permitted { timeout },
            Some(ask) => Says::NeedsApproval { timeout, ask, risk: binding.risk },
        };
        Ruling { skill: binding.skill.name, ..plain(says, rules, budget.map(|budget| *budget)) }
    };
    match judgement {
        Judgement::Skip => plain(Says::Skip, Vec::new(), None),
        Judgement::Invalid { reason, message } => plain(Says::Invalid { reason, message }, Vec::new(), None),
        Judgement::Denied { message, rules, budget } => {
            plain(Says::Denied { message }, rules, budget.map(|budget| *budget))
        }
        Judgement::Blocked { blocked, budget: Some(budget) } => {
            plain(Says::Deferred { until: blocked.until }, Vec::new(), Some(*budget))
        }
        Judgement::Blocked { blocked, budget: None } => {
            plain(Says::NotYet { message: blocked.message }, Vec::new(), None)
        }
        Judgement::Ready(ready) => prepared(*ready),
    }
}

pub(super) fn reason(rule: &RuleDecision) -> Reason {
    Reason {
        policy: rule.policy.clone(),
        rule: rule.rule.clone(),
        effect: rule.effect,
        mode: rule.mode,
        message: rule.message.clone(),
    }
}

fn open_reason(open: &OpenRule) -> Reason {
    Reason {
        policy: open.policy.clone(),
        rule: open.rule.name.clone(),
        effect: open.rule.effect,
        mode: open.mode,
        message: open.rule.message.clone(),
    }
}
