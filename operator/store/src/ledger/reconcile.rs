//! Reservations whose end was not known, settled once nothing of them can cost anything any more.

use countersign_core::event::Event;
use countersign_core::tlog::entry::TaskName;
use jiff::Timestamp;

use super::close::{Open, settle};
use super::rows::{self, Moves};
use crate::Store;
use crate::error::{CommitError, StoreError};
use crate::log::{LogEvent, append};

/// An attempt that is over and whose cost is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// The attempt's key.
    pub attempt: String,
    /// The Task whose step it was a try at.
    pub task: TaskName,
}

/// A call that has not come back for so long never will: the broker lets none take longer.
const CALL_SECONDS: f64 = 600.0;

impl Store {
    /// The oldest attempts whose cost is not known.
    pub async fn unsettled(&self, limit: i64) -> Result<Vec<Unsettled>, StoreError> {
        let rows = sqlx::query!(
            "select r.attempt, r.task_uid, t.namespace, t.name from reservations r join tasks t on t.uid = r.task_uid
             where r.state = 'Unknown' order by r.reserved_at limit $1",
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            let task = TaskName { namespace: row.namespace, name: row.name, uid: row.task_uid };
            Unsettled { attempt: row.attempt, task }
        });
        Ok(rows.collect())
    }

    /// Settles what an attempt cost whose pod is known to be gone. What a call that never came back was reserved for
    /// counts as its cost. `false` where a call may still come back, or somebody else was first.
    pub async fn reconcile(&self, of: &Unsettled, at: Timestamp) -> Result<bool, CommitError> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query!(
            r#"select r.attempt, r.skill, r.amount, r.per_attempt, r.budgets, coalesce(s.cost, 0) as "calls!",
                exists (select from calls c where c.attempt = r.attempt and c.outcome is null
                        and c.begun_at > now() - make_interval(secs => $2)) as "open!"
               from reservations r left join sessions s on s.attempt = r.attempt
               where r.attempt = $1 and r.state = 'Unknown' for update of r"#,
            of.attempt,
            CALL_SECONDS
        );
        let Some(row) = row.fetch_optional(&mut *transaction).await?.filter(|row| !row.open) else {
            return Ok(false);
        };
        let open = Open {
            attempt: row.attempt,
            skill: row.skill,
            amount: row.amount,
            per_attempt: row.per_attempt,
            budgets: row.budgets,
        };
        let cost = open.per_attempt.checked_add(row.calls);
        let cost = cost.ok_or_else(|| StoreError::Corrupt(format!("the cost of {}", open.attempt).into()))?;
        let mut moves = Moves::default();
        let event: Event = settle(&mut transaction, &open, cost, "Settled", at, &mut moves).await?;
        append(&mut transaction, Some(&of.task), &[LogEvent::event(&event)?]).await?;
        rows::apply(&mut transaction, moves, at).await?;
        transaction.commit().await?;
        Ok(true)
    }
}
