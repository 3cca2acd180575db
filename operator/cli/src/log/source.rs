//! Where the record is read from: the operator's API, or PostgreSQL itself.

use anyhow::{Context, bail};
use countersign_core::event::{Event, Selection};
use countersign_core::tlog::entry::TaskName;
use countersign_core::tlog::{Hash, Line, Tile};
use countersign_crds::Identity;
use countersign_store::{LogEntry, Store};
use jiff::Timestamp;

use super::api::Api;
use super::page::{PAGE, Page, Selected, Snapshot};

pub enum Source {
    Api(Box<Api>),
    Database(Store),
}

impl Source {
    /// The Task of that name or uid.
    pub async fn task(&self, namespace: &str, task: &str) -> anyhow::Result<TaskName> {
        match self {
            Source::Api(api) => api.task(namespace, task).await,
            Source::Database(store) => {
                let found = store.find_task(namespace, task).await.context("the record cannot be read")?;
                found.with_context(|| {
                    format!("no Task of the name or uid {task:?} is on record in namespace {namespace}")
                })
            }
        }
    }

    /// Logs that entries are taken away, and says what to prove them against.
    pub async fn export(&self, task: Option<TaskName>, since: Option<Timestamp>) -> anyhow::Result<Snapshot> {
        match self {
            Source::Api(api) => api.export(task, since).await,
            Source::Database(store) => export(store, task, since).await,
        }
    }

    /// The size of the newest checkpoint.
    pub async fn size(&self) -> anyhow::Result<u64> {
        match self {
            Source::Api(api) => api.size().await,
            Source::Database(store) => Ok(store.checkpoint().await?.map_or(0, |(size, _)| size)),
        }
    }

    pub async fn page(&self, selected: &Selected, from: u64, size: u64, proofs: bool) -> anyhow::Result<Page> {
        match self {
            Source::Api(api) => api.page(selected, from, size, proofs).await,
            Source::Database(store) => {
                let selection = match selected {
                    Selected::All => Selection::All,
                    Selected::Task(task) => Selection::Task(task.uid.clone()),
                };
                let found = store.log_entries(&selection, from, size, i64::from(PAGE)).await?;
                let next = found.last().filter(|_| found.len() == PAGE as usize).map(|last| last.index + 1);
                Ok(Page { lines: lines(store, found, size, proofs).await?, next })
            }
        }
    }

    pub async fn tile(&self, tile: Tile, width: usize) -> anyhow::Result<Vec<Hash>> {
        match self {
            Source::Api(api) => api.tile(tile, width).await,
            Source::Database(store) => {
                let mut hashes = store.log_tile(tile).await?;
                // It may have grown since the checkpoint.
                hashes.truncate(width);
                Ok(hashes)
            }
        }
    }
}

async fn export(store: &Store, task: Option<TaskName>, since: Option<Timestamp>) -> anyhow::Result<Snapshot> {
    let Some((size, checkpoint)) = store.checkpoint().await? else {
        bail!("the log has no checkpoint yet; is an operator running?");
    };
    let from = match since {
        Some(since) => store.index_since(since, size).await?,
        None => 0,
    };
    let selection = match &task {
        Some(task) => Selection::Task(task.uid.clone()),
        None if since.is_some() => Selection::From(from),
        None => Selection::All,
    };
    let user = format!("postgresql:{}", store.user().await?);
    let by = Identity { user: user.clone(), uid: None, groups: Vec::new() };
    let event = Event::Export { by, selection, size, at: Timestamp::now() };
    match store.tell(task.as_ref(), &event).await {
        Ok(()) => {}
        Err(error) if error.is_forbidden() => {
            eprintln!("note: {user} may only read, so the log does not tell of this export")
        }
        Err(error) => return Err(error.into()),
    }
    let rotations = lines(store, store.rotations(size).await?, size, true).await?;
    let keys = store.log_keys().await?;
    let selection = task.map_or(Selected::All, Selected::Task);
    Ok(Snapshot { checkpoint, size, keys, rotations, selection, from })
}

async fn lines(store: &Store, found: Vec<LogEntry>, size: u64, proofs: bool) -> anyhow::Result<Vec<Line>> {
    let proofs: Vec<Option<Vec<Hash>>> = if proofs {
        let indexes: Vec<u64> = found.iter().map(|entry| entry.index).collect();
        store.inclusion_proofs(&indexes, size).await?.into_iter().map(Some).collect()
    } else {
        vec![None; found.len()]
    };
    let lines = found.into_iter().zip(proofs);
    Ok(lines.map(|(LogEntry { index, body, payload }, proof)| Line { index, body, payload, proof }).collect())
}
