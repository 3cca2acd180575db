//! What was spent, decided and given as a reason, and how budgets stand. Days are of UTC; money is decimal strings.

#[cfg(test)]
mod tests;

use axum::Json;
use axum::extract::{Extension, Path, State};
use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use countersign_store as store;
use countersign_store::{BudgetCursor, BudgetFilter, DecisionsCursor, Period, ReasonCursor, SpendBy, SpendCursor};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::Served;
use super::access::Caller;
use super::page::{self, Page, Query};
use super::problem::Problem;
use super::tasks::Place;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpendAsked {
    #[serde(default)]
    by: SpendBy,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u32>,
    r#continue: Option<String>,
}

/// Of what it is depends on what was asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spend {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// Left out of what was for no Agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skill: Option<String>,
    spent: Money,
    /// Those that cost something.
    attempts: i64,
    /// Those that cost more than was reserved for them.
    overruns: i64,
}

pub async fn spend(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(Place { namespace }): Path<Place>,
    Query(asked): Query<SpendAsked>,
) -> Result<Json<Page<Spend>>, Problem> {
    caller.may_read(namespace.as_deref()).await?;
    let SpendAsked { by, since, until, limit, r#continue } = asked;
    let period = period(namespace, since, until)?;
    let (limit, after) = (page::limit(limit)?, page::open(r#continue.as_deref())?);
    let mut rows = shared.store.spend(by, &period, after.as_ref(), page::with_next(limit)).await?;
    let next = page::cut(&mut rows, limit, |last| SpendCursor { spent: last.spent, key: last.key.clone() });
    let items = rows.into_iter().map(|row| of_spend(by, row)).collect();
    Ok(Json(Page { items, next: page::seal(next)? }))
}

fn of_spend(by: SpendBy, row: store::Spend) -> Spend {
    let store::Spend { key, spent, attempts, overruns } = row;
    let none = Spend { day: None, namespace: None, agent: None, skill: None, spent, attempts, overruns };
    match by {
        SpendBy::Day => Spend { day: Some(key), ..none },
        SpendBy::Skill => Spend { skill: Some(key), ..none },
        SpendBy::Namespace => Spend { namespace: Some(key), ..none },
        SpendBy::Agent => {
            let (namespace, agent) = key.split_once('/').unwrap_or((&key, ""));
            let agent = Some(agent.to_owned()).filter(|agent| !agent.is_empty());
            Spend { namespace: Some(namespace.to_owned()), agent, ..none }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecisionsAsked {
    since: Option<String>,
    until: Option<String>,
    limit: Option<u32>,
    r#continue: Option<String>,
}

pub async fn decisions(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(Place { namespace }): Path<Place>,
    Query(asked): Query<DecisionsAsked>,
) -> Result<Json<Page<store::Decisions>>, Problem> {
    caller.may_read(namespace.as_deref()).await?;
    let DecisionsAsked { since, until, limit, r#continue } = asked;
    let period = period(namespace, since, until)?;
    let (limit, after) = (page::limit(limit)?, page::open(r#continue.as_deref())?);
    let mut rows = shared.store.decisions(&period, after.as_ref(), page::with_next(limit)).await?;
    let next = page::cut(&mut rows, limit, |last| DecisionsCursor {
        day: last.day,
        namespace: last.namespace.clone(),
        agent: last.agent.clone(),
        priority: last.priority,
        verdict: last.verdict,
    });
    Ok(Json(Page { items: rows, next: page::seal(next)? }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReasonsAsked {
    limit: Option<u32>,
    r#continue: Option<String>,
}

pub async fn reasons(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(Place { namespace }): Path<Place>,
    Query(asked): Query<ReasonsAsked>,
) -> Result<Json<Page<store::Reason>>, Problem> {
    caller.may_read(namespace.as_deref()).await?;
    let ReasonsAsked { limit, r#continue } = asked;
    let (limit, after) = (page::limit(limit)?, page::open(r#continue.as_deref())?);
    let mut rows = shared.store.reasons(namespace.as_deref(), after.as_ref(), page::with_next(limit)).await?;
    let next = page::cut(&mut rows, limit, |last| ReasonCursor {
        count: last.count,
        namespace: last.namespace.clone(),
        agent: last.agent.clone(),
        outcome: last.outcome.clone(),
        reason: last.reason.clone(),
    });
    Ok(Json(Page { items: rows, next: page::seal(next)? }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetsAsked {
    scope: Option<Scope>,
    window: Option<Window>,
    /// Whether it can still be spent from.
    current: Option<bool>,
    limit: Option<u32>,
    r#continue: Option<String>,
}

pub async fn budgets(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(Place { namespace }): Path<Place>,
    Query(asked): Query<BudgetsAsked>,
) -> Result<Json<Page<store::BudgetRow>>, Problem> {
    caller.may_read(namespace.as_deref()).await?;
    let BudgetsAsked { scope, window, current, limit, r#continue } = asked;
    let filter = BudgetFilter { namespace, scope, window, current };
    let (limit, after) = (page::limit(limit)?, page::open(r#continue.as_deref())?);
    let mut rows = shared.store.budgets(&filter, after.as_ref(), page::with_next(limit)).await?;
    let next = page::cut(&mut rows, limit, |last| BudgetCursor {
        starts_at: last.starts_at,
        scope: last.scope,
        subject: last.subject.clone(),
        window: last.window,
    });
    Ok(Json(Page { items: rows, next: page::seal(next)? }))
}

fn period(namespace: Option<String>, since: Option<String>, until: Option<String>) -> Result<Period, Problem> {
    let day = |name: &str, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => text.parse::<Date>().map(Some).map_err(|error| {
            Problem::bad_request(format!("{name}: {text:?} is not a day such as 2026-11-21: {error}"))
        }),
    };
    Ok(Period { namespace, since: day("since", since)?, until: day("until", until)? })
}
