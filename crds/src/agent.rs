//! Agent: an identity that Tasks act for, and what it may do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::{Budget, WindowStatus};
use crate::meta::{Priority, RbacSubject, conditions};

/// What the Tasks of an Agent may do and spend, how urgent they are, and who answers for it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Agent",
    namespaced,
    status = "AgentStatus",
    derive = "PartialEq",
    shortname = "cagent",
    category = "countersign",
    doc = "An identity that Tasks act for: its priority, the skills it may use, what it may spend, and a pause.",
    printcolumn(name = "Priority", type_ = "string", json_path = ".spec.priority"),
    printcolumn(name = "Daily", type_ = "string", json_path = ".status.today.limit"),
    printcolumn(name = "Spent", type_ = "string", json_path = ".status.today.spent"),
    printcolumn(name = "Held", type_ = "string", json_path = ".status.today.held"),
    printcolumn(name = "Remaining", type_ = "string", json_path = ".status.today.remaining"),
    printcolumn(
        name = "Budget",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"WithinBudget\")].reason"
    ),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSpec {
    /// What the Agent is for, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// How urgent its work is. A Task of its own may say less, never more.
    #[serde(default)]
    pub priority: Priority,
    /// The only Skills that its Tasks may use.
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub allowed_skills: Vec<String>,
    /// Whose Tasks are this Agent's, in every namespace and whether they say so or not. Setting or changing it takes the
    /// verb `bind` on `agents` in all namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub subjects: Vec<RbacSubject>,
    /// Who answers for it: they never sign for what its Tasks ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub owners: Vec<RbacSubject>,
    /// While true nothing new starts for its Tasks; what runs goes on.
    #[serde(default)]
    pub suspend: bool,
    /// What its Tasks may spend, all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// How its budget stands. The condition `WithinBudget` is False once a limit is used up; its reason says how far the
/// window that is used up most has come: `Plenty`, `Half`, `Scarce` (80 percent) or `Exhausted`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The Agent's `metadata.generation` that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `WithinBudget` where the Agent has a limit: Unknown, with the reason `Unreadable`, while its budget cannot be
    /// read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The hour of UTC that is under way; left out where the budget sets no `hourly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<WindowStatus>,
    /// Of the budget's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub today: Option<WindowStatus>,
    /// The calendar month of the budget's time zone that is under way; left out where the budget sets no `monthly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<WindowStatus>,
    /// All time since the budget first set `total`; left out where it sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<WindowStatus>,
}
