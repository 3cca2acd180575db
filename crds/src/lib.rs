//! The API types of `countersign.dev/v1alpha1`, one file a kind.
//!
//! Schemas follow the Kubernetes API conventions: unions are optional siblings with a CEL rule,
//! free JSON preserves unknown fields, lists and strings are bounded, durations are
//! `metav1.Duration` strings, times are RFC 3339.

#![warn(missing_docs)]

mod agent;
mod approval;
mod budget;
mod egress;
mod meta;
mod payment;
mod plan;
mod policy;
mod skill;
mod task;

pub use agent::{Agent, AgentSpec, AgentStatus};
pub use approval::{
    Approval, ApprovalSpec, ApprovalStatus, CoveredStep, Difference, EarlierOutput, Required, RuleReference, Signature,
    SinceLastApproved, Subject,
};
pub use budget::{Budget, BudgetVerdict, CostStatus, PolicyBudget, WindowStatus};
pub use egress::{Cost, Credential, CredentialScheme, Egress, EgressLimit, Method, Protocol};
pub use meta::{
    AgentReference, GROUP_BYTES, GROUPS, GROUPS_BYTES, Identity, LocalReference, OwnedReference, Priority, RbacSubject,
    RiskClass, SubjectKind,
};
pub use payment::{Asset, PaymentContract, PaymentMode, PaymentState, PaymentStatus};
pub use plan::{After, Need, OnFailure, Outcome, Plan, PlanSpec, PlanTemplate, Retry, Step, StepApproval};
pub use policy::{ApprovalRequirement, ApprovalScope, Effect, Policy, PolicyMode, PolicySpec, Rule};
pub use skill::{Builtin, BuiltinName, EffectClass, Image, OverBudget, Resources, Skill, SkillSpec, Workspace};
pub use task::{PlanStatus, Progress, StepState, StepStatus, Task, TaskSpec, TaskStatus};

/// The API group of every kind here.
pub const GROUP: &str = "countersign.dev";

/// On a template Plan: the Task type that it serves. On everything the operator makes: the Task's type.
pub const LABEL_TYPE: &str = "countersign.dev/type";
/// On Jobs, pods, Secrets, Plans and Approvals: the uid of the Task they belong to.
pub const LABEL_TASK_UID: &str = "countersign.dev/task-uid";
/// On pods and Jobs: the attempt's key.
pub const LABEL_ATTEMPT: &str = "countersign.dev/attempt";
/// On pods: the Task's name, so that a pod event finds its Task.
pub const ANNOTATION_TASK: &str = "countersign.dev/task";
/// On a Task: for whom it says that it was asked. A claim, shown and never trusted.
pub const ANNOTATION_ON_BEHALF_OF: &str = "countersign.dev/on-behalf-of";
/// On a Task: the run that it is, as `NAMESPACE_UID/TASK_UID`. The operator's; a backup or a copy has it too.
pub const ANNOTATION_RUN: &str = "countersign.dev/run";
/// The scheduling gate that holds an attempt's pod until it was let in.
pub const GATE: &str = "countersign.dev/admit";

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every CustomResourceDefinition, in the order in which they are documented.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    vec![Task::crd(), Plan::crd(), Policy::crd(), Approval::crd(), Skill::crd(), Agent::crd()]
}
