//! Applies changes to a Task's record: all of them or none, and only on the version that was seen.

mod change;

use countersign_core::record::Change;

use crate::Store;
use crate::error::CommitError;
use crate::values::{json, micros};

impl Store {
    /// One transaction: compare-and-set on the version, the changes in their order, an audit row for each.
    /// `seen` is the version of the record that the changes were decided on; `None` where there was none, and
    /// then the first change adopts the Task. Returns the new version.
    pub async fn commit(&self, uid: &str, seen: Option<i64>, changes: &[Change]) -> Result<i64, CommitError> {
        let mut transaction = self.pool.begin().await?;
        let version = match seen {
            Some(seen) => {
                let version = sqlx::query_scalar!(
                    "update tasks set version = version + 1 where uid = $1 and version = $2 returning version",
                    uid,
                    seen
                );
                version.fetch_optional(&mut *transaction).await?.ok_or(CommitError::Conflict)?
            }
            None => 0,
        };
        for change in changes {
            change::apply(&mut transaction, uid, change).await?;
        }
        audit(&mut transaction, uid, changes).await?;
        transaction.commit().await?;
        Ok(version)
    }
}

async fn audit(connection: &mut sqlx::PgConnection, uid: &str, changes: &[Change]) -> Result<(), CommitError> {
    let at: Vec<i64> = changes.iter().map(|change| micros(change.at())).collect();
    let kinds: Vec<String> = changes.iter().map(|change| change.kind().to_owned()).collect();
    let bodies = changes.iter().map(json).collect::<Result<Vec<_>, _>>()?;
    sqlx::query!(
        "insert into audit (at, task_uid, kind, body)
         select to_timestamp(e.at / 1000000.0), $1, e.kind, e.body
         from unnest($2::bigint[], $3::text[], $4::jsonb[]) with ordinality as e (at, kind, body, n) order by e.n",
        uid,
        &at,
        &kinds,
        &bodies
    )
    .execute(connection)
    .await?;
    Ok(())
}
