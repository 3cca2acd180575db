//! Entries of the log with their payloads and proofs: what the story of a Task and an export are made of.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use countersign_core::event::{Event, Selection};
use countersign_core::tlog::EncodedLine;
use countersign_core::tlog::entry::TaskName;
use countersign_store::Snapshot;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::access::Caller;
use super::page::Query;
use super::problem::Problem;
use super::{Served, Shared, page, tiles};
use countersign_service::clock;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The size of the tree to prove against; the newest where left out.
    size: Option<u64>,
    from: Option<u64>,
    /// Only from the place on where entries are not older than this.
    since: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    proofs: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entries {
    size: u64,
    items: Vec<EncodedLine>,
    /// The `from` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    since: Option<String>,
    /// How many witnesses are to have cosigned the checkpoint.
    #[serde(default)]
    cosignatures: u32,
}

/// What an export is made against.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    checkpoint: String,
    size: u64,
    keys: Vec<String>,
    /// The entries that tell of another key, each with its proof.
    rotations: Vec<EncodedLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskName>,
    /// Where it begins.
    from: u64,
}

pub async fn all(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Json<Entries>, Problem> {
    caller.may_read(None).await?;
    read(&shared, &Selection::All, asked).await
}

pub async fn of_task(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path((namespace, task)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Json<Entries>, Problem> {
    let task = named(&shared, &caller, &namespace, &task).await?;
    read(&shared, &Selection::Task(task.uid), asked).await
}

/// The Task on record, for those who may read the namespace's.
pub async fn named(shared: &Shared, caller: &Caller, namespace: &str, task: &str) -> Result<TaskName, Problem> {
    caller.may_read(Some(namespace)).await?;
    // A uid of another namespace is as unknown as any other.
    let found = shared.store.find_task(namespace, task).await?.filter(|found| found.namespace == namespace);
    found.ok_or_else(|| Problem::not_found(format!("no Task {task} of namespace {namespace} is on record")))
}

async fn read(shared: &Shared, selection: &Selection, asked: Asked) -> Result<Json<Entries>, Problem> {
    let Asked { size, from, since, limit, proofs } = asked;
    let limit = page::limit(limit)?;
    let (newest, _) = tiles::newest(&shared.store).await?;
    let size = size.unwrap_or(newest);
    if size > newest {
        return Err(Problem::bad_request(format!("size: the log has {newest} entries, not {size}")));
    }
    let mut from = from.unwrap_or(0);
    if let Some(since) = page::instant("since", since.as_deref())? {
        from = from.max(shared.store.index_since(since, size).await?);
    }
    let mut lines = shared.store.log_entries(selection, from, size, page::with_next(limit)).await?;
    let next = page::cut(&mut lines, limit, |last| last.index + 1);
    if proofs {
        shared.store.prove(&mut lines, size).await?;
    }
    Ok(Json(Entries { size, items: lines.iter().map(EncodedLine::from).collect(), next }))
}

pub async fn export_all(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Query(Wanted { since, cosignatures }): Query<Wanted>,
) -> Result<(StatusCode, Json<Exported>), Problem> {
    caller.may_read(None).await?;
    let since = page::instant("since", since.as_deref())?;
    export(&shared, &caller, None, since, cosignatures).await
}

pub async fn export_task(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Path((namespace, task)): Path<(String, String)>,
    Query(tiles::Wanted { cosignatures }): Query<tiles::Wanted>,
) -> Result<(StatusCode, Json<Exported>), Problem> {
    let task = named(&shared, &caller, &namespace, &task).await?;
    export(&shared, &caller, Some(task), None, cosignatures).await
}

/// Logs the export before anything is given, and says what to make it against.
async fn export(
    shared: &Shared,
    caller: &Caller,
    task: Option<TaskName>,
    since: Option<Timestamp>,
    cosignatures: u32,
) -> Result<(StatusCode, Json<Exported>), Problem> {
    let store = &shared.store;
    let snapshot = store.snapshot(task.as_ref(), since, cosignatures).await?;
    let snapshot = snapshot.ok_or_else(|| tiles::no_checkpoint(cosignatures))?;
    let Snapshot { checkpoint, size, keys, rotations, selection, from } = snapshot;
    let at = clock::now();
    store.tell(task.as_ref(), &Event::Export { by: caller.identity(), selection, size, at }).await?;
    let rotations = rotations.iter().map(EncodedLine::from).collect();
    Ok((StatusCode::CREATED, Json(Exported { checkpoint, size, keys, rotations, task, from })))
}
