//! The pure core of Countersign: no clock, no client, no randomness, no files.
//!
//! The leaf modules (`cel`, `digest`, `json`, `schema`, `template`, `time`) know nothing of Tasks; the rest
//! is built on them. [`decide`] is where everything that happens is decided.

#![warn(missing_docs)]

pub mod agent;
pub mod approval;
pub mod binding;
pub mod blocked;
pub mod bounds;
pub mod budget;
pub mod causes;
pub mod cel;
pub mod check;
mod condition;
pub mod decide;
pub mod digest;
pub mod effect;
pub mod escape;
pub mod event;
pub mod fingerprint;
pub mod json;
pub mod judge;
mod kept;
pub mod mark;
pub mod money;
pub mod names;
pub mod observed;
pub mod outbox;
pub mod payment;
pub mod plan;
pub mod policy;
mod problem;
pub mod record;
pub mod run;
pub mod sandbox;
pub mod schema;
pub mod simulate;
pub mod status;
pub mod template;
pub mod time;
pub mod tlog;
pub mod token;
