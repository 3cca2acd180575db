//! Approval: what exactly will run, and who signed for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::meta::{Identity, OwnedReference, RbacSubject, RiskClass, conditions, free_object};
use crate::policy::ApprovalScope;
use crate::skill::EffectClass;

/// Created by the operator only. `kubectl patch approval NAME --type merge -p
/// '{"spec":{"approved":true,"reason":"..."}}'` is a signature: the admission webhook turns the two
/// fields into an entry of `decisions` that carries the requester's identity.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Approval",
    namespaced,
    status = "ApprovalStatus",
    derive = "PartialEq",
    shortname = "capp",
    category = "countersign",
    doc = "What exactly will run, its digest, and the stamped decisions of people.",
    printcolumn(name = "Task", type_ = "string", json_path = ".spec.taskRef.name"),
    printcolumn(name = "Step", type_ = "string", json_path = ".spec.step"),
    printcolumn(name = "Skill", type_ = "string", json_path = ".spec.subject.skill"),
    printcolumn(name = "Risk", type_ = "string", json_path = ".spec.risk"),
    printcolumn(name = "Requester", type_ = "string", json_path = ".spec.requester.user", priority = 1),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Approved\")].reason"),
    printcolumn(name = "Signed", type_ = "string", json_path = ".status.signed"),
    // A column of type date is for the past: what is still to come it shows as invalid.
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.taskRef.name"
)]
#[x_kube(
    validation = Rule::new("self.taskRef == oldSelf.taskRef && self.step == oldSelf.step && self.attempt == oldSelf.attempt")
        .message("spec.taskRef, spec.step and spec.attempt are immutable"),
    validation = Rule::new("self.digest == oldSelf.digest").message("spec.digest is immutable"),
    validation = Rule::new("self.expiresAt == oldSelf.expiresAt").message("spec.expiresAt is immutable"),
    validation = Rule::new("self.requester == oldSelf.requester && has(self.onBehalfOf) == has(oldSelf.onBehalfOf) && (!has(self.onBehalfOf) || self.onBehalfOf == oldSelf.onBehalfOf)")
        .message("spec.requester and spec.onBehalfOf are immutable"),
    validation = Rule::new("self.required == oldSelf.required && self.risk == oldSelf.risk && self.scope == oldSelf.scope")
        .message("spec.required, spec.risk and spec.scope are immutable"),
    validation = Rule::new("!has(oldSelf.decisions) || (has(self.decisions) && self.decisions.size() >= oldSelf.decisions.size())")
        .message("spec.decisions is append-only"),
    validation = Rule::new("!has(self.reason) || has(self.approved)")
        .message("spec.reason goes with spec.approved")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalSpec {
    /// The Task that waits for this Approval, in the same namespace.
    pub task_ref: OwnedReference,
    /// The step of the Task's Plan that will run, by its name there.
    #[schemars(length(min = 1, max = 63))]
    pub step: String,
    /// Which attempt at the step it is for; the first is 1.
    #[schemars(range(min = 1, max = 100))]
    pub attempt: u32,
    /// SHA-256 over RFC 8785 JSON of everything that determines what will run.
    #[schemars(length(min = 71, max = 71))]
    pub digest: String,
    /// Who asked for the work, as the API server saw them; they never sign.
    pub requester: Identity,
    /// For whom the requester says that it asked: the Task's annotation `countersign.dev/on-behalf-of`.
    /// A claim, never trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub on_behalf_of: Option<String>,
    /// The highest risk of all that is signed for; signing takes the verb `approve` on `riskclasses/NAME`.
    pub risk: RiskClass,
    /// `Plan` where one signature is for several steps: those under `covers`.
    #[serde(default)]
    pub scope: ApprovalScope,
    /// What `step` will run; what the further steps will run stands under `covers`.
    pub subject: Subject,
    /// The further steps that are signed for, where `scope` is `Plan`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub covers: Vec<CoveredStep>,
    /// Whose signatures it takes.
    pub required: Required,
    /// Without the signatures by then the steps are rejected.
    pub expires_at: Time,
    /// Input of a signature; stamped into `decisions` and cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// Input of a signature: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Written by the admission webhook alone, appended to, never edited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub decisions: Vec<Signature>,
}

/// Whose signatures an Approval takes. A person counts once; one rejection is final.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Required {
    /// How many different people must approve.
    #[schemars(range(min = 1, max = 10))]
    pub count: u32,
    /// Groups of which each must be represented among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 256)))]
    pub groups: Vec<String>,
    /// The service accounts, as `NAMESPACE/NAME`, whose signature counts; that of any other does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 3, max = 317)))]
    pub service_accounts: Vec<String>,
    /// Whose signature never counts, beside the requester's: the owners of the Agent that asks, and for whom it was
    /// asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 17))]
    pub excluded: Vec<RbacSubject>,
}

/// Another step that the same signature is for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CoveredStep {
    /// The step of the same Plan, by its name there.
    #[schemars(length(min = 1, max = 63))]
    pub step: String,
    /// Which attempt at that step it is for; the first is 1.
    #[schemars(range(min = 1, max = 100))]
    pub attempt: u32,
    /// What that step will run.
    pub subject: Subject,
}

/// What will run, in words for the person who signs. The digest covers all of it. Whatever would hide, turn or break the
/// text around it is spelt out as `\u{HEX}`, and so is a backslash that would begin such an escape.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// The Skill that will run: the one that the step names, or what that was downgraded to.
    #[schemars(length(max = 63))]
    pub skill: String,
    /// What that Skill does to the world.
    pub effect: EffectClass,
    /// The resolved input.
    #[schemars(schema_with = "free_object")]
    pub input: Map<String, Value>,
    /// The image that will run, by digest.
    #[schemars(length(max = 512))]
    pub image: String,
    /// What runs in the image: the command as a JSON array, or the name of the built-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub command: Option<String>,
    /// The jq program of the built-in `json_transform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub program: Option<String>,
    /// Where it may go, and what is shown there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    pub egress: Vec<String>,
    /// What it pays, to whom and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub payment: Option<String>,
    /// The most that it may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub cost_ceiling: Option<String>,
    /// The rules that asked for the signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<RuleReference>,
    /// What the steps before it returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub earlier: Vec<EarlierOutput>,
    /// How this differs from the run of the same step that was approved last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_last_approved: Option<SinceLastApproved>,
}

/// What a step before returned.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EarlierOutput {
    /// The step of the same Plan that returned it, by its name there.
    #[schemars(length(max = 63))]
    pub step: String,
    /// `sha256:` and the lower-case hexadecimal SHA-256 of the whole output as RFC 8785 JSON.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// The output as JSON; cut, with a mark, where it is long.
    #[schemars(length(max = 1100))]
    pub output: String,
}

/// The run of the same step, of the same Plan in the same namespace, that was approved and used last.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinceLastApproved {
    /// The `metadata.name` of the Approval under which that run was carried out.
    #[schemars(length(max = 253))]
    pub approval: String,
    /// When the attempt at that run was recorded, before its Job was made.
    pub at: Time,
    /// Empty where nothing differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub differences: Vec<Difference>,
}

/// One member that differs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Difference {
    /// Where, as in `input.amount`.
    #[schemars(length(max = 256))]
    pub field: String,
    /// JSON, cut where it is long; left out where there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 260))]
    pub before: Option<String>,
    /// JSON of what is there now, cut where it is long; left out where there is nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 260))]
    pub now: Option<String>,
}

/// A rule that asked for the signature, or for this Skill in the place of another.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleReference {
    /// `NAMESPACE/POLICY`; `plan` where the step itself asks, `budget` where a budget had it downgraded.
    #[schemars(length(max = 320))]
    pub policy: String,
    /// The rule's name in that Policy; where the step itself asks, the step's name; where `policy` is `budget`, the
    /// Skill that did not fit it.
    #[schemars(length(max = 63))]
    pub rule: String,
    /// What the rule tells people; left out where it tells nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
}

/// One signature, as the API server saw its author. Of several by one person that say the same the last counts, with the
/// groups that they were in by then.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Decision")]
pub struct Signature {
    /// The user's name as the API server authenticated it, such as `system:serviceaccount:NAMESPACE:NAME`.
    #[schemars(length(max = 512))]
    pub user: String,
    /// The user's uid; left out where the authenticator of the API server gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub uid: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    /// Those of their groups that the Approval asks for.
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub groups: Vec<String>,
    /// True for a yes, false for a rejection, which is final.
    pub approved: bool,
    /// Why, in the words of whoever signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// When the webhook stamped it, in whole seconds.
    pub at: Time,
    /// The Approval's digest at that moment.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// The webhook's own Ed25519 signature over this entry and the Approval's uid, in base64. Without it an
    /// entry counts for nothing, whoever managed to write it.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub seal: String,
}

/// The state is the reason of the condition `Approved`: Pending, Approved, Consumed, Rejected,
/// Expired, Superseded.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStatus {
    /// How many of the signatures that it takes are there: `1/2`. While one of a group is still missing it counts as one
    /// that it takes, so that `2/2` waits for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub signed: Option<String>,
    /// The Approval's `metadata.generation` that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Approved`: Unknown while signatures are missing, True once they are there, False once it can no longer be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
