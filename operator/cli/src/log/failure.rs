//! Why an export does not hold.

use countersign_core::tlog::Tile;
use thiserror::Error;

/// What does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    #[error("entry {index}: {why}")]
    Entry { index: u64, why: String },
    #[error("tile {}/{}: {why}", .tile.level, .tile.index)]
    Tile { tile: Tile, why: &'static str },
    #[error("the entries do not lead to the root that was signed, and the export's tiles cannot tell why: {0}")]
    Root(&'static str),
}

pub(super) fn entry_fails<T>(index: u64, why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Entry { index, why: why.into() })
}
