//! What an export is made of, in files:
//!
//! | file | what is in it |
//! |---|---|
//! | `checkpoint` | the signed checkpoint that everything is proved against (C2SP tlog-checkpoint), with cosignatures |
//! | `log.key` | the log's public key, `NAME+HEX+BASE64` (C2SP signed-note) |
//! | `entries.jsonl` | a line for each entry: `index`, `body` and `payload` in base64 (null where erased), and `proof` |
//! | `rotations.jsonl` | where the key was ever changed: the entries that say so, each with its proof |
//! | `anchors.jsonl` | where there are any: a line for each network, with the checkpoint that it has, and what proves that |
//! | `tile/…` | for a whole log: its hashes (C2SP tlog-tiles), which tell exactly what was altered |

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use countersign_core::tlog::{Anchor, Checkpoint, Line, Tile, Tiles, VerifyingKey};

pub const CHECKPOINT: &str = "checkpoint";
pub const KEY: &str = "log.key";
pub const ENTRIES: &str = "entries.jsonl";
pub const ROTATIONS: &str = "rotations.jsonl";
pub const ANCHORS: &str = "anchors.jsonl";

/// An export, read and not yet believed.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub checkpoint: String,
    pub key: String,
    pub lines: Vec<Line>,
    pub rotations: Vec<Line>,
    pub anchors: Vec<Anchor>,
    pub tiles: Tiles,
    /// What lies among the tiles and is none.
    pub strangers: Vec<String>,
}

impl Bundle {
    /// The key to verify with, and whether it came from outside the export.
    pub fn key(&self, trusted: Option<&Path>) -> anyhow::Result<(VerifyingKey, bool)> {
        let Some(path) = trusted else {
            return Ok((self.key.parse().with_context(|| KEY.to_owned())?, false));
        };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok((text.parse().with_context(|| path.display().to_string())?, true))
    }

    /// Whether it claims to hold every entry of that checkpoint: entries without proofs of their own, or else the tree.
    pub fn is_whole(&self, checkpoint: &Checkpoint) -> bool {
        let some = !self.lines.is_empty() || !self.tiles.is_empty() || checkpoint.size == 0;
        some && self.lines.iter().all(|line| line.proof.is_none())
    }
}

pub fn read(folder: &Path) -> anyhow::Result<Bundle> {
    if !folder.join(CHECKPOINT).exists() {
        bail!("{}: is not the folder of an export, as there is no file {CHECKPOINT} in it", folder.display());
    }
    let (tiles, strangers) = tiles(&folder.join("tile"))?;
    Ok(Bundle {
        checkpoint: text(&folder.join(CHECKPOINT))?,
        key: text(&folder.join(KEY))?,
        lines: lines(folder, ENTRIES)?,
        rotations: if folder.join(ROTATIONS).exists() { lines(folder, ROTATIONS)? } else { Vec::new() },
        anchors: anchors(&folder.join(ANCHORS))?,
        tiles,
        strangers,
    })
}

/// A file of an export, byte for byte as it was written.
pub fn text(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    if text.contains('\r') { Err(converted()).with_context(|| path.display().to_string()) } else { Ok(text) }
}

fn converted() -> anyhow::Error {
    anyhow!(
        "its lines end in CRLF: something on the way has converted the file, as git's core.autocrlf and mail do; what is verified are its bytes, so take them again as they were"
    )
}

fn lines(folder: &Path, file: &str) -> anyhow::Result<Vec<Line>> {
    let path = folder.join(file);
    let mut reader = BufReader::new(File::open(&path).with_context(|| path.display().to_string())?);
    let (mut lines, mut text) = (Vec::new(), String::new());
    while reader.read_line(&mut text).with_context(|| path.display().to_string())? > 0 {
        let Some(line) = text.strip_suffix('\n') else { bail!("{file}: its last line is cut off") };
        if line.ends_with('\r') {
            return Err(converted()).with_context(|| path.display().to_string());
        }
        let number = lines.len() + 1;
        lines.push(Line::decode(line).map_err(|why| anyhow!("{file}: line {number}: {why}"))?);
        text.clear();
    }
    Ok(lines)
}

fn anchors(path: &Path) -> anyhow::Result<Vec<Anchor>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = text(path)?;
    let read = |(index, line)| serde_json::from_str(line).with_context(|| format!("{ANCHORS}: line {}", index + 1));
    text.lines().enumerate().map(read).collect()
}

/// The tiles, and what lies among them and is none: file managers leave files of their own.
fn tiles(folder: &Path) -> anyhow::Result<(Tiles, Vec<String>)> {
    let (mut found, mut strangers) = (Tiles::new(), Vec::new());
    let mut open: Vec<PathBuf> = if folder.is_dir() { vec![folder.to_owned()] } else { Vec::new() };
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
                open.push(entry?.path());
            }
            continue;
        }
        let name = path.strip_prefix(folder).map(|path| path.display().to_string()).unwrap_or_default();
        let Some((tile, width)) = Tile::parse(&name) else {
            strangers.push(format!("tile/{name}"));
            continue;
        };
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let hashes = Tile::decode(&bytes).filter(|hashes| hashes.len() == width);
        found.insert(tile, hashes.with_context(|| format!("tile/{name}: is not {width} hashes"))?);
    }
    strangers.sort();
    Ok((found, strangers))
}
