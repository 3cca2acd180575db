//! What rows of budgets hold.

use std::collections::BTreeMap;

use countersign_core::budget::{Balance, LineKey};

use super::money;
use super::rows::Columns;
use crate::Store;
use crate::error::StoreError;
use crate::values::{from_name, timestamp};

/// Imbalance between the ledger's accounts, its reservations and the budgets, in millionths of the installation's
/// currency. Anything but zero, at any instant, is a defect, and is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The sum of all accounts: what one loses another gains.
    pub accounts: i64,
    /// What the account `held` has beyond the reservations that are open or whose cost is not known.
    pub held: i64,
    /// What the accounts `revenue/SKILL` have beyond what all reservations cost.
    pub revenue: i64,
    /// What the Tasks' budgets hold beyond the reservations that are open or whose cost is not known.
    pub budgets_held: i64,
    /// What the Tasks' budgets have spent beyond what all reservations cost.
    pub budgets_spent: i64,
}

impl Store {
    /// Those of the rows that there are.
    pub async fn balances(&self, keys: &[LineKey]) -> Result<BTreeMap<LineKey, Balance>, StoreError> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let columns = Columns::of(keys.iter())?;
        let rows = sqlx::query!(
            r#"select b.scope, b.subject, b."window", b.spent, b.held,
                (extract(epoch from b.starts_at) * 1000000)::bigint as "starts_at!"
               from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as l (scope, subject, "window", starts_at)
               join budgets b on b.scope = l.scope and b.subject = l.subject and b."window" = l.window
                    and b.starts_at = to_timestamp(l.starts_at / 1000000.0)"#,
            &columns.scopes,
            &columns.subjects,
            &columns.windows,
            &columns.starts
        )
        .fetch_all(&self.pool)
        .await?;
        let row = rows.into_iter().map(|row| {
            let key = LineKey {
                scope: from_name(&row.scope)?,
                subject: row.subject,
                window: from_name(&row.window)?,
                starts_at: timestamp(row.starts_at)?,
            };
            Ok((key, Balance { spent: money(row.spent)?, held: money(row.held)? }))
        });
        row.collect()
    }

    /// Compares accounts, reservations and budgets, as of one moment.
    pub async fn ledger_differences(&self) -> Result<Differences, StoreError> {
        let row = sqlx::query_as!(
            Differences,
            r#"select accounts as "accounts!", held as "held!", revenue as "revenue!",
                budgets_held as "budgets_held!", budgets_spent as "budgets_spent!" from ledger_differences"#
        );
        Ok(row.fetch_one(&self.pool).await?)
    }
}
