//! Writes entries with all that it takes to verify them.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use countersign_core::tlog::Tile;

use super::bundle::{ANCHORS, CHECKPOINT, ENTRIES, KEY, ROTATIONS};
use super::page::{Selected, Snapshot};
use super::source::Source;

use crate::output::say;

/// The whole log, or some entries with a proof for each, as of the snapshot's checkpoint.
pub async fn write(source: &Source, snapshot: &Snapshot, folder: &Path) -> anyhow::Result<()> {
    let Snapshot { checkpoint, size, keys, rotations, selection, from } = snapshot;
    if folder.exists() {
        bail!("{} exists; name a folder that does not", folder.display());
    }
    let key = keys.first().context("the log's public key is not on record")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(folder.join(CHECKPOINT), checkpoint)?;
    fs::write(folder.join(KEY), format!("{key}\n"))?;
    if !rotations.is_empty() {
        let lines: String = rotations.iter().map(|line| line.encode() + "\n").collect();
        fs::write(folder.join(ROTATIONS), lines)?;
    }
    let whole = matches!(selection, Selected::All) && *from == 0;
    let mut out = BufWriter::new(fs::File::create(folder.join(ENTRIES))?);
    let (mut next, mut count, mut covered) = (Some(*from), 0, *size);
    while let Some(from) = next {
        let page = source.page(selection, from, *size, !whole).await?;
        next = page.next;
        for line in &page.lines {
            writeln!(out, "{}", line.encode())?;
            count += 1;
            covered = line.index + 1;
        }
    }
    out.flush()?;
    let anchors = source.anchors(covered, *size).await?;
    if !anchors.is_empty() {
        let lines = anchors.iter().map(|anchor| Ok(serde_json::to_string(anchor)? + "\n"));
        fs::write(folder.join(ANCHORS), lines.collect::<Result<String, serde_json::Error>>()?)?;
    }
    if whole {
        tiles(source, *size, folder).await?;
    }
    say(&format!("{count} of the {size} entries of the checkpoint are in {}", folder.display()));
    Ok(())
}

async fn tiles(source: &Source, size: u64, folder: &Path) -> anyhow::Result<()> {
    for (tile, width) in Tile::all(size) {
        let hashes = source.tile(tile, width).await?;
        let path = folder.join(tile.path(width));
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, Tile::encode(&hashes)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
