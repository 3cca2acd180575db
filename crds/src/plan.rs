//! Plan: a DAG of steps. Without `taskRef` it is a template; with it, the operator's snapshot.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::meta::{Identity, OwnedReference, duration, free_object};

/// The steps of a Plan and how many of them may run at once; of a Task's own copy also whose it is.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Plan",
    namespaced,
    derive = "PartialEq",
    shortname = "cplan",
    category = "countersign",
    doc = "A DAG of steps: a template, or (with taskRef) the immutable copy that a Task runs.",
    printcolumn(name = "Task", type_ = "string", json_path = ".spec.taskRef.name"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.taskRef.name"
)]
#[x_kube(
    validation = Rule::new("has(self.taskRef) == has(self.digest)")
        .message("spec.digest goes with spec.taskRef; both are the operator's, leave both out of a template"),
    validation = Rule::new("has(self.taskRef) == has(oldSelf.taskRef) && (!has(self.taskRef) || (self.taskRef == oldSelf.taskRef && self.digest == oldSelf.digest))")
        .message("spec.taskRef and spec.digest are immutable"),
    validation = Rule::new("!has(oldSelf.requester) || (has(self.requester) && self.requester == oldSelf.requester)")
        .message("spec.requester is immutable")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanSpec {
    /// Set by the operator on a Task's own copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_ref: Option<OwnedReference>,
    /// SHA-256 over the RFC 8785 JSON of `steps` and `parallelism`; set with `taskRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// Who created it: stamped by the admission webhook, whatever the client sends. On a Task's own copy: who
    /// created the Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Identity>,
    /// How many steps may run at once.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 100))]
    pub parallelism: u32,
    /// What is to be done, each step under a name of its own; `needs` and `after` say what comes before what.
    #[schemars(schema_with = "steps")]
    pub steps: Vec<Step>,
}

/// A Plan's content, as a Task carries it inline.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanTemplate {
    /// How many steps may run at once.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 100))]
    pub parallelism: u32,
    /// What is to be done, each step under a name of its own; `needs` and `after` say what comes before what.
    #[schemars(schema_with = "steps")]
    pub steps: Vec<Step>,
}

fn default_parallelism() -> u32 {
    10
}

/// The name is the key of the list, so that the API server itself refuses a second step of a name.
fn steps(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<Step>();
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 2000,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

/// One Skill with its input, and on what it waits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// What expressions call it: `steps.NAME.output`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    pub name: String,
    /// The Skill that does the work.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub skill: String,
    /// What the Skill gets; strings may hold `${cel}` over `task.parameters`, `steps.NAME.output`,
    /// `steps.NAME.outcome` and `plan`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub input: Map<String, Value>,
    /// Steps that must have succeeded before this one starts: short for `after` with `outcomes: [Succeeded]`. Where one
    /// ended otherwise, this one is skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub needs: Vec<String>,
    /// Steps that must have ended before this one starts, each with the outcomes on which it does. Where one ended
    /// otherwise, this one is skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "after")]
    pub after: Vec<After>,
    /// Runs when every other step has ended, however the Task went: after a failure, the deadline or a cancellation
    /// too, and never after the Task was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finally: bool,
    /// Whether the Task goes on where this step failed. A rejection and an unknown outcome always end it.
    #[serde(default, skip_serializing_if = "OnFailure::ends_the_task")]
    pub on_failure: OnFailure,
    /// A CEL expression; where it is false the step is skipped and its output is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// Tries again what failed; honoured only for Skills that are idempotent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long one attempt may run; the Skill's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub timeout: Option<String>,
    /// `Always` asks for a signature whatever Policy says; a Plan can only tighten.
    #[serde(default)]
    pub approval: StepApproval,
}

/// The step is the key of the list, so that the API server itself refuses it a second time.
fn after(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<After>();
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["step"],
    })
}

/// A step that comes before, and the outcomes on which the one behind it starts.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct After {
    /// The name of the step that comes before.
    #[schemars(length(min = 1, max = 63))]
    pub step: String,
    /// The outcomes on which to start.
    #[schemars(schema_with = "outcomes")]
    pub outcomes: Vec<Outcome>,
}

fn outcomes(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<Outcome>();
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 5,
        "items": item,
        "x-kubernetes-list-type": "set",
    })
}

/// How a step can end; expressions see it as `steps.NAME.outcome`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It did its work.
    Succeeded,
    /// It did not do its work, and whatever it did is known to be over.
    Failed,
    /// It was not run: its `when` was false, what it needs ended otherwise, or the Task ended before.
    Skipped,
    /// A person, a Policy or a budget did not allow it.
    Rejected,
    /// It ran, and nobody knows what came of it.
    Unknown,
}

impl Outcome {
    /// Every outcome there is.
    pub const ALL: [Outcome; 5] =
        [Outcome::Succeeded, Outcome::Failed, Outcome::Skipped, Outcome::Rejected, Outcome::Unknown];

    /// As it is written in a Plan.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "Succeeded",
            Outcome::Failed => "Failed",
            Outcome::Skipped => "Skipped",
            Outcome::Rejected => "Rejected",
            Outcome::Unknown => "Unknown",
        }
    }
}

/// What a step's failure means for its Task.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The Task fails; what runs may finish, and nothing but `finally` steps starts.
    #[default]
    EndTask,
    /// The Task goes on, and can complete.
    Continue,
}

impl OnFailure {
    /// Whether it is what a step says that says nothing.
    pub fn ends_the_task(&self) -> bool {
        match self {
            OnFailure::EndTask => true,
            OnFailure::Continue => false,
        }
    }
}

/// One step that must have ended before another starts, and on which outcomes that does start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need<'a> {
    /// The name of the step that comes before.
    pub step: &'a str,
    /// The outcomes that do.
    pub outcomes: &'a [Outcome],
}

impl Step {
    /// Every step that must have ended before this one starts, from `needs` and from `after`.
    pub fn all_needs(&self) -> impl Iterator<Item = Need<'_>> + Clone {
        let needs = self.needs.iter().map(|step| Need { step, outcomes: &[Outcome::Succeeded] });
        needs.chain(self.after.iter().map(|After { step, outcomes }| Need { step, outcomes }))
    }
}

/// How often a step that failed is tried again, and after which pauses.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// How many attempts may follow the first.
    #[schemars(range(min = 1, max = 10))]
    pub limit: u32,
    /// The pause before the second attempt; it doubles from there, with up to half of it as jitter.
    #[serde(default = "default_backoff")]
    #[schemars(schema_with = "duration")]
    pub backoff: String,
    /// The longest pause.
    #[serde(default = "default_max_backoff")]
    #[schemars(schema_with = "duration")]
    pub max_backoff: String,
}

fn default_backoff() -> String {
    "1s".into()
}

fn default_max_backoff() -> String {
    "5m".into()
}

/// When a step takes a signature.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StepApproval {
    /// A signature where a Policy rule asks for one.
    #[default]
    Policy,
    /// A signature in any case.
    Always,
}
