//! Where the record is read from: the operator's API, or PostgreSQL itself.

use anyhow::{Context, bail};
use countersign_core::event::{Event, Selection};
use countersign_core::tlog::entry::TaskName;
use countersign_core::tlog::{Anchor, Hash, Tile};
use countersign_store::Store;
use jiff::Timestamp;

use super::api::Api;
use super::page::{PAGE, Page, Selected, Snapshot};

use crate::output::note;

pub enum Source {
    Api(Box<Api>),
    Database(Store),
}

impl Source {
    /// The Task of that name or uid.
    pub async fn task(&self, namespace: &str, task: &str) -> anyhow::Result<TaskName> {
        match self {
            Source::Api(api) => api.task(namespace, task).await,
            Source::Database(store) => find_task(store, namespace, task).await,
        }
    }

    /// Logs that entries are taken away, and says what to prove them against.
    pub async fn export(
        &self,
        task: Option<TaskName>,
        since: Option<Timestamp>,
        cosignatures: u32,
    ) -> anyhow::Result<Snapshot> {
        match self {
            Source::Api(api) => api.export(task, since, cosignatures).await,
            Source::Database(store) => export(store, task, since, cosignatures).await,
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
                let mut lines = store.log_entries(&selection, from, size, i64::from(PAGE)).await?;
                if proofs {
                    store.prove(&mut lines, size).await?;
                }
                let next = lines.last().filter(|_| lines.len() == PAGE as usize).map(|last| last.index + 1);
                Ok(Page { lines, next })
            }
        }
    }

    /// Of each network the anchor that covers so many entries, or else its newest, proved against the checkpoint of
    /// `size`.
    pub async fn anchors(&self, entries: u64, size: u64) -> anyhow::Result<Vec<Anchor>> {
        match self {
            Source::Api(api) => api.anchors(entries, size).await,
            Source::Database(store) => Ok(store.anchors_of(entries, size).await?),
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

/// The Task of that name or uid, on a record that is read directly.
pub async fn find_task(store: &Store, namespace: &str, task: &str) -> anyhow::Result<TaskName> {
    let found = store.find_task(namespace, task).await.context("the record cannot be read")?;
    found.with_context(|| format!("no Task of the name or uid {task:?} is on record in namespace {namespace}"))
}

async fn export(
    store: &Store,
    task: Option<TaskName>,
    since: Option<Timestamp>,
    cosignatures: u32,
) -> anyhow::Result<Snapshot> {
    let Some(snapshot) = store.snapshot(task.as_ref(), since, cosignatures).await? else {
        match cosignatures {
            0 => bail!("the log has no checkpoint yet; is an operator running?"),
            more => bail!("--cosignatures: {more} witnesses have not cosigned any checkpoint together; ask for fewer"),
        }
    };
    let countersign_store::Snapshot { checkpoint, size, keys, rotations, selection, from } = snapshot;
    let by = store.identity().await?;
    let user = by.user.clone();
    let event = Event::Export { by, selection, size, at: Timestamp::now() };
    match store.tell(task.as_ref(), &event).await {
        Ok(()) => {}
        Err(error) if error.is_forbidden() => {
            note(&format!("note: {user} may only read, so the log does not tell of this export"))
        }
        Err(error) => return Err(error.into()),
    }
    let selection = task.map_or(Selected::All, Selected::Task);
    Ok(Snapshot { checkpoint, size, keys, rotations, selection, from })
}
