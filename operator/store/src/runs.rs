//! Which requests ran. It outlives the records of the Tasks that they ran as.

use countersign_core::record::Finished;
use countersign_core::run::{PriorRun, RunKey};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::Store;
use crate::error::{CommitError, StoreError};
use crate::values::{digest, from_name, micros, named, timestamp};

impl Store {
    /// The run that there was, or is, of this request; `None` where it may run.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or what it holds cannot be read.
    pub async fn prior(&self, key: &RunKey) -> Result<Option<PriorRun>, StoreError> {
        let RunKey { namespace_uid, name, requester, content } = key;
        let row = sqlx::query!(
            r#"select task_uid, outcome, reason, message,
                (extract(epoch from finished_at) * 1000000)::bigint as finished_at
               from runs where namespace_uid = $1 and name = $2 and requester = $3 and content = $4
               and (outcome is null or ran)"#,
            namespace_uid,
            name,
            requester,
            content.to_string()
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        let finished = finished(row.outcome, row.reason, row.message, row.finished_at)?;
        Ok(Some(PriorRun { uid: row.task_uid, key: key.clone(), finished }))
    }

    /// The run of the Task of that uid, whatever became of it; `None` where it had none of its own.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or what it holds cannot be read.
    pub async fn run(&self, task_uid: &str) -> Result<Option<PriorRun>, StoreError> {
        let row = sqlx::query!(
            "select namespace_uid, name, requester, content, outcome, reason, message,
                (extract(epoch from finished_at) * 1000000)::bigint as finished_at
             from runs where task_uid = $1",
            task_uid
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        let finished = finished(row.outcome, row.reason, row.message, row.finished_at)?;
        let content = digest(&row.content)?;
        let key = RunKey { namespace_uid: row.namespace_uid, name: row.name, requester: row.requester, content };
        Ok(Some(PriorRun { uid: task_uid.to_owned(), key, finished }))
    }
}

/// How a run ended, as its row says; `None` while it goes on.
fn finished(
    outcome: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    at: Option<i64>,
) -> Result<Option<Finished>, StoreError> {
    let (Some(outcome), Some(reason), Some(message), Some(at)) = (outcome, reason, message, at) else {
        return Ok(None);
    };
    Ok(Some(Finished { outcome: from_name(&outcome)?, reason, message, at: timestamp(at)? }))
}

/// The Task of this uid is the run of its request, unless another one is already: that is a conflict.
pub(crate) async fn begin(
    connection: &mut PgConnection,
    uid: &str,
    key: &RunKey,
    at: Timestamp,
) -> Result<(), CommitError> {
    let RunKey { namespace_uid, name, requester, content } = key;
    let done = sqlx::query!(
        "insert into runs (task_uid, namespace_uid, name, requester, content, begun_at)
         values ($1, $2, $3, $4, $5, to_timestamp($6::bigint / 1000000.0)) on conflict do nothing",
        uid,
        namespace_uid,
        name,
        requester,
        content.to_string(),
        micros(at)
    );
    match done.execute(connection).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(CommitError::Conflict),
    }
}

/// How the run of a Task ended, and whether its request is used up by that. A Task that repeats one has none.
pub(crate) async fn end(
    connection: &mut PgConnection,
    uid: &str,
    finished: &Finished,
    ran: bool,
) -> Result<(), CommitError> {
    let Finished { outcome, reason, message, at } = finished;
    sqlx::query!(
        "update runs set outcome = $2, reason = $3, message = $4, ran = $6,
         finished_at = to_timestamp($5::bigint / 1000000.0) where task_uid = $1 and outcome is null",
        uid,
        named(outcome)?,
        reason,
        message,
        micros(*at),
        ran
    )
    .execute(connection)
    .await?;
    Ok(())
}
