//! A growing tree, of which only the right edge is kept: the roots of the complete subtrees that its leaves form.

use super::hash::{Hash, empty_root, node};
use super::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileStore, subtree};

/// The complete subtrees of a tree, from the largest to the smallest: one for each bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    /// Root and height of each.
    subtrees: Vec<(Hash, u32)>,
}

/// A hash that became final: the root of a complete subtree of a height that tiles keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// In tiles' levels: 0 for leaves, 1 for subtrees of 256 of them.
    pub level: u8,
    /// Among the hashes of that level.
    pub index: u64,
    /// The root of that subtree; on level 0 the hash of a leaf.
    pub hash: Hash,
}

impl Appended {
    /// The tile that it is the next hash of.
    pub fn tile(&self) -> Tile {
        Tile::holding(self.level, self.index).0
    }
}

impl CompactRange {
    /// The tree of `size` leaves whose hashes of complete subtrees `stored` knows, by height and index.
    ///
    /// # Errors
    /// What `stored` returns where a hash is missing.
    pub fn load<E>(size: u64, mut stored: impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<CompactRange, E> {
        let mut subtrees = Vec::new();
        let mut start = 0;
        for height in (0..u64::BITS).rev() {
            let width = 1u64 << height;
            if size & width != 0 {
                subtrees.push((stored(height, start >> height)?, height));
                start += width;
            }
        }
        Ok(CompactRange { size, subtrees })
    }

    /// The tree of `size` leaves, from its tiles.
    ///
    /// # Errors
    /// `Ok(None)` where a tile lacks a hash that the tree must have.
    pub fn from_tiles<S: TileStore>(store: &mut S, size: u64) -> Result<Option<CompactRange>, S::Error> {
        let loaded = CompactRange::load(size, |height, index| match subtree(store, height, index) {
            Ok(Some(hash)) => Ok(hash),
            Ok(None) => Err(None),
            Err(error) => Err(Some(error)),
        });
        match loaded {
            Ok(range) => Ok(Some(range)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds one leaf; `final_hash` is told of each hash that tiles keep.
    pub fn append(&mut self, leaf: Hash, mut final_hash: impl FnMut(Appended)) {
        let mut hash = leaf;
        let mut height = 0;
        let mut index = self.size;
        final_hash(Appended { level: 0, index, hash });
        while let Some((left, _)) = self.subtrees.pop_if(|(_, of)| *of == height) {
            hash = node(&left, &hash);
            height += 1;
            index >>= 1;
            if height.is_multiple_of(TILE_HEIGHT) {
                let level = u8::try_from(height / TILE_HEIGHT).unwrap_or(u8::MAX);
                final_hash(Appended { level, index, hash });
            }
        }
        self.subtrees.push((hash, height));
        self.size += 1;
    }

    /// The root of the whole tree.
    pub fn root(&self) -> Hash {
        let mut from_the_right = self.subtrees.iter().rev().map(|(hash, _)| *hash);
        let Some(last) = from_the_right.next() else { return empty_root() };
        from_the_right.fold(last, |right, left| node(&left, &right))
    }
}

const _: () = assert!(1 << TILE_HEIGHT == TILE_WIDTH);
