//! A checkpoint that is seen outside, as an export and the API give it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_core::tlog::Hash;
use countersign_store::Anchored;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A line of `anchors.jsonl`, as the API gives it too. Nothing of it is believed before it is proved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    pub network: String,
    pub size: u64,
    /// The checkpoint that is anchored, as the log signed it.
    pub checkpoint: String,
    pub transaction: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
    pub at: Timestamp,
    /// Base64.
    pub evidence: String,
    /// That it is the beginning of the exported checkpoint: hashes in base64.
    pub proof: Vec<String>,
}

impl Anchor {
    pub fn of(anchored: Anchored, proof: &[Hash]) -> Anchor {
        let Anchored { network, size, note, transaction, place, at, evidence } = anchored;
        let proof = proof.iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect();
        Anchor { network, size, checkpoint: note, transaction, place, at, evidence: STANDARD.encode(evidence), proof }
    }
}
