//! Entries and payloads: what opens has the bytes that it would be written with.
#![no_main]

use countersign_core::json::canonical;
use countersign_core::tlog::entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (body, payload) = data.split_at(split);
    if let Ok(opened) = entry::open(body) {
        let value: serde_json::Value = serde_json::from_slice(body).expect("it is JSON");
        assert_eq!(canonical::to_vec(&value).expect("canonical"), body);
        // A payload whose digest it holds cannot be guessed.
        assert!(entry::open_payload(&opened, payload).is_err());
    }
});
