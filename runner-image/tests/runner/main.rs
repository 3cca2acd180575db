//! The real runner on real documents: what it does, what it refuses, and what a skill cannot do from inside.
#![allow(clippy::unwrap_used, reason = "a test")]

mod attempts;
mod broker;
mod confined;
mod egress;
mod harness;
mod sockets;
mod workspace;
