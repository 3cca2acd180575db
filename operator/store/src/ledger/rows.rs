//! Rows of budgets: found or made before a transaction, moved at its end.

use std::collections::BTreeMap;

use countersign_core::budget::{BudgetDecision, LineKey, SeenLine};
use countersign_core::money::Money;
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::amount;
use crate::error::{CommitError, StoreError};
use crate::values::{micros, named};

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
    let mut rows = Rows::new();
    // A row that somebody else makes at the same time is seen at the second look.
    while rows.len() < wanted.len() {
        rows = look_or_make(pool, &wanted).await?;
    }
    Ok(rows)
}

async fn look_or_make(pool: &PgPool, wanted: &BTreeMap<LineKey, Option<Timestamp>>) -> Result<Rows, StoreError> {
    let columns = Columns::of(wanted.keys())?;
    let ends: Vec<Option<i64>> = wanted.values().map(|ends_at| ends_at.map(micros)).collect();
    let rows = sqlx::query!(
        r#"with wanted as (
               select l.scope, l.subject, l."window", to_timestamp(l.starts_at / 1000000.0) as starts_at,
                      to_timestamp(l.ends_at / 1000000.0) as ends_at, l.n
               from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) with ordinality
                   as l (scope, subject, "window", starts_at, ends_at, n)
           ), there as (
               select b.id, w.n from wanted w join budgets b on b.scope = w.scope and b.subject = w.subject
                   and b."window" = w."window" and b.starts_at = w.starts_at
           ), made as (
               insert into budgets (scope, subject, "window", starts_at, ends_at)
               select scope, subject, "window", starts_at, ends_at from wanted where n not in (select n from there)
               order by n on conflict (scope, subject, "window", starts_at) do nothing
               returning id, scope, subject, "window", starts_at
           )
           select n as "n!", id as "id!" from there
           union all
           select w.n, m.id from made m join wanted w on m.scope = w.scope and m.subject = w.subject
               and m."window" = w."window" and m.starts_at = w.starts_at"#,
        &columns.scopes,
        &columns.subjects,
        &columns.windows,
        &columns.starts,
        &ends as &[Option<i64>]
    )
    .fetch_all(pool)
    .await?;
    let keys: Vec<&LineKey> = wanted.keys().collect();
    let row = |row: (i64, i64)| Some((keys.get(usize::try_from(row.0 - 1).ok()?).copied()?.clone(), row.1));
    Ok(rows.into_iter().filter_map(|found| row((found.n, found.id))).collect())
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
        let beyond = || StoreError::Corrupt(format!("row {} of budgets is more than can be kept", row.id).into());
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
