//! Certificates: the webhook's, made and rotated here or provided by somebody else, and the broker's.

mod agreed;
mod install;
mod issue;

pub use install::{EVERY, Keeper, PATIENCE, keep_for};
