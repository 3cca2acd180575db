//! Finds a hash in the log.

use anyhow::{Context, bail};
use countersign_core::digest::Digest;
use countersign_core::tlog::{entry, leaf};

use super::bundle::Bundle;

/// Which entries hold a SHA-256, a line each.
pub fn hash(bundle: &Bundle, hex: &str) -> anyhow::Result<Vec<String>> {
    let digest = Digest::from_hex(hex.trim_start_matches("sha256:")).context("--hash")?;
    let text = digest.to_string();
    let mut found = Vec::new();
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
        let task = opened.task.map(|task| format!(" of {}/{}", task.namespace, task.name)).unwrap_or_default();
        found.push(format!("{hex} stands {as_what}: entry {}, {}{task}, {}", line.index, opened.kind, opened.at));
    }
    if found.is_empty() {
        bail!("{hex} stands in none of these {} entries", bundle.lines.len());
    }
    Ok(found)
}
