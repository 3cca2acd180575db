//! A transparency log: a Merkle tree over entries in which nothing can be changed, dropped or reordered without a
//! reader noticing who kept one earlier checkpoint.
//!
//! Hashes are those of RFC 6962, section 2.1. Checkpoints, signed notes and tiles are in the formats of C2SP
//! (<https://c2sp.org/tlog-checkpoint>, `signed-note`, `tlog-tiles`), so that tools made for other logs read this one;
//! and so is what witnesses say of it (`tlog-witness`, `tlog-cosignature`, `tlog-policy`).

mod anchor;
mod checkpoint;
mod cosignature;
pub mod entry;
mod hash;
mod line;
mod note;
pub mod policy;
mod proof;
mod rotation;
mod tile;
mod tree;
pub mod witness;

pub use anchor::Anchor;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosignature::{Cosignature, CosigningKey, WitnessKey};
pub use hash::{Hash, empty_root, leaf, node};
pub use line::{EncodedLine, Line};
pub use note::{NoteError, Signature, SigningKey, VerifyingKey};
pub use proof::{MakeError, ProofError, consistency, inclusion, verify_consistency, verify_inclusion};
pub use rotation::{RotationError, rotate, verify_rotation};
pub use tile::{TILE_WIDTH, Tile, TileStore, Tiles, parse_index, perfect};
pub use tree::{Appended, CompactRange};
