//! What is answered: admission reviews, readers of the record, probes and metrics.

pub mod admission;
pub mod api;
pub mod certs;
pub mod http;
pub mod probe;
