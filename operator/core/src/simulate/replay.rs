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
    pub request: Request,
    pub plan: RecordedPlan,
    pub steps: BTreeMap<String, PastStep>,
}

#[derive(Clone, Debug)]
pub struct PastStep {
    pub outcome: StepOutcome,
    pub reason: Option<String>,
    /// When it was decided last.
    pub at: Timestamp,
    pub last: Option<PastAttempt>,
    /// What it returned, where another step's input rests on it.
    pub output: Option<Arc<Value>>,
    /// What its attempts cost.
    pub cost: Option<Money>,
}

#[derive(Clone, Debug)]
pub struct PastAttempt {
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
    pub config: Config,
    pub skills: Arc<BTreeMap<String, SkillSpec>>,
    /// Of the namespace, by name.
    /// By namespace and name, of all namespaces.
    pub agents: BTreeMap<(String, String), AgentSpec>,
    pub secrets: Arc<Fingerprints>,
}

/// What was found. Budgets begin empty before the first of the Tasks, and hold what these have cost since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    pub version: u32,
    pub at: Timestamp,
    pub namespace: String,
    /// The Policies that were tried: `NAMESPACE/NAME`.
    pub policies: Vec<String>,
    /// How many Tasks were looked at, and how many of their steps were judged.
    pub tasks: u32,
    pub steps: u32,
    /// Whether there were more steps than are looked at together; then the oldest are left out.
    pub cut: bool,
    /// The oldest first.
    pub differences: Vec<ReplayDifference>,
    pub unjudged: Vec<Unjudged>,
}

/// A step of which something else would have been decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayDifference {
    pub task: String,
    pub task_uid: String,
    pub step: String,
    /// When it was decided then, and what became of it.
    pub at: Timestamp,
    pub outcome: StepOutcome,
    pub today: Finding,
    pub tried: Finding,
}

/// A step of which nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unjudged {
    pub task: String,
    pub task_uid: String,
    pub step: String,
    pub why: String,
}

/// What is compared.
pub struct Trial<'a> {
    pub today: &'a PolicySet,
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
