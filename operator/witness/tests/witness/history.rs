//! A log that can tell two histories, both signed with its key.

use std::collections::BTreeSet;

use countersign_core::tlog::witness::Request;
use countersign_core::tlog::{Checkpoint, CompactRange, SigningKey, Tiles, consistency, leaf};

pub const ORIGIN: &str = "log.example/one";

/// From entry `FORK` on the histories differ.
pub const FORK: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum History {
    Honest,
    Other,
}

pub fn key(secret: u8) -> SigningKey {
    SigningKey::new(ORIGIN, [secret; 32]).unwrap()
}

pub fn tree(size: u64, history: History) -> (Checkpoint, Tiles) {
    let (mut tree, mut tiles) = (CompactRange::default(), Tiles::new());
    for n in 0..size {
        let entry = if history == History::Honest || n < FORK { format!("{n}") } else { format!("other {n}") };
        tree.append(leaf(entry.as_bytes()), |new| tiles.entry(new.tile()).or_default().push(new.hash));
    }
    (Checkpoint { origin: ORIGIN.into(), size, root: tree.root() }, tiles)
}

pub fn request(old: u64, size: u64, history: History) -> Request {
    let (checkpoint, mut tiles) = tree(size, history);
    let proof = if old <= size { consistency(&mut tiles, old, size).unwrap() } else { Vec::new() };
    Request { old, proof, checkpoint: checkpoint.sign(&key(7)) }
}

/// What was cosigned tells one history.
pub fn assert_one(cosigned: &[(u64, History)]) {
    let beyond: BTreeSet<History> =
        cosigned.iter().filter(|(size, _)| *size > FORK).map(|(_, history)| *history).collect();
    assert!(beyond.len() <= 1, "both histories were cosigned: {cosigned:?}");
}
