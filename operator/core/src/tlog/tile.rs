//! Tiles: 256 hashes of one level together, as C2SP's tlog-tiles keeps and serves them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::hash::{Hash, node};
use crate::digest::Digest;

/// Hashes of a full tile.
pub const TILE_WIDTH: usize = 256;
/// Levels of the tree from one level of tiles to the next.
pub(super) const TILE_HEIGHT: u32 = 8;
const WIDTH: u64 = TILE_WIDTH as u64;

/// Names a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// How far up: 0 for the hashes of leaves, and eight levels of the tree from each to the next.
    pub level: u8,
    /// The tile's place in its level, from 0.
    pub index: u64,
}

/// Whoever has the tiles.
pub trait TileStore {
    /// Why a tile could not be read.
    type Error;
    /// The hashes of a tile, as many as there are.
    fn tile(&mut self, tile: Tile) -> Result<Vec<Hash>, Self::Error>;
}

/// Tiles in memory.
pub type Tiles = BTreeMap<Tile, Vec<Hash>>;

impl TileStore for Tiles {
    type Error = Infallible;
    fn tile(&mut self, tile: Tile) -> Result<Vec<Hash>, Infallible> {
        Ok(self.get(&tile).cloned().unwrap_or_default())
    }
}

impl Tile {
    /// The tile that has the hash at `index` of its level, and where in the tile it stands.
    pub fn holding(level: u8, index: u64) -> (Tile, usize) {
        (Tile { level, index: index / WIDTH }, (index % WIDTH) as usize)
    }

    /// The tiles of a tree of `size` leaves, each with the number of its hashes, from the leaves up.
    pub fn all(size: u64) -> impl Iterator<Item = (Tile, usize)> {
        let levels = std::iter::successors(Some((0, size)), |(level, hashes)| Some((level + 1, hashes / WIDTH)));
        levels.take_while(|(_, hashes)| *hashes > 0).flat_map(|(level, hashes)| {
            let width = move |index: u64| (hashes - index * WIDTH).min(WIDTH) as usize;
            (0..hashes.div_ceil(WIDTH)).map(move |index| (Tile { level, index }, width(index)))
        })
    }

    /// The tiles from which the right edge of a tree of `size` leaves is loaded; those that it has no hash in are
    /// among them.
    pub fn edge(size: u64) -> impl Iterator<Item = Tile> {
        (0..8).map(move |level| Tile::holding(level, size >> (TILE_HEIGHT * u32::from(level))).0)
    }

    /// A tile's bytes: its hashes, one after the other.
    pub fn encode(hashes: &[Hash]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }

    /// The hashes of a tile's bytes; `None` where the last one is cut off.
    pub fn decode(bytes: &[u8]) -> Option<Vec<Hash>> {
        let (hashes, rest) = bytes.as_chunks();
        rest.is_empty().then(|| hashes.iter().copied().map(Digest::from_raw).collect())
    }

    /// The path at which a log serves it, `width` hashes wide: `tile/0/x001/234` or `tile/0/x001/234.p/5`.
    pub fn path(self, width: usize) -> String {
        let partial = if width == TILE_WIDTH { String::new() } else { format!(".p/{width}") };
        format!("tile/{}/{}{partial}", self.level, index_path(self.index))
    }

    /// The tile of a path below `tile/`, `0/x001/234.p/5`, and how many of its hashes are meant.
    pub fn parse(path: &str) -> Option<(Tile, usize)> {
        let (level, rest) = path.split_once('/')?;
        let (index, width) = parse_index(rest)?;
        // One way to write each.
        let tile = Tile { level: level.parse().ok()?, index };
        (tile.path(width).strip_prefix("tile/") == Some(path)).then_some((tile, width))
    }
}

/// Three digits a part, all but the last with an `x` before them.
fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// The index and width of a path such as `x001/234.p/5`.
pub fn parse_index(path: &str) -> Option<(u64, usize)> {
    let (path, width) = match path.split_once(".p/") {
        None => (path, TILE_WIDTH),
        Some((path, width)) => (path, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?),
    };
    let mut index: u64 = 0;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
        let number: u64 = (digits.len() == 3).then(|| digits.parse().ok())??;
        index = index.checked_mul(1000)?.checked_add(number)?;
    }
    (index_path(index) == path).then_some((index, width))
}

/// The root of the complete subtree at this height and index, from the tiles below it; `None` where they lack it.
pub(super) fn subtree<S: TileStore>(store: &mut S, height: u32, index: u64) -> Result<Option<Hash>, S::Error> {
    let (level, above) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
    // So many hashes of the level make up the subtree, and a tile holds them all.
    let count = 1usize << above;
    let first = index << above;
    let Ok(level) = u8::try_from(level) else { return Ok(None) };
    let (tile, offset) = Tile::holding(level, first);
    let hashes = store.tile(tile)?;
    let Some(hashes) = hashes.get(offset..offset + count) else { return Ok(None) };
    Ok(Some(perfect(hashes)))
}

/// The root over hashes whose number is a power of two, as those of a full tile.
pub fn perfect(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node(&perfect(left), &perfect(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{CompactRange, empty_root};

    #[test]
    fn a_tree_has_these_tiles_and_no_others() {
        let all = |size| Tile::all(size).map(|(tile, width)| (tile.level, tile.index, width)).collect::<Vec<_>>();
        assert_eq!(all(0), []);
        assert_eq!(all(1), [(0, 0, 1)]);
        assert_eq!(all(256), [(0, 0, 256), (1, 0, 1)]);
        assert_eq!(all(600), [(0, 0, 256), (0, 1, 256), (0, 2, 88), (1, 0, 2)]);
        assert!(all(65_537).ends_with(&[(0, 256, 1), (1, 0, 256), (2, 0, 1)]));
        for size in [1, 255, 256, 257, 65_536, 70_001] {
            let (mut range, mut tiles) = (CompactRange::default(), Tiles::new());
            for _ in 0..size {
                range.append(empty_root(), |appended| tiles.entry(appended.tile()).or_default().push(appended.hash));
            }
            let widths = tiles.iter().map(|(tile, hashes)| (*tile, hashes.len()));
            assert!(widths.eq(Tile::all(size)), "{size} leaves");
            tiles.retain(|tile, _| Tile::edge(size).any(|edge| edge == *tile));
            let Ok(again) = CompactRange::from_tiles(&mut tiles, size);
            assert_eq!(again, Some(range), "{size} leaves, from their edge");
        }
    }

    #[test]
    fn the_bytes_of_a_tile_are_its_hashes() {
        let hashes = [empty_root(), node(&empty_root(), &empty_root())];
        let bytes = Tile::encode(&hashes);
        assert_eq!(Tile::decode(&bytes).unwrap(), hashes);
        assert_eq!(Tile::decode(&bytes[1..]), None);
        assert_eq!(Tile::decode(&[]), Some(Vec::new()));
    }

    #[test]
    fn paths_are_those_of_tlog_tiles() {
        for (index, path) in [(0, "000"), (999, "999"), (1000, "x001/000"), (1_234_067, "x001/x234/067")] {
            assert_eq!(index_path(index), path);
        }
        assert_eq!(Tile { level: 1, index: 1234 }.path(256), "tile/1/x001/234");
        assert_eq!(Tile { level: 0, index: 7 }.path(5), "tile/0/007.p/5");
        assert_eq!(Tile::parse("1/x001/234"), Some((Tile { level: 1, index: 1234 }, 256)));
        assert_eq!(Tile::parse("0/007.p/5"), Some((Tile { level: 0, index: 7 }, 5)));
        for wrong in [
            "",
            "0",
            "0/7",
            "0/0007",
            "00/007",
            "0/x007",
            "0/x000/007",
            "0/007.p/0",
            "0/007.p/256",
            "0/007.p/05",
            "256/000",
            "-1/000",
            "0/+07",
        ] {
            assert_eq!(Tile::parse(wrong), None, "{wrong}");
        }
    }
}
