//! Outputs that nobody can use, although a runner took them.

use countersign_core::digest::Digest;
use serde_json::{Value, json};

use crate::bed::{Bed, phase};

fn taken(text: &str) -> Value {
    json!({"status": "Succeeded", "output": {"sha256": Digest::of_bytes(text).hex(), "size": text.len(), "inline": text}})
}

#[test]
fn an_output_that_cannot_be_kept_is_invalid_whoever_finds_it() {
    let runner = json!({"status": "OutputInvalid", "message": "the output holds the character U+0000; leave it out"});
    for (report, words) in [
        (taken("{\"a\": \"x\\u0000y\"}"), "a: holds the character U+0000, which cannot be stored; leave it out"),
        (taken("{\"\\u0000\": 1}"), "holds the character U+0000"),
        (taken("{\"n\": 1, \"n\": 2}"), "not strict JSON"),
        (runner, "the output holds the character U+0000"),
    ] {
        let (phase, message) = phase(&Bed::step(json!({})).end_with(Some(report), ""));
        assert!(phase == "Failed" && message.starts_with("OutputInvalid"), "{phase}: {message}");
        assert!(message.contains(words), "{words}: {message}");
    }
    let failed = json!({"status": "Failed", "message": "exit code 1"});
    let (_, message) = phase(&Bed::step(json!({})).end_with(Some(failed), ""));
    assert!(message.starts_with("AttemptFailed"), "{message}");
}
