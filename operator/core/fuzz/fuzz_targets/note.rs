//! Keys, notes, checkpoints and rotations: nothing panics, and nothing is believed that the key did not sign.
#![no_main]

use countersign_core::tlog::{Checkpoint, SigningKey, VerifyingKey, verify_rotation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<VerifyingKey>() {
        assert_eq!(key.to_string(), text.trim(), "one way to write each key");
    }
    let key = SigningKey::new("log.example/fuzz", [7; 32]).expect("a name");
    let other = SigningKey::new("log.example/fuzz", [8; 32]).expect("a name");
    let verifying = key.verifying_key();
    // Nobody fuzzes a signature into being.
    assert!(verifying.open(text).is_err() && Checkpoint::open(text, &verifying).is_err());
    assert!(verify_rotation(text, &verifying, &other.verifying_key()).is_err());
    // The text, signed: what is opened is what was signed, and a checkpoint of it signs the same again.
    let signed = key.sign(text);
    if let Ok(opened) = verifying.open(&signed) {
        assert_eq!(opened, text);
    }
    if let Ok(checkpoint) = Checkpoint::open(&signed, &verifying) {
        let again = Checkpoint::open(&checkpoint.sign(&key), &verifying).expect("its own signature");
        assert_eq!(again, checkpoint);
    }
});
