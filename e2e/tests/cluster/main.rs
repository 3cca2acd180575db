//! What holds on a real cluster, a file a subject. One binary, as each would carry everything that it links.
#![allow(clippy::unwrap_used, reason = "tests")]

mod agents;
mod attacks;
mod budgets;
mod disruption;
mod egress;
mod gitops;
mod guard;
mod gvisor;
mod log;
mod manifests;
mod network;
mod payments;
mod reading;
mod signing;
mod simulate;
mod tasks;
mod witness;
