//! What is seen of the cluster: watches, kept small, and who is told of a change.

pub mod caches;
pub mod fingerprints;
pub mod index;
pub mod trigger;
pub mod views;
