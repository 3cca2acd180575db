//! A skill's output: exactly one JSON value, within its bound.

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::contract::Status;

/// Reads stdout to its end. One byte more than the limit is proof enough that it is too large.
pub fn read_bounded(from: impl Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes that count: white space around them is not part of the value, and nothing at all is null.
pub fn check(bytes: &[u8]) -> Result<&str, (Status, String)> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| (Status::OutputInvalid, format!("the output is not UTF-8: {error}")))?
        .trim_matches([' ', '\t', '\n', '\r']);
    if text.is_empty() {
        return Ok("null");
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|error| (Status::OutputInvalid, format!("the output is not one JSON value: {error}")))?;
    Ok(text)
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
