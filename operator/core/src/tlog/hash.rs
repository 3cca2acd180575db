//! The hashes of RFC 6962, section 2.1: leaves and inner nodes can never be taken for each other.

use crate::digest::Digest;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a leaf or of an inner node.
pub type Hash = Digest;

/// `SHA-256(0x00 || entry)`.
pub fn leaf(entry: &[u8]) -> Hash {
    hash(&[&[0], entry])
}

/// `SHA-256(0x01 || left || right)`.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of a tree without leaves: `SHA-256()`.
pub fn empty_root() -> Hash {
    hash(&[])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    Digest::from_raw(hasher.finalize().into())
}
