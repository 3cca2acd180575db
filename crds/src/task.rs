//! Task: a request for work, from `kubectl apply`, a GitOps repository or an agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::budget::{BudgetVerdict, CostStatus};
use crate::egress::money;
use crate::meta::{AgentReference, Identity, LocalReference, Priority, conditions, free_object};
use crate::payment::PaymentStatus;
use crate::plan::PlanTemplate;

/// What is wanted, and how it is to be handled. Only `suspend`, `cancel`, `deadline` and
/// `ttlSecondsAfterFinished` may change later: a changed request is a new Task.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Task",
    namespaced,
    status = "TaskStatus",
    derive = "PartialEq",
    shortname = "ctask",
    category = "countersign",
    doc = "A request for work that is judged, signed for where a Policy says so, run once and recorded.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Requester", type_ = "string", json_path = ".spec.requester.user", priority = 1),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason"),
    printcolumn(name = "Steps", type_ = "string", json_path = ".status.progress.summary"),
    printcolumn(name = "Spent", type_ = "string", json_path = ".status.cost.spent"),
    printcolumn(name = "Budget", type_ = "string", json_path = ".status.cost.decision"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Succeeded\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.type",
    selectable = ".spec.planRef.name",
    selectable = ".spec.agentRef.name"
)]
#[x_kube(
    validation = Rule::new("[has(self.type), has(self.planRef), has(self.plan)].filter(x, x).size() == 1")
        .message("set exactly one of spec.type, spec.planRef and spec.plan"),
    validation = Rule::new("has(self.type) == has(oldSelf.type) && (!has(self.type) || self.type == oldSelf.type)")
        .message("spec.type is immutable; create a new Task"),
    validation = Rule::new("has(self.planRef) == has(oldSelf.planRef) && (!has(self.planRef) || self.planRef == oldSelf.planRef)")
        .message("spec.planRef is immutable; create a new Task"),
    validation = Rule::new("has(self.agentRef) == has(oldSelf.agentRef) && (!has(self.agentRef) || self.agentRef == oldSelf.agentRef)")
        .message("spec.agentRef is immutable; create a new Task"),
    validation = Rule::new("has(self.goal) == has(oldSelf.goal) && (!has(self.goal) || self.goal == oldSelf.goal)")
        .message("spec.goal is immutable; create a new Task"),
    validation = Rule::new("has(self.priority) == has(oldSelf.priority) && (!has(self.priority) || self.priority == oldSelf.priority)")
        .message("spec.priority is immutable; create a new Task"),
    validation = Rule::new("has(self.budget) == has(oldSelf.budget) && (!has(self.budget) || self.budget == oldSelf.budget)")
        .message("spec.budget is immutable; create a new Task"),
    validation = Rule::new("has(self.runId) == has(oldSelf.runId) && (!has(self.runId) || self.runId == oldSelf.runId)")
        .message("spec.runId is immutable; create a new Task"),
    validation = Rule::new("!has(oldSelf.requester) || (has(self.requester) && self.requester == oldSelf.requester)")
        .message("spec.requester is immutable"),
    validation = Rule::new("!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)")
        .message("spec.cancel cannot be taken back; create a new Task")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskSpec {
    /// What the work is for, in words. Policy sees it as `task.goal`; it changes nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub goal: Option<String>,
    /// The kind of work. The template Plan that carries it as the label `countersign.dev/type` is
    /// used; where none does, a one-step Plan with the Skill `generic-action`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    pub task_type: Option<String>,
    /// What the Plan's expressions see as `task.parameters`; at most 64 KiB of JSON. Immutable.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub parameters: Map<String, Value>,
    /// A template Plan in the Task's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_ref: Option<LocalReference>,
    /// The Plan itself, inline. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanTemplate>,
    /// The Agent on whose behalf the work is done; its allowed skills bind the Plan. Stamped where the requester is a
    /// subject of one; anybody else names one with the RBAC verb `use` on it. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ref: Option<AgentReference>,
    /// How urgent it is; never more than its Agent's. The Agent's own where left out; without an Agent it is Normal, and
    /// never more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The most that all of it may cost. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub budget: Option<String>,
    /// Tells apart requests that are the same but for it. A request runs once: a Task of the same name, requester and
    /// content as one that ran shows how that ended. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub run_id: Option<String>,
    /// Who created the Task: stamped by the admission webhook, whatever the client sends. They never sign for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Identity>,
    /// While true nothing new starts; what runs goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Ends the Task: running pods are ended and the record says so. Cannot be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// After this instant the Task fails and what runs is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The Task object is deleted this long after it finished; its record stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// A bounded view of the record: whatever the size of the Plan, below 256 KiB.
///
/// The phase is the reason of the condition `Succeeded`: Pending, Planning, Executing and
/// WaitingApproval while its status is Unknown, Completed when True, Failed, Rejected or Cancelled
/// when False.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The Task's `metadata.generation` that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Planned`, `Succeeded`, and where there is something to say `Suspended` and `NetworkIsolated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Left out until the Plan is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// Left out until the Plan is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Of what its steps cost; left out where nothing of it has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostStatus>,
    /// At most 200 steps: those under way and those that went wrong first, then in the Plan's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub steps: Vec<StepStatus>,
    /// When the Task was first recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the Task came to its end; left out until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// The Plan snapshot that this Task runs.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// The `metadata.name` of the Plan, in the Task's namespace.
    #[schemars(length(max = 253))]
    pub name: String,
    /// SHA-256 over the RFC 8785 JSON of the Plan's steps.
    #[schemars(length(max = 71))]
    pub digest: String,
}

/// How many steps are where.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// `finished/total`, for the printer column.
    #[schemars(length(max = 16))]
    pub summary: String,
    /// All steps of the Plan.
    pub total: u32,
    /// Steps that have ended, however they did.
    pub finished: u32,
    /// Steps with an attempt under way.
    pub running: u32,
    /// Steps that wait for signatures.
    pub waiting_approval: u32,
    /// Steps that ended Failed, Rejected or Unknown; they count as finished too.
    pub failed: u32,
    /// Steps that `status.steps` leaves out; the record has them all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Where a step stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepState {
    /// Something holds it up besides other steps and signatures: `reason` and `message` tell what.
    Pending,
    /// Steps that come before it have not ended.
    Blocked,
    /// It waits for signatures, on the Approval that `approval` names.
    WaitingApproval,
    /// Nothing but a place among `parallelism` is missing.
    Ready,
    /// An attempt at it is under way.
    Running,
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

/// One step; outputs never enter it, only their hash and size.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The step's name in the Plan.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// The Skill that took the place of the Plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub downgraded_to: Option<String>,
    /// What was decided about its price; left out where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetVerdict>,
    /// The newest attempt, the first being 1; left out where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why it does not go on, or did not succeed, in one CamelCase word; left out where it goes well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The same in a sentence, cut, with a mark, where it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
    /// The Approval that this step waits for or ran under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub approval: Option<String>,
    /// `sha256:` and the lower-case hexadecimal SHA-256 of the newest attempt's input as RFC 8785 JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub input_digest: Option<String>,
    /// `sha256:` and the lower-case hexadecimal SHA-256 of its output as RFC 8785 JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub output_digest: Option<String>,
    /// The size of its output as RFC 8785 JSON, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u32>,
    /// What it pays; left out where it pays nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentStatus>,
    /// `NETWORK:TRANSACTION` that anchors the record of this step: the one that was confirmed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub anchor: Option<String>,
    /// When it ended; left out until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}
