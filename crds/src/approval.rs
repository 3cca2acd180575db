//! Approval: what exactly will run, and who signed for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::meta::{OwnedReference, RiskClass, conditions, free_object};
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
    printcolumn(name = "Risk", type_ = "string", json_path = ".spec.subject.risk"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Approved\")].reason"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".spec.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.taskRef.name"
)]
#[x_kube(
    validation = Rule::new("self.taskRef == oldSelf.taskRef && self.step == oldSelf.step && self.attempt == oldSelf.attempt")
        .message("spec.taskRef, spec.step and spec.attempt are immutable"),
    validation = Rule::new("self.digest == oldSelf.digest").message("spec.digest is immutable"),
    validation = Rule::new("self.expiresAt == oldSelf.expiresAt").message("spec.expiresAt is immutable"),
    validation = Rule::new("!has(oldSelf.decisions) || (has(self.decisions) && self.decisions.size() >= oldSelf.decisions.size())")
        .message("spec.decisions is append-only"),
    validation = Rule::new("!has(self.reason) || has(self.approved)")
        .message("spec.reason goes with spec.approved")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalSpec {
    pub task_ref: OwnedReference,
    #[schemars(length(min = 1, max = 63))]
    pub step: String,
    #[schemars(range(min = 1, max = 100))]
    pub attempt: u32,
    /// SHA-256 over RFC 8785 JSON of everything that determines what will run.
    #[schemars(length(min = 71, max = 71))]
    pub digest: String,
    pub subject: Subject,
    /// Without a signature by then the step is rejected.
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
    #[schemars(length(max = 16))]
    pub decisions: Vec<Decision>,
}

/// What will run, in words for the person who signs. The digest covers all of it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    #[schemars(length(max = 63))]
    pub skill: String,
    pub effect: EffectClass,
    pub risk: RiskClass,
    /// The resolved input.
    #[schemars(schema_with = "free_object")]
    pub input: Map<String, Value>,
    /// The image that will run, by digest.
    #[schemars(length(max = 512))]
    pub image: String,
    /// The rules that asked for the signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<RuleReference>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleReference {
    /// `NAMESPACE/POLICY`, or `plan` where the step itself asks.
    #[schemars(length(max = 320))]
    pub policy: String,
    #[schemars(length(max = 63))]
    pub rule: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
}

/// One signature, as the API server saw its author.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    #[schemars(length(max = 512))]
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub uid: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub groups: Vec<String>,
    pub approved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    pub at: Time,
    /// The Approval's digest at that moment.
    #[schemars(length(max = 71))]
    pub digest: String,
}

/// The state is the reason of the condition `Approved`: Pending, Approved, Consumed, Rejected,
/// Expired, Superseded.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
