//! Time stamps against `openssl`'s authority, and against forgeries.
#![allow(clippy::unwrap_used, reason = "a test")]

mod answers;
mod certificates;
mod forge;
mod pki;
mod server;
mod stamps;
mod tokens;

use aws_lc_rs::digest;

/// What is stamped.
const DIGEST: [u8; 32] = [0x5a; 32];

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}
