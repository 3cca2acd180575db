//! The admission webhook: stamps signatures and requesters, and refuses what can be known to be wrong.

mod access;
pub mod bounds;
pub mod mark;
pub mod requester;
mod review;
mod server;
mod stamp;
mod validate;
pub mod way;

pub use server::{Shared, bound_by, router, serve};
