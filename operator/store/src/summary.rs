//! The ledger and its budgets as a few sums, for metrics: nobody's name is in them.

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use countersign_crds::Priority;

use crate::Store;
use crate::error::StoreError;
use crate::ledger::{Differences, money};
use crate::values::from_name;

/// Sums over the ledger and its budgets. Amounts are in millionths of the installation's currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerSummary {
    /// How many reservations are in which state.
    pub reservations: Vec<(ReservationState, i64)>,
    /// What was ever paid.
    pub spent: Vec<(Priority, Money)>,
    /// One for each scope and window of which any are open and have a limit.
    pub windows: Vec<OpenWindows>,
    /// Imbalance between the ledger's accounts, its reservations and the budgets. Anything but zero is a defect.
    pub differences: Differences,
}

/// What became of what was reserved for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
pub enum ReservationState {
    /// The attempt is not over.
    Held,
    /// The attempt is over, and what it cost is known.
    Settled,
    /// The pod of the attempt was never let in: it cost nothing.
    Released,
    /// The attempt is over and its cost is not known; all of it stays held.
    Unknown,
}

impl ReservationState {
    /// Every state that there is.
    pub const ALL: [ReservationState; 4] =
        [ReservationState::Held, ReservationState::Settled, ReservationState::Released, ReservationState::Unknown];

    /// The state as the record and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ReservationState::Held => "Held",
            ReservationState::Settled => "Settled",
            ReservationState::Released => "Released",
            ReservationState::Unknown => "Unknown",
        }
    }
}

/// The windows that can still be spent from and have a limit, all of a kind together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWindows {
    /// Whose budgets these are.
    pub scope: Scope,
    /// How long their windows are.
    pub window: Window,
    /// The sum of their limits.
    pub limit: Money,
    /// What settled attempts cost in them, all together.
    pub spent: Money,
    /// What is reserved in them, all together.
    pub held: Money,
    /// How much of its limit the fullest of them has used.
    pub fullest_percent: i32,
}

impl Store {
    /// The sums as they stand, not all of them read at one moment.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or holds what cannot be read.
    pub async fn ledger_summary(&self) -> Result<LedgerSummary, StoreError> {
        let rows = sqlx::query!(
            r#"select state, priority, count(*) as "count!", least(coalesce(sum(cost), 0), 9223372036854775807)::bigint as "spent!"
               from reservations group by state, priority"#
        );
        let mut summary = LedgerSummary { differences: self.ledger_differences().await?, ..LedgerSummary::default() };
        for row in rows.fetch_all(&self.pool).await? {
            summary.reservations.push((from_name(&row.state)?, row.count));
            summary.spent.push((from_name(&row.priority)?, money(row.spent)?));
        }
        // In two parts, each of which has an index: a Task's window never ends, but the Task does.
        let rows = sqlx::query!(
            r#"select scope as "scope!", "window" as "window!", least(sum("limit"), 9223372036854775807)::bigint as "limit!",
                least(sum(spent), 9223372036854775807)::bigint as "spent!",
                least(sum(held), 9223372036854775807)::bigint as "held!",
                least(coalesce(max(trunc((spent::numeric + held) * 100 / nullif("limit", 0))), 0), 2147483647)::integer
                    as "fullest!"
               from (select scope, "window", "limit", spent, held from budgets
                     where scope <> 'Task' and "limit" is not null and (ends_at is null or ends_at > now())
                     union all
                     select b.scope, b."window", b."limit", b.spent, b.held from tasks t
                     join budgets b on b.scope = 'Task' and b.subject = t.uid
                     where t.outcome is null and b."limit" is not null) as open
               group by scope, "window""#
        );
        for row in rows.fetch_all(&self.pool).await? {
            summary.windows.push(OpenWindows {
                scope: from_name(&row.scope)?,
                window: from_name(&row.window)?,
                limit: money(row.limit)?,
                spent: money(row.spent)?,
                held: money(row.held)?,
                fullest_percent: row.fullest,
            });
        }
        Ok(summary)
    }
}
