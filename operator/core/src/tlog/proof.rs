//! Proofs: that an entry is in a tree, and that a tree is the beginning of another. Made from tiles, verified from
//! nothing (RFC 9162, sections 2.1.3 and 2.1.4, whose algorithms are those of RFC 6962).

use thiserror::Error;

use super::hash::{Hash, node};
use super::tile::{TileStore, subtree};

/// Why a proof does not hold, or why there can be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The tree has no such entry.
    #[error("index {index} is not in a tree of {size} entries")]
    Index {
        /// The entry's place, from 0.
        index: u64,
        /// How many entries the tree has.
        size: u64,
    },
    /// The tree that is to be the beginning is the larger one.
    #[error("a tree of {old} entries is no beginning of one of {new}")]
    Sizes {
        /// How many entries that has.
        old: u64,
        /// How many entries the other has.
        new: u64,
    },
    /// It has more hashes than it takes, or fewer.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// It leads to another root than the one that was to be proved.
    #[error("the proof leads to another root")]
    Root,
}

/// Why a proof could not be made.
#[derive(Debug, Error)]
pub enum MakeError<E> {
    /// There is no such entry, or no such tree.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Whoever has the tiles could not read one.
    #[error("a tile could not be read: {0}")]
    Store(E),
    /// The tiles lack a hash that the tree must have: the root of a complete subtree.
    #[error("the tiles do not hold the subtree of height {height} at {index}")]
    Missing {
        /// Its height: it is over 2^height leaves.
        height: u32,
        /// Its place among the subtrees of that height, from 0.
        index: u64,
    },
}

/// The hashes that lead from leaf `index` to the root of the tree of `size`.
pub fn inclusion<S: TileStore>(store: &mut S, index: u64, size: u64) -> Result<Vec<Hash>, MakeError<S::Error>> {
    if index >= size {
        return Err(ProofError::Index { index, size }.into());
    }
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    // From the root down: whichever side the leaf is not on is a hash of the proof.
    while end - start > 1 {
        let middle = start + largest_power_below(end - start);
        if index < middle {
            path.push(root_of(store, middle, end)?);
            end = middle;
        } else {
            path.push(root_of(store, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The hashes that show that the tree of `old` entries is the beginning of that of `new`.
pub fn consistency<S: TileStore>(store: &mut S, old: u64, new: u64) -> Result<Vec<Hash>, MakeError<S::Error>> {
    if old > new {
        return Err(ProofError::Sizes { old, new }.into());
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut path = Vec::new();
    let (mut start, mut end, mut whole) = (0, new, true);
    while old != end {
        let middle = start + largest_power_below(end - start);
        if old <= middle {
            path.push(root_of(store, middle, end)?);
            end = middle;
        } else {
            path.push(root_of(store, start, middle)?);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(root_of(store, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// The root over the leaves from `start` to `end`, where `start` is a multiple of what the range spans.
fn root_of<S: TileStore>(store: &mut S, start: u64, end: u64) -> Result<Hash, MakeError<S::Error>> {
    let mut roots = Vec::new();
    let mut at = start;
    while at < end {
        let span = end - at;
        let height =
            if span.is_power_of_two() { span.trailing_zeros() } else { largest_power_below(span).trailing_zeros() };
        let index = at >> height;
        let root = subtree(store, height, index).map_err(MakeError::Store)?;
        roots.push(root.ok_or(MakeError::Missing { height, index })?);
        at += 1 << height;
    }
    let folded = roots.into_iter().rev().reduce(|right, left| node(&left, &right));
    folded.ok_or_else(|| ProofError::Length.into())
}

/// The largest power of two below `n`, which is at least two.
fn largest_power_below(n: u64) -> u64 {
    1 << (u64::BITS - 1 - (n - 1).leading_zeros())
}

/// Whether `leaf` stands at `index` in the tree of `size` entries with this root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (mut fnode, mut snode) = (index, size - 1);
    let mut hash = *leaf;
    for step in proof {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            hash = node(step, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            hash = node(&hash, step);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Whether the tree of `old` entries and root `old_root` is the beginning of that of `new` and `new_root`.
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Sizes { old, new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(ProofError::Length);
        }
        return if old == 0 || old_root == new_root { Ok(()) } else { Err(ProofError::Root) };
    }
    let mut steps = proof.iter();
    let first = if old.is_power_of_two() { *old_root } else { *steps.next().ok_or(ProofError::Length)? };
    let (mut fnode, mut snode) = (old - 1, new - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut from_old, mut from_new) = (first, first);
    for step in steps {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            from_old = node(step, &from_old);
            from_new = node(step, &from_new);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            from_new = node(&from_new, step);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length);
    }
    if from_old == *old_root && from_new == *new_root { Ok(()) } else { Err(ProofError::Root) }
}
