//! What an export is made of, in files:
//!
//! | file | what is in it |
//! |---|---|
//! | `checkpoint` | the signed checkpoint that everything is proved against (C2SP tlog-checkpoint) |
//! | `log.key` | the log's public key, `NAME+HEX+BASE64` (C2SP signed-note) |
//! | `entries.jsonl` | a line for each entry: `index`, `body` and `payload` in base64 (null where erased), and `proof` |
//! | `tile/…` | for a whole log: its hashes (C2SP tlog-tiles), which tell exactly what was altered |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_core::digest::Digest;
use countersign_core::json::strict;
use countersign_core::tlog::{Hash, TILE_WIDTH, Tile, VerifyingKey};
use serde::{Deserialize, Serialize};

pub const CHECKPOINT: &str = "checkpoint";
pub const KEY: &str = "log.key";
pub const ENTRIES: &str = "entries.jsonl";

/// An export, read and not yet believed.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub checkpoint: String,
    pub key: String,
    pub lines: Vec<Line>,
    pub tiles: BTreeMap<(u8, u64), Vec<Hash>>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub index: u64,
    pub body: Vec<u8>,
    pub payload: Option<Vec<u8>>,
    /// Where only some entries are exported.
    pub proof: Option<Vec<Hash>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    index: u64,
    body: String,
    payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Vec<String>>,
}

impl Line {
    pub fn encode(&self) -> anyhow::Result<String> {
        let encoded = Encoded {
            index: self.index,
            body: STANDARD.encode(&self.body),
            payload: self.payload.as_ref().map(|payload| STANDARD.encode(payload)),
            proof: self.proof.as_ref().map(|proof| proof.iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect()),
        };
        Ok(serde_json::to_string(&encoded)?)
    }

    fn decode(text: &str) -> anyhow::Result<Line> {
        let value = strict::parse(text.as_bytes())?;
        let Encoded { index, body, payload, proof } = serde_json::from_value(value)?;
        let hash = |text: &String| {
            let bytes: [u8; 32] = STANDARD
                .decode(text)?
                .try_into()
                .map_err(|_| anyhow::anyhow!("a hash of the proof has not 32 bytes"))?;
            Ok(Digest::from_raw(bytes))
        };
        Ok(Line {
            index,
            body: STANDARD.decode(body).context("body")?,
            payload: payload.map(|payload| STANDARD.decode(payload)).transpose().context("payload")?,
            proof: proof.map(|proof| proof.iter().map(hash).collect::<anyhow::Result<_>>()).transpose()?,
        })
    }
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

    /// Whether it claims to hold every entry.
    pub fn is_whole(&self) -> bool {
        self.lines.iter().all(|line| line.proof.is_none())
    }
}

pub fn read(folder: &Path) -> anyhow::Result<Bundle> {
    let text = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let entries = text(ENTRIES)?;
    if !entries.is_empty() && !entries.ends_with('\n') {
        bail!("{ENTRIES}: its last line is cut off");
    }
    let lines = entries.lines().enumerate();
    let lines = lines.map(|(n, line)| Line::decode(line).with_context(|| format!("{ENTRIES}: line {}", n + 1)));
    Ok(Bundle {
        checkpoint: text(CHECKPOINT)?,
        key: text(KEY)?,
        lines: lines.collect::<anyhow::Result<_>>()?,
        tiles: tiles(&folder.join("tile"))?,
    })
}

fn tiles(folder: &Path) -> anyhow::Result<BTreeMap<(u8, u64), Vec<Hash>>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = if folder.is_dir() { vec![folder.to_owned()] } else { Vec::new() };
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
                open.push(entry?.path());
            }
            continue;
        }
        let name = path.strip_prefix(folder).map(|path| path.display().to_string()).unwrap_or_default();
        let tile = parse_tile(&name).with_context(|| format!("tile/{name}: is not the name of a tile"))?;
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let (chunks, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || chunks.is_empty() || chunks.len() > TILE_WIDTH {
            bail!("tile/{name}: is not 1 to {TILE_WIDTH} hashes");
        }
        found.insert((tile.level, tile.index), chunks.iter().copied().map(Digest::from_raw).collect());
    }
    Ok(found)
}

/// `0/x001/234` or `0/x001/234.p/5`.
fn parse_tile(name: &str) -> Option<Tile> {
    let (level, rest) = name.split_once('/')?;
    let path = rest.split_once(".p/").map_or(rest, |(path, _)| path);
    let mut index: u64 = 0;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
        let number: u64 = (digits.len() == 3).then(|| digits.parse().ok())??;
        index = index.checked_mul(1000)?.checked_add(number)?;
    }
    Some(Tile { level: level.parse().ok()?, index })
}
