//! An entry as it is handed out: a line of an export, an item of an answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::hash::Hash;
use crate::digest::Digest;
use crate::json::strict;

/// One entry, at its place, with what proves that it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The entry's place in the log, from 0.
    pub index: u64,
    /// The envelope: the bytes whose hash is the leaf.
    pub body: Vec<u8>,
    /// `None` where it was erased.
    pub payload: Option<Vec<u8>>,
    /// Where only some entries are handed out.
    pub proof: Option<Vec<Hash>>,
}

/// The same in JSON: bytes and hashes in base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodedLine {
    index: u64,
    body: String,
    payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Vec<String>>,
}

impl From<&Line> for EncodedLine {
    fn from(line: &Line) -> EncodedLine {
        let Line { index, body, payload, proof } = line;
        EncodedLine {
            index: *index,
            body: STANDARD.encode(body),
            payload: payload.as_ref().map(|payload| STANDARD.encode(payload)),
            proof: proof.as_ref().map(|proof| proof.iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect()),
        }
    }
}

impl TryFrom<EncodedLine> for Line {
    type Error = String;
    fn try_from(encoded: EncodedLine) -> Result<Line, String> {
        let EncodedLine { index, body, payload, proof } = encoded;
        let bytes = |what: &str, text: String| STANDARD.decode(text).map_err(|error| format!("{what}: {error}"));
        let hash = |text: String| match <[u8; 32]>::try_from(bytes("proof", text)?) {
            Ok(hash) => Ok(Digest::from_raw(hash)),
            Err(_) => Err("proof: a hash has not 32 bytes".to_owned()),
        };
        Ok(Line {
            index,
            body: bytes("body", body)?,
            payload: payload.map(|payload| bytes("payload", payload)).transpose()?,
            proof: proof.map(|proof| proof.into_iter().map(hash).collect::<Result<_, _>>()).transpose()?,
        })
    }
}

impl Line {
    /// Without the newline.
    pub fn encode(&self) -> String {
        // Numbers and strings always serialize.
        serde_json::to_string(&EncodedLine::from(self)).unwrap_or_default()
    }

    /// # Errors
    /// What is wrong with it.
    pub fn decode(text: &str) -> Result<Line, String> {
        let value = strict::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        let encoded: EncodedLine = serde_json::from_value(value).map_err(|error| error.to_string())?;
        encoded.try_into()
    }
}
