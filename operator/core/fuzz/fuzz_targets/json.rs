//! Strict JSON: whatever is taken has one canonical form, which is taken again and stays.
#![no_main]

use countersign_core::json::{canonical, strict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = strict::parse(data) {
        // What strict JSON takes, others take too, and for the same value.
        let theirs: serde_json::Value = serde_json::from_slice(data).expect("serde_json takes it");
        assert_eq!(value, theirs);
        let form = canonical::to_vec(&value).expect("it has a canonical form");
        let again = strict::parse(&form).expect("its canonical form is strict JSON");
        assert_eq!(canonical::to_vec(&again).expect("again"), form);
    }
});
