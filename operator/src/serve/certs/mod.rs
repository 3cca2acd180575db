//! Certificates: the webhook's, made and rotated here or provided by somebody else, and the broker's.

mod install;
mod issue;

pub use install::{EVERY, Keeper, keep_for, serve_provided};
