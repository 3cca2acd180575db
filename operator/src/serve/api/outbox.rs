//! The outbox: what waits for a network outside, and what ended for nothing and may be tried again.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use countersign_core::tlog::Anchor;
use countersign_crds::PaymentState;
use countersign_store::OutboxItem;
use serde::{Deserialize, Serialize};

use super::Served;
use super::access::Caller;
use super::page::Query;
use super::problem::Problem;
use countersign_service::clock;

/// The most that is listed at once.
const MOST: i64 = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// One state; those that are not confirmed where left out.
    state: Option<PaymentState>,
    /// Items older than this one, by its id.
    before: Option<i64>,
}

#[derive(Serialize)]
pub struct Listed {
    items: Vec<OutboxItem>,
}

pub async fn list(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Json<Listed>, Problem> {
    caller.may_read(None).await?;
    let Asked { state, before } = asked;
    let open = || PaymentState::ALL.into_iter().filter(|state| *state != PaymentState::Confirmed).collect();
    let states: Vec<PaymentState> = state.map_or_else(open, |state| vec![state]);
    Ok(Json(Listed { items: shared.store.list_outbox(&states, before, MOST).await? }))
}

/// Who may do this may make payments go on whose attempt is over: a right of its own.
pub async fn retry(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    caller.may_retry().await?;
    if shared.store.revive_outbox(id, &caller.identity(), clock::now()).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found(format!("there is no item {id} that is refused or dead; list those with ?state=Dead")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covering {
    /// So many entries are to be covered.
    entries: u64,
    /// By a checkpoint that is the beginning of the one of this size.
    size: u64,
}

#[derive(Serialize)]
pub struct Anchors {
    anchors: Vec<Anchor>,
}

pub async fn anchors(
    State(shared): Served,
    Extension(_): Extension<Caller>,
    Query(Covering { entries, size: within }): Query<Covering>,
) -> Result<Json<Anchors>, Problem> {
    let anchors = shared.store.anchors_of(entries, within).await?;
    Ok(Json(Anchors { anchors }))
}
