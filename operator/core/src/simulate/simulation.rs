//! What a simulation says.

use countersign_crds::{ApprovalScope, BudgetVerdict, Effect, EffectClass, PolicyMode, RiskClass};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compare::Comparison;
use crate::budget::{Scope, Window};
use crate::digest::Digest;
use crate::money::Money;

/// Within a version members are added, never taken away or altered.
pub const VERSION: u32 = 1;

/// What would become of a Task if it were created now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Simulation {
    /// The version of this format; within it members are added, never taken away or altered.
    pub version: u32,
    /// When it was simulated, an RFC 3339 time.
    pub at: Timestamp,
    /// The namespace that the Task would be in.
    pub namespace: String,
    /// The name of the Task.
    pub task: String,
    /// Whether it would come to a good end, as far as is known: if every attempt succeeded and whoever is asked signed.
    pub feasible: bool,
    /// What keeps it from that.
    pub obstacles: Vec<Obstacle>,
    /// Left out where no Plan can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanOutline>,
    /// What it would cost.
    pub cost: CostRange,
    /// How long it would take.
    pub duration: DurationRange,
    /// In the Plan's order.
    pub steps: Vec<StepOutlook>,
    /// In the order in which they are asked for.
    pub approvals: Vec<ApprovalOutlook>,
    /// Every limit that bears on it.
    pub budgets: Vec<BudgetOutlook>,
    /// The names of the steps that would run and do what cannot be undone.
    pub irreversible_steps: Vec<String>,
    /// What somebody should know before they ask for it, in the order of the kinds.
    pub risks: Vec<Risk>,
    /// Where changed Policies are tried: what would be different. All the rest is as it would be with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// Why it would not come to a good end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Obstacle {
    /// Left out where it is the Task as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// CamelCase, for machines.
    pub reason: String,
    /// What is in the way, and what to do about it.
    pub message: String,
}

/// The Plan that would be carried out, without its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanOutline {
    /// `plan NAMESPACE/NAME`, `inline plan` or `generic plan`.
    pub source: String,
    /// Of its steps and parallelism: SHA-256 over their RFC 8785 JSON, `sha256:` and 64 hexadecimal digits.
    pub digest: Digest,
    /// How many steps it has.
    pub steps: u32,
    /// How many of them may run at once.
    pub parallelism: u32,
}

/// Of the steps that would run, all together, in the currency of the budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CostRange {
    /// What is owed in any case; a step whose `when` is not known yet counts nothing.
    pub minimum: Money,
    /// With one attempt each; a step whose `when` is not known yet counts in full.
    pub expected: Money,
    /// With every attempt that is possible, each at its ceiling, as far as the budgets let it.
    pub maximum: Money,
    /// Whether there is no step whose price is not known.
    pub complete: bool,
}

/// Without the time that people take to sign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DurationRange {
    /// Where half of the attempts of each Skill are done sooner.
    pub p50_seconds: f64,
    /// Where every step takes as long as one attempt in twenty of its Skill.
    pub p95_seconds: f64,
    /// The steps that each waited for the one before, up to the last to end.
    pub critical_path: Vec<String>,
}

/// What would become of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepOutlook {
    /// The step's name in the Plan.
    pub name: String,
    /// The Skill that would run.
    pub skill: String,
    /// The Plan's own, where another takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downgraded_from: Option<String>,
    /// What that Skill does to the world; `Irreversible` where the Skill is not installed.
    pub effect: EffectClass,
    /// Whether what it does cannot be undone.
    pub irreversible: bool,
    /// What would be decided of it.
    pub decision: StepDecision,
    /// Whether all that the decision rests on is known now.
    pub certain: bool,
    /// What is not: `when`, or members of `input`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<String>,
    /// The rules that cannot be judged for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undetermined: Vec<Reason>,
    /// The rules that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Why it would not run, where it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What would be decided about its price; left out where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetOutcome>,
    /// What it would cost.
    pub cost: StepCost,
    /// How long one attempt would take.
    pub duration: StepDuration,
    /// When it would start, counted from now.
    pub starts_after_seconds: f64,
}

/// What would be decided of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepDecision {
    /// It runs without being signed for.
    Allow,
    /// It runs once it is signed for.
    RequireApproval,
    /// It does not run: the rules, its Agent or a budget forbid it.
    Deny,
    /// Its `when` is false.
    Skip,
    /// It can never run as it stands.
    Invalid,
    /// It would wait: for what somebody can still install, for its budget, or for a turn that never comes.
    Wait,
    /// Only rules that cannot be judged yet could allow it.
    Undetermined,
}

/// A rule, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// `NAMESPACE/NAME`; `plan`, `agent`, `budget` or `default` where it is none of a Policy.
    pub policy: String,
    /// The rule's name in its Policy; `no-rule-matched` where none of the cluster's rules binds.
    pub rule: String,
    /// What it asks for.
    pub effect: Effect,
    /// Whether it binds (`Enforce`), or only says what it would have done (`Audit`).
    pub mode: PolicyMode,
    /// What the Policy says to people, or why the rule could not be evaluated; left out where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What would be decided about a step's price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetOutcome {
    /// Whether it fits, and what becomes of the step where it does not.
    pub verdict: BudgetVerdict,
    /// The most that an attempt may cost, which is what has to fit.
    pub amount: Money,
    /// Where it is deferred: when the window begins in which it may fit. Without it, it waits for something that is
    /// held to be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why it does not fit, or what the Skill took the place of; left out where there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a step would cost, in the currency of the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepCost {
    /// What is owed in any case, once a pod of it is let in; nothing where the step may be skipped.
    pub minimum: Money,
    /// What one attempt is expected to cost.
    pub expected: Money,
    /// What all attempts that are possible cost together, each at its ceiling.
    pub maximum: Money,
    /// How many attempts are possible.
    pub attempts: u32,
    /// What the expected cost rests on.
    pub source: CostSource,
}

/// What an expected cost rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CostSource {
    /// The mean of the Skill's last attempts.
    History,
    /// The Skill's own prices, with one call.
    Contract,
    /// It cannot cost anything, or would not run.
    Free,
    /// It can spend, and does not say how much.
    NotKnown,
}

/// How long one attempt at a step would take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepDuration {
    /// Seconds in which half of the attempts are done.
    pub p50_seconds: f64,
    /// Seconds in which all but one attempt in twenty are done; its timeout where that is not known.
    pub p95_seconds: f64,
    /// What these rest on.
    pub source: DurationSource,
}

/// What a duration rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DurationSource {
    /// The Skill's last attempts.
    History,
    /// What the Skill says that it usually takes, and its timeout.
    Contract,
    /// Its timeout, for want of anything better.
    Timeout,
    /// It would not run.
    None,
}

/// Signatures that will be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalOutlook {
    /// What they are for.
    pub steps: Vec<String>,
    /// How many different people must sign.
    pub count: u32,
    /// Groups of which each must be represented among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The service accounts whose signature counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<String>,
    /// The highest risk of the rules that bind; whoever signs needs the right to approve this class.
    pub risk: RiskClass,
    /// What each is for: one attempt at one step, or all of `steps`.
    pub scope: ApprovalScope,
    /// Seconds from when they are asked for until they are too late.
    pub expires_after_seconds: u64,
    /// In words: who may sign.
    pub from: String,
}

/// How a limit stands before and after, at the expected cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetOutlook {
    /// Whose spending the limit is on.
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; the Task's name.
    pub subject: String,
    /// How long it counts before it begins anew.
    pub window: Window,
    /// When the window began, an RFC 3339 time; the Unix Epoch for `Total`.
    pub starts_at: Timestamp,
    /// When the window ends, an RFC 3339 time; left out where it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// The lowest of the limits that are set here.
    pub limit: Money,
    /// What this work may fill it to, where low priority leaves something to the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Money>,
    /// What is spent of it now.
    pub spent_before: Money,
    /// What is reserved of it now.
    pub held_before: Money,
    /// What would be spent of it afterwards.
    pub spent: Money,
    /// What would be reserved of it afterwards.
    pub held: Money,
    /// What of it this work could still use afterwards.
    pub left: Money,
}

/// What somebody should know before they ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Risk {
    /// What it is that should be known, for machines.
    pub kind: RiskKind,
    /// The steps that it is of; none where it is of the Task as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// The same in words.
    pub message: String,
}

/// In the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RiskKind {
    /// What it does cannot be undone.
    Irreversible,
    /// A budget binds it, and a Skill does not say what it costs.
    UnknownPrice,
    /// A Skill goes outside and may spend there without bound.
    EgressWithoutCeiling,
    /// What its sandboxes can reach beside the broker is open, or was not tried.
    NetworkNotEnforced,
    /// A budget is used up to 80 percent or more.
    BudgetScarce,
    /// A step has to wait for its budget.
    Deferred,
    /// A step that may be skipped would not run if it were reached.
    Conditional,
    /// The Task's deadline may pass before its end.
    Deadline,
    /// Signatures must be there within the hour.
    ApprovalExpiresSoon,
    /// Something that a decision rests on is not known before other steps have run.
    InputNotKnown,
    /// A retry that is asked for is not made, as the Skill is not idempotent.
    NotRetried,
    /// A Skill has not run before, so its estimate is its own word.
    NoHistory,
}
