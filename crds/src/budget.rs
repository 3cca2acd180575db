//! Budgets: how much may be spent, by whom and when. Amounts are decimal strings with at most six places, in the one
//! currency of the installation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::egress::money;

/// Every limit that is set binds; one that is left out does not.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.perAttempt) || has(self.hourly) || has(self.daily) || has(self.monthly) || has(self.total)")
    .message("a budget limits something: set perAttempt, hourly, daily, monthly or total"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// The most that one attempt at one step may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub per_attempt: Option<String>,
    /// In each hour of UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub hourly: Option<String>,
    /// In each day of the time zone, from midnight to midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub daily: Option<String>,
    /// In each calendar month of the time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub monthly: Option<String>,
    /// For good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "money")]
    pub total: Option<String>,
    /// Where its days begin: a name of the IANA time zone database, such as `Europe/Zurich`.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
    /// Of each limit, the part that work of priority Low leaves to the rest.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 100))]
    pub floor_percent: u32,
}

/// What a Policy limits.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.cluster) || has(self.namespace)")
    .message("a budget is of something: set cluster or namespace"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyBudget {
    /// Of everything that runs; only in the operator's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Budget>,
    /// Of each namespace that the Policy binds, for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Budget>,
}

/// What was decided about the price of a step.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BudgetVerdict {
    /// It fits, and its most is reserved.
    Allowed,
    /// It did not fit, and the Skill that its own is downgraded to does.
    Downgraded,
    /// It does not fit now, and may in the next window.
    Deferred,
    /// It does not fit, and is not to wait.
    Rejected,
}

impl BudgetVerdict {
    /// Every verdict that there is.
    pub const ALL: [BudgetVerdict; 4] =
        [BudgetVerdict::Allowed, BudgetVerdict::Downgraded, BudgetVerdict::Deferred, BudgetVerdict::Rejected];

    /// The verdict as statuses, the record and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetVerdict::Allowed => "Allowed",
            BudgetVerdict::Downgraded => "Downgraded",
            BudgetVerdict::Deferred => "Deferred",
            BudgetVerdict::Rejected => "Rejected",
        }
    }
}

/// What a Task has cost.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CostStatus {
    /// What its settled attempts cost: a decimal string with at most six places.
    #[schemars(length(max = 24))]
    pub spent: String,
    /// Reserved for what is under way, or whose end is not known.
    #[schemars(length(max = 24))]
    pub held: String,
    /// Of all its steps, the decision that kept it back most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<BudgetVerdict>,
}

/// How a window of an Agent's budget stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WindowStatus {
    /// Left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub limit: Option<String>,
    /// What settled attempts cost in this window: a decimal string with at most six places.
    #[schemars(length(max = 24))]
    pub spent: String,
    /// Reserved for what is under way, or whose end is not known.
    #[schemars(length(max = 24))]
    pub held: String,
    /// What the limit leaves after `spent` and `held`, never below 0; left out where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub remaining: Option<String>,
    /// When the next one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Time>,
}

fn utc() -> String {
    "UTC".into()
}

fn is_utc(zone: &str) -> bool {
    zone == "UTC"
}

fn is_zero(percent: &u32) -> bool {
    *percent == 0
}
