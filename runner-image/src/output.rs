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
    // Nothing that keeps an output can keep this. Most outputs hold no such escape and are not parsed a second time.
    if text.contains("\\u0000") && serde_json::from_str(text).is_ok_and(|value| holds_nul(&value)) {
        return Err((Status::OutputInvalid, "the output holds the character U+0000; leave it out".to_owned()));
    }
    Ok(text)
}

fn holds_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().any(holds_nul),
        serde_json::Value::Object(members) => {
            members.iter().any(|(key, member)| key.contains('\0') || holds_nul(member))
        }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_is_no_output() {
        for (output, valid) in [
            (r#"{"a": "\u0001"}"#, true),
            (r#"{"a": "\\u0000"}"#, true),
            (r#"{"a": ["\u0000"]}"#, false),
            (r#"{"\u0000": 1}"#, false),
        ] {
            let answer = check(output.as_bytes());
            assert_eq!(answer.is_ok(), valid, "{output}: {answer:?}");
        }
    }
}
