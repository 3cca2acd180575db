//! The tree against the published vectors of RFC 6962's implementations, and against a tree computed the plain way.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::convert::Infallible;

use countersign_core::tlog::{
    Appended, CompactRange, Hash, TILE_WIDTH, Tile, TileStore, consistency, empty_root, inclusion, leaf, node,
    verify_consistency, verify_inclusion,
};
use proptest::prelude::*;

/// Tiles in memory.
#[derive(Default)]
struct Tiles(HashMap<Tile, Vec<Hash>>);

impl Tiles {
    fn keep(&mut self, appended: Appended) {
        let Appended { level, index, hash } = appended;
        let tile = self.0.entry(Tile { level, index: index / TILE_WIDTH as u64 }).or_default();
        assert_eq!(tile.len() as u64, index % TILE_WIDTH as u64, "in their order");
        tile.push(hash);
    }
}

impl TileStore for Tiles {
    type Error = Infallible;
    fn tile(&mut self, tile: Tile) -> Result<Vec<Hash>, Infallible> {
        Ok(self.0.get(&tile).cloned().unwrap_or_default())
    }
}

/// RFC 6962, section 2.1, word by word.
fn plain_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node(&plain_root(left), &plain_root(right))
        }
    }
}

fn grown(count: u64) -> (CompactRange, Tiles, Vec<Hash>) {
    let (mut range, mut tiles, mut leaves) = (CompactRange::default(), Tiles::default(), Vec::new());
    for n in 0..count {
        let hash = leaf(&n.to_be_bytes());
        range.append(hash, |appended| tiles.keep(appended));
        leaves.push(hash);
    }
    (range, tiles, leaves)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn the_published_vectors() {
    // From the reference implementations of RFC 6962 (certificate-transparency, transparency-dev/merkle).
    let entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    assert_eq!(empty_root().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let mut range = CompactRange::default();
    for (entry, root) in entries.iter().zip(roots) {
        range.append(leaf(&hex(entry)), |_| ());
        assert_eq!(range.root().hex(), root, "after {} entries", range.size());
    }
}

#[test]
fn every_proof_of_small_trees_holds_and_no_other_does() {
    let (_, mut tiles, leaves) = grown(70);
    for size in 1..=70u64 {
        let root = plain_root(&leaves[..usize::try_from(size).unwrap()]);
        for index in 0..size {
            let at = usize::try_from(index).unwrap();
            let proof = inclusion(&mut tiles, index, size).unwrap();
            assert_eq!(verify_inclusion(&leaves[at], index, size, &proof, &root), Ok(()), "{index} of {size}");
            let wrong = leaves[(at + 1) % leaves.len()];
            assert!(verify_inclusion(&wrong, index, size, &proof, &root).is_err(), "another leaf");
            for other in (0..size).filter(|other| *other != index) {
                assert!(
                    verify_inclusion(&leaves[at], other, size, &proof, &root).is_err(),
                    "{index} as {other} of {size}"
                );
            }
        }
        for old in 0..=size {
            let old_root = plain_root(&leaves[..usize::try_from(old).unwrap()]);
            let proof = consistency(&mut tiles, old, size).unwrap();
            assert_eq!(verify_consistency(old, size, &proof, &old_root, &root), Ok(()), "{old} to {size}");
            if old > 0 && old < size {
                assert!(verify_consistency(old, size, &proof, &root, &root).is_err());
                assert!(verify_consistency(old, size, &proof, &old_root, &old_root).is_err());
                assert!(verify_consistency(old, size, &proof[..proof.len() - 1], &old_root, &root).is_err());
            }
        }
    }
    assert!(inclusion(&mut tiles, 70, 70).is_err() && consistency(&mut tiles, 71, 70).is_err());
}

#[test]
fn tiles_of_a_large_tree_make_proofs_and_bring_its_edge_back() {
    let (range, mut tiles, leaves) = grown(70_001);
    assert_eq!(tiles.0.keys().map(|tile| tile.level).max(), Some(2));
    assert_eq!(range.root(), plain_root(&leaves));
    for index in [0, 255, 256, 65_535, 65_536, 70_000] {
        let proof = inclusion(&mut tiles, index, 70_001).unwrap();
        let leaf = leaves[usize::try_from(index).unwrap()];
        assert_eq!(verify_inclusion(&leaf, index, 70_001, &proof, &range.root()), Ok(()));
    }
    for old in [1, 256, 257, 65_536, 69_999] {
        let old_root = plain_root(&leaves[..usize::try_from(old).unwrap()]);
        let proof = consistency(&mut tiles, old, 70_001).unwrap();
        assert_eq!(verify_consistency(old, 70_001, &proof, &old_root, &range.root()), Ok(()), "{old}");
    }
}

/// Two implementations that share no code with ours agree with every proof of ours.
#[test]
fn other_implementations_verify_our_proofs() {
    let theirs = |hash: &Hash| sigstore_types::Sha256Hash::new(*hash.as_bytes());
    let digest = |hash: &Hash| -> sha2::digest::Output<sha2::Sha256> { (*hash.as_bytes()).into() };
    for size in [1u64, 2, 3, 7, 255, 256, 257, 1_000] {
        let (range, mut tiles, leaves) = grown(size);
        let root = range.root();
        let ct_root = ct_merkle::RootHash::<sha2::Sha256>::new(digest(&root), size);
        for index in (0..size).step_by(usize::try_from(1 + size / 17).unwrap()) {
            let proof = inclusion(&mut tiles, index, size).unwrap();
            let hashes: Vec<_> = proof.iter().map(theirs).collect();
            let leaf = theirs(&leaves[usize::try_from(index).unwrap()]);
            sigstore_merkle::verify_inclusion_proof(&leaf, index, size, &hashes, &theirs(&root)).unwrap();
            let outputs: Vec<_> = proof.iter().map(digest).collect();
            let ct_proof = ct_merkle::InclusionProof::from_digests(outputs.iter());
            ct_root.verify_inclusion(&index.to_be_bytes(), index, &ct_proof).unwrap();
        }
        for old in (1..size).step_by(usize::try_from(1 + size / 17).unwrap()) {
            let old_root = plain_root(&leaves[..usize::try_from(old).unwrap()]);
            let proof = consistency(&mut tiles, old, size).unwrap();
            let hashes: Vec<_> = proof.iter().map(theirs).collect();
            sigstore_merkle::verify_consistency_proof(old, size, &hashes, &theirs(&old_root), &theirs(&root)).unwrap();
            let outputs: Vec<_> = proof.iter().map(digest).collect();
            let ct_proof = ct_merkle::ConsistencyProof::from_digests(outputs.iter());
            let ct_old = ct_merkle::RootHash::<sha2::Sha256>::new(digest(&old_root), old);
            ct_root.verify_consistency(&ct_old, &ct_proof).unwrap();
        }
    }
}

proptest! {
    /// However a proof is bent, it proves nothing else.
    #[test]
    fn a_bent_proof_proves_nothing(size in 2..300u64, index in 0..300u64, at in 0..16usize, byte in 0..32usize, bit in 0..8u8) {
        prop_assume!(index < size);
        let (range, mut tiles, leaves) = grown(size);
        let mut proof = inclusion(&mut tiles, index, size).unwrap();
        let at = at % proof.len();
        let mut bytes = *proof[at].as_bytes();
        bytes[byte] ^= 1 << bit;
        proof[at] = Hash::from_raw(bytes);
        let leaf = leaves[usize::try_from(index).unwrap()];
        prop_assert!(verify_inclusion(&leaf, index, size, &proof, &range.root()).is_err());
    }
}
