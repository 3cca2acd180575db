//! The webhook's certificate: made and rotated here, or provided by somebody else.

mod install;
mod issue;

pub use install::{EVERY, Keeper, serve_provided};
