//! The tries by which a header commits to its block's transactions and receipts: Merkle Patricia tries whose keys are
//! the places in the block, RLP-encoded (Ethereum Yellow Paper, 4.4.3).

use alloy_primitives::{B256, Bytes};
use alloy_trie::proof::{ProofRetainer, verify_proof};
use alloy_trie::root::adjust_index_for_rlp;
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles};

/// The root, and the nodes from it to the value at `place`, which are none where there is no such value.
pub fn prove(values: &[impl AsRef<[u8]>], place: usize) -> (B256, Vec<Bytes>) {
    if values.is_empty() {
        return (EMPTY_ROOT_HASH, Vec::new());
    }
    let mut trie = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![key(place)]));
    // In the order of the keys.
    for step in 0..values.len() {
        let index = adjust_index_for_rlp(step, values.len());
        if let Some(value) = values.get(index) {
            trie.add_leaf(key(index), value.as_ref());
        }
    }
    let root = trie.root();
    let nodes = trie.take_proof_nodes().into_nodes_sorted();
    (root, nodes.into_iter().map(|(_, node)| node).collect())
}

/// Whether the trie with this root has the value at `place`.
pub fn proves(root: B256, place: usize, value: &[u8], nodes: &[Bytes]) -> bool {
    verify_proof(root, key(place), Some(value.to_vec()), nodes).is_ok()
}

fn key(place: usize) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode(place))
}

#[cfg(test)]
mod tests {
    use alloy_trie::root::ordered_trie_root_encoded;

    use super::*;

    /// Places whose keys are one byte, the empty string, and two and three bytes.
    const SIZES: [usize; 9] = [1, 2, 3, 16, 127, 128, 129, 256, 300];

    fn values(size: usize) -> Vec<Vec<u8>> {
        (0..size).map(|n| [&[2], n.to_string().repeat(40).as_bytes()].concat()).collect()
    }

    #[test]
    fn every_value_is_proved_and_no_other() {
        for size in SIZES {
            let values = values(size);
            for place in 0..size {
                let (root, nodes) = prove(&values, place);
                assert_eq!(root, ordered_trie_root_encoded(&values), "{size}");
                assert!(proves(root, place, &values[place], &nodes), "{place} of {size}");
                assert!(!proves(root, place + 1, &values[place], &nodes), "{place} of {size}, as the next");
                assert!(!proves(root, place, &values[place][1..], &nodes), "{place} of {size}, cut");
                assert!(!proves(B256::ZERO, place, &values[place], &nodes), "{place} of {size}, of another root");
                for cut in 0..nodes.len() {
                    let mut fewer = nodes.clone();
                    fewer.remove(cut);
                    assert!(!proves(root, place, &values[place], &fewer), "{place} of {size}, without {cut}");
                }
            }
            let (root, nodes) = prove(&values, size);
            assert!(!proves(root, size, &values[0], &nodes));
        }
        assert_eq!(prove(&[[]; 0], 0), (EMPTY_ROOT_HASH, Vec::new()));
        assert!(!proves(EMPTY_ROOT_HASH, 0, &[1], &[]));
    }
}
