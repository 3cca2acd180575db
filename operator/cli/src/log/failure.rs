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
    /// Payloads are missing, and no entry of the log says that they were erased: their places, in order.
    #[error("{}", taken(.0))]
    Taken(Vec<u64>),
    #[error("tile {}/{}: {why}", .tile.level, .tile.index)]
    Tile { tile: Tile, why: &'static str },
    #[error("the entries do not lead to the root that was signed, and the export's tiles cannot tell why: {0}")]
    Root(&'static str),
}

pub(super) fn entry_fails<T>(index: u64, why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Entry { index, why: why.into() })
}

fn taken(places: &[u64]) -> String {
    const NAMED: usize = 8;
    let named: Vec<String> = places.iter().take(NAMED).map(u64::to_string).collect();
    let more = if places.len() > NAMED { format!(" and {} more", places.len() - NAMED) } else { String::new() };
    let which = if places.len() == 1 { "entry" } else { "entries" };
    format!(
        "{which} {}{more}: the payload is gone, and no entry of the export says that it was erased; where it was, export again, as of a checkpoint that holds the erasure",
        named.join(", ")
    )
}
