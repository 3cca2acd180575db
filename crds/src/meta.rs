//! What several kinds share: references, priorities, and the schemas of free JSON and conditions.

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Names an object in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalReference {
    /// The `metadata.name` of the object that is meant.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names one incarnation of an object in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnedReference {
    /// The `metadata.name` of the object that is meant.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its `metadata.uid`, which no later object of the same name has.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// Somebody, as the API server saw them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// The user's name as the API server authenticated it, such as `system:serviceaccount:NAMESPACE:NAME`.
    #[schemars(length(min = 1, max = 512))]
    pub user: String,
    /// The user's uid; left out where the authenticator of the API server gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub uid: Option<String>,
    /// Every group that they were in; whoever is in more than can be kept is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = GROUPS), inner(length(max = GROUP_BYTES)))]
    pub groups: Vec<String>,
}

/// Names an Agent; without a namespace, one in that of whoever names it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentReference {
    /// The `metadata.name` of the Agent.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Agent's namespace; that of whoever names it where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

impl AgentReference {
    /// The right to name it, as access reviews ask for it; `from` is the namespace that the reference stands in.
    pub fn use_right(&self, from: &str) -> ResourceAttributes {
        ResourceAttributes {
            group: Some(crate::GROUP.to_owned()),
            resource: Some("agents".to_owned()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.as_deref().unwrap_or(from).to_owned()),
            verb: Some("use".to_owned()),
            ..ResourceAttributes::default()
        }
    }
}

/// One or many users, named as RBAC names the subjects of a binding.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[x_kube(
    validation = Rule::new("has(self.namespace) == (self.kind == 'ServiceAccount')")
        .message("a ServiceAccount has a namespace, a User and a Group have none"),
    validation = Rule::new("self.kind != 'Group' || !self.name.startsWith('system:')")
        .message("groups of the API server hold whoever comes to be in them; name users, service accounts or a group of your own")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RbacSubject {
    /// Whether a user, a group or a service account is named.
    pub kind: SubjectKind,
    /// The name as RBAC knows it; of a service account without its namespace.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// Of a ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

impl std::fmt::Display for RbacSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RbacSubject { kind, name, namespace } = self;
        match kind {
            SubjectKind::User => f.write_str(name),
            SubjectKind::Group => write!(f, "the group {name}"),
            SubjectKind::ServiceAccount => {
                write!(f, "the service account {}/{name}", namespace.as_deref().unwrap_or_default())
            }
        }
    }
}

/// What an [`RbacSubject`] names.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectKind {
    /// One user, by the name that the API server knows.
    User,
    /// Everybody in a group.
    Group,
    /// One service account, by its namespace and its name.
    ServiceAccount,
}

impl RbacSubject {
    /// The user of this name.
    pub fn user(name: &str) -> RbacSubject {
        RbacSubject { kind: SubjectKind::User, name: name.to_owned(), namespace: None }
    }

    /// Whether it names this user, who is in these groups.
    pub fn includes(&self, user: &str, groups: &[String]) -> bool {
        let RbacSubject { kind, name, namespace } = self;
        match kind {
            SubjectKind::User => user == name,
            SubjectKind::Group => groups.contains(name),
            SubjectKind::ServiceAccount => {
                let account = user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
                account.is_some_and(|account| Some(account.0) == namespace.as_deref() && account.1 == name)
            }
        }
    }
}

/// How many groups of a person are kept.
pub const GROUPS: usize = 512;
/// The longest name of a group that is kept, in bytes.
pub const GROUP_BYTES: usize = 512;
/// The most that the names of a person's groups may take together, in bytes: an object holds them beside its content.
pub const GROUPS_BYTES: usize = 64 * 1024;

/// How urgent work is; Policy sees it as `task.priority`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Priority {
    /// What can wait: the part of a budget that `floorPercent` sets aside is not for it.
    Low,
    /// As urgent as most work; the most that a Task without an Agent may be.
    #[default]
    Normal,
    /// The most urgent; only for Tasks of an Agent of this priority.
    High,
}

/// How much harm a step could do, as a Policy rule judges it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RiskClass {
    /// Little harm; what counts where no rule says otherwise. Signing takes `approve` on `riskclasses/low`.
    #[default]
    Low,
    /// More harm than Low. Signing takes `approve` on `riskclasses/medium`.
    Medium,
    /// The most harm. Signing takes `approve` on `riskclasses/high`.
    High,
}

impl Priority {
    /// The priority as kinds, rules and the record write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Low => "Low",
            Priority::Normal => "Normal",
            Priority::High => "High",
        }
    }
}

impl RiskClass {
    /// The class as kinds, rules and the record write it.
    pub fn as_str(self) -> &'static str {
        match self {
            RiskClass::Low => "Low",
            RiskClass::Medium => "Medium",
            RiskClass::High => "High",
        }
    }

    /// The right to sign for it in a namespace, as access reviews ask for it.
    pub fn approval_right(self, namespace: &str) -> ResourceAttributes {
        ResourceAttributes {
            group: Some(crate::GROUP.to_owned()),
            resource: Some("riskclasses".to_owned()),
            name: Some(self.resource_name().to_owned()),
            namespace: Some(namespace.to_owned()),
            verb: Some("approve".to_owned()),
            ..ResourceAttributes::default()
        }
    }

    /// The name under which RBAC knows it: `riskclasses/NAME`.
    pub fn resource_name(self) -> &'static str {
        match self {
            RiskClass::Low => "low",
            RiskClass::Medium => "medium",
            RiskClass::High => "high",
        }
    }
}

/// A JSON object whose keys are the user's own; the admission webhook bounds its bytes.
pub(crate) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Conditions merge by `type`, so that other writers may add theirs under server-side apply.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item = Condition::json_schema(generator);
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// A `metav1.Duration`: Go's notation, such as `90s` or `1h30m`.
pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$",
    })
}
