//! Agent: an identity that Tasks act for, and what it may do.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::meta::Priority;

#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Agent",
    namespaced,
    derive = "PartialEq",
    shortname = "cagent",
    category = "countersign",
    doc = "An identity that Tasks act for: its priority, the skills it may use, and a pause.",
    printcolumn(name = "Priority", type_ = "string", json_path = ".spec.priority"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    #[serde(default)]
    pub priority: Priority,
    /// The only Skills that its Tasks may use.
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub allowed_skills: Vec<String>,
    /// While true nothing new starts for its Tasks; what runs goes on.
    #[serde(default)]
    pub suspend: bool,
}
