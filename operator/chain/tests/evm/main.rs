//! Payments and anchors on a real chain.
#![allow(clippy::unwrap_used, reason = "a test")]

mod anvil;
mod contract;
mod driver;
mod evidence;
mod lies;
mod life;
mod proxy;
mod random;
