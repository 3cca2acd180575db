//! The log: entries in the transaction of their change, put in order by one sequencer.

mod configuration;
mod cosignatures;
mod erase;
mod read;
mod sequence;
mod write;

pub use cosignatures::Witnessed;
pub use erase::Erased;
pub use read::Snapshot;
pub(crate) use read::unsigned;
pub use sequence::{LogKeys, Sequenced};
pub(crate) use write::{LogEvent, append};
