//! Against Qubic's own library, and against a server that checks with it what it is sent.
#![allow(clippy::unwrap_used, reason = "a test")]

mod counterpart;
mod evidence;
mod exchange;
mod once;
mod oracle;
mod seed;
