//! Verification, from the export and a public key alone: no cluster, no database, no clock.

use countersign_core::tlog::entry::TaskName;
use countersign_core::tlog::{
    Checkpoint, CompactRange, Hash, TILE_WIDTH, Tile, Tiles, VerifyingKey, perfect, verify_inclusion,
};

use super::bundle::Bundle;
use super::erased;
use super::failure::{Failure, entry_fails};
use super::keys::{self, Keys};
use super::read::{self, Content, Read};

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    pub checkpoint: Checkpoint,
    pub entries: usize,
    pub erased: usize,
    pub extent: Extent,
    /// Which key signs when.
    pub keys: Keys,
}

/// Which entries they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every entry of the log.
    Whole,
    /// None, as nothing was logged since then.
    Nothing,
    /// Some, of which at least one of these is so.
    Part {
        /// They are all from this place on.
        from: Option<u64>,
        /// They are all of this Task.
        task: Option<String>,
    },
}

impl std::fmt::Display for Proved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Proved { checkpoint, entries, erased, extent, keys } = self;
        writeln!(f, "The checkpoint of {} with {} entries is signed.", checkpoint.origin, checkpoint.size)?;
        if keys.followed() > 0 {
            writeln!(
                f,
                "Its key follows from the one that you trust over {} rotations, each signed by both keys.",
                keys.followed()
            )?;
        }
        match extent {
            Extent::Whole => writeln!(f, "These are all of its {entries} entries, in their order, and nothing else.")?,
            Extent::Nothing => {
                return write!(f, "No entry is in this export: nothing was logged from entry {} on.", checkpoint.size);
            }
            Extent::Part { from, task } => {
                writeln!(f, "Each of these {entries} entries stands in it at its place.")?;
                if let Some(from) = from {
                    writeln!(f, "They are all of its entries from {from} on, in their order, and nothing else.")?;
                }
                if let Some(task) = task {
                    writeln!(f, "They are of the Task {task}.")?;
                }
            }
        }
        write!(
            f,
            "{} payloads are what was hashed then; {erased} were erased, as the log itself says.",
            entries - erased
        )
    }
}

impl Proved {
    /// Whether the export could not have left out that the checkpoint's key was retired: it holds every entry of the
    /// time of that key.
    pub fn tells_rotations(&self) -> bool {
        let from = match &self.extent {
            Extent::Whole => 0,
            Extent::Nothing => self.checkpoint.size,
            Extent::Part { from: Some(from), task: _ } => *from,
            Extent::Part { from: None, task: _ } => return false,
        };
        from <= self.keys.since(&self.checkpoint)
    }

    /// What an export of this kind cannot prove, whatever its reader gives.
    pub fn open(&self) -> Option<String> {
        let Extent::Part { from: None, task: Some(_) } = &self.extent else { return None };
        Some("whether entries of the Task were left out (only an export of the whole log can tell)".to_owned())
    }
}

/// Everything that the export can prove, or the first thing that does not hold.
pub fn verify(bundle: &Bundle, trusted: &VerifyingKey) -> Result<Proved, Failure> {
    let read = read::all(&bundle.lines);
    let keys = Keys::of(bundle, &read, trusted)?;
    let checkpoint = keys.open(&bundle.checkpoint).map_err(Failure::Checkpoint)?;
    keys::logged(bundle, &checkpoint)?;
    let whole = bundle.is_whole(&checkpoint);
    order(bundle, &checkpoint, whole)?;
    let leaves: Vec<Hash> = read.iter().map(|read| read.leaf).collect();
    if whole {
        tree(bundle, &checkpoint, &leaves)?;
    } else {
        proofs(bundle, &checkpoint, &leaves)?;
    }
    let mut contents: Vec<Content> = Vec::with_capacity(read.len());
    for (line, Read { leaf: _, content }) in bundle.lines.iter().zip(read) {
        contents.push(content.or_else(|why| entry_fails(line.index, why))?);
    }
    let extent = if whole { Extent::Whole } else { extent(bundle, &checkpoint, &contents)? };
    let read = bundle.lines.iter().zip(&contents);
    let erased = erased::count(
        &read.map(|(line, Content { task, event })| (line, task.as_ref(), event.as_ref())).collect::<Vec<_>>(),
    )?;
    Ok(Proved { checkpoint, entries: bundle.lines.len(), erased, extent, keys })
}

/// Which entries some entries are: of one Task, or all from one on, or both.
fn extent(bundle: &Bundle, checkpoint: &Checkpoint, contents: &[Content]) -> Result<Extent, Failure> {
    let Some(first) = bundle.lines.first() else { return Ok(Extent::Nothing) };
    let tasks: Vec<Option<&TaskName>> = contents.iter().map(|content| content.task.as_ref()).collect();
    let other = tasks.iter().position(|task| task != &tasks[0]);
    let missing = (first.index..checkpoint.size)
        .zip(bundle.lines.iter().map(|line| Some(line.index)).chain(std::iter::repeat(None)));
    let missing = missing.filter(|(expected, index)| *index != Some(*expected)).map(|(expected, _)| expected).next();
    let task = tasks[0].filter(|_| other.is_none());
    match (missing, task, other) {
        (None, task, _) | (Some(_), task @ Some(_), _) => Ok(Extent::Part {
            from: missing.is_none().then_some(first.index),
            task: task.map(|task| format!("{}/{} ({})", task.namespace, task.name, task.uid)),
        }),
        (Some(_), None, Some(other)) => {
            entry_fails(bundle.lines[other].index, "is of another Task than the first, and these are not all entries")
        }
        (Some(missing), None, None) => entry_fails(missing, "is missing"),
    }
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
    let mut range = CompactRange::default();
    let mut tiles = Tiles::new();
    for leaf in leaves {
        range.append(*leaf, |appended| tiles.entry(appended.tile()).or_default().push(appended.hash));
    }
    if range.root() != checkpoint.root {
        return Err(locate(bundle, checkpoint, leaves));
    }
    // The tiles prove nothing more; but what is exported is what was logged, all of it.
    let named = tiles.keys().chain(bundle.tiles.keys());
    match named.into_iter().find(|tile| tiles.get(tile) != bundle.tiles.get(tile)) {
        Some(&tile) => Err(Failure::Tile { tile, why: "is not that of these entries" }),
        None => Ok(()),
    }
}

/// Which entry it is: the tiles that lead to the signed root say what each should have been.
fn locate(bundle: &Bundle, checkpoint: &Checkpoint, leaves: &[Hash]) -> Failure {
    let hashes_of = |tile: Tile| bundle.tiles.get(&tile).map_or(&[][..], Vec::as_slice);
    // Each level against the one above it; the hashes of a full tile make one hash there.
    for (tile, width) in Tile::all(checkpoint.size) {
        let hashes = hashes_of(tile);
        if hashes.len() != width {
            return Failure::Tile { tile, why: "has not the hashes that it should have" };
        }
        let (above, place) = Tile::holding(tile.level + 1, tile.index);
        if width == TILE_WIDTH && hashes_of(above).get(place) != Some(&perfect(hashes)) {
            return Failure::Tile { tile, why: "is not what the tile above it says" };
        }
    }
    let lowest = Tile::all(checkpoint.size).take_while(|(tile, _)| tile.level == 0);
    let hashes: Vec<Hash> = lowest.flat_map(|(tile, _)| hashes_of(tile)).copied().collect();
    if root_of(&hashes) != checkpoint.root {
        return Failure::Root("they lead to another root themselves");
    }
    match leaves.iter().zip(&hashes).position(|(leaf, hash)| leaf != hash) {
        Some(index) => Failure::Entry { index: index as u64, why: "is not what was logged".to_owned() },
        None => Failure::Root("every entry is what they say"),
    }
}

fn root_of(hashes: &[Hash]) -> Hash {
    let mut range = CompactRange::default();
    hashes.iter().for_each(|hash| range.append(*hash, |_| ()));
    range.root()
}
