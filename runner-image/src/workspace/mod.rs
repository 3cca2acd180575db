//! The Task's files: filled in before the skill starts, looked over and kept after it succeeded.

mod fill;
mod keep;
mod tree;

pub use fill::{Filled, fill};
pub use keep::keep;

/// Where the files are.
pub const FOLDER: &str = "/workspace";

/// The bounds of a workspace, before and after.
const FILES: usize = 1000;
const FILE_BYTES: u64 = 8 * 1024 * 1024;
const ALL_BYTES: u64 = 32 * 1024 * 1024;
