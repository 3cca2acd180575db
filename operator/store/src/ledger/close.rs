//! The end of a reservation: settled at what it cost, released where nothing ran, or left counted where that is not
//! known.

use countersign_core::event::{Event, Settled};
use countersign_core::record::AttemptOutcome;
use jiff::Timestamp;
use sqlx::PgConnection;

use super::money;
use super::rows::Moves;
use crate::error::{CommitError, StoreError};
use crate::values::micros;

/// A reservation as it stands.
pub(super) struct Open {
    pub attempt: String,
    pub skill: String,
    pub amount: i64,
    pub per_attempt: i64,
    pub budgets: Vec<i64>,
}

/// Closes the reservation of an attempt that is over; `None` where it has none.
pub(super) async fn close(
    connection: &mut PgConnection,
    uid: &str,
    step: &str,
    number: u32,
    outcome: AttemptOutcome,
    at: Timestamp,
    moves: &mut Moves,
) -> Result<Option<Event>, CommitError> {
    let number = i32::try_from(number).map_err(|error| StoreError::Corrupt(error.into()))?;
    let row = sqlx::query!(
        "select r.attempt, r.skill, r.amount, r.per_attempt, r.budgets, a.pod_uid
         from reservations r join attempts a on a.key = r.attempt
         where a.task_uid = $1 and a.step = $2 and a.number = $3 and r.state = 'Held'",
        uid,
        step,
        number
    );
    let Some(row) = row.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let launched = row.pod_uid.is_some();
    let open = Open {
        attempt: row.attempt,
        skill: row.skill,
        amount: row.amount,
        per_attempt: row.per_attempt,
        budgets: row.budgets,
    };
    if !launched {
        return settle(connection, &open, 0, "Released", at, moves).await.map(Some);
    }
    let calls = end_session(connection, &open.attempt).await?;
    let known = match outcome {
        AttemptOutcome::Succeeded
        | AttemptOutcome::Failed
        | AttemptOutcome::TimedOut
        | AttemptOutcome::Cancelled
        | AttemptOutcome::NotStarted
        | AttemptOutcome::Voided => true,
        AttemptOutcome::Unknown => false,
    };
    if known && !under_way(connection, &open.attempt).await? {
        let cost = open.per_attempt.checked_add(calls).ok_or_else(|| StoreError::Corrupt("a cost".into()))?;
        return settle(connection, &open, cost, "Settled", at, moves).await.map(Some);
    }
    sqlx::query!(
        "update reservations set state = 'Unknown', ended_at = to_timestamp($2::bigint / 1000000.0) where attempt = $1",
        open.attempt,
        micros(at)
    )
    .execute(connection)
    .await?;
    let (attempt, reserved) = (open.attempt, money(open.amount)?);
    Ok(Some(Event::Settle { attempt, state: Settled::Unknown, reserved, cost: None, at }))
}

/// No call begins from here on; what those so far cost, or may cost at most.
async fn end_session(connection: &mut PgConnection, attempt: &str) -> Result<i64, CommitError> {
    let mut nobodys = [0; 32];
    getrandom::fill(&mut nobodys).map_err(|error| StoreError::Corrupt(format!("no random numbers: {error}").into()))?;
    // Where it never asked for a session, the one that it could have is taken.
    let cost = sqlx::query_scalar!(
        "insert into sessions (attempt, secret, closed) values ($1, $2, true)
         on conflict (attempt) do update set closed = true returning cost",
        attempt,
        &nobodys
    );
    Ok(cost.fetch_one(connection).await?)
}

/// Whether a call has not come back.
async fn under_way(connection: &mut PgConnection, attempt: &str) -> Result<bool, CommitError> {
    let open = sqlx::query_scalar!(
        r#"select exists (select from calls where attempt = $1 and outcome is null) as "open!""#,
        attempt
    );
    Ok(open.fetch_one(connection).await?)
}

/// Moves what is held to what was paid, and gives the rest back.
pub(super) async fn settle(
    connection: &mut PgConnection,
    open: &Open,
    cost: i64,
    state: &str,
    at: Timestamp,
    moves: &mut Moves,
) -> Result<Event, CommitError> {
    sqlx::query!(
        "update reservations set state = $2, cost = $3, ended_at = to_timestamp($4::bigint / 1000000.0)
         where attempt = $1",
        open.attempt,
        state,
        cost,
        micros(at)
    )
    .execute(&mut *connection)
    .await?;
    let revenue = format!("revenue/{}", open.skill);
    let overrun = (cost - open.amount).max(0);
    let postings = [
        ("Settle", "held", revenue.as_str(), cost.min(open.amount)),
        ("Release", "held", "treasury", (open.amount - cost).max(0)),
        ("Overrun", "treasury", revenue.as_str(), overrun),
    ];
    for (kind, source, destination, moved) in postings.into_iter().filter(|(.., moved)| *moved > 0) {
        sqlx::query!(
            "insert into transfers (at, attempt, kind, source, destination, amount)
             values (to_timestamp($1::bigint / 1000000.0), $2, $3, $4, $5, $6)",
            micros(at),
            open.attempt,
            kind,
            source,
            destination,
            moved
        )
        .execute(&mut *connection)
        .await?;
    }
    for row in &open.budgets {
        moves.settle(*row, open.amount, cost);
    }
    let state = if state == "Released" { Settled::Released } else { Settled::Settled };
    let (attempt, reserved) = (open.attempt.clone(), money(open.amount)?);
    Ok(Event::Settle { attempt, state, reserved, cost: Some(money(cost)?), at })
}
