//! Finds a Task by its name, and a hash in the log.

use anyhow::{Context, bail};
use countersign_core::digest::Digest;
use countersign_core::tlog::{entry, leaf};
use countersign_store::Store;

use super::bundle::Bundle;

/// The uid of the newest Task of that name, or the one that was given.
pub async fn task(store: &Store, namespace: &str, task: &str) -> anyhow::Result<String> {
    let found = store.find_task(namespace, task).await.context("the record cannot be read")?;
    found.with_context(|| format!("no Task of the name or uid {task:?} is on record in namespace {namespace}"))
}

/// Says which entries hold a SHA-256.
pub fn hash(bundle: &Bundle, hex: &str) -> anyhow::Result<()> {
    let digest = Digest::from_hex(hex.trim_start_matches("sha256:")).context("--hash")?;
    let text = digest.to_string();
    let mut found = 0;
    for line in &bundle.lines {
        let opened = entry::open(&line.body).map_err(|why| anyhow::anyhow!(why))?;
        let payload = line.payload.as_deref().map(|payload| String::from_utf8_lossy(payload).contains(&text));
        let as_what = if leaf(&line.body) == digest {
            "as the entry itself"
        } else if opened.payload == digest {
            "as its payload"
        } else if payload == Some(true) {
            "in what it tells"
        } else {
            continue;
        };
        found += 1;
        let task = opened.task.map(|task| format!(" of {}/{}", task.namespace, task.name)).unwrap_or_default();
        println!("{hex} stands {as_what}: entry {}, {}{task}, {}", line.index, opened.kind, opened.at);
    }
    if found == 0 {
        bail!("{hex} stands in none of these {} entries", bundle.lines.len());
    }
    Ok(())
}
