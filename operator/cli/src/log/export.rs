//! Writes entries with all that it takes to verify them.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use countersign_core::tlog::{Hash, TILE_WIDTH, Tile};
use countersign_store::{Selection, Store};

use super::bundle::{CHECKPOINT, ENTRIES, KEY, Line};

const PAGE: i64 = 10_000;

/// The whole log, or one Task's entries with a proof for each, as of the newest checkpoint.
pub async fn write(store: &Store, task: Option<String>, folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        bail!("{} exists; name a folder that does not", folder.display());
    }
    let Some((size, note)) = store.checkpoint().await? else {
        bail!("the log has no checkpoint yet; is an operator running?");
    };
    let key = store.log_key().await?.context("the log's public key is not on record")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(folder.join(CHECKPOINT), note)?;
    fs::write(folder.join(KEY), format!("{key}\n"))?;
    let mut out = BufWriter::new(fs::File::create(folder.join(ENTRIES))?);
    let whole = task.is_none();
    let selection = task.map_or(Selection::All, Selection::Task);
    let (mut from, mut count) = (0, 0);
    loop {
        let page = store.log_entries(&selection, from, size, PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.index + 1;
        for log_entry in page {
            let proof = if whole { None } else { Some(store.inclusion_proof(log_entry.index, size).await?) };
            let line = Line { index: log_entry.index, body: log_entry.body, payload: log_entry.payload, proof };
            writeln!(out, "{}", line.encode()?)?;
            count += 1;
        }
    }
    out.flush()?;
    if whole {
        tiles(store, size, folder).await?;
    }
    println!("{count} entries of {size}, as of the newest checkpoint, are in {}", folder.display());
    Ok(())
}

async fn tiles(store: &Store, size: u64, folder: &Path) -> anyhow::Result<()> {
    let (mut width, mut level) = (size, 0u8);
    while width > 0 {
        for index in 0..width.div_ceil(TILE_WIDTH as u64) {
            let tile = Tile { level, index };
            let count = usize::try_from((width - index * TILE_WIDTH as u64).min(TILE_WIDTH as u64))?;
            let mut hashes: Vec<Hash> = store.log_tile(tile).await?;
            // It may have grown since the checkpoint.
            hashes.truncate(count);
            let path = folder.join(tile.path(count));
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        width /= TILE_WIDTH as u64;
        level += 1;
    }
    Ok(())
}
