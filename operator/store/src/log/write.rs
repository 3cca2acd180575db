//! Adds entries to the log, in the transaction of what they tell of.

use countersign_core::event::Event;
use countersign_core::record::Change;
use countersign_core::tlog::entry::{SALT_BYTES, Sealed, TaskName, close};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;

use crate::Store;
use crate::error::StoreError;
use crate::values::{json, micros};

/// One thing that happened, as its log entry tells it: the kind, the instant, and the event as JSON.
pub(crate) struct LogEvent {
    kind: &'static str,
    at: Timestamp,
    event: Value,
}

impl LogEvent {
    pub fn change(change: &Change) -> Result<LogEvent, StoreError> {
        Ok(LogEvent { kind: change.kind(), at: change.at(), event: json(change)? })
    }

    pub fn event(event: &Event) -> Result<LogEvent, StoreError> {
        Ok(LogEvent { kind: event.kind(), at: event.at(), event: json(event)? })
    }
}

/// One entry for each, with its payload, to be sequenced.
pub(crate) async fn append(
    connection: &mut PgConnection,
    task: Option<&TaskName>,
    events: &[LogEvent],
) -> Result<(), StoreError> {
    let at: Vec<i64> = events.iter().map(|event| micros(event.at)).collect();
    let kinds: Vec<String> = events.iter().map(|event| event.kind.to_owned()).collect();
    let (mut bodies, mut payloads) = (Vec::new(), Vec::new());
    for LogEvent { kind, at, event } in events {
        let closed = close(kind, *at, task.cloned(), event, [salt()?, salt()?]);
        let Sealed { body, payload } = closed.map_err(|error| StoreError::Corrupt(error.into()))?;
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
        task.map(|task| task.uid.as_str()),
        &at,
        &kinds,
        &bodies,
        &payloads
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Logs what happened to the system itself, or to the record of a Task.
    pub async fn tell(&self, task: Option<&TaskName>, event: &Event) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        append(&mut connection, task, &[LogEvent::event(event)?]).await
    }
}

fn salt() -> Result<[u8; SALT_BYTES], StoreError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| StoreError::Corrupt(format!("no random numbers: {error}").into()))?;
    Ok(salt)
}
