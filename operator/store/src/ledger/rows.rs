//! Rows of budgets: found or made before a transaction, moved at its end.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::budget::{BudgetDecision, LineKey, SeenLine};
use countersign_core::money::Money;
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::amount;
use crate::error::{CommitError, StoreError};
use crate::values::{from_name, micros, named, timestamp};

/// The ids of rows.
pub(crate) type Rows = BTreeMap<LineKey, i64>;

/// How each row moves, by its id: in the order in which they are locked.
#[derive(Debug, Default)]
pub(crate) struct Moves(BTreeMap<i64, Move>);

#[derive(Clone, Copy, Debug, Default)]
struct Move {
    held: i64,
    spent: i64,
    asked: Option<Asked>,
}

/// What a reservation says of a row.
#[derive(Clone, Copy, Debug)]
struct Asked {
    limit: Option<i64>,
    cap: Option<i64>,
}

/// A threshold, in percent of the limit.
const ALERTS: [i16; 3] = [50, 80, 100];

impl Moves {
    pub fn reserve(&mut self, row: i64, line: &SeenLine, money: Money) -> Result<(), StoreError> {
        let of = |money: Option<Money>| money.map(amount).transpose();
        let this = self.0.entry(row).or_default();
        this.held += amount(money)?;
        this.asked = Some(Asked { limit: of(line.limit)?, cap: of(line.cap)? });
        Ok(())
    }

    pub fn settle(&mut self, row: i64, held: i64, spent: i64) {
        let this = self.0.entry(row).or_default();
        this.held -= held;
        this.spent += spent;
    }
}

/// Finds the rows that decisions reserve from, and makes those that are not there.
pub(crate) async fn find_or_make(pool: &PgPool, decisions: &[&BudgetDecision]) -> Result<Rows, StoreError> {
    // In one order, so that two who make the same rows do not wait for each other in a ring.
    let wanted: BTreeMap<LineKey, Option<Timestamp>> =
        decisions.iter().flat_map(|decision| &decision.lines).map(|line| (line.key(), line.ends_at)).collect();
    if wanted.is_empty() {
        return Ok(Rows::new());
    }
    let keys: BTreeSet<LineKey> = wanted.keys().cloned().collect();
    let found = find(pool, &keys).await?;
    if found.len() == keys.len() {
        return Ok(found);
    }
    let missing: Vec<(&LineKey, &Option<Timestamp>)> =
        wanted.iter().filter(|(key, _)| !found.contains_key(*key)).collect();
    let columns = Columns::of(missing.iter().map(|(key, _)| *key))?;
    let ends: Vec<Option<i64>> = missing.iter().map(|(_, ends_at)| ends_at.map(micros)).collect();
    sqlx::query!(
        r#"insert into budgets (scope, subject, "window", starts_at, ends_at)
           select l.scope, l.subject, l.window, to_timestamp(l.starts_at / 1000000.0), to_timestamp(l.ends_at / 1000000.0)
           from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) with ordinality
               as l (scope, subject, "window", starts_at, ends_at, n) order by l.n
           on conflict (scope, subject, "window", starts_at) do nothing"#,
        &columns.scopes,
        &columns.subjects,
        &columns.windows,
        &columns.starts,
        &ends as &[Option<i64>]
    )
    .execute(pool)
    .await?;
    find(pool, &keys).await
}

/// Names of rows, as PostgreSQL takes them.
pub(super) struct Columns {
    pub scopes: Vec<String>,
    pub subjects: Vec<String>,
    pub windows: Vec<String>,
    pub starts: Vec<i64>,
}

impl Columns {
    pub fn of<'a>(keys: impl Iterator<Item = &'a LineKey>) -> Result<Columns, StoreError> {
        let mut columns = Columns { scopes: vec![], subjects: vec![], windows: vec![], starts: vec![] };
        for LineKey { scope, subject, window, starts_at } in keys {
            columns.scopes.push(named(scope)?);
            columns.subjects.push(subject.clone());
            columns.windows.push(named(window)?);
            columns.starts.push(micros(*starts_at));
        }
        Ok(columns)
    }
}

async fn find(pool: &PgPool, keys: &BTreeSet<LineKey>) -> Result<Rows, StoreError> {
    let columns = Columns::of(keys.iter())?;
    let rows = sqlx::query!(
        r#"select b.id, b.scope, b.subject, b."window", (extract(epoch from b.starts_at) * 1000000)::bigint as "starts_at!"
           from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as l (scope, subject, "window", starts_at)
           join budgets b on b.scope = l.scope and b.subject = l.subject and b."window" = l.window
                and b.starts_at = to_timestamp(l.starts_at / 1000000.0)"#,
        &columns.scopes,
        &columns.subjects,
        &columns.windows,
        &columns.starts
    )
    .fetch_all(pool)
    .await?;
    let row = rows.into_iter().map(|row| {
        let key = LineKey {
            scope: from_name(&row.scope)?,
            subject: row.subject,
            window: from_name(&row.window)?,
            starts_at: timestamp(row.starts_at)?,
        };
        Ok((key, row.id))
    });
    row.collect()
}

/// Locks the rows in the order of their ids, checks, and moves them.
pub(super) async fn apply(connection: &mut PgConnection, moves: Moves, at: Timestamp) -> Result<(), CommitError> {
    if moves.0.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = moves.0.keys().copied().collect();
    let locked = sqlx::query!(
        r#"select id, "limit", spent, held, alerted from budgets where id = any($1) order by id for update"#,
        &ids
    );
    let locked = locked.fetch_all(&mut *connection).await?;
    let (mut helds, mut spents, mut limits, mut alerteds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut alerts = Vec::new();
    for row in &locked {
        let Some(Move { held, spent, asked }) = moves.0.get(&row.id) else { continue };
        let beyond = || StoreError::Corrupt(format!("row {} of budgets is more than can be kept", row.id));
        let held = row.held.checked_add(*held).ok_or_else(beyond)?;
        let spent = row.spent.checked_add(*spent).ok_or_else(beyond)?;
        let filled = held.checked_add(spent).ok_or_else(beyond)?;
        if asked.and_then(|asked| asked.cap).is_some_and(|cap| filled > cap) {
            return Err(CommitError::OverBudget);
        }
        let limit = asked.map_or(row.limit, |asked| asked.limit);
        let passed = passed(limit, filled).filter(|percent| *percent > row.alerted);
        for percent in ALERTS.into_iter().filter(|percent| *percent > row.alerted && passed >= Some(*percent)) {
            alerts.push((row.id, percent, limit.unwrap_or_default(), spent, held));
        }
        helds.push(held);
        spents.push(spent);
        limits.push(limit);
        alerteds.push(passed.unwrap_or(row.alerted));
    }
    sqlx::query!(
        r#"update budgets b set held = m.held, spent = m.spent, "limit" = m.limit, alerted = m.alerted
           from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[])
               as m (id, held, spent, "limit", alerted) where b.id = m.id"#,
        &ids,
        &helds,
        &spents,
        &limits as &[Option<i64>],
        &alerteds
    )
    .execute(&mut *connection)
    .await?;
    for (budget, percent, limit, spent, held) in alerts {
        sqlx::query!(
            r#"insert into alerts (at, budget, percent, "limit", spent, held)
               values (to_timestamp($1::bigint / 1000000.0), $2, $3, $4, $5, $6) on conflict do nothing"#,
            micros(at),
            budget,
            percent,
            limit,
            spent,
            held
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The highest threshold that is reached.
fn passed(limit: Option<i64>, filled: i64) -> Option<i16> {
    let limit = limit.filter(|limit| *limit > 0)?;
    let reached = |percent: &i16| i128::from(filled) * 100 >= i128::from(limit) * i128::from(*percent);
    ALERTS.into_iter().filter(reached).max()
}

#[cfg(test)]
mod tests {
    use super::passed;

    #[test]
    fn alerts_are_at_50_80_and_100_percent() {
        for (limit, filled, expected) in [
            (None, 5, None),
            (Some(0), 0, None),
            (Some(100), 49, None),
            (Some(100), 50, Some(50)),
            (Some(100), 79, Some(50)),
            (Some(100), 80, Some(80)),
            (Some(3), 2, Some(50)),
            (Some(100), 100, Some(100)),
            (Some(100), 250, Some(100)),
            (Some(i64::MAX), i64::MAX, Some(100)),
        ] {
            assert_eq!(passed(limit, filled), expected, "{filled} of {limit:?}");
        }
    }
}
