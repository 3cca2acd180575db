//! A checkpoint that a network outside has, with what proves it: a line of an export's `anchors.jsonl`, and what the API
//! gives. Nothing of it is believed before it is proved.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hash::Hash;
use crate::digest::Digest;

/// A checkpoint that a network outside has, with what proves it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    /// The network's name, as the operator's settings have it.
    pub network: String,
    /// How many entries the anchored checkpoint is of.
    pub size: u64,
    /// The checkpoint that is anchored, as the log signed it.
    pub checkpoint: String,
    /// The id of the transaction on the network; of a time stamp (RFC 3161) its serial number, in hexadecimal digits.
    pub transaction: String,
    /// The block or tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
    /// By the network's clock.
    pub at: Timestamp,
    /// Base64; its format is the network's.
    pub evidence: String,
    /// That it is the beginning of the checkpoint that was asked for: hashes in base64.
    pub proof: Vec<String>,
}

impl Anchor {
    /// The network's evidence in standard base64, as the field has it.
    pub fn encode_evidence(evidence: &[u8]) -> String {
        STANDARD.encode(evidence)
    }

    /// The hashes of a proof in standard base64, as the field has them.
    pub fn encode_proof(proof: &[Hash]) -> Vec<String> {
        proof.iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect()
    }

    /// The bytes of the network's evidence.
    ///
    /// # Errors
    /// It is not base64.
    pub fn evidence(&self) -> Result<Vec<u8>, String> {
        STANDARD.decode(&self.evidence).map_err(|error| format!("evidence: is not base64: {error}"))
    }

    /// The hashes of the proof of consistency (RFC 6962, section 2.1.2).
    ///
    /// # Errors
    /// One of them is not the base64 of 32 bytes.
    pub fn proof(&self) -> Result<Vec<Hash>, String> {
        let hash = |text: &String| Some(Digest::from_raw(STANDARD.decode(text).ok()?.try_into().ok()?));
        let proof: Option<Vec<Hash>> = self.proof.iter().map(hash).collect();
        proof.ok_or_else(|| "proof: is not hashes in base64".to_owned())
    }
}
