//! An independent witness of transparency logs (<https://c2sp.org/tlog-witness>). It knows a log by its public keys
//! alone, cosigns a checkpoint only if it follows from the one that it cosigned last, and keeps it on disk before
//! anybody learns of it: so a log that shows it another history than it shows somebody else gets no cosignature.
//!
//! | path | what it gives |
//! |---|---|
//! | `POST /add-checkpoint` | a cosignature, or why there is none |
//! | `/healthz`, `/metrics` | that it runs, and what it has done |

pub mod folder;
pub mod metrics;
pub mod serve;
pub mod witness;
