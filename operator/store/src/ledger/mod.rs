//! The ledger: what is reserved when an attempt is intended, and settled when it ends, in the transaction of that
//! change. Rows of budgets are locked last and in one order, so that nobody waits long and no two wait for each other.

mod balances;
mod close;
mod reconcile;
mod reserve;
mod rows;

pub use balances::Differences;
pub use reconcile::Unsettled;

use countersign_core::budget::BudgetDecision;
use countersign_core::event::Event;
use countersign_core::money::Money;
use countersign_core::record::Change;
use sqlx::{PgConnection, PgPool};

use crate::error::{CommitError, StoreError};
use rows::{Moves, Rows};

/// The rows that the changes reserve from; made where they are not there, outside the transaction, as an empty row
/// says nothing.
pub(crate) async fn prepare(pool: &PgPool, changes: &[Change]) -> Result<Rows, StoreError> {
    let decisions: Vec<&BudgetDecision> = changes.iter().filter_map(reserves).collect();
    rows::find_or_make(pool, &decisions).await
}

/// What is reserved with the change; the other decisions are only kept.
fn reserves(change: &Change) -> Option<&BudgetDecision> {
    change.budget().filter(|_| matches!(change, Change::Intend { .. }))
}

/// Writes reservations, settlements and decisions, and gathers how the rows move: nothing is locked yet.
pub(crate) async fn write(
    connection: &mut PgConnection,
    uid: &str,
    changes: &[Change],
    rows: &Rows,
) -> Result<(Moves, Vec<Event>), CommitError> {
    let mut moves = Moves::default();
    let mut events = Vec::new();
    for change in changes {
        match change {
            Change::Intend { step, key, budget: Some(decision), at, .. } => {
                reserve::reserve(connection, uid, (step, key), decision, *at, rows, &mut moves).await?;
            }
            Change::Defer { step, until: _, budget, at } => {
                reserve::decided(connection, uid, step, budget, *at).await?;
            }
            Change::FinishStep { step, budget: Some(decision), at, .. } => {
                reserve::decided(connection, uid, step, decision, *at).await?;
            }
            Change::FinishAttempt { step, number, outcome, at, .. } => {
                events.extend(close::close(connection, uid, step, *number, *outcome, *at, &mut moves).await?);
            }
            Change::Intend { budget: None, .. }
            | Change::FinishStep { budget: None, .. }
            | Change::Adopt { .. }
            | Change::SnapshotPlan { .. }
            | Change::RequestApproval { .. }
            | Change::SignApproval { .. }
            | Change::DecideApproval { .. }
            | Change::ExpireApproval { .. }
            | Change::SupersedeApproval { .. }
            | Change::WithdrawApproval { .. }
            | Change::Admit { .. }
            | Change::BeginEnding { .. }
            | Change::FinishTask { .. } => {}
        }
    }
    Ok((moves, events))
}

/// Moves the rows; the last thing before the commit.
pub(crate) async fn move_rows(
    connection: &mut PgConnection,
    moves: Moves,
    at: jiff::Timestamp,
) -> Result<(), CommitError> {
    rows::apply(connection, moves, at).await
}

/// As PostgreSQL keeps it.
pub(crate) fn amount(money: Money) -> Result<i64, StoreError> {
    i64::try_from(money.micros()).map_err(|_| StoreError::Corrupt(format!("{money} is more than can be kept").into()))
}

pub(crate) fn money(micros: i64) -> Result<Money, StoreError> {
    u64::try_from(micros).map(Money::from_micros).map_err(|error| StoreError::Corrupt(error.into()))
}
