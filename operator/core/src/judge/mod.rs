//! What may become of a step that could start now: its condition, its input, its contract, its judgement.

mod prepare;
mod skills;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_crds::{Effect, EgressLimit, Outcome, PolicyMode, RiskClass, SkillSpec, Step};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::agent::{Acting, ActingAgent};
use crate::binding::{Binding, Seen};
use crate::blocked::{Blocked, BlockedReason};
use crate::budget::{BudgetDecision, BudgetView};
use crate::cel::{CelEvaluator, EvalError, Variables};
use crate::digest::Digest;
use crate::escape::excerpt;
use crate::fingerprint::Fingerprints;
use crate::observed::TaskView;
use crate::payment::PaymentNetwork;
use crate::plan::{CompiledStep, Ended, task_value, variables};
use crate::policy::{PolicySet, Verdict, vocabulary};
use crate::problem;
use crate::record::{Launch, RecordedPlan, Request, RuleDecision};

/// How much of an expression is told, in characters.
const EXPRESSION_CHARS: usize = 120;

/// What [`crate::decide`] asks of each step that could start. The real one is [`PolicyJudge`]; the
/// enumeration tests answer from a table.
pub trait Judge {
    /// What may become of this step now.
    fn judge(&self, case: &Case<'_>) -> Judgement;
}

/// One step that could start, and what its judgement may depend on.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The Task that the step is of, as its object is now.
    pub task: &'a TaskView,
    /// The Plan snapshot that the step is of.
    pub plan: &'a RecordedPlan,
    /// Who asked for the Task.
    pub request: &'a Request,
    /// The step, as the Plan has it.
    pub step: &'a Step,
    /// Which run of the step it would be, from 1: what never began is none.
    pub run: u32,
    /// Outputs of finished steps.
    pub outputs: &'a BTreeMap<String, Arc<Value>>,
    /// What became of each step that comes before; one that succeeded has an output, whether or not `outputs` holds it.
    pub outcome: &'a dyn Fn(&str) -> Outcome,
    /// The contracts of the Skills that are installed, by the Skill's name.
    pub skills: &'a BTreeMap<String, SkillSpec>,
    /// On whose behalf the Task is carried out.
    pub agent: &'a Acting,
    /// Every Policy of the cluster, compiled.
    pub policies: &'a PolicySet,
    /// The Secrets that the brokers have, by the fingerprints that all of them agree on.
    pub secrets: &'a Fingerprints,
    /// The trees of files that the steps before it left.
    pub workspace: &'a dyn Fn() -> Vec<Digest>,
    /// The image of the runner, by digest.
    pub runner_image: &'a str,
    /// What its price is held against.
    pub budget_view: BudgetView<'a>,
    /// Whether there is a broker.
    pub broker: bool,
    /// Where the signer can pay, and what each name stands for.
    pub networks: &'a BTreeMap<String, PaymentNetwork>,
}

/// What is to become of a step that could start.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// Its `when` is false.
    Skip,
    /// It can never run as it stands.
    Invalid {
        /// Why, CamelCase, for machines.
        reason: &'static str,
        /// The field and what is wrong with it, in a sentence for people.
        message: String,
    },
    /// A Policy, its Agent or its price forbids it, or nobody could sign for it.
    Denied {
        /// By what, in a sentence for people.
        message: String,
        /// The rules that matched, on the way through every Skill that was tried.
        rules: Vec<RuleDecision>,
        /// Where it is the price that does not fit.
        budget: Option<Box<BudgetDecision>>,
    },
    /// Nothing may be concluded now.
    Blocked {
        /// Why, and when to ask again.
        blocked: Blocked,
        /// Where it is the price that does not fit now.
        budget: Option<Box<BudgetDecision>>,
    },
    /// It may run, once it has the signatures that its binding asks for.
    Ready(Box<Prepared>),
}

/// A step that is ready to run but for signatures: exactly what would run, and what the verdict rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// SHA-256 over the RFC 8785 JSON of the resolved input.
    pub input_digest: Digest,
    /// What a signature is bound to.
    pub binding: Binding,
    /// SHA-256 over RFC 8785 JSON of `binding`.
    pub digest: Digest,
    /// Where it may go at most, by every Policy that says so.
    pub limits: Vec<Vec<EgressLimit>>,
    /// The rules that matched, with those of the Skills that were downgraded.
    pub rules: Vec<RuleDecision>,
    /// What is to be reserved; `None` where it has no price, or has what it takes already.
    pub budget: Option<Box<BudgetDecision>>,
}

impl Prepared {
    /// What an attempt of it runs.
    pub fn launch(&self) -> Launch {
        self.binding.launch(self.limits.clone())
    }
}

/// Judges by the Policies, in CEL.
#[derive(Clone)]
pub struct PolicyJudge {
    evaluator: CelEvaluator,
}

/// A way out of judging before the end.
type Early<T> = Result<T, Judgement>;

impl PolicyJudge {
    /// One that evaluates with this evaluator.
    pub fn new(evaluator: CelEvaluator) -> PolicyJudge {
        PolicyJudge { evaluator }
    }

    /// The evaluator of all its expressions.
    pub fn evaluator(&self) -> &CelEvaluator {
        &self.evaluator
    }

    fn judge_step(&self, case: &Case<'_>) -> Early<Judgement> {
        let input = self.resolve(case)?;
        self.judge_skills(case, &input)
    }

    /// The step's input, if its `when` holds.
    fn resolve(&self, case: &Case<'_>) -> Early<Map<String, Value>> {
        let evaluator = self.evaluator.of(&case.task.namespace);
        let compiled = CompiledStep::compile(case.step, &case.step.name)
            .map_err(|problems| invalid("InvalidStep", problem::join(&problems)))?;
        let mut ended = Vec::new();
        let mut not_loaded = BTreeSet::new();
        for step in compiled.referenced_steps() {
            let outcome = (case.outcome)(&step);
            match (case.outputs.get(&step), outcome) {
                (Some(output), _) => ended.push((step, Ended { output: Arc::clone(output), outcome })),
                (None, Outcome::Succeeded) => drop(not_loaded.insert(step)),
                (None, Outcome::Failed | Outcome::Skipped | Outcome::Rejected | Outcome::Unknown) => {
                    ended.push((step, Ended { output: Arc::new(Value::Null), outcome }));
                }
            }
        }
        if !not_loaded.is_empty() {
            let names = Vec::from_iter(not_loaded.iter().map(String::as_str)).join(", ");
            let message = format!("waits until the outputs of these steps are loaded: {names}");
            return Err(blocked(BlockedReason::OutputNotLoaded(not_loaded), message));
        }
        let digest = case.plan.digest.to_string();
        let task = task_value(&case.task.namespace, &case.task.name, &case.plan.parameters);
        let variables = variables(task, (&case.plan.name, &digest), ended.into_iter());
        if let Some(when) = &compiled.when {
            match evaluator.evaluate_bool(when, &variables) {
                Ok(true) => {}
                Ok(false) => return Err(Judgement::Skip),
                Err(error) if error.is_transient() => {
                    let what = format!("its when, {},", excerpt(when.source(), EXPRESSION_CHARS));
                    return Err(busy(&what, Some(&error), &error));
                }
                Err(error) => return Err(invalid("InvalidExpression", format!("when: {error}"))),
            }
        }
        match compiled.input.resolve(&evaluator, &variables) {
            Ok(Value::Object(input)) => Ok(input),
            Ok(_) => Err(invalid("InvalidInput", "input: is not an object".to_owned())),
            Err(error) if error.is_transient() => Err(busy("its input", error.evaluation(), &error)),
            Err(error) => Err(invalid("InvalidInput", error.to_string())),
        }
    }

    fn verdict(&self, case: &Case<'_>, name: &str, contract: &SkillSpec, input: &Map<String, Value>) -> Early<Verdict> {
        let variables = policy_variables(case, name, contract, input);
        let evaluator = self.evaluator.of(&case.task.namespace);
        case.policies
            .judge(&case.task.namespace, &variables, &evaluator)
            .map_err(|(rule, error)| busy(&rule, Some(&error), &error))
    }
}

impl Judge for PolicyJudge {
    fn judge(&self, case: &Case<'_>) -> Judgement {
        self.judge_step(case).unwrap_or_else(|early| early)
    }
}

fn invalid(reason: &'static str, message: String) -> Judgement {
    Judgement::Invalid { reason, message }
}

impl Judgement {
    /// Its price does not fit now: it may from this instant on, or as soon as something that is held is given back.
    pub fn deferred(budget: BudgetDecision, until: Option<Timestamp>) -> Judgement {
        let why = budget.message.as_deref().unwrap_or("its price does not fit");
        let waits = match until {
            Some(until) => format!("{why}; waits until {until}"),
            None => format!("{why}; waits for some of it to be given back"),
        };
        let blocked = Blocked { reason: BlockedReason::Deferred, message: waits, until };
        Judgement::Blocked { blocked, budget: Some(Box::new(budget)) }
    }

    /// Nothing may be concluded now, whatever it costs.
    pub fn blocked(reason: BlockedReason, message: impl Into<String>) -> Judgement {
        Judgement::Blocked { blocked: Blocked::new(reason, message), budget: None }
    }
}

fn blocked(reason: BlockedReason, message: String) -> Judgement {
    Judgement::blocked(reason, message)
}

/// What could not be evaluated, for which the expression need not be at fault.
fn busy(what: &str, error: Option<&EvalError>, said: &dyn std::fmt::Display) -> Judgement {
    Judgement::Blocked { blocked: Blocked::evaluation(what, error, said), budget: None }
}

fn contract<'a>(case: &Case<'a>, name: &str) -> Early<&'a SkillSpec> {
    case.skills.get(name).ok_or_else(|| {
        blocked(BlockedReason::SkillNotInstalled, format!("the Skill {name:?} is not installed; install it"))
    })
}

fn check_agent(case: &Case<'_>, skill: &str) -> Early<()> {
    let ActingAgent { namespace: _, name, spec } = match case.agent {
        Acting::Alone => return Ok(()),
        Acting::Unclear(error) => return Err(blocked(error.reason(), error.to_string())),
        Acting::Agent(agent) => &**agent,
    };
    if spec.allowed_skills.iter().any(|allowed| allowed == skill) {
        return Ok(());
    }
    let message = format!("the Agent {name:?} may not use the Skill {skill:?}; add it to its allowedSkills");
    let rule = RuleDecision {
        policy: "agent".to_owned(),
        rule: name.clone(),
        effect: Effect::Deny,
        mode: PolicyMode::Enforce,
        risk: RiskClass::default(),
        message: Some(message),
        saw: Map::from_iter([("skill.name".to_owned(), json!(skill))]),
        policies: case.policies.digest(&case.task.namespace),
    };
    Err(denied(&[rule]))
}

fn denied(rules: &[RuleDecision]) -> Judgement {
    let why = |rule: &RuleDecision| {
        let message = rule.message.as_deref().unwrap_or("it is denied");
        format!("policy {}, rule {}: {message}", rule.policy, rule.rule)
    };
    let message = rules
        .iter()
        .filter(|rule| rule.effect == Effect::Deny && rule.mode == PolicyMode::Enforce)
        .map(why)
        .collect::<Vec<_>>()
        .join("; ");
    Judgement::Denied { message, rules: rules.to_vec(), budget: None }
}

/// What a Policy rule sees.
fn policy_variables(case: &Case<'_>, name: &str, contract: &SkillSpec, input: &Map<String, Value>) -> Variables {
    let all = variables_but_step(case, name, contract).with("step", step_variable(case.step, case.run, input));
    debug_assert_eq!(vocabulary().misfits(&all), [""; 0], "rules are checked against what they see: {all:?}");
    all
}

/// What a Policy rule sees as `step`.
pub(crate) fn step_variable(step: &Step, run: u32, input: &Map<String, Value>) -> Value {
    json!({"name": step.name, "input": input, "attempt": run, "approval": step.approval})
}

/// What a Policy rule sees beside it, which is the same for every step with this Skill.
pub(crate) fn variables_but_step(case: &Case<'_>, name: &str, contract: &SkillSpec) -> Variables {
    Seen::of(case).variables(&case.plan.parameters, name, contract)
}
