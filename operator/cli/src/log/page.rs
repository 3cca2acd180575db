//! What is read of the log, and in what pieces, wherever it is read from.

use countersign_core::tlog::Line;
use countersign_core::tlog::entry::TaskName;

/// Entries to a page.
pub const PAGE: u32 = 1000;

/// What an export is made against.
pub struct Snapshot {
    pub checkpoint: String,
    pub size: u64,
    pub keys: Vec<String>,
    pub rotations: Vec<Line>,
    pub selection: Selected,
    pub from: u64,
}

/// Which entries are read.
#[derive(Clone)]
pub enum Selected {
    All,
    Task(TaskName),
}

/// Where a page ended, if another follows.
pub struct Page {
    pub lines: Vec<Line>,
    pub next: Option<u64>,
}
