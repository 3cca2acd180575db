//! What changed Policies would have changed about steps that are on record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_crds::{AgentSpec, Outcome, SkillSpec, Step};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::compare::Finding;
use super::estimate;
use super::ruling::{Ruling, Says, ruling};
use super::simulation::{StepDecision, VERSION};
use crate::agent::acting;
use crate::budget::{BudgetView, Budgets, Closing, Ledger, ReservationPhase};
use crate::decide::{Config, NEED_NOT_MET};
use crate::fingerprint::Fingerprints;
use crate::judge::{Case, Judge, PolicyJudge};
use crate::money::Money;
use crate::observed::TaskView;
use crate::plan::CompiledStep;
use crate::policy::PolicySet;
use crate::record::{RecordedPlan, Request, StepOutcome};

/// A Task as it is on record.
#[derive(Clone, Debug)]
pub struct PastTask {
    /// As it was when it was adopted.
    pub task: TaskView,
    /// Who asked for it.
    pub request: Request,
    /// The Plan that it was carried out by, with its parameters.
    pub plan: RecordedPlan,
    /// What became of each step, by its name in the Plan.
    pub steps: BTreeMap<String, PastStep>,
}

/// A step as it is on record.
#[derive(Clone, Debug)]
pub struct PastStep {
    /// What became of it; `Open` where that is not known yet.
    pub outcome: StepOutcome,
    /// CamelCase, for machines: why it came to that; `None` where the outcome says all.
    pub reason: Option<String>,
    /// When it was decided last.
    pub at: Timestamp,
    /// The newest attempt at it; `None` where it was never tried.
    pub last: Option<PastAttempt>,
    /// What it returned, where another step's input rests on it.
    pub output: Option<Arc<Value>>,
    /// What its attempts cost.
    pub cost: Option<Money>,
}

/// One attempt at a step, as it is on record.
#[derive(Clone, Debug)]
pub struct PastAttempt {
    /// Which attempt at the step it was, from 1.
    pub number: u32,
    /// What it was given; `None` where that is not on record any more.
    pub input: Option<Map<String, Value>>,
}

impl PastTask {
    /// The steps whose outputs it takes to know what steps would be given that were never tried.
    pub fn wanted_outputs(&self) -> BTreeSet<String> {
        let untried = |step: &&Step| self.steps.get(&step.name).is_some_and(|past| past.last.is_none());
        let compiled = self.plan.steps.iter().filter(untried).filter_map(|step| CompiledStep::compile(step, "").ok());
        compiled.flat_map(|compiled| compiled.referenced_steps()).collect()
    }
}

/// What steps are judged by, other than Policies: as it is today.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What the platform team sets.
    pub config: Config,
    /// By name; a Skill is of no namespace.
    pub skills: Arc<BTreeMap<String, SkillSpec>>,
    /// By namespace and name, of all namespaces.
    pub agents: BTreeMap<(String, String), AgentSpec>,
    /// The Secrets that the brokers have, by name, with the fingerprints that all of them agree on.
    pub secrets: Arc<Fingerprints>,
}

/// What was found. Budgets begin empty before the first of the Tasks, and hold what these have cost since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// The version of this format; within it members are added, never taken away or altered.
    pub version: u32,
    /// When it was judged again, an RFC 3339 time.
    pub at: Timestamp,
    /// The namespace that the Tasks are in.
    pub namespace: String,
    /// The Policies that were tried: `NAMESPACE/NAME`.
    pub policies: Vec<String>,
    /// How many Tasks were looked at.
    pub tasks: u32,
    /// How many of their steps were judged.
    pub steps: u32,
    /// Whether there were more steps than are looked at together; then the oldest are left out.
    pub cut: bool,
    /// The oldest first.
    pub differences: Vec<ReplayDifference>,
    /// The steps of which nothing can be said, the oldest first.
    pub unjudged: Vec<Unjudged>,
}

/// A step of which something else would have been decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayDifference {
    /// The name of the Task.
    pub task: String,
    /// The uid of the Task, which no other Task of that name has.
    pub task_uid: String,
    /// The step's name in the Plan.
    pub step: String,
    /// When it was decided then.
    pub at: Timestamp,
    /// What became of it then.
    pub outcome: StepOutcome,
    /// What is decided by the Policies that there are now.
    pub today: Finding,
    /// What is decided by those that are tried.
    pub tried: Finding,
}

/// A step of which nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unjudged {
    /// The name of the Task.
    pub task: String,
    /// The uid of the Task, which no other Task of that name has.
    pub task_uid: String,
    /// The step's name in the Plan.
    pub step: String,
    /// In words, what it takes and is not there.
    pub why: String,
}

/// What is compared.
pub struct Trial<'a> {
    /// The Policies that there are.
    pub today: &'a PolicySet,
    /// The same with those that are tried, each in the place of the one of its namespace and name.
    pub tried: &'a PolicySet,
    /// What is tried, by `NAMESPACE/NAME`.
    pub names: Vec<String>,
}

/// Judges every step of these Tasks of one namespace twice, in the order of time: by the Policies that there are, and by
/// those that are tried.
pub fn replay(
    now: Timestamp,
    namespace: &str,
    around: &Surroundings,
    tasks: &[PastTask],
    trial: Trial<'_>,
    judge: &PolicyJudge,
) -> Replay {
    let mut order: Vec<(&PastTask, &Step, &PastStep)> = tasks
        .iter()
        .flat_map(|task| task.plan.steps.iter().filter_map(move |step| Some((task, step, task.steps.get(&step.name)?))))
        .filter(|(_, _, past)| !skipped(past))
        .collect();
    order.sort_by_key(|(_, _, past)| past.at);
    let mut today = Side { around, policies: trial.today, ledger: Ledger::default(), judge };
    let mut tried = Side { around, policies: trial.tried, ledger: Ledger::default(), judge };
    let (mut differences, mut unjudged, mut steps) = (Vec::new(), Vec::new(), 0);
    for (task, step, past) in order {
        let name = |why: String| Unjudged {
            task: task.task.name.clone(),
            task_uid: task.task.uid.clone(),
            step: step.name.clone(),
            why,
        };
        let again = match again(task, step, past) {
            Ok(again) => again,
            Err(why) => {
                unjudged.push(name(why));
                continue;
            }
        };
        let (before, after) = (today.judge(task, &again, past), tried.judge(task, &again, past));
        if let Says::NotYet { message } = before.says {
            unjudged.push(name(message));
            continue;
        }
        steps += 1;
        let (today, tried) = (finding(before), finding(after));
        if !today.is_as(&tried) {
            differences.push(ReplayDifference {
                task: task.task.name.clone(),
                task_uid: task.task.uid.clone(),
                step: step.name.clone(),
                at: past.at,
                outcome: past.outcome,
                today,
                tried,
            });
        }
    }
    Replay {
        version: VERSION,
        at: now,
        namespace: namespace.to_owned(),
        policies: trial.names,
        tasks: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
        steps,
        cut: false,
        differences,
        unjudged,
    }
}

/// Whether it was skipped for what other steps came to, which no Policy bears on.
fn skipped(past: &PastStep) -> bool {
    past.outcome == StepOutcome::Skipped && matches!(past.reason.as_deref(), Some("WhenFalse" | NEED_NOT_MET))
}

/// The step as it was judged: with the input that it was given, or that it would be given.
fn again(task: &PastTask, step: &Step, past: &PastStep) -> Result<Step, String> {
    if let Some(PastAttempt { number: _, input }) = &past.last {
        let input = input.as_ref().ok_or("what it was given is not on record, or is too large")?;
        let input = input.iter().map(|(member, value)| (member.clone(), literal(value))).collect();
        return Ok(Step { input, when: None, ..step.clone() });
    }
    let compiled = CompiledStep::compile(step, &step.name)
        .map_err(|_| "its expressions are not what they may be any more".to_owned())?;
    for name in compiled.referenced_steps() {
        let known = |earlier: &PastStep| earlier.outcome != StepOutcome::Succeeded || earlier.output.is_some();
        if !task.steps.get(&name).is_some_and(known) {
            return Err(format!("its input rests on what the step {name:?} returned, which is not on record"));
        }
    }
    Ok(step.clone())
}

/// The value as a template that stands for nothing but itself.
fn literal(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("${", "$${")),
        Value::Array(items) => items.iter().map(literal).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, value)| (key.clone(), literal(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// One set of Policies, and what was spent under it.
struct Side<'a> {
    around: &'a Surroundings,
    policies: &'a PolicySet,
    ledger: Ledger,
    judge: &'a PolicyJudge,
}

impl Side<'_> {
    fn judge(&mut self, task: &PastTask, step: &Step, past: &PastStep) -> Ruling {
        let Surroundings { config, skills, agents, secrets } = self.around;
        let placed = agents.iter().map(|((namespace, name), spec)| (namespace.as_str(), name.as_str(), spec));
        let (named, requester) = (task.task.spec.agent_ref.as_ref(), task.request.requester.as_ref());
        let agent = acting(&task.task.namespace, named, requester, placed);
        let budgets = Budgets::of(past.at, &task.task, agent.agent(), self.policies);
        let output = |(name, step): (&String, &PastStep)| Some((name.clone(), Arc::clone(step.output.as_ref()?)));
        let outputs =
            if past.last.is_some() { BTreeMap::new() } else { task.steps.iter().filter_map(output).collect() };
        let outcome =
            |name: &str| task.steps.get(name).and_then(|step| step.outcome.ended()).unwrap_or(Outcome::Skipped);
        let judgement = self.judge.judge(&Case {
            task: &task.task,
            plan: &task.plan,
            request: &task.request,
            step,
            run: past.last.as_ref().map_or(1, |last| last.number),
            outputs: &outputs,
            outcome: &outcome,
            skills,
            agent: &agent,
            policies: self.policies,
            secrets,
            workspace: &Vec::new,
            runner_image: &config.runner_image,
            budget_view: BudgetView {
                budgets: &budgets,
                balances: &self.ledger.balances,
                pending: Money::ZERO,
                phase: ReservationPhase::Asking,
            },
            broker: config.broker,
            networks: &config.networks,
        });
        let ruling = ruling(&step.skill, &judgement, Vec::new(), &|_| true);
        if let Some(decision) = ruling.budget.as_ref().filter(|_| ruling.says.runs()) {
            let attempt = format!("{}/{}", task.task.uid, step.name);
            let contract = skills.get(&ruling.skill);
            let expected = || contract.map(|contract| estimate::cost(step, contract, None, true, None).expected);
            let cost = past.cost.or_else(expected).unwrap_or(decision.amount);
            if self.ledger.reserve(&attempt, decision).is_ok() {
                self.ledger.close(&attempt, Closing::Settle(cost)).ok();
            }
        }
        ruling
    }
}

fn finding(ruling: Ruling) -> Finding {
    let Ruling { says, skill, reasons, undetermined: _, only_by_open_rules: _, budget } = ruling;
    let (decision, asked, message) = match says {
        Says::Skip { message: _ } => (StepDecision::Skip, None, None),
        Says::Invalid { reason: _, message } => (StepDecision::Invalid, None, Some(message)),
        Says::Denied { message } => (StepDecision::Deny, None, Some(message)),
        Says::Deferred { until: _ } => {
            (StepDecision::Wait, None, budget.as_ref().and_then(|budget| budget.message.clone()))
        }
        Says::NotYet { message } => (StepDecision::Wait, None, Some(message)),
        Says::Permitted { timeout: _ } => (StepDecision::Allow, None, None),
        Says::NeedsApproval { timeout: _, required, risk } => {
            (StepDecision::RequireApproval, Some((required, risk)), None)
        }
    };
    let (required, risk) = asked.unzip();
    Finding { decision, skill, budget: budget.map(|budget| budget.verdict), required, risk, reasons, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::{CelEvaluator, Variables, Vocabulary};
    use crate::template::Template;
    use proptest::prelude::*;

    proptest! {
        /// What was given once is given again as it was, whatever it looks like.
        #[test]
        fn a_literal_stands_for_itself(value in crate::json::tests::any_json(), dollars in "[$a{}]{0,8}") {
            for value in [value, Value::String(dollars)] {
                let template = Template::parse(&literal(&value), &Vocabulary::new(["task"])).unwrap();
                prop_assert_eq!(template.resolve(&CelEvaluator::new(), &Variables::new()).unwrap(), value);
            }
        }
    }
}
