//! The witness as a process on a socket, and what a crash at any step leaves behind.
#![allow(clippy::unwrap_used, reason = "a test")]

mod crash;
mod history;
mod process;
mod status;
mod together;
