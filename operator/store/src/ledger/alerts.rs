//! Alerts that nobody was told of in the cluster yet.

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;

use super::money;
use crate::Store;
use crate::error::StoreError;
use crate::values::from_name;

/// A budget was used up to a threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    pub id: i64,
    pub scope: Scope,
    pub subject: String,
    pub window: Window,
    pub percent: i16,
    /// As they were then.
    pub limit: Money,
    pub spent: Money,
    pub held: Money,
    /// Where the subject is a Task: its namespace and name.
    pub task: Option<(String, String)>,
}

impl Store {
    /// The oldest first.
    pub async fn untold_alerts(&self, limit: i64) -> Result<Vec<Untold>, StoreError> {
        let rows = sqlx::query!(
            r#"select a.id, a.percent, a."limit", a.spent, a.held, b.scope, b.subject, b."window",
                t.namespace as "namespace?", t.name as "name?"
               from alerts a join budgets b on b.id = a.budget
               left join tasks t on b.scope = 'Task' and t.uid = b.subject
               where a.told_at is null order by a.id limit $1"#,
            limit
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(Untold {
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

    pub async fn alert_told(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query!("update alerts set told_at = now() where id = $1", id).execute(&self.pool).await?;
        Ok(())
    }
}
