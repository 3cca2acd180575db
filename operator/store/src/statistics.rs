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
    Agent,
    Skill,
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// A day, a Skill, a namespace; of an Agent `NAMESPACE/AGENT`, and `NAMESPACE/` of what was for none.
    pub key: String,
    pub spent: Money,
    pub attempts: i64,
    /// Attempts that cost more than was reserved for them.
    pub overruns: i64,
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendCursor {
    pub spent: Money,
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decisions {
    pub day: Date,
    pub namespace: String,
    pub agent: Option<String>,
    pub priority: Priority,
    pub verdict: BudgetVerdict,
    pub decisions: i64,
    /// What was asked for, all together.
    pub amount: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionsCursor {
    pub day: Date,
    pub namespace: String,
    pub agent: Option<String>,
    pub priority: Priority,
    pub verdict: BudgetVerdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    pub namespace: String,
    pub agent: Option<String>,
    /// Of the step.
    pub outcome: String,
    pub reason: String,
    pub count: i64,
    pub last_seen: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCursor {
    pub count: i64,
    pub namespace: String,
    pub agent: Option<String>,
    pub outcome: String,
    pub reason: String,
}

/// Which windows of budgets; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetFilter {
    pub namespace: Option<String>,
    pub scope: Option<Scope>,
    pub window: Option<Window>,
    /// Whether it can still be spent from.
    pub current: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetRow {
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; a Task's uid.
    pub subject: String,
    pub namespace: Option<String>,
    /// Of the Agent or the Task.
    pub name: Option<String>,
    pub window: Window,
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    pub current: bool,
    pub limit: Option<Money>,
    pub spent: Money,
    pub held: Money,
    pub left: Option<Money>,
    pub percent: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetCursor {
    pub starts_at: Timestamp,
    pub scope: Scope,
    pub subject: String,
    pub window: Window,
}

impl Store {
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
                day: row.day.parse().map_err(|error| StoreError::Corrupt(format!("{:?}: {error}", row.day)))?,
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
