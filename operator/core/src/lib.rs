//! The pure core of Countersign: no clock, no client, no randomness, no files.
//!
//! The leaf modules know nothing of Tasks; the rest is built on them.

pub mod cel;
pub mod digest;
pub mod json;
pub mod record;
pub mod schema;
pub mod template;
pub mod time;
