//! Budget alerts: the leader tells of each by an Event, and the broker empties the outbox. Whoever takes an alert has it
//! for a while, by PostgreSQL's clock: no row is locked meanwhile, and one whose broker went away is taken again.

use std::time::Duration;

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use jiff::Timestamp;

use crate::Store;
use crate::error::StoreError;
use crate::ledger::money;
use crate::values::{count, from_name, kept_error, timestamp};

/// That a budget was used up to so many percent, to be delivered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The id of the row in `alerts`.
    pub id: i64,
    /// When the budget came to be used up so far.
    pub at: Timestamp,
    /// Of the limit, spent or held: 50, 80 or 100.
    pub percent: u8,
    /// Whose budget it is.
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; a Task's uid.
    pub subject: String,
    /// How long the budget's window is.
    pub window: Window,
    /// When the window began.
    pub starts_at: Timestamp,
    /// When it ends; `None` where it never does.
    pub ends_at: Option<Timestamp>,
    /// As they were then.
    pub limit: Money,
    /// What settled attempts had cost, in millionths of the currency.
    pub spent: Money,
    /// What was reserved, in millionths of the currency.
    pub held: Money,
    /// Which try this is.
    pub attempt: u32,
}

/// An alert that no Event in the cluster announces yet. Amounts are in millionths of the installation's currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnannouncedAlert {
    /// The id of the row in `alerts`.
    pub id: i64,
    /// Whose budget it is.
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; a Task's uid.
    pub subject: String,
    /// How long the budget's window is.
    pub window: Window,
    /// Of the limit, spent or held: 50, 80 or 100.
    pub percent: i16,
    /// As they were then.
    pub limit: Money,
    /// What settled attempts had cost.
    pub spent: Money,
    /// What was reserved.
    pub held: Money,
    /// Where the subject is a Task: its namespace and name.
    pub task: Option<(String, String)>,
}

/// How the outbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Not delivered yet, and not given up.
    pub due: i64,
    /// Given up.
    pub dead: i64,
}

impl Store {
    /// Takes alerts that are due, the one that has waited longest first. Nobody else takes them for as long as `lease`.
    pub async fn take_alerts(&self, lease: Duration, most: i64) -> Result<Vec<Alert>, StoreError> {
        let rows = sqlx::query!(
            r#"with due as (
                   select id from alerts where delivered_at is null and dead_at is null and next_try <= now()
                   order by next_try, id limit $1 for update skip locked)
               update alerts a set tries = a.tries + 1, next_try = now() + make_interval(secs => $2)
               from due, budgets b where a.id = due.id and b.id = a.budget
               returning a.id, (extract(epoch from a.at) * 1000000)::bigint as "at!", a.percent, b.scope, b.subject,
                   b."window", (extract(epoch from b.starts_at) * 1000000)::bigint as "starts_at!",
                   (extract(epoch from b.ends_at) * 1000000)::bigint as ends_at,
                   a."limit", a.spent, a.held, a.tries"#,
            most,
            lease.as_secs_f64()
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(Alert {
                id: row.id,
                at: timestamp(row.at)?,
                percent: u8::try_from(row.percent).map_err(|error| StoreError::Corrupt(error.into()))?,
                scope: from_name(&row.scope)?,
                subject: row.subject,
                window: from_name(&row.window)?,
                starts_at: timestamp(row.starts_at)?,
                ends_at: row.ends_at.map(timestamp).transpose()?,
                limit: money(row.limit)?,
                spent: money(row.spent)?,
                held: money(row.held)?,
                attempt: count(row.tries)?,
            })
        });
        rows.collect()
    }

    /// It was delivered, whatever anybody made of it meanwhile.
    pub async fn alert_delivered(&self, alert: &Alert) -> Result<(), StoreError> {
        sqlx::query!(
            "update alerts set delivered_at = now(), dead_at = null, last_error = null
             where id = $1 and delivered_at is null",
            alert.id
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// It was not delivered, and is tried again after a while, or never where that is `None`. Says nothing where
    /// somebody else has taken it since.
    pub async fn alert_failed(&self, alert: &Alert, why: &str, again: Option<Duration>) -> Result<(), StoreError> {
        let why = kept_error(why);
        let tries = i32::try_from(alert.attempt).unwrap_or(i32::MAX);
        sqlx::query!(
            "update alerts set last_error = $3, next_try = now() + make_interval(secs => coalesce($4::float8, 0)),
                 dead_at = case when $4::float8 is null then now() end
             where id = $1 and tries = $2 and delivered_at is null and dead_at is null",
            alert.id,
            tries,
            why,
            again.map(|again| again.as_secs_f64())
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How many alerts wait, and how many were given up.
    pub async fn outbox(&self) -> Result<Outbox, StoreError> {
        let outbox = sqlx::query_as!(
            Outbox,
            r#"select count(*) filter (where dead_at is null) as "due!", count(dead_at) as "dead!"
               from alerts where delivered_at is null"#
        );
        Ok(outbox.fetch_one(&self.pool).await?)
    }

    /// Those that no Event told of, the oldest first.
    pub async fn unannounced_alerts(&self, limit: i64) -> Result<Vec<UnannouncedAlert>, StoreError> {
        let rows = sqlx::query!(
            r#"select a.id, a.percent, a."limit", a.spent, a.held, b.scope, b.subject, b."window",
                t.namespace as "namespace?", t.name as "name?"
               from alerts a join budgets b on b.id = a.budget
               left join tasks t on b.scope = 'Task' and t.uid = b.subject
               where a.told_at is null order by a.id limit $1"#,
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(UnannouncedAlert {
                id: row.id,
                scope: from_name(&row.scope)?,
                subject: row.subject,
                window: from_name(&row.window)?,
                percent: row.percent,
                limit: money(row.limit)?,
                spent: money(row.spent)?,
                held: money(row.held)?,
                task: row.namespace.zip(row.name),
            })
        });
        rows.collect()
    }

    /// Records that an Event announced the alert of this id.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or refuses the change.
    pub async fn alert_told(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query!("update alerts set told_at = now() where id = $1", id).execute(&self.pool).await?;
        Ok(())
    }
}
