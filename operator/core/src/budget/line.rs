//! Which limits bear on a Task at one instant.

use countersign_crds::{AgentSpec, Budget, Priority};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::window::{Window, zone};
use crate::agent::ActingAgent;
use crate::money::Money;
use crate::observed::TaskView;
use crate::policy::PolicySet;

/// Whose spending is counted. In the order in which the rows are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// The cluster: all Tasks.
    Cluster,
    /// A namespace: the Tasks in it.
    Namespace,
    /// An Agent: the Tasks that are carried out on its behalf.
    Agent,
    /// A single Task.
    Task,
}

impl Scope {
    /// All of them, in the order in which their rows are locked.
    pub const ALL: [Scope; 4] = [Scope::Cluster, Scope::Namespace, Scope::Agent, Scope::Task];

    /// The variant's name, as JSON, the store and the labels of metrics have it: `Cluster`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Cluster => "Cluster",
            Scope::Namespace => "Namespace",
            Scope::Agent => "Agent",
            Scope::Task => "Task",
        }
    }
}

/// Names one row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineKey {
    /// Whose spending the row counts.
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; a Task's uid.
    pub subject: String,
    /// How long the row counts before the next one begins.
    pub window: Window,
    /// When the window began; the Unix Epoch for `Total`.
    pub starts_at: Timestamp,
}

/// A row, with what it may be filled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Names the row.
    pub key: LineKey,
    /// When the window ends and the next begins; `None` where it never does.
    pub ends_at: Option<Timestamp>,
    /// The lowest of the limits that are set on it; it is only counted where there is none.
    pub limit: Option<Money>,
    /// What this work may fill it to: the limit, less what low priority leaves to the rest.
    pub cap: Option<Money>,
}

/// All that bears on a Task at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Sorted by key, each once.
    pub lines: Vec<Line>,
    /// The most that one attempt may cost, and who says so.
    pub per_attempt: Option<(Money, String)>,
    /// A budget that cannot be read: then nothing that has a price fits.
    pub unreadable: Option<String>,
    /// How urgent the work is, which says whether it may fill a row up to its limit.
    pub priority: Priority,
}

impl Budgets {
    /// The limits of the Task itself, of its Agent, of its namespace and of the cluster.
    pub fn of(now: Timestamp, task: &TaskView, agent: Option<&ActingAgent>, policies: &PolicySet) -> Budgets {
        let priority = super::priority(task.spec.priority, agent.map(|agent| agent.spec.priority));
        let mut budgets = Budgets { priority, ..Budgets::default() };
        budgets.count(now, Scope::Task, &task.uid, Window::Total, "UTC");
        if let Some(text) = &task.spec.budget {
            match text.parse() {
                Ok(limit) => budgets.limit(now, Scope::Task, &task.uid, Window::Total, "UTC", limit, 0),
                Err(error) => budgets.unreadable = Some(format!("the Task's budget: {error}")),
            }
        }
        if let Some(ActingAgent { namespace, name, spec }) = agent {
            budgets.add_agent(now, namespace, name, spec);
        }
        for (name, budget) in policies.budgets(&task.namespace) {
            let name = format!("the Policy {name}");
            if let Some(of_cluster) = &budget.cluster {
                budgets.add(now, Scope::Cluster, "", of_cluster, &name);
            }
            if let Some(of_namespace) = &budget.namespace {
                budgets.add(now, Scope::Namespace, &task.namespace, of_namespace, &name);
            }
        }
        budgets.lines.sort_by(|a, b| a.key.cmp(&b.key));
        budgets
    }

    /// The limits of an Agent alone.
    pub fn of_agent(now: Timestamp, namespace: &str, name: &str, agent: &AgentSpec) -> Budgets {
        let mut budgets = Budgets { priority: agent.priority, ..Budgets::default() };
        budgets.add_agent(now, namespace, name, agent);
        budgets
    }

    fn add_agent(&mut self, now: Timestamp, namespace: &str, name: &str, agent: &AgentSpec) {
        let subject = format!("{namespace}/{name}");
        // Its day is counted in any case, for its status.
        let zone = agent.budget.as_ref().map_or("UTC", |budget| budget.time_zone.as_str());
        self.count(now, Scope::Agent, &subject, Window::Day, zone);
        if let Some(budget) = &agent.budget {
            self.add(now, Scope::Agent, &subject, budget, &format!("the Agent {name}"));
        }
    }

    /// Whether anything is limited.
    pub fn bind(&self) -> bool {
        self.per_attempt.is_some() || self.unreadable.is_some() || self.lines.iter().any(|line| line.limit.is_some())
    }

    fn add(&mut self, now: Timestamp, scope: Scope, subject: &str, budget: &Budget, name: &str) {
        let Budget { per_attempt, hourly, daily, monthly, total, time_zone, floor_percent } = budget;
        let mut unreadable =
            |field: &str, why: String| self.unreadable = Some(format!("{name}: budget.{field}: {why}"));
        if let Err(error) = zone(time_zone) {
            return unreadable("timeZone", error.to_string());
        }
        let amounts = [
            ("hourly", Some(Window::Hour), hourly),
            ("daily", Some(Window::Day), daily),
            ("monthly", Some(Window::Month), monthly),
            ("total", Some(Window::Total), total),
            ("perAttempt", None, per_attempt),
        ];
        for (field, window, text) in amounts {
            let Some(text) = text else { continue };
            let amount: Money = match text.parse() {
                Ok(amount) => amount,
                Err(error) => {
                    self.unreadable = Some(format!("{name}: budget.{field}: {error}"));
                    continue;
                }
            };
            match window {
                Some(window) => self.limit(now, scope, subject, window, time_zone, amount, *floor_percent),
                None if self.per_attempt.as_ref().is_none_or(|(least, _)| amount < *least) => {
                    self.per_attempt = Some((amount, name.to_owned()));
                }
                None => {}
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one limit")]
    fn limit(
        &mut self,
        now: Timestamp,
        scope: Scope,
        subject: &str,
        window: Window,
        zone: &str,
        limit: Money,
        floor_percent: u32,
    ) {
        let cap = if self.priority == Priority::Low { limit.less_percent(floor_percent) } else { limit };
        let Some(line) = self.count(now, scope, subject, window, zone) else { return };
        line.limit = Some(line.limit.map_or(limit, |other| other.min(limit)));
        line.cap = Some(line.cap.map_or(cap, |other| other.min(cap)));
    }

    /// The row of a window, made where it is not there.
    fn count(&mut self, now: Timestamp, scope: Scope, subject: &str, window: Window, name: &str) -> Option<&mut Line> {
        let Some(span) = zone(name).ok().and_then(|zone| window.span(now, &zone)) else {
            self.unreadable = Some(format!("no {} of {name} holds {now}", window.as_str()));
            return None;
        };
        let key = LineKey { scope, subject: subject.to_owned(), window, starts_at: span.starts_at };
        let at = self.lines.iter().position(|line| line.key == key).unwrap_or_else(|| {
            self.lines.push(Line { key, ends_at: span.ends_at, limit: None, cap: None });
            self.lines.len() - 1
        });
        self.lines.get_mut(at)
    }
}
