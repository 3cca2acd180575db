//! Policy: rules in CEL. In the operator's namespace it binds the cluster; elsewhere it can only tighten.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::{RiskClass, duration};

#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Policy",
    namespaced,
    derive = "PartialEq",
    plural = "policies",
    shortname = "cpol",
    category = "countersign",
    doc = "Rules that judge every step: Deny > RequireApproval > Downgrade > Allow; no match denies.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    #[serde(default)]
    pub mode: PolicyMode,
    #[schemars(schema_with = "rules")]
    pub rules: Vec<Rule>,
}

fn rules(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<Rule>();
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 64,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PolicyMode {
    /// The rules bind.
    #[default]
    Enforce,
    /// The record says what the rules would have done; they bind nothing.
    Audit,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.approval) || self.effect == 'RequireApproval'")
    .message("approval goes with effect RequireApproval; change the effect or leave approval out"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A CEL expression of type Bool over `task`, `step`, `skill`, `agent`, `namespace`.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 1024))]
    pub matches: String,
    pub effect: Effect,
    /// The risk of what matches; the highest of all that matched counts.
    #[serde(default)]
    pub risk: RiskClass,
    /// What people are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRequirement>,
}

/// In the order of their force: the strongest effect that matched decides.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    Allow,
    Downgrade,
    RequireApproval,
    Deny,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalRequirement {
    /// An Approval that nobody signed for this long is rejected; 24h where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub expires_after: Option<String>,
}
