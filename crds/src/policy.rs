//! Policy: rules in CEL. In the operator's namespace it binds the cluster; elsewhere it can only tighten.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::PolicyBudget;
use crate::egress::EgressLimit;
use crate::meta::{RiskClass, duration};

/// Rules that judge steps, and limits on where Skills may go and what may be spent.
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
#[x_kube(validation = Rule::new("(has(self.rules) && self.rules.size() > 0) || has(self.egress) || has(self.budget)")
    .message("a Policy says something: set spec.rules, spec.egress or spec.budget"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// Whether the Policy binds, or is only tried out; Enforce where left out.
    #[serde(default)]
    pub mode: PolicyMode,
    /// Rules that judge every step in the namespaces that the Policy binds, each under a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rules")]
    pub rules: Vec<Rule>,
    /// Where Skills may go at most, whatever they list themselves; no limit where left out, nowhere where empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub egress: Option<Vec<EgressLimit>>,
    /// What may be spent, whoever spends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<PolicyBudget>,
}

fn rules(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<Rule>();
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

/// Whether a Policy binds.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PolicyMode {
    /// Its rules, limits of egress and budgets bind.
    #[default]
    Enforce,
    /// The record says what the rules would have done; nothing of it binds.
    Audit,
}

/// Which steps a rule is about, and what it asks for them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.approval) || self.effect == 'RequireApproval'")
    .message("approval goes with effect RequireApproval; change the effect or leave approval out"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// By which the record, Approvals and people name the rule.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A CEL expression of type Bool over `task`, `step`, `skill`, `agent`, `cost`, `request`.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 1024))]
    pub matches: String,
    /// What is to become of a step that matches.
    pub effect: Effect,
    /// The risk of what matches; the highest of all that matched counts.
    #[serde(default)]
    pub risk: RiskClass,
    /// What people are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub message: Option<String>,
    /// Which signatures it takes, with effect RequireApproval; where left out, that of one person beside the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRequirement>,
}

/// In the order of their force: the strongest effect that matched decides.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The step may run.
    Allow,
    /// The Skill that the step's own names as `downgradeTo` takes its place; without one the step is rejected.
    Downgrade,
    /// The step may run once it is signed for.
    RequireApproval,
    /// The step is rejected, whatever any other rule says.
    Deny,
}

/// What a signature takes. Where several rules ask for one: the highest count, all of their groups, only the
/// service accounts that each of them lists, the earliest expiry, and `Plan` only where each of them says so.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalRequirement {
    /// How many different people must approve. The requester never counts.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub count: u32,
    /// Groups of which each must be represented among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 256)))]
    pub groups: Vec<String>,
    /// Service accounts, as `NAMESPACE/NAME`, whose signature counts. People need not be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 10),
        inner(
            length(min = 3, max = 317),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
        )
    )]
    pub service_accounts: Vec<String>,
    /// `Plan`: one signature may be for all steps of a Plan whose input is known.
    #[serde(default)]
    pub scope: ApprovalScope,
    /// An Approval that lacks signatures for this long is rejected; 24h where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub expires_after: Option<String>,
}

fn one() -> u32 {
    1
}

/// What one signature is for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ApprovalScope {
    /// One attempt at one step.
    #[default]
    Step,
    /// Every step of the Plan that asks for a signature and whose input is already known.
    Plan,
}
