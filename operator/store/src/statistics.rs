//! What was spent, decided and given as a reason: the views of the same names, added up as it is asked for. Pages are by
//! key, as those of Tasks are; where a page is ordered by an amount, a row whose amount changes meanwhile may move.

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use countersign_crds::{BudgetVerdict, Priority};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::StoreError;
use crate::ledger::{amount, money};
use crate::values::{from_name, micros, named, timestamp};

/// Which days, of UTC, and of which namespace; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// The namespace of the Tasks.
    pub namespace: Option<String>,
    /// The first day.
    pub since: Option<Date>,
    /// The day after the last one.
    pub until: Option<Date>,
}

/// What spending is added up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpendBy {
    /// The newest first; by the others, whatever spent most.
    #[default]
    Day,
    /// By the name in the Task's `spec.agentRef`, together with the Task's namespace.
    Agent,
    /// By the Skill that ran.
    Skill,
    /// By the Task's namespace.
    Namespace,
}

impl SpendBy {
    fn as_str(self) -> &'static str {
        match self {
            SpendBy::Day => "day",
            SpendBy::Agent => "agent",
            SpendBy::Skill => "skill",
            SpendBy::Namespace => "namespace",
        }
    }
}

/// What was spent under one key, and by how many attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// A day, a Skill, a namespace; of an Agent `NAMESPACE/AGENT`, and `NAMESPACE/` of what was for none.
    pub key: String,
    /// What settled attempts cost, in millionths of the currency; a sum beyond what can be kept shows the most that
    /// can.
    pub spent: Money,
    /// Attempts that cost something.
    pub attempts: i64,
    /// Attempts that cost more than was reserved for them.
    pub overruns: i64,
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendCursor {
    /// What was spent under the key of the page's last row.
    pub spent: Money,
    /// That key.
    pub key: String,
}

/// How often one verdict was given on prices in a day, for one namespace, Agent and priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decisions {
    /// The day, of UTC, on which it was decided.
    pub day: Date,
    /// The Task's namespace.
    pub namespace: String,
    /// The name in the Task's `spec.agentRef`; `None` where it has no Agent.
    pub agent: Option<String>,
    /// The priority that counted for the Task.
    pub priority: Priority,
    /// What was decided about the price.
    pub verdict: BudgetVerdict,
    /// How often that was.
    pub decisions: i64,
    /// What was asked for, all together.
    pub amount: Money,
}

/// Where a page of decisions ended: the key of its last row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionsCursor {
    /// The day, of UTC, on which it was decided.
    pub day: Date,
    /// The Task's namespace.
    pub namespace: String,
    /// The name in the Task's `spec.agentRef`; `None` where it has no Agent.
    pub agent: Option<String>,
    /// The priority that counted for the Task.
    pub priority: Priority,
    /// What was decided about the price.
    pub verdict: BudgetVerdict,
}

/// How often steps ended for one reason, in one namespace and for one Agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// The Task's namespace.
    pub namespace: String,
    /// The name in the Task's `spec.agentRef`; `None` where it has no Agent.
    pub agent: Option<String>,
    /// Of the step.
    pub outcome: String,
    /// Why the steps ended so, in one CamelCase word.
    pub reason: String,
    /// How many steps did.
    pub count: i64,
    /// When the last of them ended.
    pub last_seen: Timestamp,
}

/// Where a page of reasons ended: the key of its last row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCursor {
    /// How many steps ended so.
    pub count: i64,
    /// The Task's namespace.
    pub namespace: String,
    /// The name in the Task's `spec.agentRef`; `None` where it has no Agent.
    pub agent: Option<String>,
    /// What became of the steps.
    pub outcome: String,
    /// Why they ended so, in one CamelCase word.
    pub reason: String,
}

/// Which windows of budgets; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetFilter {
    /// The namespace itself, its Agents and its Tasks; the cluster's own is in none.
    pub namespace: Option<String>,
    /// Whose budgets.
    pub scope: Option<Scope>,
    /// How long the windows are.
    pub window: Option<Window>,
    /// Whether it can still be spent from.
    pub current: Option<bool>,
}

/// One window of one budget, as it stands or as it ended. Amounts are in millionths of the currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetRow {
    /// Whose budget it is.
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; a Task's uid.
    pub subject: String,
    /// The namespace that the subject is or is in; `None` for the cluster.
    pub namespace: Option<String>,
    /// Of the Agent or the Task.
    pub name: Option<String>,
    /// How long the window is.
    pub window: Window,
    /// When the window began; of one that never ends, the beginning of 1970.
    pub starts_at: Timestamp,
    /// When it ends; `None` where it never does.
    pub ends_at: Option<Timestamp>,
    /// Whether it can still be spent from: the window goes on, and so does the Task.
    pub current: bool,
    /// The limit as it was when it was last reserved from; `None` where spending is only counted.
    pub limit: Option<Money>,
    /// What settled attempts cost.
    pub spent: Money,
    /// Reserved for what is under way, or whose end is not known.
    pub held: Money,
    /// What the limit leaves, never below 0; `None` where there is no limit.
    pub left: Option<Money>,
    /// Of the limit, spent or held, above 100 after an overrun; `None` where there is no limit, or one of 0.
    pub percent: Option<i32>,
}

/// Where a page of budgets ended: the key of its last row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetCursor {
    /// When that window began.
    pub starts_at: Timestamp,
    /// Whose budget it is.
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; a Task's uid.
    pub subject: String,
    /// How long that window is.
    pub window: Window,
}

impl Store {
    /// What was spent, added up: by day the newest first, else whatever spent most.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or holds what is no amount.
    pub async fn spend(
        &self,
        by: SpendBy,
        period: &Period,
        after: Option<&SpendCursor>,
        limit: i64,
    ) -> Result<Vec<Spend>, StoreError> {
        let Period { namespace, since, until } = period;
        let rows = sqlx::query!(
            r#"select key as "key!", spent as "spent!", attempts as "attempts!", overruns as "overruns!"
               from (
                   select case $1::text when 'day' then day::text when 'skill' then skill when 'namespace' then namespace
                               else namespace || '/' || coalesce(agent, '') end as key,
                          least(sum(spent), 9223372036854775807)::bigint as spent,
                          sum(attempts)::bigint as attempts, sum(overruns)::bigint as overruns
                   from spend_by_day
                   where ($2::text is null or namespace = $2)
                     and ($3::text is null or day >= $3::text::date) and ($4::text is null or day < $4::text::date)
                   group by 1) as added
               where $5::text is null
                  or (case when $1 = 'day' then 0 else spent end, key) < (case when $1 = 'day' then 0 else $6::bigint end, $5)
               order by case when $1 = 'day' then 0 else spent end desc, key desc limit $7"#,
            by.as_str(),
            namespace.as_deref(),
            since.map(|day| day.to_string()),
            until.map(|day| day.to_string()),
            after.map(|cursor| cursor.key.as_str()),
            after.map(|cursor| amount(cursor.spent)).transpose()?,
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| {
            Ok(Spend { key: row.key, spent: money(row.spent)?, attempts: row.attempts, overruns: row.overruns })
        })
        .collect()
    }

    /// The newest day first.
    pub async fn decisions(
        &self,
        period: &Period,
        after: Option<&DecisionsCursor>,
        limit: i64,
    ) -> Result<Vec<Decisions>, StoreError> {
        let Period { namespace, since, until } = period;
        let rows = sqlx::query!(
            r#"select day::text as "day!", namespace as "namespace!", agent, priority as "priority!",
                verdict as "verdict!", decisions as "decisions!", amount as "amount!"
               from decisions_by_kind
               where ($1::text is null or namespace = $1)
                 and ($2::text is null or day >= $2::text::date) and ($3::text is null or day < $3::text::date)
                 and ($4::text is null or (day, namespace, coalesce(agent, ''), priority, verdict)
                                          < ($4::text::date, $5::text, coalesce($6::text, ''), $7::text, $8::text))
               order by day desc, namespace desc, coalesce(agent, '') desc, priority desc, verdict desc limit $9"#,
            namespace.as_deref(),
            since.map(|day| day.to_string()),
            until.map(|day| day.to_string()),
            after.map(|cursor| cursor.day.to_string()),
            after.map(|cursor| cursor.namespace.as_str()),
            after.and_then(|cursor| cursor.agent.as_deref()),
            after.map(|cursor| named(&cursor.priority)).transpose()?,
            after.map(|cursor| named(&cursor.verdict)).transpose()?,
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(Decisions {
                day: row.day.parse().map_err(|error| StoreError::Corrupt(format!("{:?}: {error}", row.day).into()))?,
                namespace: row.namespace,
                agent: row.agent,
                priority: from_name(&row.priority)?,
                verdict: from_name(&row.verdict)?,
                decisions: row.decisions,
                amount: money(row.amount)?,
            })
        });
        rows.collect()
    }

    /// The most frequent first.
    pub async fn reasons(
        &self,
        namespace: Option<&str>,
        after: Option<&ReasonCursor>,
        limit: i64,
    ) -> Result<Vec<Reason>, StoreError> {
        let rows = sqlx::query!(
            r#"select namespace as "namespace!", agent, outcome as "outcome!", reason as "reason!", count as "count!",
                (extract(epoch from last_seen) * 1000000)::bigint as "last_seen!"
               from step_reasons
               where ($1::text is null or namespace = $1)
                 and ($2::bigint is null or (count, namespace, coalesce(agent, ''), outcome, reason)
                                            < ($2, $3::text, coalesce($4::text, ''), $5::text, $6::text))
               order by count desc, namespace desc, coalesce(agent, '') desc, outcome desc, reason desc limit $7"#,
            namespace,
            after.map(|cursor| cursor.count),
            after.map(|cursor| cursor.namespace.as_str()),
            after.and_then(|cursor| cursor.agent.as_deref()),
            after.map(|cursor| cursor.outcome.as_str()),
            after.map(|cursor| cursor.reason.as_str()),
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(Reason {
                namespace: row.namespace,
                agent: row.agent,
                outcome: row.outcome,
                reason: row.reason,
                count: row.count,
                last_seen: timestamp(row.last_seen)?,
            })
        });
        rows.collect()
    }

    /// The window that began last first.
    pub async fn budgets(
        &self,
        filter: &BudgetFilter,
        after: Option<&BudgetCursor>,
        limit: i64,
    ) -> Result<Vec<BudgetRow>, StoreError> {
        let BudgetFilter { namespace, scope, window, current } = filter;
        let rows = sqlx::query!(
            r#"select scope as "scope!", subject as "subject!", namespace, name, "window" as "window!",
                (extract(epoch from starts_at) * 1000000)::bigint as "starts_at!",
                (extract(epoch from ends_at) * 1000000)::bigint as ends_at, current as "current!",
                "limit", spent as "spent!", held as "held!", "left", percent
               from budget_overview
               where ($1::text is null or namespace = $1) and ($2::text is null or scope = $2)
                 and ($3::text is null or "window" = $3) and ($4::boolean is null or current = $4)
                 and ($5::bigint is null or (starts_at, scope, subject, "window")
                                            < (to_timestamp($5 / 1000000.0), $6::text, $7::text, $8::text))
               order by starts_at desc, scope desc, subject desc, "window" desc limit $9"#,
            namespace.as_deref(),
            scope.map(Scope::as_str),
            window.map(Window::as_str),
            *current,
            after.map(|cursor| micros(cursor.starts_at)),
            after.map(|cursor| cursor.scope.as_str()),
            after.map(|cursor| cursor.subject.as_str()),
            after.map(|cursor| cursor.window.as_str()),
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(BudgetRow {
                scope: from_name(&row.scope)?,
                subject: row.subject,
                namespace: row.namespace,
                name: row.name,
                window: from_name(&row.window)?,
                starts_at: timestamp(row.starts_at)?,
                ends_at: row.ends_at.map(timestamp).transpose()?,
                current: row.current,
                limit: row.limit.map(money).transpose()?,
                spent: money(row.spent)?,
                held: money(row.held)?,
                left: row.left.map(money).transpose()?,
                percent: row.percent,
            })
        });
        rows.collect()
    }
}
