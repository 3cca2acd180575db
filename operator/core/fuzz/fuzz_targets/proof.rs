//! Proofs: nothing panics, and a proof that holds is the only one of its length for its leaf, place and root.
#![no_main]

use countersign_core::digest::Digest;
use countersign_core::tlog::{Hash, leaf, verify_consistency, verify_inclusion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((numbers, rest)) = data.split_first_chunk::<16>() else { return };
    let index = u64::from_le_bytes(numbers[..8].try_into().expect("8 bytes"));
    let size = u64::from_le_bytes(numbers[8..].try_into().expect("8 bytes"));
    let (chunks, entry) = rest.as_chunks::<32>();
    let mut proof: Vec<Hash> = chunks.iter().copied().map(Digest::from_raw).collect();
    let root = proof.pop().unwrap_or_else(|| leaf(entry));
    if verify_inclusion(&leaf(entry), index, size, &proof, &root).is_ok() {
        assert!(index < size && proof.len() <= 64);
        for other in 0..proof.len() {
            let mut bent = proof.clone();
            bent[other] = leaf(b"another");
            assert!(verify_inclusion(&leaf(entry), index, size, &bent, &root).is_err());
        }
    }
    let old = leaf(entry);
    if verify_consistency(index, size, &proof, &old, &root).is_ok() {
        assert!(index <= size);
    }
});
