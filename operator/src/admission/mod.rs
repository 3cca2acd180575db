//! The admission webhook: stamps signatures, and refuses what can be known to be wrong.

mod review;
mod server;
mod stamp;
mod validate;

pub use server::{router, serve};
