//! A reservation, and what was decided about a price.

use countersign_core::budget::BudgetDecision;
use jiff::Timestamp;
use sqlx::PgConnection;

use super::amount;
use super::rows::{Moves, Rows};
use crate::error::{CommitError, StoreError};
use crate::values::{json, micros, named};

/// The attempt's key makes it happen once.
pub(super) async fn reserve(
    connection: &mut PgConnection,
    uid: &str,
    (step, attempt): (&str, &str),
    decision: &BudgetDecision,
    at: Timestamp,
    rows: &Rows,
    moves: &mut Moves,
) -> Result<(), CommitError> {
    let mut ids = Vec::new();
    for line in &decision.lines {
        let missing = || StoreError::Corrupt(format!("no row of budgets for {:?}", line.key()).into());
        let row = *rows.get(&line.key()).ok_or_else(missing)?;
        moves.reserve(row, line, decision.amount)?;
        ids.push(row);
    }
    sqlx::query!(
        "with task as (
             select uid, namespace, spec -> 'agentRef' ->> 'name' as agent, to_timestamp($9::bigint / 1000000.0) as at
             from tasks where uid = $2
         ), reserved as (
             insert into reservations
             (attempt, task_uid, namespace, agent, skill, priority, verdict, amount, per_attempt, budgets, reserved_at)
             select $1, uid, namespace, agent, $3, $4, $5, $6, $7, $8, at from task
             returning attempt, reserved_at, amount
         ), decided as (
             insert into budget_decisions
             (at, task_uid, namespace, agent, step, skill, priority, verdict, amount, message, lines)
             select at, uid, namespace, agent, $10, $3, $4, $5, $6, $11, $12 from task
         )
         insert into transfers (at, attempt, kind, source, destination, amount)
         select reserved_at, attempt, 'Reserve', 'treasury', 'held', amount from reserved",
        attempt,
        uid,
        decision.skill,
        named(&decision.priority)?,
        named(&decision.verdict)?,
        amount(decision.amount)?,
        amount(decision.per_attempt)?,
        &ids,
        micros(at),
        step,
        decision.message.as_deref(),
        json(&decision.lines)?
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What was decided of a step that does not start.
pub(super) async fn decided(
    connection: &mut PgConnection,
    uid: &str,
    step: &str,
    decision: &BudgetDecision,
    at: Timestamp,
) -> Result<(), CommitError> {
    let BudgetDecision { verdict, skill, amount: asked, per_attempt: _, priority, lines, message } = decision;
    sqlx::query!(
        "insert into budget_decisions
         (at, task_uid, namespace, agent, step, skill, priority, verdict, amount, message, lines)
         select to_timestamp($1::bigint / 1000000.0), t.uid, t.namespace, t.spec -> 'agentRef' ->> 'name',
                $3, $4, $5, $6, $7, $8, $9
         from tasks t where t.uid = $2",
        micros(at),
        uid,
        step,
        skill,
        named(priority)?,
        named(verdict)?,
        amount(*asked)?,
        message.as_deref(),
        json(lines)?
    )
    .execute(connection)
    .await?;
    Ok(())
}
