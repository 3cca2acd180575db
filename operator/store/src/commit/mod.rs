//! Applies changes to a Task's record: all of them or none, and only on the version that was seen.

mod change;

use countersign_core::record::Change;
use countersign_core::tlog::entry::TaskName;

use crate::error::CommitError;
use crate::{Store, ledger, log};

impl Store {
    /// One transaction: compare-and-set on the version, the changes in their order, a log entry for each.
    /// `seen` is the version of the record that the changes were decided on; `None` where there was none, and
    /// then the first change adopts the Task. Returns the new version.
    pub async fn commit(&self, uid: &str, seen: Option<i64>, changes: &[Change]) -> Result<i64, CommitError> {
        let rows = ledger::prepare(&self.pool, changes).await?;
        let mut transaction = self.pool.begin().await?;
        let (version, task) = match seen {
            Some(seen) => {
                let row = sqlx::query!(
                    "update tasks set version = version + 1 where uid = $1 and version = $2
                     returning version, namespace, name",
                    uid,
                    seen
                );
                let row = row.fetch_optional(&mut *transaction).await?.ok_or(CommitError::Conflict)?;
                (row.version, TaskName { namespace: row.namespace, name: row.name, uid: uid.to_owned() })
            }
            None => (0, adopted(uid, changes)?),
        };
        for change in changes {
            change::apply(&mut transaction, uid, change).await?;
        }
        let (moves, events) = ledger::write(&mut transaction, uid, changes, &rows).await?;
        let told = changes.iter().map(log::LogEvent::change).chain(events.iter().map(log::LogEvent::event));
        let told = told.collect::<Result<Vec<_>, _>>()?;
        log::append(&mut transaction, Some(&task), &told).await?;
        let at = changes.last().map(Change::at).unwrap_or_default();
        ledger::move_rows(&mut transaction, moves, at).await?;
        transaction.commit().await?;
        Ok(version)
    }
}

/// The name of the Task that the first change adopts.
fn adopted(uid: &str, changes: &[Change]) -> Result<TaskName, CommitError> {
    match changes.first() {
        Some(Change::Adopt { namespace, name, .. }) => {
            Ok(TaskName { namespace: namespace.clone(), name: name.clone(), uid: uid.to_owned() })
        }
        _ => Err(CommitError::Refused("a record begins with adopt".into())),
    }
}
