//! Verification, from the export and a public key alone: no cluster, no database, no clock.

use std::collections::BTreeMap;

use countersign_core::tlog::{
    Checkpoint, Frontier, Hash, TILE_WIDTH, VerifyingKey, entry, leaf, perfect, verify_inclusion,
};
use thiserror::Error;

use super::bundle::{Bundle, Line};

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    pub checkpoint: Checkpoint,
    pub entries: usize,
    pub erased: usize,
    /// Every entry of the log, and not only some.
    pub whole: bool,
}

/// What does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    #[error("entry {index}: {why}")]
    Entry { index: u64, why: String },
    #[error("tile {level}/{index}: {why}")]
    Tile { level: u8, index: u64, why: &'static str },
    #[error("the entries do not lead to the root that was signed, and the export's tiles cannot tell why: {0}")]
    Root(&'static str),
}

fn entry_fails<T>(index: u64, why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Entry { index, why: why.into() })
}

impl std::fmt::Display for Proved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Proved { checkpoint, entries, erased, whole } = self;
        writeln!(f, "The checkpoint of {} with {} entries is signed.", checkpoint.origin, checkpoint.size)?;
        if *whole {
            writeln!(f, "These are all of its {entries} entries, in their order, and nothing else.")?;
        } else {
            writeln!(
                f,
                "Each of these {entries} entries stands in it at its place. Whether others of the same Task were left out, only an export of the whole log can tell."
            )?;
        }
        write!(f, "{} payloads are what was hashed then; {erased} were erased.", entries - erased)
    }
}

/// Everything that the export can prove, or the first thing that does not hold.
pub fn verify(bundle: &Bundle, key: &VerifyingKey) -> Result<Proved, Failure> {
    let checkpoint =
        Checkpoint::open(&bundle.checkpoint, key).map_err(|error| Failure::Checkpoint(error.to_string()))?;
    let whole = bundle.is_whole();
    order(bundle, &checkpoint, whole)?;
    let leaves: Vec<Hash> = bundle.lines.iter().map(|line| leaf(&line.body)).collect();
    if whole {
        tree(bundle, &checkpoint, &leaves)?;
    } else {
        proofs(bundle, &checkpoint, &leaves)?;
    }
    let mut task = None;
    for line in &bundle.lines {
        content(line, whole, &mut task)?;
    }
    let erased = bundle.lines.iter().filter(|line| line.payload.is_none()).count();
    Ok(Proved { checkpoint, entries: bundle.lines.len(), erased, whole })
}

/// Every entry at its place: none missing where all are claimed, none twice, none out of order.
fn order(bundle: &Bundle, checkpoint: &Checkpoint, whole: bool) -> Result<(), Failure> {
    let mut next = 0;
    for line in &bundle.lines {
        let index = line.index;
        if index >= checkpoint.size {
            return entry_fails(index, format!("is beyond the {} entries of the checkpoint", checkpoint.size));
        }
        if index < next {
            return entry_fails(index, "stands twice, or after one that comes later");
        }
        if whole && index > next {
            return entry_fails(next, "is missing");
        }
        next = index + 1;
    }
    if whole && next < checkpoint.size {
        return entry_fails(next, "is missing");
    }
    Ok(())
}

fn proofs(bundle: &Bundle, checkpoint: &Checkpoint, leaves: &[Hash]) -> Result<(), Failure> {
    for (line, leaf) in bundle.lines.iter().zip(leaves) {
        let Some(proof) = &line.proof else { return entry_fails(line.index, "has no proof") };
        verify_inclusion(leaf, line.index, checkpoint.size, proof, &checkpoint.root).or_else(|error| {
            entry_fails(line.index, format!("is not what was logged, or its proof is not its own: {error}"))
        })?;
    }
    Ok(())
}

fn tree(bundle: &Bundle, checkpoint: &Checkpoint, leaves: &[Hash]) -> Result<(), Failure> {
    let mut frontier = Frontier::default();
    let mut tiles: BTreeMap<(u8, u64), Vec<Hash>> = BTreeMap::new();
    for leaf in leaves {
        frontier.append(*leaf, |appended| {
            tiles.entry((appended.level, appended.index / TILE_WIDTH as u64)).or_default().push(appended.hash);
        });
    }
    if frontier.root() != checkpoint.root {
        return Err(locate(bundle, checkpoint, leaves));
    }
    // The tiles prove nothing more; but what is exported is what was logged, all of it.
    let named = tiles.keys().chain(bundle.tiles.keys());
    match named.into_iter().find(|tile| tiles.get(tile) != bundle.tiles.get(tile)) {
        Some(&(level, index)) => Err(Failure::Tile { level, index, why: "is not that of these entries" }),
        None => Ok(()),
    }
}

/// Which entry it is: the tiles that lead to the signed root say what each should have been.
fn locate(bundle: &Bundle, checkpoint: &Checkpoint, leaves: &[Hash]) -> Failure {
    let mut width = checkpoint.size;
    let mut level: u8 = 0;
    // Each level against the one above it; the hashes of a full tile make one hash there.
    loop {
        for index in 0..width.div_ceil(TILE_WIDTH as u64) {
            let expected = (width - index * TILE_WIDTH as u64).min(TILE_WIDTH as u64);
            let found = bundle.tiles.get(&(level, index)).map_or(0, Vec::len) as u64;
            if found != expected {
                return Failure::Tile { level, index, why: "has not the hashes that it should have" };
            }
            let above = bundle.tiles.get(&(level + 1, index / TILE_WIDTH as u64));
            let above =
                above.and_then(|tile| tile.get(usize::try_from(index % TILE_WIDTH as u64).unwrap_or(usize::MAX)));
            let full = expected == TILE_WIDTH as u64;
            if full && above != bundle.tiles.get(&(level, index)).map(|hashes| perfect(hashes)).as_ref() {
                return Failure::Tile { level, index, why: "is not what the tile above it says" };
            }
        }
        width /= TILE_WIDTH as u64;
        if width == 0 {
            break;
        }
        level += 1;
    }
    let hashes: Vec<Hash> = (0..checkpoint.size.div_ceil(TILE_WIDTH as u64))
        .flat_map(|index| bundle.tiles.get(&(0, index)).cloned().unwrap_or_default())
        .collect();
    if root_of(&hashes) != checkpoint.root {
        return Failure::Root("they lead to another root themselves");
    }
    match leaves.iter().zip(&hashes).position(|(leaf, hash)| leaf != hash) {
        Some(index) => Failure::Entry { index: index as u64, why: "is not what was logged".to_owned() },
        None => Failure::Root("every entry is what they say"),
    }
}

fn root_of(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    hashes.iter().for_each(|hash| frontier.append(*hash, |_| ()));
    frontier.root()
}

/// The entry says something that can be read, and its payload is the one that it names.
fn content(line: &Line, whole: bool, task: &mut Option<String>) -> Result<(), Failure> {
    let opened = entry::open(&line.body).or_else(|why| entry_fails(line.index, why))?;
    if let Some(payload) = &line.payload {
        entry::open_payload(&opened, payload).or_else(|why| entry_fails(line.index, why))?;
    }
    let of = opened.task.map(|task| task.uid).unwrap_or_default();
    match task {
        Some(first) if !whole && *first != of => entry_fails(line.index, "is of another Task than the first"),
        Some(_) => Ok(()),
        None => {
            *task = Some(of);
            Ok(())
        }
    }
}
