//! The log: entries in the transaction of their change, put in order by one sequencer.

mod read;
mod sequence;

pub use read::{LogEntry, Selection};
pub use sequence::Sequenced;

use countersign_core::record::Change;
use countersign_core::tlog::entry::{SALT_BYTES, Sealed, TaskName, close};
use sqlx::PgConnection;

use crate::error::{CommitError, StoreError};
use crate::values::{json, micros};

/// One entry for each change, with its payload, to be sequenced.
pub(crate) async fn append(
    connection: &mut PgConnection,
    task: &TaskName,
    changes: &[Change],
) -> Result<(), CommitError> {
    let at: Vec<i64> = changes.iter().map(|change| micros(change.at())).collect();
    let kinds: Vec<String> = changes.iter().map(|change| change.kind().to_owned()).collect();
    let (mut bodies, mut payloads) = (Vec::new(), Vec::new());
    for change in changes {
        let event = json(change)?;
        let closed = close(change.kind(), change.at(), Some(task.clone()), &event, [salt()?, salt()?]);
        let Sealed { body, payload } = closed.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        bodies.push(body);
        payloads.push(payload);
    }
    sqlx::query!(
        "with entries as (
             insert into log_entries (task_uid, kind, at, body)
             select $1, e.kind, to_timestamp(e.at / 1000000.0), e.body
             from unnest($2::bigint[], $3::text[], $4::bytea[]) with ordinality as e (at, kind, body, n) order by e.n
             returning id
         ), numbered as (
             select id, row_number() over (order by id) as n from entries
         ), payloads as (
             insert into log_payloads (entry, body) select id, ($5::bytea[])[n] from numbered
         )
         insert into log_pending (entry) select id from entries",
        task.uid,
        &at,
        &kinds,
        &bodies,
        &payloads
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn salt() -> Result<[u8; SALT_BYTES], StoreError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| StoreError::Corrupt(format!("no random numbers: {error}")))?;
    Ok(salt)
}
