//! The operator's API, with the token that the kubeconfig gives.

use anyhow::Context;
use countersign_core::tlog::entry::TaskName;
use countersign_core::tlog::{Anchor, EncodedLine, Hash, Line, Tile};
use http::Method;
use jiff::Timestamp;
use kube::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api;

use super::page::{PAGE, Page, Selected, Snapshot};

pub struct Api {
    client: Client,
}

#[derive(Deserialize)]
struct Exported {
    checkpoint: String,
    size: u64,
    keys: Vec<String>,
    rotations: Vec<EncodedLine>,
    from: u64,
}

#[derive(Deserialize)]
struct Entries {
    items: Vec<EncodedLine>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Anchors {
    anchors: Vec<Anchor>,
}

impl Api {
    /// The client's own address is the API's, and not the API server's.
    pub fn new(client: Client) -> Api {
        Api { client }
    }

    pub async fn task(&self, namespace: &str, task: &str) -> anyhow::Result<TaskName> {
        self.json(Method::GET, &format!("/api/v1/namespaces/{namespace}/tasks/{task}")).await
    }

    pub async fn size(&self) -> anyhow::Result<u64> {
        let text = String::from_utf8(self.bytes(Method::GET, "/log/checkpoint").await?)?;
        let size = text.lines().nth(1).and_then(|line| line.parse().ok());
        size.context("/log/checkpoint: is not a checkpoint")
    }

    pub async fn export(
        &self,
        task: Option<TaskName>,
        since: Option<Timestamp>,
        cosignatures: u32,
    ) -> anyhow::Result<Snapshot> {
        let asked = format!("exports?cosignatures={cosignatures}");
        let path = match (&task, since) {
            (Some(TaskName { namespace, uid, .. }), _) => format!("/api/v1/namespaces/{namespace}/tasks/{uid}/{asked}"),
            (None, Some(since)) => format!("/api/v1/{asked}&since={since}"),
            (None, None) => format!("/api/v1/{asked}"),
        };
        let Exported { checkpoint, size, keys, rotations, from } = self.json(Method::POST, &path).await?;
        let selection = task.map_or(Selected::All, Selected::Task);
        Ok(Snapshot { checkpoint, size, keys, rotations: decoded(rotations)?, selection, from })
    }

    pub async fn page(&self, selected: &Selected, from: u64, size: u64, proofs: bool) -> anyhow::Result<Page> {
        let query = format!("entries?from={from}&size={size}&limit={PAGE}&proofs={proofs}");
        let path = match selected {
            Selected::All => format!("/api/v1/{query}"),
            Selected::Task(TaskName { namespace, name: _, uid }) => {
                format!("/api/v1/namespaces/{namespace}/tasks/{uid}/{query}")
            }
        };
        let Entries { items, next } = self.json(Method::GET, &path).await?;
        Ok(Page { lines: decoded(items)?, next })
    }

    pub async fn anchors(&self, entries: u64, size: u64) -> anyhow::Result<Vec<Anchor>> {
        let path = format!("/api/v1/anchors?entries={entries}&size={size}");
        let Anchors { anchors } = self.json(Method::GET, &path).await?;
        Ok(anchors)
    }

    pub async fn tile(&self, tile: Tile, width: usize) -> anyhow::Result<Vec<Hash>> {
        let path = format!("/log/{}", tile.path(width));
        let hashes = Tile::decode(&self.bytes(Method::GET, &path).await?);
        hashes.with_context(|| format!("the API's answer to {path}: its last hash is cut off"))
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        serde_json::from_slice(&self.bytes(method, path).await?).with_context(|| format!("the API's answer to {path}"))
    }

    async fn bytes(&self, method: Method, path: &str) -> anyhow::Result<Vec<u8>> {
        api::ask(&self.client, method, path, &[]).await
    }
}

fn decoded(lines: Vec<EncodedLine>) -> anyhow::Result<Vec<Line>> {
    lines
        .into_iter()
        .map(|line| Line::try_from(line).map_err(|why| anyhow::anyhow!("an entry of the API: {why}")))
        .collect()
}
