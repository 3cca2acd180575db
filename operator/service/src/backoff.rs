//! Pauses between tries.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Up to half as much again, drawn from what failed and from which try it was, so that what failed together does not
/// come back together.
pub fn spread(pause: Duration, id: i64, tries: u32) -> Duration {
    let drawn = Sha256::new().chain_update(id.to_be_bytes()).chain_update(tries.to_be_bytes()).finalize();
    pause + (pause / 2) * u32::from(drawn[0]) / 256
}
