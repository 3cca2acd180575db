//! All that touches a network outside of the cluster: payments and anchors. The outbox in PostgreSQL is the only way
//! here, and the signer the only one that holds a key.
//!
//! `network` is what they have in common; `driver` takes items from the outbox and follows them to their end, over
//! whatever network. `evm`, `qubic` and `timestamp` are the networks, each with the offline check of what it leaves.

pub mod driver;
pub mod evm;
pub mod metrics;
pub mod network;
pub mod qubic;
pub mod serve;
pub mod settings;
pub mod timestamp;
